//! How it is told that values were seen where none belongs: counted where it happens, written to the log and alerted
//! beside.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::mpsc;

use super::UseCounter;
use super::deliveries::Told;
use crate::clock::Clock;
use crate::domain::alert::AlertKind;
use crate::domain::audit::{Action, Actor, AuditEntry, Delivered, Outcome};
use crate::domain::key::SecretKey;
use crate::domain::policy::DAY_MILLIS;
use crate::domain::time::Timestamp;
use crate::store::{Change, Finding, SharedStore};

/// Sightings that wait to be told; what does not fit in is in the metric only.
const WAITING_MAX: usize = 4_096;

/// Values that are told together.
const TOGETHER_MAX: usize = 256;

/// Where a value was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Sight {
    /// In an endpoint's answer.
    Echoed,
    /// In a request, outside of its slot; nothing was sent.
    Misplaced,
}

/// Where sightings are told. Never waits.
#[derive(Debug, Clone)]
pub struct Sightings(mpsc::Sender<Seen>);

/// What a delivery uses, the key whose value was seen, and where.
type Seen = (Arc<UseCounter>, SecretKey, Sight);

/// What writes it down.
pub struct SightingLog {
    waiting: mpsc::Receiver<Seen>,
    store: SharedStore,
    clock: Arc<dyn Clock>,
    actor: Actor,
}

impl Sightings {
    /// The two ends. What is told before the other end runs is not lost.
    #[must_use]
    pub fn new(store: SharedStore, clock: Arc<dyn Clock>, actor: Actor) -> (Self, SightingLog) {
        let (sender, waiting) = mpsc::channel(WAITING_MAX);
        let log = SightingLog {
            waiting,
            store,
            clock,
            actor,
        };
        (Self(sender), log)
    }

    /// Tells that a value which the delivery uses was seen where it does not belong.
    pub fn tell(&self, uses: &Arc<UseCounter>, key: &SecretKey, sight: Sight) {
        let _ = self.0.try_send((Arc::clone(uses), key.clone(), sight)); // full: the metric has it
    }
}

impl SightingLog {
    /// Writes until nobody is left to tell anything.
    pub async fn run(mut self) {
        let mut seen = Vec::new();
        while self.waiting.recv_many(&mut seen, TOGETHER_MAX).await > 0 {
            self.write(&mut seen).await;
        }
    }

    async fn write(&self, seen: &mut Vec<Seen>) {
        let mut counts: HashMap<(Told, Sight), u64> = HashMap::new();
        for (uses, key, sight) in seen.drain(..) {
            if let Some(told) = uses.told(&key) {
                *counts.entry((told, sight)).or_default() += 1;
            }
        }
        let now = self.clock.now();
        let mut change = Change::default();
        let quiet_since = Timestamp(now.0.saturating_sub(DAY_MILLIS));
        for ((told, sight), count) in counts {
            change.entries.push(self.entry(&told, sight, count, now));
            change
                .writes
                .push(finding(&told, sight).raise(quiet_since, &self.actor, now));
        }
        if !change.entries.is_empty() && self.store.commit(change).await.is_err() {
            tracing::error!("values were seen where none belongs, and that could not be written to the audit log");
        }
    }

    fn entry(&self, told: &Told, sight: Sight, count: u64, now: Timestamp) -> AuditEntry {
        let (organization, used) = (Some(told.organization.clone()), &told.used);
        let actor = self.actor.clone();
        let (action, outcome) = match sight {
            Sight::Echoed => (Action::SecretEchoed, Outcome::Ok),
            Sight::Misplaced => (Action::SecretMisplaced, Outcome::Refused),
        };
        let entry = AuditEntry::of(organization, now, actor, action, used.source);
        AuditEntry {
            outcome,
            delivered: Some(Delivered {
                destination: told.destination.clone(),
                count,
            }),
            ..entry.about(&used.slot, used.version, used.external)
        }
    }
}

fn finding(told: &Told, sight: Sight) -> Finding {
    let Told { used, destination, .. } = told;
    let key = &used.slot.key;
    let (kind, detail) = match sight {
        Sight::Echoed => (
            AlertKind::SecretEchoed,
            format!("the extension at {destination} echoed {key} in an answer; see what it does with requests"),
        ),
        Sight::Misplaced => (
            AlertKind::SecretMisplaced,
            format!(
                "a delivery to {destination} was stopped: {key} stood outside of its slot; see what dispatchers send"
            ),
        ),
    };
    Finding {
        organization: Some(told.organization.clone()),
        ..Finding::about(kind, &used.slot, detail, destination.clone())
    }
}
