//! What goes over the wire about key-encryption keys: never their material.

use serde::Serialize;
use utoipa::ToSchema;

use crate::keys::{KekState, KekStatus};

/// A key-encryption key as the fleet has it.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::admin) struct KeyObject {
    id: String,
    /// `null` where only other instances have loaded it.
    created_at: Option<String>,
    /// Whether it seals; the others open what they sealed.
    active: bool,
    /// Whether it was given up: nothing is stored under it any more.
    retired: bool,
    /// `active`, `idle` (nothing is under it), `re-wrapping` (what is under it is being put under the active one) or
    /// `retired`.
    state: &'static str,
    promoted_at: Option<String>,
    retired_at: Option<String>,
    /// The live instances that have loaded it.
    loaded_by: Vec<String>,
    /// The live instances that lack it, or have another one of this name.
    missing_on: Vec<String>,
    /// Rows under it: values, references, and what their last rotations replaced.
    rows_wrapped: u64,
    /// Of these, the rows that did not open when they were last to be put under another key.
    unreadable: u64,
}

/// How far rows have come under the active key.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::admin) struct RewrapObject {
    /// Rows under keys that are not active, those that do not open included.
    rows_left: u64,
    /// Of these, the rows that do not open.
    unreadable: u64,
}

/// All key-encryption keys that anybody knows.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::admin) struct KeyringObject {
    data: Vec<KeyObject>,
    /// Always `null`: there are few.
    next_cursor: Option<String>,
    rewrap: RewrapObject,
}

/// A key after it was promoted or retired.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::admin) struct ChangedKeyObject {
    #[serde(flatten)]
    pub(in crate::admin) key: KeyObject,
    /// What to do next.
    pub(in crate::admin) next_step: String,
}

impl From<KekStatus> for KeyObject {
    fn from(status: KekStatus) -> Self {
        Self {
            id: status.id,
            created_at: status.created_at.map(|at| at.to_rfc3339()),
            active: status.state == KekState::Active,
            retired: status.state == KekState::Retired,
            state: status.state.name(),
            promoted_at: status.promoted_at.map(|at| at.to_rfc3339()),
            retired_at: status.retired_at.map(|at| at.to_rfc3339()),
            loaded_by: status.loaded_by,
            missing_on: status.missing_on,
            rows_wrapped: status.rows_wrapped,
            unreadable: status.unreadable,
        }
    }
}

impl From<Vec<KekStatus>> for KeyringObject {
    fn from(all: Vec<KekStatus>) -> Self {
        let others = || all.iter().filter(|status| status.state != KekState::Active);
        Self {
            rewrap: RewrapObject {
                rows_left: others().map(|status| status.rows_wrapped).sum(),
                unreadable: others().map(|status| status.unreadable).sum(),
            },
            data: all.into_iter().map(KeyObject::from).collect(),
            next_cursor: None,
        }
    }
}
