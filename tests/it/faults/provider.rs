//! Another backend at fault (threat S4): down, slow, sealed and denied are not missing; only what is not there is.

use std::sync::Arc;

use serde_json::json;

use super::super::support::fault_proxy::{Fault, FaultProxy, Plan, Way};
use super::super::support::referred::{Backend, VaultBackend};
use super::{Act, Expected, Row, Stage, until};

/// What is wrong with the backend.
#[derive(Clone, Copy)]
enum Trouble {
    Down,
    Reset,
    Slow,
    Sealed,
    Denied,
    Dangling,
}

const ROWS: [(&str, Trouble, &str); 6] = [
    ("vault-down", Trouble::Down, "secret-source-unavailable"),
    ("vault-reset", Trouble::Reset, "secret-source-unavailable"),
    ("vault-slow", Trouble::Slow, "secret-source-unavailable"),
    ("vault-sealed", Trouble::Sealed, "secret-source-unavailable"),
    ("vault-denied", Trouble::Denied, "secret-source-unavailable"),
    ("vault-dangling", Trouble::Dangling, "required-secrets-missing"),
];

/// A Vault, and a network between it and the product.
struct Vault {
    backend: VaultBackend,
    network: FaultProxy,
}

impl Vault {
    fn start() -> Self {
        let backend = VaultBackend::start();
        let address = backend.vault.url().trim_start_matches("https://").parse().unwrap();
        Self {
            backend,
            network: FaultProxy::start(address),
        }
    }

    fn break_down(&self, trouble: Trouble) {
        let always = |fault| {
            let (way, at) = (Way::Request, 1);
            self.network.always(Some(Plan { way, at, fault }));
        };
        match trouble {
            Trouble::Down => always(Fault::Cut),
            Trouble::Reset => always(Fault::Reset),
            Trouble::Slow => always(Fault::Stall),
            Trouble::Sealed => self.backend.vault.seal(true),
            Trouble::Denied => self.backend.grant(&[]),
            Trouble::Dangling => {}
        }
    }

    /// All is well, and the value is there.
    fn mend(&self, path: &str) {
        self.network.always(None);
        self.backend.vault.seal(false);
        self.backend.grant(&["secret/"]);
        let value = json!({"value": "secret-value-of-the-vault"});
        self.backend.vault.root(|root| root.put("secret", path, value));
    }
}

pub(super) fn names() -> Vec<Row> {
    ROWS.map(|(what, _, name)| Row::new(what, Expected::Problem(name)))
        .into()
}

/// A row whose installation refers to a value of its own: nothing is in memory when the trouble begins.
fn row(vault: &Arc<Vault>, what: &'static str, trouble: Trouble, name: &'static str) -> Row {
    let (breaking, mending) = (Arc::clone(vault), Arc::clone(vault));
    let arrange: Act = Box::new(move |_| breaking.break_down(trouble));
    let mend: Act = Box::new(move |stage| {
        mending.mend(&format!("kiket/org/{what}"));
        // It may be left alone for a moment after it failed.
        until("it delivers", || stage.process.deliver(what, b"{}").status == 200);
        let got = stage.endpoint.last().secret("REFERRED");
        assert_eq!(got.as_deref(), Some("secret-value-of-the-vault"), "{what}");
    });
    Row {
        installation: Some(what),
        arrange: Some(arrange),
        mend: Some(mend),
        ..Row::new(what, Expected::Problem(name))
    }
}

#[test]
fn a_backend_at_fault_is_told_from_a_value_that_is_missing_and_is_asked_again() {
    let (stage, vault) = (Stage::start(&[]), Arc::new(Vault::start()));
    let process = &stage.process;
    for (key, value) in vault.backend.credentials() {
        let secret = json!({"scope": "organization", "id": "org", "key": key, "value": value});
        process.must("POST", "/extensions/secrets", &secret);
    }
    let mut document = vault.backend.document();
    document["address"] = json!(format!("https://{}", vault.network.address()));
    document["ttl"] = json!(1); // what is missing is looked for again
    process.must("PUT", "/organizations/org/providers/main", &document);
    for (what, ..) in ROWS {
        let configuration = json!({"REFERRED": {"secret": true, "required": true}});
        let callback = json!({"url": stage.endpoint.url()});
        process.install(what, &format!("com.example.{what}"), &callback, &configuration);
        let link = json!({
            "scope": "extension_installation", "id": what, "organization_id": "org",
            "external_secret_name": format!("vault:secret/kiket/org/{what}#value"),
        });
        process.must("POST", "/extensions/secrets/REFERRED/link", &link);
        process.enable(what);
    }
    stage.hold(
        ROWS.map(|(what, trouble, name)| row(&vault, what, trouble, name))
            .into(),
    );
}
