//! Which key-encryption keys the fleet has: announced by those who loaded them, promoted, put under one another, retired.
//!
//! A keyring file holds several keys. Which one seals is the file's word until somebody promotes one; from then on it is
//! a row of the store, authenticated like every row that decides where secrets go, and the same for every instance:
//! - [`Keks::enter`]: an instance says which keys it has loaded, then looks which one is active, and does not start
//!   without it; it says so again and again ([`Keks::stay`]) until it leaves;
//! - [`Keks::promote`]: refused while a live instance lacks the key, so that nobody meets a value that it cannot open;
//! - [`Keks::rewrap`]: whatever is sealed under another key comes under the active one, row by row, in the background;
//! - [`Keks::retire`]: refused while a row is under the key; from then on the store takes nothing that is under it.

mod presence;
mod promotion;
mod rewrap;
mod status;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use crate::clock::Clock;
use crate::config::Role;
use crate::crypto::encoding::Encoder;
use crate::crypto::envelope;
use crate::crypto::keyring::{KekInfo, KeyId, Keyring};
use crate::domain::alert::AlertKind;
use crate::domain::audit::Actor;
use crate::domain::id::ScopeId;
use crate::domain::policy::DAY_MILLIS;
use crate::domain::time::Timestamp;
use crate::store::{Change, Finding, InstanceRow, KekRow, KeyWrite, SharedStore, StoreError, Write};

pub use presence::{BEAT_MILLIS, GONE_MILLIS, fits};
pub use promotion::{KeyChange, KeyChangeError};
pub use rewrap::{HOLD_MILLIS, LOOK_AGAIN_MILLIS};
pub use status::{KekState, KekStatus};

/// How often the clock is looked at for what has become due. Costs no call of the store.
const LOOK_EVERY: Duration = Duration::from_millis(500);

const TABLE: &str = "keks";

/// The use cases over key-encryption keys, as one instance has them.
pub struct Keks {
    store: SharedStore,
    keyring: Arc<Keyring>,
    clock: Arc<dyn Clock>,
    actor: Actor,
    /// This instance, as the others see it.
    instance: String,
    role: Role,
    started_at: Timestamp,
    /// Told whenever a promotion was learnt of.
    learnt: Notify,
}

/// Why the keys cannot be used as the store says. An operator has to look into all but the first.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeksError {
    /// The store's fault. Retry as the store's error says.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Somebody else wrote a row, or altered one.
    #[error("what the database says of key-encryption keys does not authenticate")]
    Tampered,
    /// The table is an older one than this process has seen.
    #[error("what the database says of key-encryption keys was set back")]
    SetBack,
    /// The active key is not in the keyring.
    #[error("the key-encryption key {0} is active, and the keyring lacks it")]
    Lacking(String),
    /// A key of this name is, but another one.
    #[error("the key-encryption key {0} is active, and the keyring has another one of this name")]
    Another(String),
    /// The keyring is another database's.
    #[error("{rows} secrets are sealed, and none of them under a key of the keyring")]
    Foreign {
        /// How many.
        rows: u64,
    },
    /// A key that is needed still is not in the keyring.
    #[error("{rows} rows are sealed under the key-encryption key {id}, and the keyring lacks it")]
    Needed {
        /// Which key.
        id: String,
        /// How many rows.
        rows: u64,
    },
}

/// Lets the keyring seal under the key that the store says is active, and returns what the store says of all. Where
/// nothing was promoted yet, the file's word goes on counting.
///
/// # Errors
/// [`KeksError`]; then the key seals that did before.
pub async fn follow(store: &SharedStore, keyring: &Keyring) -> Result<Vec<KekRow>, KeksError> {
    let rows = authentic(store, keyring).await?;
    let Some(active) = active(&rows) else {
        return if keyring.promotion() == 0 {
            Ok(rows)
        } else {
            Err(KeksError::SetBack)
        };
    };
    if active.promotion < keyring.promotion() {
        return Err(KeksError::SetBack);
    }
    match loaded_as(keyring, &active.id) {
        Some(info) if info.tag.0[..] == active.tag[..] => {}
        Some(_) => return Err(KeksError::Another(active.id.clone())),
        None => return Err(KeksError::Lacking(active.id.clone())),
    }
    let unknown = |_| KeksError::Lacking(active.id.clone());
    keyring.activate(&active.id, active.promotion).map_err(unknown)?;
    Ok(rows)
}

/// Whether the keyring is this database's. Writes nothing: whatever is written under another one, an entry of the audit
/// log first of all, stands between what the right one wrote for good.
///
/// # Errors
/// [`KeksError`]: `Tampered` or `Foreign` where it is not.
pub async fn vet(store: &SharedStore, keyring: &Keyring) -> Result<(), KeksError> {
    if !authentic(store, keyring).await?.is_empty() {
        return Ok(());
    }
    // Nothing was promoted yet, so that no row says which keys there are: what is sealed says it.
    let rows = store.wrapped_count(&[]).await?;
    for info in keyring.kek_infos() {
        if rows == 0 || store.wrapped_count(&envelope::head(&info.id)).await? > 0 {
            return Ok(());
        }
    }
    Err(KeksError::Foreign { rows })
}

/// The rows of the keys, each as the sidecar wrote it.
async fn authentic(store: &SharedStore, keyring: &Keyring) -> Result<Vec<KekRow>, KeksError> {
    let rows = match store.keks().await {
        Err(StoreError::Damaged) => return Err(KeksError::Tampered),
        rows => rows?,
    };
    let holds = |row: &KekRow| {
        let head = KeyId::parse(&row.id).map(|id| envelope::head(&id));
        head.as_ref() == Some(&row.head) && keyring.row_mac_holds(TABLE, &[&fields(row)], &row.mac)
    };
    if rows.iter().all(holds) {
        Ok(rows)
    } else {
        Err(KeksError::Tampered)
    }
}

/// The row of the key that seals, once any was promoted.
fn active(rows: &[KekRow]) -> Option<&KekRow> {
    rows.iter()
        .filter(|row| row.promotion > 0)
        .max_by_key(|row| row.promotion)
}

fn loaded_as(keyring: &Keyring, id: &str) -> Option<KekInfo> {
    keyring.kek_infos().into_iter().find(|info| info.id.as_str() == id)
}

fn fields(row: &KekRow) -> Vec<u8> {
    Encoder::new("kiket.kek-row.v1")
        .text(&row.id)
        .bytes(&row.tag)
        .number(row.created_at.0)
        .number(row.promotion)
        .optional(row.promoted_at, |encoder, at| encoder.number(at.0))
        .optional(row.retired_at, |encoder, at| encoder.number(at.0))
        .finish()
}

/// The same row, authenticated.
fn sealed(keyring: &Keyring, row: KekRow) -> KekRow {
    let mac = keyring.row_mac(TABLE, &[&fields(&row)]).to_vec();
    KekRow { mac, ..row }
}

/// The row of a key that the store does not know yet.
fn fresh(keyring: &Keyring, info: &KekInfo) -> KekRow {
    let row = KekRow {
        id: info.id.to_string(),
        head: envelope::head(&info.id),
        tag: info.tag.0.to_vec(),
        created_at: info.created_at,
        promotion: 0,
        promoted_at: None,
        retired_at: None,
        unreadable: 0,
        mac: Vec::new(),
    };
    sealed(keyring, row)
}

fn change(write: KeyWrite) -> Change {
    Change {
        writes: vec![Write::Keys(Box::new(write))],
        entries: Vec::new(),
    }
}

impl Keks {
    /// The keys of this process. `salt` tells it from another one of this host and process id.
    #[must_use]
    pub fn new(
        store: SharedStore,
        keyring: Arc<Keyring>,
        clock: Arc<dyn Clock>,
        actor: Actor,
        role: Role,
        salt: [u8; 4],
    ) -> Self {
        let instance = format!("{}-{}", actor.name, data_encoding::HEXLOWER.encode(&salt));
        Self {
            started_at: clock.now(),
            store,
            keyring,
            clock,
            actor,
            instance,
            role,
            learnt: Notify::new(),
        }
    }

    /// Looks which key is active now that the store told of a change, and follows it. What an operator has to look into
    /// is logged and alerted to, and the key seals that did before.
    ///
    /// # Errors
    /// [`StoreError`]: to be tried again.
    pub async fn learn(&self) -> Result<(), StoreError> {
        match follow(&self.store, &self.keyring).await {
            Ok(_) => {
                self.learnt.notify_one();
                Ok(())
            }
            Err(KeksError::Store(error)) => Err(error),
            Err(error) => {
                tracing::error!(%error, "the key-encryption key that is active cannot be followed");
                match error {
                    KeksError::Tampered | KeksError::SetBack => self.raise(&error).await,
                    _ => Ok(()),
                }
            }
        }
    }

    async fn raise(&self, error: &KeksError) -> Result<(), StoreError> {
        let now = self.clock.now();
        let finding = Finding {
            kind: AlertKind::IntegrityFailure,
            organization: None,
            scope: None,
            subject: ScopeId::parse(TABLE).ok(),
            key: None,
            detail: format!("{error}; the key seals that did before"),
            occasion: error.to_string(),
        };
        let write = finding.raise(Timestamp(now.0.saturating_sub(DAY_MILLIS)), &self.actor, now);
        let change = Change {
            writes: vec![write],
            entries: Vec::new(),
        };
        self.store.commit(change).await
    }
}
