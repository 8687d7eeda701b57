//! As whom Google is asked: a token, in memory only, replaced shortly before it ends.

use std::sync::Arc;

use secrecy::SecretString;
use tokio::sync::Mutex;

use super::super::failed::Failed;
use super::super::tries::Tries;
use super::metadata::MetadataServer;
use super::service_account::ServiceAccount;
use crate::clock::Clock;
use crate::domain::time::Timestamp;

/// How long before its end a token is replaced, in milliseconds. Less than the five minutes in which the metadata
/// server hands out a new one: earlier it would give the same again.
const EARLY_MILLIS: u64 = 3 * 60 * 1_000;

/// A token, until another one takes its place.
pub(super) struct Token {
    text: SecretString,
    ends_at: Timestamp,
}

impl Token {
    pub(super) const fn new(text: SecretString, ends_at: Timestamp) -> Self {
        Self { text, ends_at }
    }

    pub(super) const fn text(&self) -> &SecretString {
        &self.text
    }

    const fn is_due(&self, now: Timestamp) -> bool {
        now.plus_millis(EARLY_MILLIS).0 >= self.ends_at.0
    }
}

/// Where tokens come from.
enum Issuer {
    Account(Box<ServiceAccount>),
    Metadata(MetadataServer),
}

/// The token that is used, and how to come by the next. Whoever needs one waits for whoever is at it.
pub(super) struct Tokens {
    issuer: Issuer,
    clock: Arc<dyn Clock>,
    held: Mutex<Option<Arc<Token>>>,
}

impl Tokens {
    pub(super) fn of_account(account: ServiceAccount, clock: Arc<dyn Clock>) -> Self {
        Self::new(Issuer::Account(Box::new(account)), clock)
    }

    pub(super) fn of_machine(server: MetadataServer, clock: Arc<dyn Clock>) -> Self {
        Self::new(Issuer::Metadata(server), clock)
    }

    fn new(issuer: Issuer, clock: Arc<dyn Clock>) -> Self {
        Self {
            issuer,
            clock,
            held: Mutex::new(None),
        }
    }

    /// The token to ask with: the one that is held, or a new one where its time has come.
    pub(super) async fn current(&self, tries: Tries) -> Result<Arc<Token>, Failed> {
        let mut held = self.held.lock().await;
        match held.as_ref() {
            Some(token) if !token.is_due(self.clock.now()) => Ok(Arc::clone(token)),
            _ => self.issue(&mut held, tries).await,
        }
    }

    /// Another token than one that Google did not take. Somebody else may have come by it already.
    pub(super) async fn instead_of(&self, refused: &Arc<Token>, tries: Tries) -> Result<Arc<Token>, Failed> {
        let mut held = self.held.lock().await;
        match held.as_ref() {
            Some(token) if !Arc::ptr_eq(token, refused) => Ok(Arc::clone(token)),
            _ => self.issue(&mut held, tries).await,
        }
    }

    /// A token that is made now, whatever is held.
    pub(super) async fn anew(&self, tries: Tries) -> Result<Arc<Token>, Failed> {
        let mut held = self.held.lock().await;
        self.issue(&mut held, tries).await
    }

    async fn issue(&self, held: &mut Option<Arc<Token>>, tries: Tries) -> Result<Arc<Token>, Failed> {
        *held = None;
        let token = match &self.issuer {
            Issuer::Account(account) => account.sign(self.clock.now())?,
            Issuer::Metadata(server) => server.token(self.clock.now(), tries).await?,
        };
        let token = Arc::new(token);
        *held = Some(Arc::clone(&token));
        Ok(token)
    }
}
