//! Another company's backend as references see it: one secret, how it is configured, and everything that can be wrong
//! with it.

use std::sync::Arc;

use kiket_sidecar::clock::SystemClock;
use serde_json::{Value, json};

use super::gsm::account::Account;
use super::gsm::{self, ACCESSOR, FakeGsm, State, VIEWER};
use super::pki::Authority;
use super::vault::{FakeVault, Fault, Grant};

/// What is so when a backend is asked for its secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// There is a value.
    Found,
    /// There is one of exactly 64 KiB.
    Largest,
    /// What the reference names is not there.
    Dangling,
    /// The credential may not read it.
    Denied,
    /// The backend is sealed; or, where it cannot be, says that it is not to be had.
    Sealed,
    /// It wants fewer requests.
    RateLimited,
    /// It fails.
    ServerError,
    /// What stands there is no text.
    WrongShape,
    /// It does not answer.
    Slow,
    /// There is a value of 64 KiB and one byte.
    TooLarge,
}

impl Condition {
    pub const ALL: [Self; 10] = [
        Self::Found,
        Self::Largest,
        Self::Dangling,
        Self::Denied,
        Self::Sealed,
        Self::RateLimited,
        Self::ServerError,
        Self::WrongShape,
        Self::Slow,
        Self::TooLarge,
    ];

    const fn usual_outcome(self) -> &'static str {
        match self {
            Self::Found | Self::Largest => "found",
            Self::Dangling => "dangling",
            Self::Denied => "denied",
            Self::Sealed => "sealed",
            Self::RateLimited => "rate-limited",
            Self::ServerError => "server-error",
            Self::WrongShape => "wrong-shape",
            Self::Slow => "timeout",
            Self::TooLarge => "too-large",
        }
    }
}

/// A running backend with one secret.
pub trait Backend: Send + Sync {
    /// The provider's document for the REST API.
    fn document(&self) -> Value;
    /// The organization's secrets that the document names.
    fn credentials(&self) -> Vec<(&'static str, String)>;
    /// The reference to the secret.
    fn reference(&self) -> &'static str;
    /// Writes the next version of the secret.
    fn put(&self, value: &str);
    /// Makes a condition so.
    fn arrange(&self, condition: Condition);
    /// What asking for the secret comes to under a condition, in the word of logs and metrics.
    fn outcome(&self, condition: Condition) -> &'static str {
        condition.usual_outcome()
    }
    /// What was read of secrets so far, in the backend's words, logins apart.
    fn reads(&self) -> Vec<String>;
}

/// A way to start a backend.
pub type Start = fn() -> Box<dyn Backend>;

/// Every backend there is.
pub const BACKENDS: [(&str, Start); 2] = [
    ("vault", || Box::new(VaultBackend::start())),
    ("gsm", || Box::new(GsmBackend::start())),
];

/// A Vault over TLS with a CA of its own, asked with a token.
pub struct VaultBackend {
    pub vault: FakeVault,
    authority: Authority,
}

/// Where the secret stands in the engine `secret`.
pub const PATH: &str = "kiket/org/crm";

const LARGEST: usize = 64 * 1024;

impl VaultBackend {
    pub fn start() -> Self {
        let authority = Authority::new("the vault's CA");
        let vault = FakeVault::start(&authority);
        let backend = Self { vault, authority };
        backend.grant(&["secret/", "kv/"]);
        backend
    }

    /// What the token may read.
    pub fn grant(&self, paths: &[&str]) {
        let paths = paths.iter().map(|path| (*path).to_owned()).collect();
        let grant = Grant {
            paths,
            ..Grant::default()
        };
        self.vault.root(|root| root.token("reader", 0, grant));
    }

    /// The next so many reads fail so.
    pub fn fail(&self, fault: &Fault, times: usize) {
        self.vault.fail("secret/", &vec![fault.clone(); times]);
    }

    fn put_data(&self, data: Value) {
        self.vault.root(|root| root.put("secret", PATH, data));
    }
}

impl Backend for VaultBackend {
    fn document(&self) -> Value {
        json!({
            "kind": "vault", "address": self.vault.url(), "mounts": {"secret": 2, "kv": 1}, "path_prefix": "kiket/org",
            "auth": {"method": "token", "credential_key": "VAULT_TOKEN"}, "ca_key": "VAULT_CA", "default": true,
        })
    }

    fn credentials(&self) -> Vec<(&'static str, String)> {
        vec![
            ("VAULT_TOKEN", String::from("reader")),
            ("VAULT_CA", self.authority.pem()),
        ]
    }

    fn reference(&self) -> &'static str {
        "vault:secret/kiket/org/crm#value"
    }

    fn put(&self, value: &str) {
        self.put_data(json!({ "value": value }));
    }

    fn arrange(&self, condition: Condition) {
        match condition {
            Condition::Found => self.put("the fetched value"),
            Condition::Largest => self.put(&"x".repeat(LARGEST)),
            Condition::Dangling => self.vault.root(|root| root.forget(PATH)),
            Condition::Denied => self.grant(&[]),
            Condition::Sealed => self.vault.seal(true),
            Condition::RateLimited => self.fail(&Fault::Status(429), 100),
            Condition::ServerError => self.fail(&Fault::Status(500), 100),
            Condition::WrongShape => self.put_data(json!({"value": 7})),
            Condition::Slow => self.fail(&Fault::Stall, 100),
            Condition::TooLarge => self.put(&"x".repeat(LARGEST + 1)),
        }
    }

    fn reads(&self) -> Vec<String> {
        let asked = self
            .vault
            .asked()
            .into_iter()
            .filter(|asked| !asked.path.starts_with("auth/"));
        asked.map(|asked| format!("{} {}", asked.method, asked.path)).collect()
    }
}

/// Secret Manager over TLS with a CA of its own, asked as a service account.
pub struct GsmBackend {
    google: FakeGsm,
    authority: Authority,
    account: Account,
}

const PROJECT: &str = "acme-prod";

const SECRET: &str = "kiket-crm";

impl GsmBackend {
    pub fn start() -> Self {
        let authority = Authority::new("Google's CA");
        let google = FakeGsm::start(Some(&authority.server(&["127.0.0.1"])), Arc::new(SystemClock));
        let account = Account::new("reader");
        google.admit(&account, PROJECT, &[ACCESSOR, VIEWER]);
        Self {
            google,
            authority,
            account,
        }
    }

    fn fail(&self, fault: &gsm::Fault) {
        self.google.next(vec![fault.clone(); 100]);
    }
}

impl Backend for GsmBackend {
    fn document(&self) -> Value {
        json!({
            "kind": "gsm", "address": self.google.url(), "path_prefix": format!("projects/{PROJECT}/secrets/kiket-"),
            "auth": {"method": "service_account", "credential_key": "GOOGLE_ACCOUNT"}, "ca_key": "GOOGLE_CA",
            "default": true,
        })
    }

    fn credentials(&self) -> Vec<(&'static str, String)> {
        vec![
            ("GOOGLE_ACCOUNT", self.account.json().to_string()),
            ("GOOGLE_CA", self.authority.pem()),
        ]
    }

    fn reference(&self) -> &'static str {
        "gsm:projects/acme-prod/secrets/kiket-crm"
    }

    fn put(&self, value: &str) {
        self.google.add(PROJECT, SECRET, value.as_bytes());
    }

    fn arrange(&self, condition: Condition) {
        match condition {
            Condition::Found => self.put("the fetched value"),
            Condition::Largest => self.put(&"x".repeat(LARGEST)),
            Condition::Dangling => {
                let version = self.google.add(PROJECT, SECRET, b"gone");
                self.google.turn(PROJECT, SECRET, version, State::Destroyed);
            }
            Condition::Denied => self.google.admit(&self.account, PROJECT, &[]),
            Condition::Sealed => self.fail(&gsm::Fault::google(503, "UNAVAILABLE")),
            Condition::RateLimited => self.fail(&gsm::Fault::google(429, "RESOURCE_EXHAUSTED")),
            Condition::ServerError => self.fail(&gsm::Fault::google(500, "INTERNAL")),
            Condition::WrongShape => {
                self.google.add(PROJECT, SECRET, &[0xff, 0xfe]);
            }
            Condition::Slow => self.fail(&gsm::Fault::Stall),
            Condition::TooLarge => self.put(&"x".repeat(LARGEST + 1)),
        }
    }

    fn outcome(&self, condition: Condition) -> &'static str {
        match condition {
            Condition::Sealed => "server-error",
            other => other.usual_outcome(),
        }
    }

    fn reads(&self) -> Vec<String> {
        self.google.paths()
    }
}
