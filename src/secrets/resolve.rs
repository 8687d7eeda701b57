//! Which values an installation gets: every key of its demand resolved through the scopes, recorded, then opened.

mod credentials;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;

use super::lookup::lookup;
use crate::audit::Use;
use crate::clock::Clock;
use crate::crypto::keyring::Keyring;
use crate::crypto::signature;
use crate::domain::alert::AlertKind;
use crate::domain::audit::{Action, Actor, AuditEntry, Source};
use crate::domain::id::OrganizationId;
use crate::domain::installation::Installation;
use crate::domain::key::SecretKey;
use crate::domain::manifest::{Demand, OnMissing};
use crate::domain::policy::DAY_MILLIS;
use crate::domain::resolution::{
    HandshakeSecret, HandshakeSecrets, Lookup, PartnerDefaults, PayloadSecret, PayloadSecrets, Resolved, SigningSecret,
    first_match, slots,
};
use crate::domain::scope::{Owner, ScopeHits, Slot};
use crate::domain::secret::SecretKind;
use crate::domain::time::Timestamp;
use crate::store::{Change, Finding, SecretRow, SharedStore, StoreError};

pub use credentials::{CredentialError, ProviderCredentials};

/// The longest that a load waits for its audit entry. No plaintext is released unrecorded.
const RECORD_WAIT: Duration = Duration::from_millis(250);

/// Resolves and opens secrets for deliveries.
pub struct SecretResolver {
    store: SharedStore,
    keyring: Arc<Keyring>,
    clock: Arc<dyn Clock>,
    actor: Actor,
}

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
    pub handshake_stamp: Vec<(Slot, u64)>,
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

/// The rows that won, by use, before anything is opened.
struct Winners<'a> {
    payload: Vec<&'a SecretRow>,
    certificate: Option<&'a SecretRow>,
    private_key: Option<&'a SecretRow>,
    ca: Option<&'a SecretRow>,
    signing: Vec<&'a SecretRow>,
}

impl Winners<'_> {
    fn uses(&self) -> Vec<Use> {
        let used = |row: &SecretRow, source| Use {
            slot: row.meta.slot.clone(),
            version: row.meta.version,
            external: row.meta.kind == SecretKind::Reference,
            source,
        };
        let handshake = [self.certificate, self.private_key, self.ca];
        let payload = self.payload.iter().map(|row| used(row, Source::Delivery));
        payload
            .chain(handshake.into_iter().flatten().map(|row| used(row, Source::Handshake)))
            .chain(self.signing.iter().map(|row| used(row, Source::Signing)))
            .collect()
    }
}

impl SecretResolver {
    /// A resolver that records its loads as made by `actor`.
    #[must_use]
    pub fn new(store: SharedStore, keyring: Arc<Keyring>, clock: Arc<dyn Clock>, actor: Actor) -> Self {
        Self {
            store,
            keyring,
            clock,
            actor,
        }
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
        let probed: Vec<Slot> = demanded_keys(demand)
            .flat_map(|key| slots(installation, partner, key))
            .collect();
        let rows = self.store.slots(&probed).await?;
        let by_slot: HashMap<&Slot, &SecretRow> = rows.iter().map(|row| (&row.meta.slot, row)).collect();
        let winner = |key: &SecretKey| match first_match(
            slots(installation, partner, key)
                .iter()
                .map(|slot| lookup(by_slot.get(slot).copied())),
        ) {
            Resolved::Found(row) => Ok(Some(row)),
            Resolved::Missing => Ok(None),
            Resolved::Denied | Resolved::Unavailable => Err(ResolveError::Source),
        };
        let mut missing = Vec::new();
        let chosen = choose(demand, winner, &mut missing)?;
        let outcome = match chosen {
            Err(blocked) => Err(blocked),
            Ok(winners) => {
                let uses = winners.uses();
                self.record_loads(installation, &uses, reason).await?;
                match self.open_all(&winners, uses) {
                    Ok(opened) => Ok(opened),
                    Err(slot) => return Err(self.unopened(&slot)),
                }
            }
        };
        Ok(Resolution {
            probed: probed.into_iter().collect(),
            missing,
            outcome,
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

    fn load_entry(&self, organization: Option<OrganizationId>, row: &SecretRow, source: Source) -> AuditEntry {
        let at = self.clock.now();
        AuditEntry::of(organization, at, self.actor.clone(), Action::SecretLoad, source).about(
            &row.meta.slot,
            row.meta.version,
            row.meta.kind == SecretKind::Reference,
        )
    }

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
        match lookup(Some(row)) {
            Lookup::Found(row) => {
                self.record_own_load(row).await?;
                self.signing_secret(row).map(Some).map_err(|slot| self.unopened(&slot))
            }
            Lookup::Absent | Lookup::Dangling => Ok(None),
            Lookup::Denied | Lookup::Unavailable => Err(ResolveError::Source),
        }
    }

    /// The row that an installation's key resolves to, unopened.
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
        match first_match(slots.iter().map(|slot| lookup(standing(slot)))) {
            Resolved::Found(row) => Ok(Some(row.clone())),
            Resolved::Missing => Ok(None),
            Resolved::Denied | Resolved::Unavailable => Err(ResolveError::Source),
        }
    }

    /// Opens a handshake secret to look at it, not to use it.
    ///
    /// # Errors
    /// [`ResolveError`].
    pub async fn look_at(&self, row: &SecretRow) -> Result<HandshakeSecret, ResolveError> {
        self.record_own_load(row).await?;
        self.open(row).map(HandshakeSecret).map_err(|slot| self.unopened(&slot))
    }

    /// A load that no delivery asked for: it does not count as unusual reading, or an alert's signature would bring
    /// the next alert about.
    async fn record_own_load(&self, row: &SecretRow) -> Result<(), ResolveError> {
        let organization = match &row.meta.slot.owner {
            Owner::Organization(organization) => Some(organization.clone()),
            Owner::Partner => None,
        };
        self.record(vec![self.load_entry(organization, row, Source::Refresh)])
            .await
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
    fn open_all(&self, winners: &Winners<'_>, uses: Vec<Use>) -> Result<Opened, Slot> {
        let mut payload = PayloadSecrets::default();
        let mut scope_hits = ScopeHits::default();
        for row in &winners.payload {
            payload.insert(PayloadSecret {
                key: row.meta.slot.key.clone(),
                value: self.open(row)?,
            });
            scope_hits.count(row.meta.slot.scope);
        }
        let handshake = match (winners.certificate, winners.private_key) {
            (Some(certificate), Some(private_key)) => Some(HandshakeSecrets {
                certificate: HandshakeSecret(self.open(certificate)?),
                private_key: HandshakeSecret(self.open(private_key)?),
                ca: winners.ca.map(|row| self.open(row)).transpose()?.map(HandshakeSecret),
            }),
            _ => None,
        };
        let handshake_stamp = [winners.certificate, winners.private_key, winners.ca]
            .into_iter()
            .flatten()
            .map(|row| (row.meta.slot.clone(), row.meta.version))
            .collect();
        let signing = winners
            .signing
            .iter()
            .map(|row| self.signing_secret(row))
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

    fn open(&self, row: &SecretRow) -> Result<SecretString, Slot> {
        let meta = &row.meta;
        self.keyring
            .open(&meta.slot, meta.kind, meta.version, &row.sealed)
            .map_err(|_| meta.slot.clone())
    }

    /// A signing secret with its predecessor, as long as that is still valid.
    fn signing_secret(&self, row: &SecretRow) -> Result<SigningSecret, Slot> {
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
            current: self.open(row)?,
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

/// Every key that a demand asks for, whatever it is used for.
pub fn demanded_keys(demand: &Demand) -> impl Iterator<Item = &SecretKey> {
    let handshake = demand.handshake.iter().flat_map(|keys| {
        [
            Some(&keys.certificate_key),
            Some(&keys.private_key_key),
            keys.ca_key.as_ref(),
        ]
        .into_iter()
        .flatten()
    });
    demand
        .payload
        .iter()
        .map(|wanted| &wanted.key)
        .chain(handshake)
        .chain(&demand.signing)
}

/// Picks the rows to open, or says what blocks the delivery. Every missing payload key goes into `missing`, sorted.
fn choose<'a>(
    demand: &Demand,
    winner: impl Fn(&SecretKey) -> Result<Option<&'a SecretRow>, ResolveError>,
    missing: &mut Vec<SecretKey>,
) -> Result<Result<Winners<'a>, Blocked>, ResolveError> {
    let mut winners = Winners {
        payload: Vec::new(),
        certificate: None,
        private_key: None,
        ca: None,
        signing: Vec::new(),
    };
    let mut required_missing = Vec::new();
    for wanted in &demand.payload {
        match winner(&wanted.key)? {
            Some(row) => winners.payload.push(row),
            None => {
                missing.push(wanted.key.clone());
                if wanted.required {
                    required_missing.push(wanted.key.clone());
                }
            }
        }
    }
    missing.sort_unstable();
    let mut signing_missing = Vec::new();
    for key in &demand.signing {
        match winner(key)? {
            Some(row) => winners.signing.push(row),
            None => signing_missing.push(key.clone()),
        }
    }
    let mut handshake_missing = Vec::new();
    if let Some(keys) = &demand.handshake {
        let mut want = |key: &SecretKey| -> Result<Option<&'a SecretRow>, ResolveError> {
            let row = winner(key)?;
            if row.is_none() {
                handshake_missing.push(key.clone());
            }
            Ok(row)
        };
        winners.certificate = want(&keys.certificate_key)?;
        winners.private_key = want(&keys.private_key_key)?;
        winners.ca = keys.ca_key.as_ref().map(&mut want).transpose()?.flatten();
    }
    if !required_missing.is_empty() && demand.on_missing == OnMissing::FailFast {
        return Ok(Err(Blocked::RequiredMissing(required_missing)));
    }
    if !signing_missing.is_empty() {
        return Ok(Err(Blocked::SigningMissing(signing_missing)));
    }
    if !handshake_missing.is_empty() {
        return Ok(Err(Blocked::HandshakeMissing(handshake_missing)));
    }
    Ok(Ok(winners))
}
