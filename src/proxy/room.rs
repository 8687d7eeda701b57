//! Whether there is room for a delivery, and whether its endpoint gets one at all: the last question before the dial, and
//! for large bodies the first one, before they are read.

use std::sync::Arc;

use http::HeaderMap;

use super::auth::Admitted;
use super::record::Record;
use super::{Proxy, invocation};
use crate::bundles::{Ready, Standing};
use crate::delivery::{Lane, Passage};
use crate::domain::problem::Problem;
use crate::server::Buffered;
use crate::telemetry::ShedReason;

/// Larger bodies than this, and those of unknown length, are not read where it is known before that there is no room for
/// them. Smaller ones come along with the head.
const RESERVED_FROM_BYTES: u64 = 64 * 1024;

impl Proxy {
    /// Takes the delivery's place before its body is read, where the head says whose it is and the bundle is in memory.
    ///
    /// # Errors
    /// [`Problem::Overloaded`], [`Problem::EndpointCircuitOpen`].
    pub(super) fn reserve(
        &self,
        headers: &HeaderMap,
        admitted: &Admitted,
        declared: Option<u64>,
        record: &mut Record,
    ) -> Result<(), Problem> {
        if declared.is_some_and(|bytes| bytes <= RESERVED_FROM_BYTES) {
            return Ok(());
        }
        let Ok(Some(id)) = invocation::named(headers) else {
            return Ok(()); // it is told once the body is there
        };
        let Some(bundle) = self.shared.bundles.in_memory(&id) else {
            return Ok(());
        };
        let Standing::Installed {
            installation,
            readiness: Ok(ready),
        } = &bundle.standing
        else {
            return Ok(());
        };
        if admitted.covers(&installation.organization).is_err() {
            return Ok(());
        }
        let bytes_max = self.shared.load.limits().body_bytes_max;
        let bytes = declared.map_or(bytes_max, |bytes| usize::try_from(bytes).unwrap_or(bytes_max));
        let refused = match self.take_place(&ready.lane, bytes, record) {
            Ok(()) if ready.lane.circuit().refuses(self.shared.clock.now()) => Problem::EndpointCircuitOpen,
            Ok(()) => return Ok(()), // and nothing of the bundle is kept meanwhile: it may change
            Err(problem) => problem,
        };
        record.bundle = Some(bundle);
        Err(refused)
    }

    /// Takes the delivery's place, unless it has one, and passes the endpoint's circuit.
    ///
    /// # Errors
    /// [`Problem::Overloaded`], [`Problem::EndpointCircuitOpen`].
    pub(super) fn make_way<'a>(&self, ready: &'a Ready, record: &mut Record) -> Result<Passage<'a>, Problem> {
        if !record.place.as_ref().is_some_and(|place| place.is_in(&ready.lane)) {
            let bytes = record.held.as_ref().map_or(0, Buffered::bytes);
            self.take_place(&ready.lane, bytes, record)?;
        }
        let circuit = ready.lane.circuit();
        circuit
            .enter(self.shared.clock.now())
            .map_err(|_| Problem::EndpointCircuitOpen)
    }

    /// Counts a delivery that is shed.
    pub(super) fn shed(&self, reason: ShedReason) -> Problem {
        self.shared.metrics.overload.sheds.inc(reason);
        Problem::Overloaded
    }

    fn take_place(&self, lane: &Arc<Lane>, bytes: usize, record: &mut Record) -> Result<(), Problem> {
        record.place = None; // one in another lane goes first
        let place = lane.enter(bytes).map_err(|reason| self.shed(reason))?;
        record.place = Some(place);
        Ok(())
    }
}
