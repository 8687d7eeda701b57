//! How this process learns what changed: the store's feed, read when the store hints at it and now and then anyway.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::bundles::{Bundles, StoreContact};
use crate::domain::change::{Changed, OnCommitted};
use crate::keys::Keks;
use crate::registry::Tokens;
use crate::store::{FeedPosition, SharedStore, StoreError};
use crate::telemetry::Metrics;

/// How often the feed is read without a hint: hints may be lost, the feed is the truth.
const POLL_EVERY: Duration = Duration::from_secs(1);

/// Where the feed stands now. To be read before the first bundle is built, so that no change falls between.
///
/// # Errors
/// [`StoreError`] where the store does not answer.
pub(super) async fn position(store: &SharedStore) -> Result<FeedPosition, StoreError> {
    let mut position = FeedPosition::default();
    loop {
        let (changes, reached) = store.changes(position).await?;
        position = reached;
        if changes.is_empty() {
            return Ok(position);
        }
    }
}

/// What follows the feed.
pub(super) struct Followers {
    pub(super) bundles: Bundles,
    pub(super) tokens: Arc<Tokens>,
    pub(super) keks: Arc<Keks>,
    pub(super) contact: Arc<StoreContact>,
    pub(super) metrics: Arc<Metrics>,
}

/// Drops bundles as the feed tells, until `stop`. While the store is away the bundles that there are stay in use, for as
/// long as `contact` says; when it is back, the feed goes on where it was.
pub(super) async fn follow(
    store: SharedStore,
    mut position: FeedPosition,
    followers: Followers,
    stop: CancellationToken,
) {
    let Followers {
        bundles,
        tokens,
        keks,
        contact,
        metrics,
    } = followers;
    let mut keys_changed = false;
    let mut wake = store.wake();
    let mut hints_lost = false;
    loop {
        match store.changes(position.clone()).await {
            Ok((changes, reached)) => {
                bundles.apply(&changes);
                tokens.apply(&changes);
                keys_changed |= changes
                    .iter()
                    .any(|changed| matches!(changed, Changed::Keys | Changed::Everything));
                if keys_changed {
                    keys_changed = keks.learn().await.is_err();
                }
                position = reached;
                contact.made();
                metrics.store_up.set(1);
            }
            Err(_) => {
                contact.failed();
                metrics.store_up.set(0);
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(POLL_EVERY) => {}
            hint = wake.changed(), if !hints_lost => hints_lost = hint.is_err(),
        }
    }
}

/// What the control plane calls after a commit and before it answers: the change is in this instance's next delivery.
pub(super) fn on_committed(bundles: Bundles, tokens: Arc<Tokens>) -> OnCommitted {
    Arc::new(move |changes| {
        bundles.apply(changes);
        tokens.apply(changes);
    })
}
