//! Secrets that are opened or looked at for what the sidecar does itself: its own signatures, checks and answers.

use std::collections::HashMap;

use super::{References, ResolveError, SecretResolver};
use crate::domain::audit::{Action, Source};
use crate::domain::id::OrganizationId;
use crate::domain::installation::Installation;
use crate::domain::key::SecretKey;
use crate::domain::provider::FetchOutcome;
use crate::domain::reference::Reference;
use crate::domain::resolution::{
    HandshakeSecret, Lookup, PartnerDefaults, Resolved, SigningSecret, first_match, slots,
};
use crate::domain::scope::{Owner, Slot};
use crate::domain::time::Timestamp;
use crate::secrets::lookup::lookup;
use crate::secrets::sources::{Answer, Freshness};
use crate::store::SecretRow;

/// What is known of a reference's value, without the value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReferenceState {
    /// What asking for it came to: also where an earlier value stands in.
    pub outcome: FetchOutcome,
    /// The backend's name of the version that is used, where it names versions.
    pub version: Option<String>,
    /// When the value that is used was fetched.
    pub fetched_at: Option<Timestamp>,
}

impl ReferenceState {
    /// Whether there is something to use, whatever its backend says of it.
    #[must_use]
    pub const fn usability(&self) -> FetchOutcome {
        if self.fetched_at.is_some() {
            FetchOutcome::Found
        } else {
            self.outcome
        }
    }

    /// Whether an earlier value stands in for an answer that the backend does not give.
    #[must_use]
    pub const fn is_stale(&self) -> bool {
        self.fetched_at.is_some() && !matches!(self.outcome, FetchOutcome::Found)
    }
}

impl SecretResolver {
    /// One secret of an organization that signs what the sidecar sends in its own name: current and, for its overlap,
    /// the one before. `None` where it has no value.
    ///
    /// # Errors
    /// [`ResolveError`].
    pub async fn own_signing_secret(&self, slot: &Slot) -> Result<Option<SigningSecret>, ResolveError> {
        let rows = self.store.slots(std::slice::from_ref(slot)).await?;
        let Some(row) = rows.iter().find(|row| row.meta.slot == *slot) else {
            return Ok(None);
        };
        let references = self.own_references(row).await?;
        let outcome = references.answer(slot).map(Answer::usability);
        match lookup(Some(row), outcome) {
            Lookup::Found(row) => {
                self.record_own_load(row).await?;
                self.signing_secret(row, &references)
                    .map(Some)
                    .map_err(|slot| self.unopened(&slot))
            }
            Lookup::Absent | Lookup::Dangling => Ok(None),
            Lookup::Denied | Lookup::Unavailable => Err(ResolveError::Source),
        }
    }

    /// The row that an installation's key resolves to, unopened; of a reference it is not known whether it has a value.
    ///
    /// # Errors
    /// [`ResolveError`].
    pub async fn winner(
        &self,
        installation: &Installation,
        partner: PartnerDefaults,
        key: &SecretKey,
    ) -> Result<Option<SecretRow>, ResolveError> {
        let slots = slots(installation, partner, key);
        let rows = self.store.slots(&slots).await?;
        let standing = |slot: &Slot| rows.iter().find(|row| row.meta.slot == *slot);
        match first_match(slots.iter().map(|slot| lookup(standing(slot), None))) {
            Resolved::Found(row) => Ok(Some(row.clone())),
            Resolved::Missing => Ok(None),
            Resolved::Denied | Resolved::Unavailable => Err(ResolveError::Source),
        }
    }

    /// Opens a handshake secret to look at it, not to use it.
    ///
    /// # Errors
    /// [`ResolveError`]; `Source` where it is a reference without a value.
    pub async fn look_at(&self, row: &SecretRow) -> Result<HandshakeSecret, ResolveError> {
        let references = self.own_references(row).await?;
        let has_value = references
            .answer(&row.meta.slot)
            .is_none_or(|answer| matches!(answer, Answer::Found(_)));
        if !has_value {
            return Err(ResolveError::Source);
        }
        self.record_own_load(row).await?;
        self.value(row, &references)
            .map(HandshakeSecret)
            .map_err(|slot| self.unopened(&slot))
    }

    /// What a reference's row names.
    ///
    /// # Errors
    /// [`ResolveError`].
    pub fn reference(&self, row: &SecretRow) -> Result<Reference, ResolveError> {
        self.linked(row).map(|linked| linked.reference)
    }

    /// Asks the backend of a reference now, and says what came of it. The value goes nowhere but into the cache.
    ///
    /// # Errors
    /// [`ResolveError`].
    pub async fn fetch_now(
        &self,
        organization: Option<&OrganizationId>,
        row: &SecretRow,
    ) -> Result<FetchOutcome, ResolveError> {
        let states = self
            .states(organization, std::slice::from_ref(row), Freshness::Now)
            .await?;
        let state = states.get(&row.meta.slot).ok_or(ResolveError::Source)?;
        Ok(state.outcome)
    }

    /// What is known of the references among these rows of one organization, asking their backends where a delivery
    /// would. The values go nowhere but into the cache.
    ///
    /// # Errors
    /// [`ResolveError`].
    pub async fn states(
        &self,
        organization: Option<&OrganizationId>,
        rows: &[SecretRow],
        freshness: Freshness,
    ) -> Result<HashMap<Slot, ReferenceState>, ResolveError> {
        let references = self.references(organization, rows.iter(), freshness).await?;
        let stated = rows.iter().filter_map(|row| {
            let slot = &row.meta.slot;
            let answer = references.answer(slot)?;
            let held = references.value(slot).map(|found| &found.held);
            let state = ReferenceState {
                outcome: answer.outcome(),
                version: held.and_then(|held| held.version().name().map(String::from)),
                fetched_at: held.map(|held| held.fetched_at()),
            };
            Some((slot.clone(), state))
        });
        Ok(stated.collect())
    }

    async fn own_references(&self, row: &SecretRow) -> Result<References, ResolveError> {
        let organization = match &row.meta.slot.owner {
            Owner::Organization(organization) => Some(organization),
            Owner::Partner => None,
        };
        self.references(organization, std::iter::once(row), Freshness::Fresh)
            .await
    }

    /// A load that no delivery asked for: it does not count as unusual reading, or an alert's signature would bring
    /// the next alert about.
    pub(super) async fn record_own_load(&self, row: &SecretRow) -> Result<(), ResolveError> {
        let organization = match &row.meta.slot.owner {
            Owner::Organization(organization) => Some(organization.clone()),
            Owner::Partner => None,
        };
        self.record(vec![self.entry(organization, row, Action::SecretLoad, Source::Refresh)])
            .await
    }
}
