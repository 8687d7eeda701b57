//! When a key is read more often than its organization expects: one alert for each key and window.
//!
//! Uses are counted from the audit log, so the window is shared by the fleet and survives restarts. A use is looked
//! at right after it was stored, and nothing waits for that.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::Sources;
use crate::domain::alert::AlertKind;
use crate::domain::policy::{DAY_MILLIS, Policy};
use crate::domain::time::Timestamp;
use crate::registry::{self, RegistryError, policy_of};
use crate::store::{CountedKey, Finding, Sightings, StoreError, UseCount, UseQuery};

/// Looks at every use that is stored through this instance, until `stop`.
pub async fn run(sources: Sources, sightings: Arc<Sightings>, stop: CancellationToken) {
    loop {
        let (key, at) = tokio::select! {
            () = stop.cancelled() => return,
            seen = sightings.next_use() => seen,
        };
        if let Err(error) = look_at(&sources, &key, at).await {
            tracing::warn!(%error, "the uses of a key could not be counted; its next use is looked at again");
        }
    }
}

/// Counts the uses of a key within the window that ends with its use at a moment, and alerts where they are too many.
///
/// # Errors
/// [`StoreError`].
pub async fn look_at(sources: &Sources, key: &CountedKey, at: Timestamp) -> Result<(), StoreError> {
    let policy = match policy_of(&sources.store, &sources.keyring, &key.organization).await {
        Ok(record) => record.policy,
        Err(RegistryError::Store(error)) => return Err(error),
        Err(_) => {
            let quiet_since = Timestamp(at.0.saturating_sub(DAY_MILLIS));
            let finding = registry::tampered((&key.organization).into());
            sources.raise(finding, quiet_since).await?;
            Policy::default()
        }
    };
    let window_millis = u64::from(policy.read_window_secs).saturating_mul(1_000);
    let mut query = UseQuery {
        organization: key.organization.clone(),
        scope: key.scope,
        subject: key.subject.clone(),
        key: key.key.clone(),
        after: Timestamp(at.0.saturating_sub(window_millis)),
        // What was stored while this waited is for its own look.
        up_to: at,
    };
    let mut unusual = anomaly(&policy, sources.store.uses(&query).await?);
    if unusual.is_none() {
        // Another instance's later use may have been looked at before this one was stored, and missed it.
        let later = UseQuery {
            after: at,
            up_to: Timestamp(u64::MAX),
            ..query.clone()
        };
        if let Some(last_at) = sources.store.uses(&later).await?.last_at {
            query.after = Timestamp(last_at.0.saturating_sub(window_millis));
            query.up_to = last_at;
            unusual = anomaly(&policy, sources.store.uses(&query).await?);
        }
    }
    let Some(detail) = unusual else {
        return Ok(());
    };
    let after = query.after;
    let finding = Finding {
        kind: AlertKind::ReadAnomaly,
        organization: Some(key.organization.clone()),
        scope: Some(key.scope),
        subject: Some(key.subject.clone()),
        key: Some(key.key.clone()),
        detail,
        occasion: String::new(),
    };
    sources.raise(finding, after).await
}

/// What is unusual about so many uses, if anything is.
fn anomaly(policy: &Policy, count: UseCount) -> Option<String> {
    let seconds = policy.read_window_secs;
    if count.reads > u64::from(policy.read_threshold) {
        let (reads, allowed) = (count.reads, policy.read_threshold);
        return Some(format!(
            "{reads} reads within {seconds} seconds, more than the {allowed} of the policy"
        ));
    }
    let allowed = policy.delivery_read_threshold?;
    (count.deliveries > u64::from(allowed)).then(|| {
        let deliveries = count.deliveries;
        format!("{deliveries} deliveries within {seconds} seconds, more than the {allowed} of the policy")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_more_than_the_policy_allows_is_unusual_and_deliveries_only_where_it_says_so() {
        let policy = Policy::default();
        let counted = Policy {
            delivery_read_threshold: Some(100),
            ..Policy::default()
        };
        let is_unusual = |policy, reads, deliveries| {
            let count = UseCount {
                reads,
                deliveries,
                last_at: None,
            };
            anomaly(policy, count).is_some()
        };
        assert!(!is_unusual(&policy, 25, 1_000_000));
        assert!(is_unusual(&policy, 26, 0));
        assert!(!is_unusual(&counted, 25, 100));
        assert!(is_unusual(&counted, 0, 101));
    }
}
