//! Who is told of what happened: admins of unusual reading and of secrets that age, extensions of rotations.
//!
//! Three things run beside the planes, each on the control runtime, none on the way of a delivery:
//! - [`watch`] counts the uses of a key whenever one is stored, and alerts;
//! - [`secret_audit`] looks all secrets over now and then, and alerts;
//! - [`outbox`] delivers what has to be told, at least once, to webhooks ([`post`]) and mailboxes ([`mail`]).
//!
//! What is due is judged by the clock that everything else goes by.

mod alert;
mod fan_out;
pub mod mail;
pub mod outbox;
pub mod post;
mod rotation;
pub mod secret_audit;
pub mod watch;

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Clock;
use crate::crypto::keyring::Keyring;
use crate::domain::audit::Actor;
use crate::domain::time::Timestamp;
use crate::store::{Change, Finding, SharedStore, StoreError};

/// How often the clock is looked at for what has become due. Costs no call of the store.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// What everything here reads and writes.
#[derive(Clone)]
pub struct Sources {
    /// Where findings and notices are kept.
    pub store: SharedStore,
    /// Authenticates policies and records.
    pub keyring: Arc<Keyring>,
    /// Wall time.
    pub clock: Arc<dyn Clock>,
    /// Who this process is in the audit log.
    pub actor: Actor,
}

impl Sources {
    /// Alerts the admins, unless they were told the same after `quiet_since`.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn raise(&self, finding: Finding, quiet_since: Timestamp) -> Result<(), StoreError> {
        let write = finding.raise(quiet_since, &self.actor, self.clock.now());
        let change = Change {
            writes: vec![write],
            entries: Vec::new(),
        };
        self.store.commit(change).await
    }
}
