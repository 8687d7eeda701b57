//! Why a key has the value that it has: every scope asked, what each answered, and which one decided.
//!
//! No stored value is opened. A reference that decides is asked for as a delivery would, through the same cache, so that
//! the answer is what a delivery gets; its value goes nowhere. One that does not decide is not asked for.

use std::collections::HashMap;
use std::sync::Arc;

use super::lookup::{Looked, looked};
use crate::clock::Clock;
use crate::domain::audit::{Action, AuditEntry};
use crate::domain::installation::Installation;
use crate::domain::key::SecretKey;
use crate::domain::manifest::Demand;
use crate::domain::resolution::{PartnerDefaults, slots};
use crate::domain::scope::{Owner, Slot};
use crate::domain::secret::SecretKind;
use crate::domain::time::Timestamp;
use crate::secrets::manage::Asker;
use crate::secrets::resolve::{ReferenceState, ResolveError, SecretResolver};
use crate::secrets::sources::Freshness;
use crate::store::{SecretRow, SharedStore};

/// Explains resolutions.
pub struct SecretExplainer {
    store: SharedStore,
    clock: Arc<dyn Clock>,
    resolver: SecretResolver,
}

/// What a key is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UsedFor {
    /// The payload.
    Payload,
    /// The outbound handshake.
    Handshake,
    /// Signatures.
    Signing,
    /// Nothing: the manifest does not ask for it.
    Nothing,
}

/// What a delivery gets for a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyOutcome {
    /// A value.
    Found,
    /// None.
    Missing,
    /// Nothing for now: the deciding source does not answer.
    Unavailable,
    /// Nothing: the deciding value may not be used.
    Denied,
    /// Nothing: an update of the manifest added it, or a use of it, and the organization has not accepted that.
    NotConsented,
}

/// What one slot answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tried {
    /// Which.
    pub slot: Slot,
    /// What.
    pub outcome: Looked,
    /// Whether a narrower slot decided before this one was asked.
    pub is_hidden: bool,
    /// The version that stands there; none of a partner's default that is withheld.
    pub version: Option<u64>,
    /// Whether the value stands elsewhere, where there is one.
    pub is_external: Option<bool>,
    /// When it was last written.
    pub updated_at: Option<Timestamp>,
    /// What came of asking for it elsewhere, where it is a reference that was asked for.
    pub fetched: Option<ReferenceState>,
}

/// Where one key's value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// The key.
    pub key: SecretKey,
    /// What it is for.
    pub used_for: UsedFor,
    /// Whether a delivery needs it.
    pub is_required: bool,
    /// What a delivery gets.
    pub outcome: KeyOutcome,
    /// Every slot, in the order of precedence.
    pub tried: Vec<Tried>,
}

impl UsedFor {
    /// The word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Payload => "payload",
            Self::Handshake => "handshake",
            Self::Signing => "signing",
            Self::Nothing => "none",
        }
    }
}

impl KeyOutcome {
    /// The word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Found => "found",
            Self::Missing => "missing",
            Self::Unavailable => "unavailable",
            Self::Denied => "denied",
            Self::NotConsented => "not-consented",
        }
    }
}

impl SecretExplainer {
    /// An explainer over these sources.
    #[must_use]
    pub fn new(store: SharedStore, clock: Arc<dyn Clock>, resolver: SecretResolver) -> Self {
        Self { store, clock, resolver }
    }

    /// Explains every key of a demand, or the one that is asked for, and records that it was asked.
    ///
    /// # Errors
    /// [`ResolveError`], where that is not a reference's fault.
    pub async fn explain(
        &self,
        asker: &Asker,
        installation: &Installation,
        partner: PartnerDefaults,
        demand: &Demand,
        only: Option<&SecretKey>,
    ) -> Result<Vec<Explanation>, ResolveError> {
        let wanted = match only {
            Some(key) => vec![(key.clone(), use_of(demand, key))],
            None => demanded(demand),
        };
        // The partner's layer is always shown, also where it is not asked.
        let asked: Vec<Vec<Slot>> = wanted
            .iter()
            .map(|(key, _)| slots(installation, PartnerDefaults::Offered, key))
            .collect();
        let rows = self.store.slots(&asked.concat()).await?;
        let by_slot: HashMap<&Slot, &SecretRow> = rows.iter().map(|row| (&row.meta.slot, row)).collect();
        // For a key that is withheld nobody is asked, as no delivery would.
        let deciding: Vec<SecretRow> = wanted
            .iter()
            .zip(&asked)
            .filter(|((key, _), _)| !is_unaccepted(demand, key))
            .filter_map(|(_, slots)| deciding(slots, &by_slot, partner).cloned())
            .collect();
        let organization = Some(&installation.organization);
        let fetched = self.resolver.states(organization, &deciding, Freshness::Fresh).await?;
        let explanations = wanted
            .into_iter()
            .zip(asked)
            .map(|((key, (used_for, is_required)), slots)| {
                let (tried, decided) = try_all(slots, &by_slot, partner, &fetched);
                let outcome = match is_unaccepted(demand, &key) {
                    true => KeyOutcome::NotConsented,
                    false => decided,
                };
                Explanation {
                    key,
                    used_for,
                    is_required,
                    outcome,
                    tried,
                }
            });
        let explanations: Vec<Explanation> = explanations.collect();
        let entry = AuditEntry {
            subject: Some((&installation.id).into()),
            key: only.cloned(),
            ..asker.entry(
                Some(installation.organization.clone()),
                self.clock.now(),
                Action::SecretExplain,
            )
        };
        self.store.record(vec![entry]).await?;
        Ok(explanations)
    }
}

fn is_withheld(slot: &Slot, partner: PartnerDefaults) -> bool {
    slot.owner == Owner::Partner && partner == PartnerDefaults::Withheld
}

/// Whether any use of a key waits to be accepted: then no delivery gets by with it.
fn is_unaccepted(demand: &Demand, key: &SecretKey) -> bool {
    demand.withheld.iter().any(|used| used.key == *key)
}

/// The row that decides.
fn deciding<'a>(
    slots: &[Slot],
    by_slot: &HashMap<&Slot, &'a SecretRow>,
    partner: PartnerDefaults,
) -> Option<&'a SecretRow> {
    let rows = slots.iter().filter(|slot| !is_withheld(slot, partner));
    let mut rows = rows.filter_map(|slot| by_slot.get(slot).copied());
    rows.find(|row| looked(Some(row), None).decides().is_some())
}

/// What each slot answers, and what that comes to.
fn try_all(
    slots: Vec<Slot>,
    by_slot: &HashMap<&Slot, &SecretRow>,
    partner: PartnerDefaults,
    fetched: &HashMap<Slot, ReferenceState>,
) -> (Vec<Tried>, KeyOutcome) {
    let mut decided = None;
    let tried = slots.into_iter().map(|slot| {
        let row = by_slot.get(&slot).copied();
        let is_withheld = is_withheld(&slot, partner);
        let state = fetched.get(&slot);
        let outcome = if is_withheld {
            Looked::Withheld
        } else {
            looked(row, state.map(ReferenceState::usability))
        };
        let shown = row.filter(|_| !is_withheld).map(|row| &row.meta);
        let tried = Tried {
            is_hidden: decided.is_some(),
            version: shown.map(|meta| meta.version),
            is_external: shown.and_then(|meta| match meta.kind {
                SecretKind::Value => Some(false),
                SecretKind::Reference => Some(true),
                SecretKind::Placeholder | SecretKind::Tombstone => None,
            }),
            updated_at: shown.map(|meta| meta.updated_at),
            fetched: state.cloned(),
            slot,
            outcome,
        };
        if decided.is_none() {
            decided = outcome.decides();
        }
        tried
    });
    let tried = tried.collect();
    (tried, decided.unwrap_or(KeyOutcome::Missing))
}

impl Looked {
    /// What a delivery gets because of this slot, unless the next one is asked.
    const fn decides(self) -> Option<KeyOutcome> {
        match self {
            Self::Found => Some(KeyOutcome::Found),
            Self::Dangling => Some(KeyOutcome::Missing),
            Self::Denied => Some(KeyOutcome::Denied),
            Self::Unavailable | Self::NotAsked => Some(KeyOutcome::Unavailable),
            Self::Absent | Self::Placeholder | Self::Deleted | Self::Withheld => None,
        }
    }
}

impl Explanation {
    /// The slot that decided; none of a key that is withheld.
    #[must_use]
    pub fn winner(&self) -> Option<&Tried> {
        if self.outcome == KeyOutcome::NotConsented {
            return None;
        }
        self.tried
            .iter()
            .find(|tried| !tried.is_hidden && tried.outcome.decides().is_some())
    }

    /// The same in one sentence: tells an override that hides a wider value from a value that is missing.
    #[must_use]
    pub fn says(&self) -> String {
        if self.outcome == KeyOutcome::NotConsented {
            return String::from(
                "withheld: an update of the manifest asks for it, and no admin of the organization has accepted that",
            );
        }
        let placeholders = self.named(|tried| tried.outcome == Looked::Placeholder);
        let Some(winner) = self.winner() else {
            let waits = if placeholders.is_empty() {
                String::new()
            } else {
                format!("; a placeholder waits for its value at {placeholders}")
            };
            return format!("missing: no scope has a value{waits}");
        };
        let hidden = self.named(|tried| tried.is_hidden && tried.outcome.decides().is_some());
        let hides = if hidden.is_empty() {
            String::from("no wider scope has one")
        } else {
            format!("it hides {hidden}")
        };
        let place = place(winner);
        let why = winner
            .fetched
            .as_ref()
            .map_or("not-asked", |state| state.outcome.name());
        match winner.outcome {
            Looked::Found if winner.fetched.as_ref().is_some_and(ReferenceState::is_stale) => {
                format!("the last value of {place} stands in, because its provider does not answer ({why}); {hides}")
            }
            Looked::Found => format!("the value of {place} is used; {hides}"),
            Looked::Dangling => format!("missing: the reference of {place} points to nothing; {hides}"),
            Looked::Denied => format!("refused: the value of {place} may not be used; {hides}"),
            _ => format!("unavailable: nobody answers for the reference of {place} ({why}); {hides}"),
        }
    }

    fn named(&self, is_it: impl Fn(&Tried) -> bool) -> String {
        let places: Vec<String> = self.tried.iter().filter(|tried| is_it(tried)).map(place).collect();
        places.join(", ")
    }
}

/// A slot in words.
fn place(tried: &Tried) -> String {
    let layer = match tried.slot.owner {
        Owner::Partner => " (the partner's default)",
        Owner::Organization(_) => "",
    };
    let version = tried
        .version
        .map_or_else(String::new, |version| format!(" version {version}"));
    format!("{} {}{layer}{version}", tried.slot.scope, tried.slot.scope_id)
}

/// Every key of a demand with its use and whether a delivery needs it, in the manifest's order.
fn demanded(demand: &Demand) -> Vec<(SecretKey, (UsedFor, bool))> {
    let mut keys: Vec<(SecretKey, (UsedFor, bool))> = Vec::new();
    let payload = demand.payload.iter().map(|wanted| &wanted.key);
    let handshake = demand.handshake.iter().flat_map(|keys| keys.all());
    for key in payload.chain(handshake).chain(&demand.signing) {
        if !keys.iter().any(|(seen, _)| seen == key) {
            keys.push((key.clone(), use_of(demand, key)));
        }
    }
    keys
}

fn use_of(demand: &Demand, key: &SecretKey) -> (UsedFor, bool) {
    if let Some(wanted) = demand.payload.iter().find(|wanted| wanted.key == *key) {
        return (UsedFor::Payload, wanted.required);
    }
    let is_handshake = demand
        .handshake
        .iter()
        .flat_map(|keys| keys.all())
        .any(|other| other == key);
    if is_handshake {
        (UsedFor::Handshake, true)
    } else if demand.signing.contains(key) {
        (UsedFor::Signing, true)
    } else {
        (UsedFor::Nothing, false)
    }
}
