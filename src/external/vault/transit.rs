//! How the process's own keys are wrapped and opened by Vault's Transit engine, before anything of the process runs.
//!
//! One question for all keys (`batch_input`). A Vault that is away, busy or sealed is asked again until the time is
//! over: after a power cut it may be unsealed a moment later. It is an operator's Vault, reached whatever networks
//! tenants may reach. The runtime is one of the calling thread's, and looks names up on a thread that ends with it.

use std::sync::Arc;
use std::time::Duration;

use data_encoding::BASE64;
use http::StatusCode;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use tokio::runtime::Runtime;
use tokio::time::{Instant, sleep, timeout_at};
use zeroize::Zeroizing;

use super::super::failed::Failed;
use super::super::tries::Tries;
use super::api::Api;
use super::session::Sessions;
use crate::clock::Clock;
use crate::config::TransitSettings;
use crate::crypto::keyring::{Wrapping, WrappingError};
use crate::domain::provider::Unavailable;
use crate::egress::{Answer, Egress, Exchanger, ExchangerError, SystemResolver, Trust};

/// How long after one round of tries the next begins.
const ROUND_WAIT: Duration = Duration::from_millis(500);

/// The most that one round of tries takes, so that a Vault that does not answer is asked again, too.
const ROUND: Duration = Duration::from_secs(10);

/// A Transit key.
pub struct Transit {
    runtime: Runtime,
    api: Api,
    sessions: Sessions,
    /// Behind `encrypt/` and `decrypt/`.
    key: String,
    mount: String,
    wait: Duration,
}

/// Why Transit cannot be asked at all. Somebody has to change the settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TransitError {
    /// Vault's address cannot be spoken to.
    #[error("master_key_transit_url: {0}")]
    Address(#[from] ExchangerError),
    /// What is logged in with is none.
    #[error("master_key_transit_credential_file: empty, or more than one line")]
    Credential,
    /// The namespace cannot be sent.
    #[error("master_key_transit_namespace: it cannot stand in a header")]
    Namespace,
    /// No runtime could be started.
    #[error("cannot start a runtime: {0}")]
    Runtime(std::io::ErrorKind),
}

#[derive(Serialize)]
struct Batch<'a> {
    batch_input: Vec<Item<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum Item<'a> {
    Plaintext(&'a str),
    Ciphertext(&'a str),
}

/// An answer; what it holds is freed into a wiping allocator.
#[derive(Deserialize)]
struct Answered<T> {
    data: Results<T>,
}

#[derive(Deserialize)]
struct Results<T> {
    batch_results: Vec<T>,
}

#[derive(Deserialize)]
struct Wrapped {
    ciphertext: String,
}

#[derive(Deserialize)]
struct Opened {
    plaintext: String,
}

impl Transit {
    /// The key that settings name, used as whoever has `credential`. Asks nobody yet.
    ///
    /// # Errors
    /// [`TransitError`].
    pub fn new(
        settings: &TransitSettings,
        credential: SecretString,
        trust: &Trust,
        clock: Arc<dyn Clock>,
        connect_timeout: Duration,
    ) -> Result<Self, TransitError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| TransitError::Runtime(error.kind()))?;
        let resolver = SystemResolver::new(runtime.handle().clone());
        let egress = Arc::new(Egress::unguarded(Arc::new(resolver), connect_timeout));
        let vault = &settings.vault;
        // Whether it may be plain was judged with the settings.
        let exchanger = Exchanger::new(egress, trust, vault.address.origin(), None, true)?;
        let sessions = Sessions::new(vault.auth.clone(), credential, clock);
        Ok(Self {
            runtime,
            api: Api::new(vault, exchanger).ok_or(TransitError::Namespace)?,
            sessions: sessions.map_err(|_| TransitError::Credential)?,
            key: settings.key.clone(),
            mount: settings.mount.clone(),
            wait: settings.wait,
        })
    }

    /// What Transit makes of each text, in their order.
    fn ask<T: for<'de> Deserialize<'de>>(
        &self,
        operation: &str,
        items: Vec<Item<'_>>,
    ) -> Result<Vec<T>, WrappingError> {
        const WRONG: WrappingError = WrappingError::Unavailable(Unavailable::WrongShape);
        let count = items.len();
        let body = serde_json::to_vec(&Batch { batch_input: items }).map_err(|_| WRONG)?; // texts can be written
        let body = Zeroizing::new(body);
        let path = format!("{}/{operation}/{}", self.mount, self.key);
        let answer = self.runtime.block_on(self.until_answered(&path, &body))?;
        match answer.status {
            StatusCode::OK => {}
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => return Err(WrappingError::Denied),
            // Vault says 400 of a key that there is not and of what another key wrapped, 404 of no Transit there.
            StatusCode::BAD_REQUEST | StatusCode::NOT_FOUND => return Err(WrappingError::NotOpened),
            _ => return Err(WRONG),
        }
        let answered: Answered<T> = serde_json::from_slice(&answer.body).map_err(|_| WRONG)?;
        let results = answered.data.batch_results;
        if results.len() == count {
            Ok(results)
        } else {
            Err(WRONG)
        }
    }

    async fn until_answered(&self, path: &str, body: &[u8]) -> Result<Answer, WrappingError> {
        let end = Instant::now() + self.wait;
        let mut before = None;
        loop {
            let left = end.saturating_duration_since(Instant::now()).min(ROUND);
            let tries = Tries::within(left);
            let why = match timeout_at(tries.deadline(), self.once(path, body, tries)).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(Failed::Denied)) => return Err(WrappingError::Denied),
                Ok(Err(Failed::Unavailable(why))) => why,
                Err(_) => Unavailable::Timeout,
            };
            // What Vault said says more than that it was cut off when the time was over.
            let why = match (why, before) {
                (Unavailable::Timeout, Some(before)) => before,
                (why, _) => why,
            };
            before = Some(why);
            if !why.may_pass() || Instant::now() + ROUND_WAIT >= end {
                return Err(WrappingError::Unavailable(why));
            }
            sleep(ROUND_WAIT).await;
        }
    }

    async fn once(&self, path: &str, body: &[u8], tries: Tries) -> Result<Answer, Failed> {
        let session = self.sessions.current(&self.api, tries).await?;
        Ok(self.api.post(path, Some(session.token()), body, tries).await?)
    }
}

impl Wrapping for Transit {
    fn wrap(&self, plain: &[Zeroizing<Vec<u8>>]) -> Result<Vec<String>, WrappingError> {
        let encoded: Vec<_> = plain.iter().map(|plain| Zeroizing::new(BASE64.encode(plain))).collect();
        let items = encoded.iter().map(|text| Item::Plaintext(text)).collect();
        let wrapped: Vec<Wrapped> = self.ask("encrypt", items)?;
        Ok(wrapped.into_iter().map(|wrapped| wrapped.ciphertext).collect())
    }

    fn open(&self, wrapped: &[&str]) -> Result<Vec<Zeroizing<Vec<u8>>>, WrappingError> {
        let items = wrapped.iter().map(|text| Item::Ciphertext(text)).collect();
        let opened: Vec<Opened> = self.ask("decrypt", items)?;
        let decoded = opened.into_iter().map(|opened| {
            let text = Zeroizing::new(opened.plaintext);
            BASE64.decode(text.as_bytes()).map(Zeroizing::new)
        });
        let decoded: Result<Vec<_>, _> = decoded.collect();
        decoded.map_err(|_| WrappingError::Unavailable(Unavailable::WrongShape))
    }
}
