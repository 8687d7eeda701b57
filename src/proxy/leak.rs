//! Whether a request may leave: where that is asked for, one that carries a secret where none belongs is stopped.

use http::HeaderMap;
use http::uri::PathAndQuery;

use super::Shared;
use crate::audit::Sight;
use crate::bundles::Ready;
use crate::delivery::Withheld;
use crate::domain::key::SecretKey;
use crate::domain::payload::Enriched;
use crate::domain::problem::Problem;

/// Looks through what is the same at every attempt, before anything is dialled.
///
/// # Errors
/// [`Problem::Internal`]: whoever is at fault, the answer tells nothing of what was found.
pub(super) fn check_request(
    ready: &Ready,
    target: &PathAndQuery,
    body: &Enriched,
    shared: &Shared,
) -> Result<(), Problem> {
    let Some(leaks) = &ready.leaks else {
        return Ok(());
    };
    let found = leaks
        .in_text(target.as_str().as_bytes())
        .or_else(|| leaks.in_body(body));
    found.map_or(Ok(()), |key| {
        tell(key, ready, shared);
        Err(Problem::Internal)
    })
}

/// Looks through the header fields as they go out, signatures included.
///
/// # Errors
/// [`Withheld`].
pub(super) fn check_headers(ready: &Ready, headers: &HeaderMap, shared: &Shared) -> Result<(), Withheld> {
    let Some(leaks) = &ready.leaks else {
        return Ok(());
    };
    let found = headers.iter().find_map(|(name, value)| {
        let in_name = leaks.in_text(name.as_str().as_bytes());
        in_name.or_else(|| leaks.in_text(value.as_bytes()))
    });
    found.map_or(Ok(()), |key| {
        tell(key, ready, shared);
        Err(Withheld)
    })
}

fn tell(key: &SecretKey, ready: &Ready, shared: &Shared) {
    shared.metrics.leaks_stopped.inc();
    shared.sightings.tell(&ready.uses, key, Sight::Misplaced);
    tracing::error!(%key, "a secret stood outside of its slot: nothing was sent");
}
