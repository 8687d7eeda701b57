//! The data plane: how an invocation becomes a delivery, step by step.
//!
//! Checks come in the contract's order of refusals (section 5); nothing is dialled before all of them passed.

mod auth;
mod echo;
mod headers;
mod invocation;
mod leak;
mod record;
mod respond;
mod room;

use std::cell::Cell;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::FutureExt;
use http::header::EXPECT;
use http::request::Parts;
use http::{HeaderMap, Request, Response};
use http_body::Body;
use hyper::body::Incoming;

use crate::audit::{Recorder, Sightings, Stranger};
use crate::bundles::{BuildError, Bundle, Bundles, Obstacle, Ready, Standing};
use crate::clock::Clock;
use crate::crypto::signature::message_id;
use crate::delivery::{Delivered, Deliverer, DeliveryFailure, Outbound};
use crate::domain::id::InstallationId;
use crate::domain::installation::Installation;
use crate::domain::payload::{Enriched, Stated, scan, scan_with_token, splice};
use crate::domain::problem::Problem;
use crate::issuer::Issuer;
use crate::server::{self, BodyError, Load, TurnedAway};
use crate::telemetry::{BundleLookup, LogHandle, Metrics, ShedReason};
use crate::traces::Traces;

pub use auth::{DispatcherAuth, StoredTokens};
pub use echo::EchoPolicy;
pub use record::{DeliveryIds, NoRandomness};
pub use respond::ProxyBody;

use auth::Admitted;
use echo::Guarded;
use record::Record;
use respond::Refusal;

/// The longest that a delivery waits for its bundle to be built.
const RESOLVE_WAIT_MAX: Duration = Duration::from_secs(5);

/// What all workers share.
pub struct Shared {
    /// Who may deliver.
    pub auth: DispatcherAuth,
    /// Who has to vouch for invocations, where the operator asks for that.
    pub issuer: Option<Arc<Issuer>>,
    /// What warm deliveries need.
    pub bundles: Bundles,
    /// Wall time, for signatures.
    pub clock: Arc<dyn Clock>,
    /// How much is being held.
    pub load: Load,
    /// Where canonical lines go.
    pub log: LogHandle,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Counts dispatchers that are none.
    pub recorder: Arc<Recorder>,
    /// What becomes of answers that give a value back.
    pub echo_policy: EchoPolicy,
    /// Where that is told.
    pub sightings: Sightings,
    /// Which deliveries are traced; none where `None`.
    pub traces: Option<Arc<Traces>>,
    /// The deliveries' ids.
    pub ids: DeliveryIds,
}

/// One worker's data plane.
pub struct Proxy {
    shared: Arc<Shared>,
    deliverer: Deliverer,
}

impl Proxy {
    /// The data plane of the current worker.
    #[must_use]
    pub fn new(shared: Arc<Shared>, deliverer: Deliverer) -> Self {
        Self { shared, deliverer }
    }

    async fn deliver(&self, request: Request<Incoming>, record: &mut Record) -> Result<Guarded, Refusal> {
        let (head, mut body) = request.into_parts();
        record.take_up(&head);
        let (admitted, invocation) = match self.receive(&head, &mut body, record).await {
            Ok(received) => received,
            Err(refusal) => {
                discard(&head.headers, body);
                return Err(refusal);
            }
        };
        let scanned = match &self.shared.issuer {
            Some(_) => scan_with_token(&invocation)?,
            None => scan(&invocation)?,
        };
        let id = invocation::installation_id(&head.headers, &scanned.stated)?;
        let bundle = self.bundle(&id, record).await?;
        let (installation, readiness) = addressed(&bundle, &scanned.stated, &admitted)?;
        self.check_token(&scanned.stated, installation, record).await?;
        let ready = readiness.as_ref().map_err(Refusal::from)?;
        self.check_identity(ready)?;
        let passage = self.make_way(ready, record)?;
        let message_id = ready
            .signers
            .as_ref()
            .map(|_| message_id(scanned.stated.id.as_deref(), &invocation))
            .unwrap_or_default();
        let (insert_at, is_empty) = (scanned.insert_at, scanned.is_empty);
        let enriched = splice(invocation, insert_at, is_empty, ready.fragment.clone());
        let sent = self.send(ready, head, enriched, &message_id, record).await?;
        let failure = sent.as_ref().err().map(|failure| failure.kind);
        passage.settle(failure, self.shared.clock.now());
        let delivered = sent.map_err(|failure| Refusal::from(&failure))?;
        Ok(echo::guard(delivered, ready.echo.as_ref(), &self.shared, record).await?)
    }

    /// Lets a request in and reads its body.
    async fn receive(
        &self,
        head: &Parts,
        body: &mut Incoming,
        record: &mut Record,
    ) -> Result<(Admitted, Bytes), Refusal> {
        let load = &self.shared.load;
        record.admit(load.admit().await.map_err(|turned_away| match turned_away {
            TurnedAway::Full => self.shed(ShedReason::InFlight),
            TurnedAway::Closed => Problem::Draining,
        })?);
        let declared = server::declared_length(&head.headers);
        invocation::check_head(head, declared, load.limits().body_bytes_max)?;
        let admitted = self.shared.auth.check(&head.headers, self.shared.clock.now()).await;
        let admitted = admitted.map_err(|problem| match problem {
            Problem::Overloaded => self.shed(ShedReason::TokenLookups),
            Problem::DispatcherUnauthenticated => {
                self.shared.recorder.turned_away(Stranger::Dispatcher);
                problem
            }
            other => other,
        })?;
        invocation::check_path(&head.uri)?;
        self.reserve(&head.headers, &admitted, declared, record)?;
        let (invocation, held) = server::read_body(body, declared, load).await.inspect_err(|error| {
            if *error == BodyError::Overloaded {
                self.shed(ShedReason::BufferedBytes);
            }
        })?;
        if let Some(place) = &mut record.place {
            place.shrink(held.bytes());
        }
        record.held = Some(held);
        record.bytes_in = invocation.len() as u64;
        Ok((admitted, invocation))
    }

    /// What there is to know of an installation, from memory or built now.
    async fn bundle(&self, id: &InstallationId, record: &mut Record) -> Result<Arc<Bundle>, Refusal> {
        let asked = Instant::now();
        let found = tokio::time::timeout(RESOLVE_WAIT_MAX, self.shared.bundles.get(id)).await;
        let found = found.unwrap_or(Err(BuildError::Store));
        let lookup = found.as_ref().map_or(BundleLookup::Failed, |found| found.lookup);
        record.looked_up(lookup, asked.elapsed());
        let found = found?;
        record.bundle = Some(Arc::clone(&found.bundle));
        Ok(found.bundle)
    }

    /// Holds an invocation's runtime token against its issuer's keys and the record, where that is asked for.
    async fn check_token(
        &self,
        stated: &Stated<'_>,
        installation: &Installation,
        record: &mut Record,
    ) -> Result<(), Refusal> {
        let Some(issuer) = &self.shared.issuer else {
            return Ok(());
        };
        let verdict = issuer.check(stated.runtime_token.as_ref(), installation).await;
        record.token_check = Some(verdict);
        verdict.problem().map_or(Ok(()), |problem| Err(problem.into()))
    }

    /// A certificate that ended since the bundle was built is not shown to anyone.
    fn check_identity(&self, ready: &Ready) -> Result<(), Problem> {
        match ready.identity_until {
            Some(until) if self.shared.clock.now() >= until => Err(Problem::MtlsIdentityInvalid),
            _ => Ok(()),
        }
    }

    async fn send(
        &self,
        ready: &Ready,
        head: Parts,
        body: Enriched,
        message_id: &str,
        record: &mut Record,
    ) -> Result<Result<Delivered, DeliveryFailure>, Refusal> {
        let target = invocation::target(&head.uri, &ready.route.destination.path_prefix)?;
        leak::check_request(ready, &target, &body, &self.shared)?;
        let pieces = body.clone();
        let counted = Cell::new(false);
        let sign = |headers: &mut HeaderMap| {
            if let Some(signers) = &ready.signers {
                signers
                    .sign(self.shared.clock.now(), message_id, pieces.pieces())
                    .apply(headers);
            }
            leak::check_headers(ready, headers, &self.shared)?;
            // From here on the values are out of our hands, however the delivery ends.
            if !counted.replace(true) {
                ready.uses.delivered();
            }
            Ok(())
        };
        let mut headers = headers::outbound(head.headers);
        let sent = record.send(&mut headers);
        let outbound = Outbound {
            route: Arc::clone(&ready.route),
            target,
            headers,
            body,
            deadline: record.deadline(ready.route.timeout).into(),
            sign: &sign,
        };
        let result = self.deliverer.deliver(outbound).await;
        let attempts = result
            .as_ref()
            .map_or_else(|failure| failure.attempts, |delivered| delivered.attempts);
        record.tried(attempts, sent.elapsed());
        Ok(result)
    }
}

impl server::Service for Proxy {
    type Body = ProxyBody;

    async fn call(&self, request: Request<Incoming>) -> Response<ProxyBody> {
        let mut record = Record::begin(&self.shared);
        // A panic costs one delivery, not the worker.
        match AssertUnwindSafe(self.deliver(request, &mut record))
            .catch_unwind()
            .await
        {
            Ok(Ok(guarded)) => respond::pass_on(guarded, record),
            Ok(Err(refusal)) => respond::refuse(refusal, record),
            Err(_) => respond::refuse(Problem::Internal.into(), record),
        }
    }

    fn sweep(&self) {
        self.deliverer.sweep();
    }
}

/// The installation that an invocation is addressed to and agrees with, and what a delivery to it uses, or what stands
/// in its way. Conflicts are told here; what else stands in the way is told to whoever is vouched for.
fn addressed<'a>(
    bundle: &'a Bundle,
    stated: &Stated<'_>,
    admitted: &Admitted,
) -> Result<(&'a Installation, &'a Result<Ready, Obstacle>), Refusal> {
    let Standing::Installed {
        installation,
        readiness,
    } = &bundle.standing
    else {
        return Err(Problem::InstallationUnknown.into());
    };
    admitted.covers(&installation.organization)?;
    invocation::hold_against(stated, installation)?;
    match readiness.as_ref().map_err(Refusal::from) {
        Err(conflict) if conflict.is_conflict() => Err(conflict),
        Ok(_) | Err(_) => Ok((installation, readiness)),
    }
}

/// Takes the rest of a refused body off the wire beside the answer. A dispatcher that waits for `100 Continue` sends
/// none.
fn discard(headers: &HeaderMap, body: Incoming) {
    if !body.is_end_stream() && !headers.contains_key(EXPECT) {
        tokio::task::spawn_local(server::discard(body));
    }
}
