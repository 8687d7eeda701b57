//! What an operator can set: read from file, environment and flags, parsed once, checked as a whole.
//!
//! `default.toml` is the manual. No error quotes what it found: a setting can hold a secret by mistake.

mod layers;
mod secret_file;
mod transit;
mod values;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;

use crate::domain::destination::{Destination, Scheme};
use crate::domain::share::Share;
use layers::Layers;
pub use layers::{SETTINGS, Source};
pub use secret_file::{SecretFileError, secret_file};
pub use transit::TransitSettings;
pub use values::{EchoPolicy, Listen, LogFormat, Role, SignaturePrefix, SmtpUrl};

/// The manual: every setting with its default and what it does.
pub const DEFAULT_TOML: &str = include_str!("default.toml");

/// Everything that is set. Every field is what `default.toml` says under the same name, or under names that
/// begin with it.
#[derive(Debug, Clone)]
pub struct Config {
    /// Which planes are served.
    pub role: Role,
    /// Where dispatchers connect to.
    pub proxy_listen: Vec<Listen>,
    /// Where the REST API is.
    pub admin_listen: SocketAddr,
    /// The REST API's certificate.
    pub admin_tls_cert_file: Option<PathBuf>,
    /// Its key.
    pub admin_tls_key_file: Option<PathBuf>,
    /// Where metrics and health are.
    pub metrics_listen: SocketAddr,
    /// The keyring's file.
    pub master_key_file: Option<PathBuf>,
    /// What its keys are wrapped with (`master_key_transit_…`); they stand in the file themselves where `None`.
    pub master_key_transit: Option<TransitSettings>,
    /// The first operator token's file.
    pub bootstrap_token_file: Option<PathBuf>,
    /// The dispatcher token's file.
    pub dispatcher_token_file: Option<PathBuf>,
    /// The store. May hold a password: not printed.
    pub database_url: String,
    /// Internal networks that may be reached.
    pub egress_allow_cidrs: Vec<IpNet>,
    /// Certificate authorities beside the system's.
    pub egress_ca_file: Option<PathBuf>,
    /// Whether endpoints may be plain HTTP.
    pub dangerous_allow_http: bool,
    /// For one TCP connection.
    pub connect_timeout: Duration,
    /// Where the machine's token for Google Secret Manager is shown.
    pub gsm_url: Destination,
    /// Where it comes from.
    pub gsm_metadata_url: Destination,
    /// The largest invocation.
    pub payload_bytes_max: usize,
    /// The largest answer.
    pub response_bytes_max: usize,
    /// Open inbound connections.
    pub connections_max: usize,
    /// Deliveries under way.
    pub in_flight_max: usize,
    /// Memory for bodies.
    pub buffered_bytes_max: usize,
    /// What one organization may take of the two before, of what others leave.
    pub organization_share_percent: Share,
    /// What one destination may.
    pub destination_share_percent: Share,
    /// Requests of one token to the REST API a second.
    pub api_rate_per_second: usize,
    /// So many of them at once.
    pub api_burst: usize,
    /// For a request's head.
    pub header_read_timeout: Duration,
    /// For a request's body.
    pub body_read_timeout: Duration,
    /// Threads that deliver.
    pub workers: usize,
    /// For values whose store or source is away.
    pub max_stale: Duration,
    /// For bundles that nobody asks for.
    pub bundle_idle: Duration,
    /// Where the keys of runtime tokens are published; no token is asked for where `None`.
    pub runtime_token_jwks_url: Option<Destination>,
    /// Who issues runtime tokens.
    pub runtime_token_issuer: String,
    /// How the Kiket signature is written.
    pub signature_prefix: SignaturePrefix,
    /// What becomes of answers that give a value back.
    pub echo_policy: EchoPolicy,
    /// Whether a request is looked through for secrets outside of their slot before it is sent.
    pub leak_assertion: bool,
    /// For deliveries under way at the end.
    pub drain_grace: Duration,
    /// Whether missing guards keep the process from starting.
    pub require_guards: bool,
    /// Where mail is handed over.
    pub smtp_url: Option<SmtpUrl>,
    /// Mail's sender.
    pub smtp_from: Option<String>,
    /// The mail server's user name and password.
    pub smtp_credentials_file: Option<PathBuf>,
    /// For the scheduled look at all secrets.
    pub secret_audit_every: Duration,
    /// Where a collector takes traces; nothing is traced where `None`.
    pub otlp_traces_url: Option<Destination>,
    /// Of so many deliveries whose dispatcher says nothing of a trace, one is traced; 0: none.
    pub otlp_traces_one_in: u64,
    /// The log's filter.
    pub log: String,
    /// The log's form.
    pub log_format: LogFormat,
    layers: Layers,
}

/// What is wrong with the configuration. Names the setting, never its value. An operator has to change something.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("the file given with --config cannot be read: {0}")]
    File(std::io::ErrorKind),
    /// The file is not TOML.
    #[error("the configuration file is not TOML at line {line}")]
    Syntax {
        /// The line, from 1.
        line: usize,
    },
    /// The file sets something that there is not.
    #[error("line {line} of the configuration file names no setting; `kiket config print` lists them all")]
    UnknownInFile {
        /// The line, from 1.
        line: usize,
    },
    /// A flag is no pair.
    #[error("--set must be followed by NAME=VALUE")]
    Override,
    /// A flag sets something that there is not.
    #[error("--set names no setting; `kiket config print` lists them all")]
    UnknownOverride,
    /// A value that cannot be read.
    #[error("{setting}, set by {origin}, must be {expected}")]
    Value {
        /// The setting.
        setting: &'static str,
        /// Where it was set.
        origin: Source,
        /// What it should look like.
        expected: &'static str,
    },
    /// Settings that do not go together.
    #[error("{setting}: {reason}")]
    Rule {
        /// The setting to change.
        setting: &'static str,
        /// Why, and what to do.
        reason: &'static str,
    },
}

impl Config {
    /// Reads the settings: defaults, then the file, then the environment (`KIKET_` and the name in capitals), then
    /// `overrides` (name and value). The later one wins.
    ///
    /// # Errors
    /// [`ConfigError`] naming the setting and what to do.
    pub fn load(
        file: Option<&Path>,
        env: impl Fn(&str) -> Option<String>,
        overrides: &[(String, String)],
    ) -> Result<Self, ConfigError> {
        let text = file
            .map(std::fs::read_to_string)
            .transpose()
            .map_err(|error| ConfigError::File(error.kind()))?;
        Self::from_layers(Layers::read(text.as_deref(), env, overrides)?)
    }

    /// The settings' defaults with these changes: for instances inside another program.
    ///
    /// # Errors
    /// As for [`Self::load`].
    pub fn with(overrides: &[(&str, &str)]) -> Result<Self, ConfigError> {
        let owned: Vec<_> = overrides
            .iter()
            .map(|(name, value)| ((*name).into(), (*value).into()))
            .collect();
        Self::load(None, |_| None, &owned)
    }

    fn from_layers(layers: Layers) -> Result<Self, ConfigError> {
        let config = Self {
            role: layers.get("role", values::role)?,
            proxy_listen: layers.get("proxy_listen", values::listeners)?,
            admin_listen: layers.get("admin_listen", values::address)?,
            admin_tls_cert_file: layers.optional("admin_tls_cert_file", values::path)?,
            admin_tls_key_file: layers.optional("admin_tls_key_file", values::path)?,
            metrics_listen: layers.get("metrics_listen", values::address)?,
            master_key_file: layers.optional("master_key_file", values::path)?,
            master_key_transit: transit::read(&layers)?,
            bootstrap_token_file: layers.optional("bootstrap_token_file", values::path)?,
            dispatcher_token_file: layers.optional("dispatcher_token_file", values::path)?,
            database_url: layers.get("database_url", values::database_url)?,
            egress_allow_cidrs: layers.get("egress_allow_cidrs", values::cidrs)?,
            egress_ca_file: layers.optional("egress_ca_file", values::path)?,
            dangerous_allow_http: layers.get("dangerous_allow_http", values::flag)?,
            connect_timeout: layers.get("connect_timeout", values::duration)?,
            gsm_url: layers.get("gsm_url", values::destination)?,
            gsm_metadata_url: layers.get("gsm_metadata_url", values::destination)?,
            payload_bytes_max: layers.get("payload_bytes_max", values::bytes)?,
            response_bytes_max: layers.get("response_bytes_max", values::bytes)?,
            connections_max: layers.get("connections_max", values::count)?,
            in_flight_max: layers.get("in_flight_max", values::count)?,
            buffered_bytes_max: layers.get("buffered_bytes_max", values::bytes)?,
            organization_share_percent: layers.get("organization_share_percent", values::share)?,
            destination_share_percent: layers.get("destination_share_percent", values::share)?,
            api_rate_per_second: layers.get("api_rate_per_second", values::count)?,
            api_burst: layers.get("api_burst", values::count)?,
            header_read_timeout: layers.get("header_read_timeout", values::duration)?,
            body_read_timeout: layers.get("body_read_timeout", values::duration)?,
            workers: layers.get("workers", values::workers)?,
            max_stale: layers.get("max_stale", values::duration)?,
            bundle_idle: layers.get("bundle_idle", values::duration)?,
            runtime_token_jwks_url: layers.optional("runtime_token_jwks_url", values::destination)?,
            runtime_token_issuer: layers.get("runtime_token_issuer", values::issuer)?,
            signature_prefix: layers.get("signature_prefix", values::signature_prefix)?,
            echo_policy: layers.get("echo_policy", values::echo_policy)?,
            leak_assertion: layers.get("leak_assertion", values::flag)?,
            drain_grace: layers.get("drain_grace", values::duration)?,
            require_guards: layers.get("require_guards", values::flag)?,
            smtp_url: layers.optional("smtp_url", values::smtp_url)?,
            smtp_from: layers.optional("smtp_from", values::text)?,
            smtp_credentials_file: layers.optional("smtp_credentials_file", values::path)?,
            secret_audit_every: layers.get("secret_audit_every", values::duration)?,
            otlp_traces_url: layers.optional("otlp_traces_url", values::destination)?,
            otlp_traces_one_in: layers.get("otlp_traces_one_in", values::one_in)?,
            log: layers.get("log", values::log_filter)?,
            log_format: layers.get("log_format", values::log_format)?,
            layers,
        };
        config.check()?;
        Ok(config)
    }

    /// What must hold between settings, also after one was changed.
    ///
    /// # Errors
    /// [`ConfigError::Rule`] for the first rule that is broken.
    pub fn check(&self) -> Result<(), ConfigError> {
        let open = self.proxy_listen.iter().any(|listen| !listen.is_local());
        if open && self.dispatcher_token_file.is_none() {
            return Err(ConfigError::Rule {
                setting: "proxy_listen",
                reason: "without a dispatcher_token_file only loopback addresses and Unix sockets may be bound; \
                         set dispatcher_token_file, or listen on 127.0.0.1 or unix:/path",
            });
        }
        let has_tls = match (&self.admin_tls_cert_file, &self.admin_tls_key_file) {
            (Some(_), Some(_)) => true,
            (None, None) => false,
            (Some(_), None) | (None, Some(_)) => {
                return Err(ConfigError::Rule {
                    setting: "admin_tls_cert_file",
                    reason: "a certificate needs its key: set admin_tls_cert_file and admin_tls_key_file, or neither",
                });
            }
        };
        if !has_tls && !self.admin_listen.ip().is_loopback() {
            return Err(ConfigError::Rule {
                setting: "admin_listen",
                reason: "without TLS only a loopback address may be bound; set admin_tls_cert_file and \
                         admin_tls_key_file, or listen on 127.0.0.1",
            });
        }
        if self.role != Role::All && self.database_url.starts_with("sqlite:") {
            return Err(ConfigError::Rule {
                setting: "role",
                reason: "`proxy` and `admin` share their rows, and a SQLite file belongs to one process; set database_url \
                         to a postgres:// URL, or leave the role at `all`",
            });
        }
        if self.buffered_bytes_max < self.payload_bytes_max {
            return Err(ConfigError::Rule {
                setting: "buffered_bytes_max",
                reason: "must not be less than payload_bytes_max, or the largest payload could never be delivered",
            });
        }
        if self.gsm_url.scheme == Scheme::Http && !self.dangerous_allow_http {
            return Err(ConfigError::Rule {
                setting: "gsm_url",
                reason: "the machine's token would cross the network readable; name an https URL",
            });
        }
        let jwks_url = self.runtime_token_jwks_url.as_ref();
        if jwks_url.is_some_and(|url| url.scheme == Scheme::Http) && !self.dangerous_allow_http {
            return Err(ConfigError::Rule {
                setting: "runtime_token_jwks_url",
                reason: "whoever is on the way could put their own keys there; name an https URL",
            });
        }
        if self.smtp_url.is_some() && self.smtp_from.is_none() {
            return Err(ConfigError::Rule {
                setting: "smtp_from",
                reason: "mail needs a sender, for example `Kiket <kiket@example.com>`; set smtp_from, or leave smtp_url out",
            });
        }
        Ok(())
    }

    /// The keyring's file: nothing is served without one.
    ///
    /// # Errors
    /// [`ConfigError::Rule`] where none is set.
    pub fn require_master_key(&self) -> Result<&Path, ConfigError> {
        self.master_key_file.as_deref().ok_or(ConfigError::Rule {
            setting: "master_key_file",
            reason: "no key, no start: make one with `(umask 077; kiket keys generate > FILE)` and set \
                     KIKET_MASTER_KEY_FILE=FILE",
        })
    }

    /// What wraps the keyring's keys.
    ///
    /// # Errors
    /// [`ConfigError::Rule`] where none is set.
    pub fn require_transit(&self) -> Result<&TransitSettings, ConfigError> {
        self.master_key_transit.as_ref().ok_or(ConfigError::Rule {
            setting: "master_key_transit_url",
            reason: "names no Vault to wrap keys with; set it, master_key_transit_key and \
                     master_key_transit_credential_file",
        })
    }

    /// What is in force, as TOML that can be loaded again, each line with where it came from. Holds no secret.
    #[must_use]
    pub fn print(&self) -> String {
        self.layers.print()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
mod tests {
    use super::*;

    fn rule(overrides: &[(&str, &str)]) -> Option<&'static str> {
        match Config::with(overrides) {
            Err(ConfigError::Rule { setting, .. }) => Some(setting),
            Err(other) => panic!("{other}"),
            Ok(_) => None,
        }
    }

    #[test]
    fn the_defaults_are_those_of_the_contract() {
        let config = Config::with(&[]).unwrap();
        assert_eq!(config.proxy_listen, [Listen::Tcp("127.0.0.1:8080".parse().unwrap())]);
        assert_eq!(config.admin_listen.port(), 8081);
        assert_eq!(config.metrics_listen.port(), 9464);
        assert_eq!(config.payload_bytes_max, 1 << 20);
        assert_eq!(config.response_bytes_max, 8 << 20);
        assert_eq!(config.max_stale, Duration::from_secs(900));
        assert_eq!(config.drain_grace, Duration::from_secs(25));
        assert_eq!(config.signature_prefix, SignaturePrefix::Bare);
        assert!(!config.dangerous_allow_http && config.egress_allow_cidrs.is_empty());
    }

    #[test]
    fn without_a_dispatcher_token_only_local_listeners_are_accepted() {
        assert_eq!(rule(&[("proxy_listen", "0.0.0.0:8080")]), Some("proxy_listen"));
        assert_eq!(
            rule(&[("proxy_listen", "127.0.0.1:1,[2001:db8::1]:1")]),
            Some("proxy_listen")
        );
        assert_eq!(rule(&[("proxy_listen", "unix:/run/kiket.sock,[::1]:0")]), None);
        assert_eq!(
            rule(&[("proxy_listen", "0.0.0.0:8080"), ("dispatcher_token_file", "/t")]),
            None
        );
    }

    #[test]
    fn the_rest_api_stays_on_loopback_without_tls() {
        assert_eq!(rule(&[("admin_listen", "0.0.0.0:8081")]), Some("admin_listen"));
        assert_eq!(rule(&[("admin_listen", "[::1]:0")]), None);
        let (cert, key) = (("admin_tls_cert_file", "/c"), ("admin_tls_key_file", "/k"));
        assert_eq!(rule(&[("admin_listen", "0.0.0.0:8081"), cert, key]), None);
        assert_eq!(rule(&[cert]), Some("admin_tls_cert_file"));
        assert_eq!(rule(&[key]), Some("admin_tls_cert_file"));
    }

    #[test]
    fn runtime_tokens_are_not_asked_for_unless_their_keys_can_be_fetched_safely() {
        let config = Config::with(&[]).unwrap();
        assert!(config.runtime_token_jwks_url.is_none());
        assert_eq!(config.runtime_token_issuer, "kiket.dev");
        let url = |url| ("runtime_token_jwks_url", url);
        assert_eq!(rule(&[url("https://kiket.dev/.well-known/jwks.json")]), None);
        assert_eq!(rule(&[url("http://127.0.0.1/keys")]), Some("runtime_token_jwks_url"));
        assert_eq!(
            rule(&[url("http://127.0.0.1/keys"), ("dangerous_allow_http", "true")]),
            None
        );
        assert!(Config::with(&[("runtime_token_issuer", "")]).is_err());
    }

    #[test]
    fn nothing_is_traced_unless_a_collector_is_named_and_then_every_delivery_is() {
        let config = Config::with(&[]).unwrap();
        assert!(config.otlp_traces_url.is_none());
        assert_eq!(config.otlp_traces_one_in, 1);
        // An agent beside the process, or a collector in the same cluster, is spoken to in the clear.
        assert_eq!(rule(&[("otlp_traces_url", "http://collector:4318/v1/traces")]), None);
        assert!(Config::with(&[("otlp_traces_url", "https://u:p@collector/v1/traces")]).is_err());
    }

    #[test]
    fn a_role_of_a_fleet_refuses_a_file_that_belongs_to_one_process() {
        let shared = ("database_url", "postgres://db.example.com/kiket");
        assert_eq!(Config::with(&[]).unwrap().role, Role::All);
        for (role, parsed) in [("all", Role::All), ("proxy", Role::Proxy), ("admin", Role::Admin)] {
            let of_file = rule(&[("role", role)]);
            assert_eq!(of_file, (parsed != Role::All).then_some("role"), "{role}");
            assert_eq!(Config::with(&[("role", role), shared]).unwrap().role, parsed);
        }
    }

    #[test]
    fn the_largest_payload_fits_in_the_buffers() {
        assert_eq!(rule(&[("buffered_bytes_max", "1MiB")]), None);
        assert_eq!(rule(&[("buffered_bytes_max", "1048575")]), Some("buffered_bytes_max"));
    }

    #[test]
    fn mail_needs_a_sender() {
        assert_eq!(rule(&[("gsm_url", "http://127.0.0.1:1")]), Some("gsm_url"));
        assert_eq!(
            rule(&[("gsm_url", "http://127.0.0.1:1"), ("dangerous_allow_http", "true")]),
            None
        );
        assert_eq!(rule(&[("smtp_url", "smtps://mail.example.com")]), Some("smtp_from"));
        let both = [("smtp_url", "smtps://mail.example.com"), ("smtp_from", "a@example.com")];
        assert_eq!(rule(&both), None);
    }

    #[test]
    fn nothing_is_served_without_a_master_key() {
        assert!(Config::with(&[]).unwrap().require_master_key().is_err());
        assert!(
            Config::with(&[("master_key_file", "/k")])
                .unwrap()
                .require_master_key()
                .is_ok()
        );
    }

    #[test]
    fn no_error_quotes_what_it_found() {
        let canary = "kiket-canary-5f1c";
        for name in SETTINGS {
            for value in [canary, &format!("{canary}=,::\u{0}")] {
                if let Err(error) = Config::with(&[(name, value)]) {
                    assert!(!format!("{error} {error:?}").contains("canary"), "{name}");
                    assert!(error.to_string().contains(name), "{error}");
                }
            }
        }
        let unknown = Config::with(&[(canary, "1")]).unwrap_err();
        assert!(!format!("{unknown} {unknown:?}").contains("canary"));
    }
}
