//! How much of the instance one organization and one endpoint may take up, so that a slow endpoint or a flood of one
//! tenant leaves room, and with it their pace, to all others.
//!
//! A lane is what an organization delivers to a destination through. Deliveries are counted where the lane ends: for its
//! organization, for its destination, and for the two together, because the endpoint of a partner's extension is many
//! organizations' endpoint. Each of the three may hold a share of the room that others leave (`domain::share`), in
//! deliveries under way and in bytes of their bodies alike; the room is what the listeners' own bounds say
//! (`server::Load`).
//!
//! A lane has the endpoint's circuit, too. It is one for each organization *and* destination: a tenant can make its own
//! handshakes with a shared endpoint fail, or let the endpoint work for longer than its own callback's timeout, and must
//! not close the way of others with that. So an endpoint that is gone is found to be so by each organization; what they
//! all hold meanwhile is bounded by the destination's share.
//!
//! Bundles hold their lane, so that a delivery looks nothing up. The table keeps lanes for a while after the last bundle
//! is gone: one that is built anew finds what is known.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::circuit::Circuit;
use crate::domain::destination::Destination;
use crate::domain::id::OrganizationId;
use crate::domain::share::Share;
use crate::domain::time::Timestamp;
use crate::server::Load;
use crate::telemetry::{Metrics, ShedReason};

/// How often lanes that nobody uses are looked for, in milliseconds.
const SWEEP_EVERY_MILLIS: u64 = 10_000;

/// How long a lane outlives the last bundle that goes through it, in milliseconds.
const UNUSED_MILLIS: u64 = 60_000;

/// How much of what others leave one may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shares {
    /// An organization: of the instance, and of any one destination.
    pub organization: Share,
    /// A destination, of the instance.
    pub destination: Share,
}

/// All lanes of an instance. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Lanes(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    load: Load,
    shares: Shares,
    metrics: Arc<Metrics>,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    lanes: HashMap<(OrganizationId, Destination), Kept>,
    organizations: HashMap<OrganizationId, Arc<Held>>,
    destinations: HashMap<Destination, Arc<Held>>,
    swept_at: Timestamp,
}

#[derive(Debug)]
struct Kept {
    lane: Arc<Lane>,
    unused_since: Option<Timestamp>,
}

/// What one organization delivers to one destination through.
#[derive(Debug)]
pub struct Lane {
    load: Load,
    shares: Shares,
    organization: Arc<Held>,
    destination: Arc<Held>,
    own: Held,
    circuit: Circuit,
}

/// A delivery's place in its lane; dropping it makes room.
#[derive(Debug)]
pub struct Place {
    lane: Arc<Lane>,
    bytes: usize,
}

/// What is held at the moment.
#[derive(Debug, Default)]
struct Held {
    deliveries: AtomicUsize,
    bytes: AtomicUsize,
}

impl Lanes {
    /// No lanes yet, in the room that `load` bounds.
    #[must_use]
    pub fn new(load: Load, shares: Shares, metrics: Arc<Metrics>) -> Self {
        Self(Arc::new(Shared {
            load,
            shares,
            metrics,
            table: Mutex::default(),
        }))
    }

    /// The lane of an organization to a destination.
    #[must_use]
    pub fn of(&self, organization: &OrganizationId, destination: &Destination) -> Arc<Lane> {
        let mut table = self.table();
        let key = (organization.clone(), destination.clone());
        if let Some(kept) = table.lanes.get_mut(&key) {
            kept.unused_since = None;
            return Arc::clone(&kept.lane);
        }
        let held = table.organizations.entry(organization.clone()).or_default();
        let of_organization = Arc::clone(held);
        let held = table.destinations.entry(destination.clone()).or_default();
        let lane = Arc::new(Lane {
            load: self.0.load.clone(),
            shares: self.0.shares,
            organization: of_organization,
            destination: Arc::clone(held),
            own: Held::default(),
            circuit: Circuit::new(Arc::clone(&self.0.metrics)),
        });
        let kept = Kept {
            lane: Arc::clone(&lane),
            unused_since: None,
        };
        table.lanes.insert(key, kept);
        lane
    }

    /// Lets go of lanes that were not used for a while. Meant to be called now and then.
    pub fn sweep(&self, now: Timestamp) {
        let mut table = self.table();
        let since = now.0.checked_sub(table.swept_at.0); // `None` where the clock was set back
        if since.is_some_and(|since| since < SWEEP_EVERY_MILLIS) {
            return;
        }
        table.swept_at = now;
        table.lanes.retain(|_, kept| {
            if Arc::strong_count(&kept.lane) > 1 {
                kept.unused_since = None;
                return true;
            }
            let since = *kept.unused_since.get_or_insert(now);
            now.0.saturating_sub(since.0) < UNUSED_MILLIS
        });
        table.organizations.retain(|_, held| Arc::strong_count(held) > 1);
        table.destinations.retain(|_, held| Arc::strong_count(held) > 1);
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // Each step leaves it whole, so a poisoned lock is still sound.
        self.0.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lane {
    /// Takes a place for a delivery whose body takes so many bytes. The instance has let it in already.
    ///
    /// # Errors
    /// Whose share is used up. Retry later.
    pub fn enter(self: &Arc<Self>, bytes: usize) -> Result<Place, ShedReason> {
        for held in self.all_held() {
            held.deliveries.fetch_add(1, Ordering::Relaxed);
            held.bytes.fetch_add(bytes, Ordering::Relaxed);
        }
        let place = Place {
            lane: Arc::clone(self),
            bytes,
        };
        let deliveries = |held: &Held| held.deliveries.load(Ordering::Relaxed);
        self.permit(self.load.limits().in_flight_max, self.load.in_flight(), 1, deliveries)?;
        self.permit_bytes(bytes)?;
        Ok(place)
    }

    /// The endpoint's circuit.
    #[must_use]
    pub const fn circuit(&self) -> &Circuit {
        &self.circuit
    }

    fn permit_bytes(&self, new: usize) -> Result<(), ShedReason> {
        let bytes = |held: &Held| held.bytes.load(Ordering::Relaxed);
        self.permit(
            self.load.limits().buffered_bytes_max,
            self.load.buffered_bytes(),
            new,
            bytes,
        )
    }

    /// Whether a new part, counted already, goes beyond anybody's share of a room of which `all` is held.
    fn permit(&self, room: usize, all: usize, new: usize, of: impl Fn(&Held) -> usize) -> Result<(), ShedReason> {
        let Shares {
            organization,
            destination,
        } = self.shares;
        let at_destination = of(&self.destination);
        if !organization.permits(room, all, of(&self.organization), new) {
            return Err(ShedReason::Organization);
        }
        if !destination.permits(room, all, at_destination, new) {
            return Err(ShedReason::Destination);
        }
        let for_destination = destination.of(room, all.saturating_sub(at_destination));
        if !organization.permits(for_destination, at_destination, of(&self.own), new) {
            return Err(ShedReason::OrganizationAtDestination);
        }
        Ok(())
    }

    fn all_held(&self) -> [&Held; 3] {
        [&self.organization, &self.destination, &self.own]
    }
}

impl Place {
    /// Whether it is a place in this lane.
    #[must_use]
    pub fn is_in(&self, lane: &Arc<Lane>) -> bool {
        Arc::ptr_eq(&self.lane, lane)
    }

    /// Takes room for more bytes. They are counted either way.
    ///
    /// # Errors
    /// As for [`Lane::enter`].
    pub fn grow(&mut self, bytes: usize) -> Result<(), ShedReason> {
        for held in self.lane.all_held() {
            held.bytes.fetch_add(bytes, Ordering::Relaxed);
        }
        self.bytes += bytes;
        self.lane.permit_bytes(bytes)
    }

    /// The body took fewer bytes than were reserved.
    pub fn shrink(&mut self, bytes: usize) {
        let excess = self.bytes.saturating_sub(bytes);
        for held in self.lane.all_held() {
            held.bytes.fetch_sub(excess, Ordering::Relaxed);
        }
        self.bytes -= excess;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        for held in self.lane.all_held() {
            held.deliveries.fetch_sub(1, Ordering::Relaxed);
            held.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::time::Duration;

    use tokio::runtime::Runtime;

    use super::*;
    use crate::server::{Admitted, Buffered, Limits};
    use crate::telemetry::line_buffer::Drops;

    /// An instance with room for 100 deliveries and 1,000 bytes.
    struct Bench {
        runtime: Runtime,
        load: Load,
        lanes: Lanes,
    }

    type Delivery = (Admitted, Buffered, Place);

    impl Bench {
        fn new(organization: u8, destination: u8) -> Self {
            let load = Load::new(Limits {
                connections_max: 100,
                in_flight_max: 100,
                buffered_bytes_max: 1_000,
                body_bytes_max: 1_000,
                header_read_timeout: Duration::from_secs(1),
                body_read_timeout: Duration::from_secs(1),
            });
            let shares = Shares {
                organization: Share::percent(organization).unwrap(),
                destination: Share::percent(destination).unwrap(),
            };
            let metrics = Metrics::new("0.1.0", Timestamp(0), Drops::default()).unwrap();
            let lanes = Lanes::new(load.clone(), shares, Arc::new(metrics));
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
            Self {
                runtime: runtime.unwrap(),
                load,
                lanes,
            }
        }

        fn lane(&self, organization: &str, host: &str) -> Arc<Lane> {
            let organization = OrganizationId::parse(organization).unwrap();
            let destination = Destination::parse(&format!("https://{host}")).unwrap();
            self.lanes.of(&organization, &destination)
        }

        fn deliver(&self, lane: &Arc<Lane>, bytes: usize) -> Result<Delivery, Option<ShedReason>> {
            let admitted = self.runtime.block_on(self.load.admit()).map_err(|_| None)?;
            let buffered = self.load.buffer(bytes).ok_or(None)?;
            Ok((admitted, buffered, lane.enter(bytes)?))
        }

        /// Delivers until there is no more room, and says whose bound it was.
        fn flood(&self, lane: &Arc<Lane>, bytes: usize) -> (Vec<Delivery>, Option<ShedReason>) {
            let mut held = Vec::new();
            loop {
                match self.deliver(lane, bytes) {
                    Ok(delivery) => held.push(delivery),
                    Err(reason) => return (held, reason),
                }
            }
        }
    }

    #[test]
    fn a_flood_of_one_lane_takes_its_destinations_share_of_what_there_is() {
        let bench = Bench::new(80, 50);
        let slow = bench.lane("a", "slow.example.com");
        let (held, reason) = bench.flood(&slow, 0);
        // 80 % of the destination's 50 %.
        assert_eq!((held.len(), reason), (40, Some(ShedReason::OrganizationAtDestination)));
        drop(held);
        assert_eq!(bench.flood(&slow, 0).0.len(), 40, "all of it came back");
    }

    #[test]
    fn others_and_the_same_ones_other_endpoints_have_room_beside_a_flood() {
        let bench = Bench::new(80, 50);
        let (slow, other) = (
            bench.lane("a", "slow.example.com"),
            bench.lane("a", "other.example.com"),
        );
        let (flood, _) = bench.flood(&slow, 0);
        let (beside, reason) = bench.flood(&other, 0);
        assert_eq!(
            (beside.len(), reason),
            (24, Some(ShedReason::OrganizationAtDestination))
        );
        let (same_endpoint, reason) = bench.flood(&bench.lane("b", "slow.example.com"), 0);
        assert_eq!((same_endpoint.len(), reason), (0, Some(ShedReason::Destination)));
        drop(beside);
        let (same_endpoint, _) = bench.flood(&bench.lane("b", "slow.example.com"), 0);
        assert_eq!(same_endpoint.len(), 8, "80 % of the rest of the endpoint's share");
        assert!(bench.deliver(&bench.lane("c", "third.example.com"), 0).is_ok());
        drop((flood, same_endpoint));
    }

    #[test]
    fn an_organization_over_many_endpoints_takes_no_more_than_its_share() {
        let bench = Bench::new(80, 100);
        let lanes: Vec<_> = (0..40).map(|n| bench.lane("a", &format!("h{n}.example.com"))).collect();
        let held: Vec<_> = lanes
            .iter()
            .cycle()
            .take(400)
            .map(|lane| bench.deliver(lane, 0))
            .collect();
        let refused = held.iter().filter_map(|delivery| delivery.as_ref().err());
        assert_eq!(held.iter().filter(|delivery| delivery.is_ok()).count(), 80);
        assert!(refused.clone().all(|reason| *reason == Some(ShedReason::Organization)));
        assert!(bench.deliver(&bench.lane("b", "h0.example.com"), 0).is_ok());
    }

    #[test]
    fn bytes_are_shared_like_deliveries_and_one_large_body_always_passes() {
        let bench = Bench::new(80, 50);
        let lane = bench.lane("a", "slow.example.com");
        let (held, reason) = bench.flood(&lane, 100);
        assert_eq!((held.len(), reason), (4, Some(ShedReason::OrganizationAtDestination)));
        assert!(bench.deliver(&bench.lane("b", "other.example.com"), 300).is_ok());
        drop(held);
        assert!(
            bench.deliver(&lane, 1_000).is_ok(),
            "the largest body there is room for"
        );
    }

    #[test]
    fn what_was_reserved_and_not_used_goes_back() {
        let bench = Bench::new(80, 50);
        let lane = bench.lane("a", "slow.example.com");
        let (_admitted, _buffered, mut place) = bench.deliver(&lane, 900).unwrap();
        assert!(lane.enter(1).is_err());
        assert!(place.grow(1).is_err());
        place.shrink(10);
        place.shrink(20);
        assert!(place.grow(10).is_ok());
        assert!(lane.enter(1).is_ok());
        drop(place);
        let left = |held: &Held| {
            (
                held.deliveries.load(Ordering::Relaxed),
                held.bytes.load(Ordering::Relaxed),
            )
        };
        assert!(lane.all_held().iter().all(|held| left(held) == (0, 0)));
    }

    #[test]
    fn with_shares_of_a_hundred_one_lane_may_fill_the_instance() {
        let bench = Bench::new(100, 100);
        assert_eq!(bench.flood(&bench.lane("a", "slow.example.com"), 0).0.len(), 100);
    }

    #[test]
    fn a_lane_is_the_same_for_a_while_after_nobody_held_it_and_gone_after_that() {
        let bench = Bench::new(80, 50);
        let lane = bench.lane("a", "slow.example.com");
        let same = Arc::downgrade(&lane);
        bench.lanes.sweep(Timestamp(1_000_000));
        drop(lane);
        for now in [1_010_000, 1_060_000, 1_069_999] {
            bench.lanes.sweep(Timestamp(now));
        }
        assert!(std::ptr::eq(
            same.as_ptr(),
            Arc::as_ptr(&bench.lane("a", "slow.example.com"))
        ));
        for now in [1_080_000, 1_139_999] {
            bench.lanes.sweep(Timestamp(now));
        }
        assert!(same.upgrade().is_some());
        bench.lanes.sweep(Timestamp(1_150_000));
        assert!(same.upgrade().is_none());
        let table = bench.lanes.table();
        assert!(table.lanes.is_empty() && table.organizations.is_empty() && table.destinations.is_empty());
    }
}
