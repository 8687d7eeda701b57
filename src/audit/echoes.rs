//! How it is told that an endpoint gave values back: counted where it happens, written to the log and alerted beside.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::mpsc;

use super::UseCounter;
use super::deliveries::Told;
use crate::clock::Clock;
use crate::domain::alert::AlertKind;
use crate::domain::audit::{Action, Actor, AuditEntry, Delivered, Source};
use crate::domain::key::SecretKey;
use crate::domain::policy::DAY_MILLIS;
use crate::domain::time::Timestamp;
use crate::store::{Change, Finding, SharedStore};

/// Echoes that wait to be told; what does not fit in is in the metric only.
const WAITING_MAX: usize = 4_096;

/// Values that are told together.
const TOGETHER_MAX: usize = 256;

/// Where echoes are told. Never waits.
#[derive(Debug, Clone)]
pub struct Echoes(mpsc::Sender<Seen>);

/// What a delivery used, and the key whose value came back.
type Seen = (Arc<UseCounter>, SecretKey);

/// What writes it down.
pub struct EchoLog {
    waiting: mpsc::Receiver<Seen>,
    store: SharedStore,
    clock: Arc<dyn Clock>,
    actor: Actor,
}

impl Echoes {
    /// The two ends. What is told before the other end runs is not lost.
    #[must_use]
    pub fn new(store: SharedStore, clock: Arc<dyn Clock>, actor: Actor) -> (Self, EchoLog) {
        let (sender, waiting) = mpsc::channel(WAITING_MAX);
        let log = EchoLog {
            waiting,
            store,
            clock,
            actor,
        };
        (Self(sender), log)
    }

    /// Tells that an answer gave a value back that the delivery injected.
    pub fn tell(&self, uses: &Arc<UseCounter>, key: &SecretKey) {
        let _ = self.0.try_send((Arc::clone(uses), key.clone())); // full: the metric has it
    }
}

impl EchoLog {
    /// Writes until nobody is left to tell anything.
    pub async fn run(mut self) {
        let mut seen = Vec::new();
        while self.waiting.recv_many(&mut seen, TOGETHER_MAX).await > 0 {
            self.write(&mut seen).await;
        }
    }

    async fn write(&self, seen: &mut Vec<Seen>) {
        let mut counts: HashMap<Told, u64> = HashMap::new();
        for told in seen.drain(..).filter_map(|(uses, key)| uses.injected(&key)) {
            *counts.entry(told).or_default() += 1;
        }
        let now = self.clock.now();
        let mut change = Change::default();
        let quiet_since = Timestamp(now.0.saturating_sub(DAY_MILLIS));
        for (told, count) in counts {
            change.entries.push(self.entry(&told, count, now));
            change.writes.push(finding(&told).raise(quiet_since, &self.actor, now));
        }
        if !change.entries.is_empty() && self.store.commit(change).await.is_err() {
            tracing::error!("endpoints gave values back, and that could not be written to the audit log");
        }
    }

    fn entry(&self, told: &Told, count: u64, now: Timestamp) -> AuditEntry {
        let (organization, used) = (Some(told.organization.clone()), &told.used);
        let actor = self.actor.clone();
        let entry = AuditEntry::of(organization, now, actor, Action::SecretEchoed, Source::Delivery);
        AuditEntry {
            delivered: Some(Delivered {
                destination: told.destination.clone(),
                count,
            }),
            ..entry.about(&used.slot, used.version, used.external)
        }
    }
}

fn finding(told: &Told) -> Finding {
    let Told { used, destination, .. } = told;
    let key = &used.slot.key;
    let detail = format!("the extension at {destination} echoed {key} in an answer; see what it does with requests");
    Finding {
        organization: Some(told.organization.clone()),
        ..Finding::about(AlertKind::SecretEchoed, &used.slot, detail, destination.clone())
    }
}
