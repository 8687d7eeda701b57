//! Whether keys that Vault Transit wrapped are served with and rotated like others, and stand in no file.

mod rotation;
mod starts;
mod wrapping;

use std::fs;
use std::process::Command;
use std::sync::Arc;

use tempfile::NamedTempFile;

use super::support::pki::Authority;
use super::support::process::{Ended, Home, Process, kiket, run};
use super::support::vault::{FakeVault, Grant};

/// What one logs in with.
const TOKEN: &str = "cnry-transit-token";

/// A Vault with a Transit key, and where one `serve` keeps what it needs.
struct Stage {
    home: Arc<Home>,
    vault: FakeVault,
    ca: NamedTempFile,
}

impl Stage {
    fn new() -> Self {
        let authority = Authority::new("the vault's CA");
        let vault = FakeVault::start(&authority);
        vault.root(|root| {
            root.make_key("kiket");
            root.token(TOKEN, 0, user());
        });
        let home = Arc::new(Home::new());
        home.write("vault.token", &format!("{TOKEN}\n"));
        let ca = authority.file();
        Self { home, vault, ca }
    }

    /// One whose keys are wrapped from the start.
    fn wrapped() -> Self {
        let stage = Self::new();
        let made = stage.run(&["keys", "generate", "--transit"], &[]);
        assert_eq!((made.code, made.stderr.as_str()), (Some(0), ""), "{}", made.stderr);
        stage.home.write("master.key", &made.stdout);
        stage.vault.take();
        stage
    }

    /// The settings of this Vault, and others over them.
    fn settings(&self, others: &[(&str, &str)]) -> Vec<(String, String)> {
        let file = self.home.path().join("vault.token").display().to_string();
        let (url, ca) = (self.vault.url(), self.ca.path().display().to_string());
        let mut all: Vec<(String, String)> = [
            ("master_key_transit_url", url.as_str()),
            ("master_key_transit_key", "kiket"),
            ("master_key_transit_credential_file", file.as_str()),
            ("egress_ca_file", ca.as_str()),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
        for (name, value) in others {
            all.retain(|(other, _)| other != name);
            all.push(((*name).to_owned(), (*value).to_owned()));
        }
        all
    }

    /// `kiket serve` with them.
    fn serve(&self, others: &[(&str, &str)]) -> Command {
        let settings = self.settings(others);
        let settings: Vec<_> = settings
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        self.home.serve(&settings)
    }

    fn start(&self, others: &[(&str, &str)]) -> Process {
        Process::spawn_in(Arc::clone(&self.home), self.serve(others))
    }

    /// Another command with them.
    fn run(&self, arguments: &[&str], others: &[(&str, &str)]) -> Ended {
        let mut command = kiket(arguments);
        for (name, value) in self.settings(others) {
            command.arg("--set").arg(format!("{name}={value}"));
        }
        command.current_dir(self.home.path());
        run(command)
    }

    fn file(&self) -> String {
        fs::read_to_string(self.home.path().join("master.key")).unwrap()
    }

    /// Every key that Transit was shown: the last 32 bytes of each text.
    fn keys(&self) -> Vec<Vec<u8>> {
        let encrypted = self.vault.root(|root| root.encrypted());
        encrypted.iter().map(|text| text[text.len() - 32..].to_vec()).collect()
    }
}

/// Who may use the key, and not make others.
fn user() -> Grant {
    let paths = ["transit/encrypt/kiket", "transit/decrypt/kiket"];
    Grant {
        paths: paths.map(String::from).into(),
        ..Grant::default()
    }
}
