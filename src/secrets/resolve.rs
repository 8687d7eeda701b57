//! Which values an installation gets: every key of its demand resolved through the scopes, recorded, then opened.

mod credentials;
mod own;
mod references;
mod rotations;
mod winners;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};

use self::winners::{Winners, choose};
use super::lookup::lookup;
use crate::audit::Use;
use crate::clock::Clock;
use crate::crypto::keyring::Keyring;
use crate::crypto::signature;
use crate::domain::alert::AlertKind;
use crate::domain::audit::{Action, Actor, AuditEntry, Source};
use crate::domain::change::Changed;
use crate::domain::consent::UsedKey;
use crate::domain::id::OrganizationId;
use crate::domain::installation::Installation;
use crate::domain::key::SecretKey;
use crate::domain::manifest::Demand;
use crate::domain::policy::DAY_MILLIS;
use crate::domain::resolution::{
    HandshakeSecret, HandshakeSecrets, PartnerDefaults, PayloadSecret, PayloadSecrets, Resolved, SigningSecret,
    first_match, slots,
};
use crate::domain::scope::{ScopeHits, Slot};
use crate::domain::secret::SecretKind;
use crate::domain::time::Timestamp;
use crate::external::ExternalVersion;
use crate::secrets::sources::{Answer, Freshness, Sources};
use crate::store::{Change, Finding, SecretRow, SharedStore, StoreError};

pub use credentials::{CredentialError, ProviderCredentials};
pub use own::ReferenceState;
pub use references::References;
pub use rotations::RotationDuty;

/// The longest that a load waits for its audit entry. No plaintext is released unrecorded.
const RECORD_WAIT: Duration = Duration::from_millis(250);

/// Resolves and opens secrets for deliveries.
#[derive(Clone)]
pub struct SecretResolver {
    store: SharedStore,
    keyring: Arc<Keyring>,
    clock: Arc<dyn Clock>,
    actor: Actor,
    /// Without it no reference has a value.
    sources: Option<Arc<Sources>>,
    rotations: RotationDuty,
}

/// Which row a value came from, and which of the values behind it, where it is a reference.
pub type Stamp = (Slot, u64, Option<ExternalVersion>);

/// Why values are loaded. Only loads that nothing but a delivery asks for count towards the read anomaly (contract,
/// section 8): ten thousand deliveries from memory, a restart, and a rotation in a fleet are no unusual reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoadReason {
    /// For the first time in this process.
    Start,
    /// What was loaded had to be looked at again by itself.
    Refresh,
    /// Something that it depends on has changed since.
    Change,
    /// It had left memory, and a delivery needs it again.
    Delivery,
}

/// What an installation's demand came to.
#[derive(Debug)]
pub struct Resolution {
    /// Every slot that was asked, with or without a row.
    pub probed: HashSet<Slot>,
    /// Payload keys without a value, sorted.
    pub missing: Vec<SecretKey>,
    /// The values, or why none was opened.
    pub outcome: Result<Opened, Blocked>,
    /// Whether any of it was fetched with the organization's providers.
    pub is_external: bool,
    /// When to look at what was fetched again.
    pub fresh_until: Option<Timestamp>,
    /// From when on what was fetched may not be used.
    pub usable_until: Option<Timestamp>,
}

/// The opened values, by use.
#[derive(Debug)]
pub struct Opened {
    /// For the payload.
    pub payload: PayloadSecrets,
    /// For the outbound handshake, where the manifest declares mTLS.
    pub handshake: Option<HandshakeSecrets>,
    /// For signatures, in the manifest's order.
    pub signing: Vec<SigningSecret>,
    /// How many payload keys each scope satisfied.
    pub scope_hits: ScopeHits,
    /// Which row each handshake secret came from: equal stamps mean an equal identity.
    pub handshake_stamp: Vec<Stamp>,
    /// Every value that was opened, for the log.
    pub uses: Vec<Use>,
}

/// Why a delivery to this installation cannot be made, although every source answered. Nothing was opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Blocked {
    /// Required payload keys have no value, and the manifest fails fast.
    RequiredMissing(Vec<SecretKey>),
    /// A signing key has no value.
    SigningMissing(Vec<SecretKey>),
    /// A certificate, key or CA for the handshake has no value.
    HandshakeMissing(Vec<SecretKey>),
}

/// Why a demand could not be resolved. Retry later, except where said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// The store did not answer.
    #[error("the store did not answer")]
    Store(#[from] StoreError),
    /// A deciding value may not be used, cannot be fetched, or cannot be opened.
    #[error("a secret's source is not available")]
    Source,
    /// The load could not be recorded in time, so nothing was released.
    #[error("the audit log did not take the load")]
    Unrecorded,
}

impl SecretResolver {
    /// A resolver that records its loads as made by `actor`, and for which no reference has a value.
    #[must_use]
    pub fn new(store: SharedStore, keyring: Arc<Keyring>, clock: Arc<dyn Clock>, actor: Actor) -> Self {
        Self {
            store,
            keyring,
            clock,
            actor,
            sources: None,
            rotations: RotationDuty::LeaveToOthers,
        }
    }

    /// The same, with references' values from `sources`.
    #[must_use]
    pub fn fetching(self, sources: Arc<Sources>, rotations: RotationDuty) -> Self {
        Self {
            sources: Some(sources),
            rotations,
            ..self
        }
    }

    /// Takes changes over into what values are fetched with and kept for.
    pub fn apply(&self, changes: &[Changed]) {
        self.sources.iter().for_each(|sources| sources.apply(changes));
    }

    /// Lets go of fetched values that are too old, or not referred to any more. Meant to run every half second.
    pub fn sweep(&self) {
        self.sources.iter().for_each(|sources| sources.sweep());
    }

    /// Resolves a demand. Nothing is opened unless the delivery can be made, and nothing is returned unless
    /// the loads are in the audit log.
    ///
    /// # Errors
    /// [`ResolveError`], where a source did not answer clearly: never to be taken for a missing key.
    pub async fn resolve(
        &self,
        installation: &Installation,
        partner: PartnerDefaults,
        demand: &Demand,
        reason: LoadReason,
    ) -> Result<Resolution, ResolveError> {
        let used: Vec<UsedKey> = demand.used_keys().collect();
        let wanted: Vec<&SecretKey> = used
            .iter()
            .filter(|used| !demand.withheld.contains(used))
            .map(|used| &used.key)
            .collect();
        let probed: Vec<Slot> = wanted
            .iter()
            .flat_map(|key| slots(installation, partner, key))
            .collect();
        let rows = self.store.slots(&probed).await?;
        let by_slot: HashMap<&Slot, &SecretRow> = rows.iter().map(|row| (&row.meta.slot, row)).collect();
        let decided = |key: &SecretKey, references: &References| {
            let lookups = slots(installation, partner, key);
            first_match(lookups.iter().map(|slot| {
                let outcome = references.answer(slot).map(Answer::usability);
                lookup(by_slot.get(slot).copied(), outcome)
            }))
        };
        // Who decides is settled first, so that no wider row is used whatever comes of a reference.
        let none = References::default();
        let deciding = wanted.iter().filter_map(|key| match decided(key, &none) {
            Resolved::Found(row) => Some(row),
            Resolved::Missing | Resolved::Denied | Resolved::Unavailable => None,
        });
        let organization = Some(&installation.organization);
        let references = self.references(organization, deciding, Freshness::Fresh).await?;
        let winner = |key: &SecretKey, used_for| match decided(key, &references) {
            _ if demand.is_withheld(key, used_for) => Ok(None),
            Resolved::Found(row) => Ok(Some(row)),
            Resolved::Missing => Ok(None),
            Resolved::Denied | Resolved::Unavailable => Err(ResolveError::Source),
        };
        let mut missing = Vec::new();
        let chosen = choose(demand, winner, &mut missing)?;
        let outcome = match chosen {
            Err(blocked) => Err(blocked),
            Ok(winners) => {
                let uses = winners.uses(&references);
                self.record_loads(installation, &uses, reason).await?;
                match self.open_all(&winners, uses, &references) {
                    Ok(opened) => Ok(opened),
                    Err(slot) => return Err(self.unopened(&slot)),
                }
            }
        };
        let probed: HashSet<Slot> = probed.into_iter().collect();
        Ok(Resolution {
            missing,
            outcome,
            is_external: references.are_any(),
            fresh_until: references.fresh_until(),
            usable_until: references.usable_until(),
            probed: probed.union(&references.credentials).cloned().collect(),
        })
    }

    async fn record_loads(
        &self,
        installation: &Installation,
        uses: &[Use],
        reason: LoadReason,
    ) -> Result<(), ResolveError> {
        let at = self.clock.now();
        let entry = |used: &Use| {
            let source = match reason {
                LoadReason::Delivery => used.source,
                LoadReason::Start | LoadReason::Refresh | LoadReason::Change => Source::Refresh,
            };
            let organization = Some(installation.organization.clone());
            AuditEntry::of(organization, at, self.actor.clone(), Action::SecretLoad, source).about(
                &used.slot,
                used.version,
                used.external,
            )
        };
        let entries: Vec<AuditEntry> = uses.iter().map(entry).collect();
        self.record(entries).await
    }

    fn entry(
        &self,
        organization: Option<OrganizationId>,
        row: &SecretRow,
        action: Action,
        source: Source,
    ) -> AuditEntry {
        let at = self.clock.now();
        AuditEntry::of(organization, at, self.actor.clone(), action, source).about(
            &row.meta.slot,
            row.meta.version,
            row.meta.kind == SecretKind::Reference,
        )
    }

    fn unopened(&self, slot: &Slot) -> ResolveError {
        let detail = String::from("the stored value is not as it was sealed; it is not used");
        let occasion = String::new();
        self.raise(
            Finding::about(AlertKind::IntegrityFailure, slot, detail, occasion),
            DAY_MILLIS,
        );
        ResolveError::Source
    }

    /// Alerts the admins beside what is under way, unless they were lately: within `quiet_millis`.
    pub fn raise(&self, finding: Finding, quiet_millis: u64) {
        let now = self.clock.now();
        let quiet_since = Timestamp(now.0.saturating_sub(quiet_millis));
        let kind = finding.kind;
        let change = Change {
            writes: vec![finding.raise(quiet_since, &self.actor, now)],
            entries: Vec::new(),
        };
        let store = Arc::clone(&self.store);
        tokio::spawn(async move {
            if store.commit(change).await.is_err() {
                tracing::error!(kind = kind.name(), "an alert could not be raised");
            }
        });
    }

    async fn record(&self, entries: Vec<AuditEntry>) -> Result<(), ResolveError> {
        if entries.is_empty() {
            return Ok(());
        }
        match tokio::time::timeout(RECORD_WAIT, self.store.record(entries)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(ResolveError::Unrecorded),
        }
    }

    /// Everything opened, or the slot whose value is not as it was sealed.
    fn open_all(&self, winners: &Winners<'_>, uses: Vec<Use>, references: &References) -> Result<Opened, Slot> {
        let value = |row: &SecretRow| self.value(row, references);
        let mut payload = PayloadSecrets::default();
        let mut scope_hits = ScopeHits::default();
        for row in &winners.payload {
            payload.insert(PayloadSecret {
                key: row.meta.slot.key.clone(),
                value: value(row)?,
            });
            scope_hits.count(row.meta.slot.scope);
        }
        let handshake = match (winners.certificate, winners.private_key) {
            (Some(certificate), Some(private_key)) => Some(HandshakeSecrets {
                certificate: HandshakeSecret(value(certificate)?),
                private_key: HandshakeSecret(value(private_key)?),
                ca: winners.ca.map(value).transpose()?.map(HandshakeSecret),
            }),
            _ => None,
        };
        let handshake_stamp = [winners.certificate, winners.private_key, winners.ca]
            .into_iter()
            .flatten()
            .map(|row| {
                let slot = &row.meta.slot;
                let fetched = references.value(slot).map(|found| found.held.version().clone());
                (slot.clone(), references.version(row), fetched)
            })
            .collect();
        let signing = winners
            .signing
            .iter()
            .map(|row| self.signing_secret(row, references))
            .collect::<Result<_, _>>()?;
        Ok(Opened {
            payload,
            handshake,
            signing,
            scope_hits,
            handshake_stamp,
            uses,
        })
    }

    /// A row's value: what it seals, or what its reference came to.
    fn value(&self, row: &SecretRow, references: &References) -> Result<SecretString, Slot> {
        if row.meta.kind != SecretKind::Reference {
            return self.open(row);
        }
        let slot = &row.meta.slot;
        let found = references.value(slot).ok_or_else(|| slot.clone())?;
        Ok(SecretString::from(found.held.value().expose_secret()))
    }

    /// What a row seals: a value, or a reference.
    fn open(&self, row: &SecretRow) -> Result<SecretString, Slot> {
        let meta = &row.meta;
        self.keyring
            .open(&meta.slot, meta.kind, meta.version, &row.sealed)
            .map_err(|_| meta.slot.clone())
    }

    /// A signing secret with its predecessor, as long as that is still valid.
    fn signing_secret(&self, row: &SecretRow, references: &References) -> Result<SigningSecret, Slot> {
        let now = self.clock.now();
        let predecessor = match &row.predecessor {
            Some(old) if old.valid_until > now => {
                let text = self
                    .keyring
                    .open(&row.meta.slot, SecretKind::Value, old.version, &old.sealed)
                    .map_err(|_| row.meta.slot.clone())?;
                Some((text, old.valid_until))
            }
            _ => None,
        };
        Ok(SigningSecret {
            current: self.value(row, references)?,
            predecessor,
        })
    }
}

/// Signing secrets as signers take them: each current one, and its predecessor until its overlap ends.
#[must_use]
pub fn with_predecessors(secrets: Vec<SigningSecret>) -> Vec<signature::SigningSecret> {
    let mut all = Vec::with_capacity(secrets.len() * 2);
    for secret in secrets {
        all.push(signature::SigningSecret {
            text: secret.current,
            valid_until: None,
        });
        if let Some((text, until)) = secret.predecessor {
            all.push(signature::SigningSecret {
                text,
                valid_until: Some(until),
            });
        }
    }
    all
}
