//! How often values left the process: one count a bundle, one relaxed addition a delivery, told to the log by the minute.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::domain::audit::Source;
use crate::domain::id::OrganizationId;
use crate::domain::key::SecretKey;
use crate::domain::scope::Slot;

/// One value that a delivery makes use of.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Use {
    /// Where it stands.
    pub slot: Slot,
    /// Its version.
    pub version: u64,
    /// Whether it stands in an external backend.
    pub external: bool,
    /// Whether it goes into payloads, handshakes or signatures.
    pub source: Source,
}

/// Counts the deliveries that one bundle served.
#[derive(Debug)]
pub struct UseCounter {
    organization: OrganizationId,
    destination: String,
    uses: Vec<Use>,
    count: AtomicU64,
}

impl UseCounter {
    /// One more delivery is on its way.
    pub fn delivered(&self) {
        self.count.fetch_add(1, Ordering::Relaxed);
    }

    /// What the log tells of the value under a key, whatever it is used for.
    pub(super) fn told(&self, key: &SecretKey) -> Option<Told> {
        Some(Told {
            organization: self.organization.clone(),
            used: self.uses.iter().find(|used| used.slot.key == *key)?.clone(),
            destination: self.destination.clone(),
        })
    }
}

/// The counters of all bundles, also of those that are gone, until they have been read.
#[derive(Debug, Clone, Default)]
pub struct Deliveries(Arc<Mutex<Vec<Arc<UseCounter>>>>);

/// What one entry of the log tells apart.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Told {
    /// Whose delivery: a partner's default is delivered for the organization that has the extension installed.
    pub(super) organization: OrganizationId,
    pub(super) used: Use,
    pub(super) destination: String,
}

impl Deliveries {
    /// A counter for what a bundle delivers to one destination.
    #[must_use]
    pub fn counter(&self, organization: OrganizationId, destination: String, uses: Vec<Use>) -> Arc<UseCounter> {
        let counter = Arc::new(UseCounter {
            organization,
            destination,
            uses,
            count: AtomicU64::new(0),
        });
        self.lock().push(Arc::clone(&counter));
        counter
    }

    /// Adds what was counted since the last time, and lets go of counters whose bundle is gone: with the last one who
    /// could count goes nothing that was counted.
    pub(super) fn collect(&self, into: &mut HashMap<Told, u64>) {
        self.lock().retain_mut(|counter| {
            // Alone with it, we see all that was ever added.
            let is_over = Arc::get_mut(counter).is_some();
            let count = counter.count.swap(0, Ordering::Relaxed);
            if count > 0 {
                for used in &counter.uses {
                    let told = Told {
                        organization: counter.organization.clone(),
                        used: used.clone(),
                        destination: counter.destination.clone(),
                    };
                    let sum: &mut u64 = into.entry(told).or_default();
                    *sum = sum.saturating_add(count);
                }
            }
            !is_over
        });
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Arc<UseCounter>>> {
        // Each step leaves the list whole, so a poisoned lock is still sound.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::domain::id::ScopeId;
    use crate::domain::scope::{Owner, Scope};

    fn organization() -> OrganizationId {
        OrganizationId::parse("org").unwrap()
    }

    fn used(key: &str, version: u64) -> Use {
        Use {
            slot: Slot {
                owner: Owner::Organization(organization()),
                scope: Scope::Project,
                scope_id: ScopeId::parse("proj").unwrap(),
                key: SecretKey::parse(key).unwrap(),
            },
            version,
            external: false,
            source: Source::Delivery,
        }
    }

    fn collected(deliveries: &Deliveries) -> Vec<(String, u64, String, u64)> {
        let mut into = HashMap::new();
        deliveries.collect(&mut into);
        let mut all: Vec<_> = into
            .into_iter()
            .map(|(told, n)| (told.used.slot.key.to_string(), told.used.version, told.destination, n))
            .collect();
        all.sort();
        all
    }

    #[test]
    fn bundles_that_share_a_key_and_a_destination_count_together_and_others_apart() {
        let deliveries = Deliveries::default();
        let counter = |to: &str, uses| deliveries.counter(organization(), to.into(), uses);
        let one = counter("https://a:443", vec![used("A", 1), used("B", 1)]);
        let two = counter("https://a:443", vec![used("A", 1)]);
        let other = counter("https://b:443", vec![used("A", 1)]);
        let newer = counter("https://a:443", vec![used("A", 2)]);
        let silent = counter("https://c:443", vec![used("C", 1)]);
        (0..3).for_each(|_| one.delivered());
        (0..4).for_each(|_| two.delivered());
        other.delivered();
        newer.delivered();
        let row = |key: &str, version, to: &str, n| (key.to_owned(), version, to.to_owned(), n);
        assert_eq!(
            collected(&deliveries),
            [
                row("A", 1, "https://a:443", 7),
                row("A", 1, "https://b:443", 1),
                row("A", 2, "https://a:443", 1),
                row("B", 1, "https://a:443", 3),
            ]
        );
        assert_eq!(collected(&deliveries), [], "each delivery is told once");
        drop(silent);
    }

    #[test]
    fn what_a_dropped_bundle_counted_is_told_and_then_nothing_is_kept_of_it() {
        let deliveries = Deliveries::default();
        for _ in 0..3 {
            let counter = deliveries.counter(organization(), "https://a:443".into(), vec![used("A", 1)]);
            counter.delivered();
        }
        assert_eq!(deliveries.lock().len(), 3);
        assert_eq!(collected(&deliveries), [("A".into(), 1, "https://a:443".into(), 3)]);
        assert_eq!(deliveries.lock().len(), 0);
    }

    #[test]
    fn no_delivery_is_lost_between_a_worker_that_counts_and_a_reader() {
        let deliveries = Deliveries::default();
        let counter = deliveries.counter(organization(), "https://a:443".into(), vec![used("A", 1)]);
        let worker = std::thread::spawn(move || (0..100_000).for_each(|_| counter.delivered()));
        let mut told = HashMap::new();
        while !worker.is_finished() {
            deliveries.collect(&mut told);
        }
        worker.join().unwrap();
        deliveries.collect(&mut told);
        assert_eq!(told.values().sum::<u64>(), 100_000);
    }
}
