//! How an instance says that it is there and which keys it has loaded, and when it counts as gone.

use tokio_util::sync::CancellationToken;

use super::{
    InstanceRow, Keks, KeksError, KeyWrite, Keyring, LOOK_EVERY, SharedStore, StoreError, Timestamp, change, follow,
    loaded_as,
};
use crate::store::loaded;

/// How often an instance says that it is there.
pub const BEAT_MILLIS: u64 = 10 * 1_000;

/// An instance that did not say so for this long is gone.
pub const GONE_MILLIS: u64 = 60 * 1_000;

/// Whether the keyring has every key that the store needs; follows the active one. Writes nothing.
///
/// # Errors
/// [`KeksError`]: a process with this keyring must not start on this store.
pub async fn fits(store: &SharedStore, keyring: &Keyring) -> Result<(), KeksError> {
    for row in follow(store, keyring).await? {
        if row.retired_at.is_some() || loaded_as(keyring, &row.id).is_some() {
            continue;
        }
        let rows = store.wrapped_count(&row.head).await?;
        if rows > 0 {
            return Err(KeksError::Needed { id: row.id, rows });
        }
    }
    Ok(())
}

impl Keks {
    /// Says which keys are loaded, then looks which one is active: a promotion made meanwhile was refused because of
    /// this instance, or is seen here.
    ///
    /// # Errors
    /// [`KeksError`]: the process must not start.
    pub async fn enter(&self) -> Result<(), KeksError> {
        let now = self.clock.now();
        // Nobody else can be on a database that is this process's alone: who stands there was killed.
        let gone_before = if self.store.is_shared() {
            Timestamp(now.0.saturating_sub(GONE_MILLIS))
        } else {
            now.plus_millis(1)
        };
        self.announce(now, gone_before).await?;
        let entered = self.look().await;
        if entered.is_err() {
            let _ = self.leave().await; // else it counts as gone some time later
        }
        entered
    }

    async fn look(&self) -> Result<(), KeksError> {
        fits(&self.store, &self.keyring).await?;
        self.learnt.notify_one();
        Ok(())
    }

    /// Says again and again that this instance is there, until `stop`. On a database that is this process's alone
    /// nobody has to be told.
    pub async fn stay(&self, stop: CancellationToken) {
        let mut said_at = self.clock.now();
        while self.store.is_shared() {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            let now = self.clock.now();
            let is_due = now.0.abs_diff(said_at.0) >= BEAT_MILLIS; // a clock may be set back
            if is_due {
                let gone_before = Timestamp(now.0.saturating_sub(GONE_MILLIS));
                if self.announce(now, gone_before).await.is_ok() {
                    said_at = now;
                }
            }
        }
    }

    /// Forgets this instance: it stops.
    ///
    /// # Errors
    /// [`StoreError`]; then the others take it for gone some time later.
    pub async fn leave(&self) -> Result<(), StoreError> {
        let id = self.instance.clone();
        self.store.commit(change(KeyWrite::InstanceGone { id })).await
    }

    async fn announce(&self, now: Timestamp, gone_before: Timestamp) -> Result<(), StoreError> {
        let infos = self.keyring.kek_infos();
        let row = InstanceRow {
            id: self.instance.clone(),
            role: self.role.name().to_owned(),
            release: env!("CARGO_PKG_VERSION").to_owned(),
            keks: infos.iter().map(|info| loaded(info.id.as_str(), &info.tag.0)).collect(),
            started_at: self.started_at,
            seen_at: now,
        };
        self.store
            .commit(change(KeyWrite::InstanceSeen { row, gone_before }))
            .await
    }

    /// Instances seen since then are there.
    pub(super) fn alive_since(&self) -> Timestamp {
        if self.store.is_shared() {
            Timestamp(self.clock.now().0.saturating_sub(GONE_MILLIS))
        } else {
            Timestamp(0)
        }
    }

    /// The instances that are there.
    pub(super) async fn alive(&self) -> Result<Vec<InstanceRow>, StoreError> {
        let since = self.alive_since();
        let mut rows = self.store.instances().await?;
        rows.retain(|row| row.seen_at >= since || row.id == self.instance);
        Ok(rows)
    }
}
