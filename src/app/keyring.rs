//! How the keys come out of their file: as they stand there, or unwrapped by the Vault that the settings name.

use std::sync::Arc;

use crate::clock::SystemClock;
use crate::config::{self, Config, ConfigError, SecretFileError};
use crate::crypto::keyring::{Keyring, KeyringError, WrappingError};
use crate::domain::provider::Unavailable;
use crate::egress::{RootsError, Trust, roots};
use crate::external::{Transit, TransitError};

/// Why there are no keys. Names the setting and what to do; carries nothing of key, file or answer.
#[derive(Debug, thiserror::Error)]
pub enum KeysUnread {
    /// No file is set, or it is not said how it is unwrapped.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// What is logged in to Vault with cannot be read.
    #[error("master_key_transit_credential_file: {0}")]
    Credential(#[from] SecretFileError),
    /// What Vault's certificate is checked against cannot be read.
    #[error(transparent)]
    Roots(#[from] RootsError),
    /// Vault cannot be asked as it is set.
    #[error(transparent)]
    Transit(#[from] TransitError),
    /// The file is no keyring.
    #[error("master_key_file: {0}")]
    File(KeyringError),
    /// Vault did not open it.
    #[error("{}", told(*.0))]
    Wrapping(WrappingError),
}

impl From<KeyringError> for KeysUnread {
    fn from(error: KeyringError) -> Self {
        match error {
            KeyringError::Wrapping(error) => Self::Wrapping(error),
            error => Self::File(error),
        }
    }
}

impl KeysUnread {
    /// Whether the same settings may do later.
    #[must_use]
    pub const fn may_pass(&self) -> bool {
        match self {
            Self::Wrapping(WrappingError::Unavailable(why)) => why.may_pass(),
            _ => false,
        }
    }
}

/// Reads the keys: from the file, or with one question to Vault. Blocks, for as long as `master_key_transit_wait` says;
/// must not be called within a runtime. No thread is left behind.
///
/// # Errors
/// [`KeysUnread`].
pub fn read_keys(config: &Config) -> Result<Keyring, KeysUnread> {
    let file = config.require_master_key()?;
    Ok(match &config.master_key_transit {
        None => Keyring::read(file)?,
        Some(_) => Keyring::read_wrapped(file, &wrapping(config)?)?,
    })
}

/// What wraps keys.
///
/// # Errors
/// [`KeysUnread`], where none is set, too.
pub fn wrapping(config: &Config) -> Result<Transit, KeysUnread> {
    let settings = config.require_transit()?;
    let credential = config::secret_file(&settings.credential_file)?;
    let trust = Trust::new(roots::load(config.egress_ca_file.as_deref())?);
    let clock = Arc::new(SystemClock);
    Ok(Transit::new(
        settings,
        credential,
        &trust,
        clock,
        config.connect_timeout,
    )?)
}

fn told(error: WrappingError) -> String {
    let (setting, what) = match error {
        WrappingError::Denied => (
            "master_key_transit_credential_file",
            "Vault refuses the login, or its policy does not let this one use the key",
        ),
        WrappingError::NotOpened => (
            "master_key_transit_key",
            "Vault has no Transit key of this name there, or another one wrapped the file",
        ),
        WrappingError::Unavailable(why) => ("master_key_transit_url", unavailable(why)),
    };
    format!("{setting}: {what}")
}

const fn unavailable(why: Unavailable) -> &'static str {
    match why {
        Unavailable::Sealed => "Vault is sealed, and was not unsealed within master_key_transit_wait",
        Unavailable::Unreachable => "Vault was not reached within master_key_transit_wait",
        Unavailable::Timeout => "Vault did not answer within master_key_transit_wait",
        Unavailable::RateLimited => "Vault wanted fewer requests for all of master_key_transit_wait",
        Unavailable::ServerError | Unavailable::NotCaughtUp => "Vault failed for all of master_key_transit_wait",
        Unavailable::TlsFailed => {
            "no TLS session with Vault: its certificate ended, names another host, or its authority is neither the \
             system's nor in egress_ca_file"
        }
        Unavailable::Redirected => "Vault redirects, which is not followed: name an address that answers itself",
        Unavailable::LoginFailed => "there is no such login at Vault: see master_key_transit_auth and its mount",
        _ => "what answers there does not answer as Vault does",
    }
}
