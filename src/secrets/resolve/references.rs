//! What the references among an installation's rows come to: where each is looked up, and what stands there.
//!
//! Which row decides is settled before: nothing that comes of a reference makes a wider scope decide instead.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::{CredentialError, ResolveError, SecretResolver};
use crate::domain::alert::AlertKind;
use crate::domain::id::OrganizationId;
use crate::domain::policy::DAY_MILLIS;
use crate::domain::provider::{Backend, Provider, Target, Unavailable};
use crate::domain::reference::Reference;
use crate::domain::scope::{Owner, Slot};
use crate::domain::secret::SecretKind;
use crate::domain::time::Timestamp;
use crate::external::OpenError;
use crate::secrets::linked::Linked;
use crate::secrets::sources::{Answer, Asked, Freshness, SourceKey, Sources, Usable};
use crate::store::{Finding, SecretRow};

/// How often a place is looked for again because something changed meanwhile.
const OVERTAKEN_MAX: u32 = 8;

/// What references came to.
#[derive(Default)]
pub struct References {
    answers: HashMap<Slot, Answer>,
    /// The version of each row that a noted rotation replaced.
    versions: HashMap<Slot, u64>,
    /// The slots of the credentials they were fetched with.
    pub credentials: HashSet<Slot>,
}

impl References {
    /// What a slot's reference came to.
    pub(super) fn answer(&self, slot: &Slot) -> Option<&Answer> {
        self.answers.get(slot)
    }

    /// Whether there were any.
    #[must_use]
    pub fn are_any(&self) -> bool {
        !self.answers.is_empty()
    }

    /// A slot's value, where its reference has one.
    pub(super) fn value(&self, slot: &Slot) -> Option<&Usable> {
        match self.answers.get(slot)? {
            Answer::Found(found) => Some(found),
            Answer::Dangling { .. } | Answer::Denied | Answer::Unavailable(_) => None,
        }
    }

    /// The version of a row that it has by now.
    pub(super) fn version(&self, row: &SecretRow) -> u64 {
        let noted = self.versions.get(&row.meta.slot).copied();
        noted.unwrap_or(row.meta.version)
    }

    /// When to look at all of it again.
    pub(super) fn fresh_until(&self) -> Option<Timestamp> {
        let ends = self.answers.values().filter_map(|answer| match answer {
            Answer::Found(found) => Some(found.fresh_until),
            Answer::Dangling { look_again_at } => Some(*look_again_at),
            Answer::Denied | Answer::Unavailable(_) => None,
        });
        ends.min()
    }

    /// From when on one of the values may not be used.
    pub(super) fn usable_until(&self) -> Option<Timestamp> {
        let ends = self.answers.keys().filter_map(|slot| self.value(slot));
        ends.map(|found| found.usable_until).min()
    }
}

/// A reference, with the row it stands in.
struct Stated<'a> {
    row: &'a SecretRow,
    linked: Linked,
}

/// Where a reference is looked up; or what is known without.
type Place = Result<(SourceKey, Target), Answer>;

impl SecretResolver {
    /// What the references among these rows of one organization come to. All are fetched at a time.
    ///
    /// # Errors
    /// [`ResolveError`], where that is not the references' fault. One that has no value is no error.
    pub(super) async fn references(
        &self,
        organization: Option<&OrganizationId>,
        rows: impl Iterator<Item = &SecretRow>,
        freshness: Freshness,
    ) -> Result<References, ResolveError> {
        let mut found = References::default();
        let mut stated: Vec<Stated<'_>> = Vec::new();
        for row in rows.filter(|row| row.meta.kind == SecretKind::Reference) {
            if stated.iter().any(|other| other.row.meta.slot == row.meta.slot) {
                continue;
            }
            let linked = self.linked(row)?;
            if row.meta.slot.owner == Owner::Partner {
                // Nobody may link one: it would be fetched as whichever tenant asks.
                let answer = Answer::Unavailable(Unavailable::ProviderMissing);
                found.answers.insert(row.meta.slot.clone(), answer);
                continue;
            }
            stated.push(Stated { row, linked });
        }
        let (Some(sources), Some(organization)) = (&self.sources, organization.filter(|_| !stated.is_empty())) else {
            let nobody = |stated: Stated<'_>| {
                let answer = Answer::Unavailable(Unavailable::ProviderMissing);
                (stated.row.meta.slot.clone(), answer)
            };
            found.answers.extend(stated.into_iter().map(nobody));
            return Ok(found);
        };
        let places = self.places(sources, organization, &stated, &mut found).await?;
        let (mut asked, mut whose) = (Vec::new(), Vec::new());
        for (stated, place) in stated.iter().zip(places) {
            let meta = &stated.row.meta;
            match place {
                Err(answer) => drop(found.answers.insert(meta.slot.clone(), answer)),
                Ok((key, target)) => {
                    let ask = Asked {
                        slot: meta.slot.clone(),
                        version: meta.version,
                        updated_at: meta.updated_at,
                    };
                    asked.push((ask, key, target));
                    whose.push(stated);
                }
            }
        }
        let answers = sources.ask(&asked, freshness).await;
        for (stated, answer) in whose.into_iter().zip(answers) {
            let slot = &stated.row.meta.slot;
            match &answer {
                Answer::Found(value) => {
                    let noted = self.look_for_rotation(sources, stated.row, &stated.linked, value).await;
                    found.versions.extend(noted.map(|version| (slot.clone(), version)));
                }
                Answer::Dangling { .. } => self.told_dangling(stated.row),
                Answer::Denied | Answer::Unavailable(_) => {
                    let (outcome, key) = (answer.outcome().name(), &slot.key);
                    tracing::warn!(outcome, organization_id = %organization, %key, "a reference has no value");
                }
            }
            found.answers.insert(slot.clone(), answer);
        }
        Ok(found)
    }

    /// What a reference's row says.
    pub(super) fn linked(&self, row: &SecretRow) -> Result<Linked, ResolveError> {
        let text = self.open(row).map_err(|slot| self.unopened(&slot))?;
        Linked::read(secrecy::ExposeSecret::expose_secret(&text)).ok_or(ResolveError::Source)
    }

    /// Where each reference is looked up, its source open.
    async fn places(
        &self,
        sources: &Arc<Sources>,
        organization: &OrganizationId,
        stated: &[Stated<'_>],
        found: &mut References,
    ) -> Result<Vec<Place>, ResolveError> {
        for _ in 0..OVERTAKEN_MAX {
            let changes = sources.changes();
            let providers = self.providers(organization).await?;
            let mut keys: HashMap<&str, Result<SourceKey, Answer>> = HashMap::new();
            let (mut places, mut is_overtaken) = (Vec::new(), false);
            for stated in stated {
                let (provider, target) = match choose(&providers, &stated.linked.reference) {
                    Ok(chosen) => chosen,
                    Err(answer) => {
                        places.push(Err(answer));
                        continue;
                    }
                };
                let name = provider.name.as_str();
                if !keys.contains_key(name) {
                    let opened = self.source_of(sources, organization, provider, changes, found).await?;
                    is_overtaken |= opened.is_none();
                    let gone = || Err(Answer::Unavailable(Unavailable::CredentialUnusable));
                    keys.insert(name, opened.unwrap_or_else(gone));
                }
                let key = keys.get(name).cloned();
                places.extend(key.map(|key| key.map(|key| (key, target))));
            }
            if !is_overtaken {
                return Ok(places);
            }
        }
        Err(ResolveError::Source)
    }

    /// The open source of a provider, or what all of its references come to without; `None` where something changed
    /// meanwhile.
    async fn source_of(
        &self,
        sources: &Arc<Sources>,
        organization: &OrganizationId,
        provider: &Provider,
        changes: u64,
        found: &mut References,
    ) -> Result<Option<Result<SourceKey, Answer>>, ResolveError> {
        let unusable = |why| Ok(Some(Err(Answer::Unavailable(why))));
        let rows = match self.credential_rows(organization, provider).await {
            Ok(rows) => rows,
            Err(CredentialError::Resolve(error)) => return Err(error),
            Err(CredentialError::Missing(_) | CredentialError::External(_)) => {
                return unusable(Unavailable::CredentialUnusable);
            }
        };
        let stamp = rows.stamp();
        found.credentials.extend(stamp.iter().map(|(slot, _)| slot.clone()));
        let key = SourceKey::new(organization.clone(), provider.clone(), stamp);
        if sources.has(&key) {
            return Ok(Some(Ok(key)));
        }
        let credentials = self.open_credentials(&rows).await?;
        match sources.open(key.clone(), credentials, changes) {
            Ok(true) => Ok(Some(Ok(key))),
            Ok(false) => Ok(None),
            Err(OpenError::Address(_)) => unusable(Unavailable::Refused),
            Err(OpenError::NoMachine | OpenError::CredentialMissing | OpenError::CredentialMalformed) => {
                unusable(Unavailable::CredentialUnusable)
            }
        }
    }

    /// Tells the admins that a reference points to nothing, once a day for each of its versions.
    fn told_dangling(&self, row: &SecretRow) {
        let detail = String::from("the reference points to nothing; the key counts as missing");
        let occasion = format!("v{}", row.meta.version);
        self.raise(
            Finding::about(AlertKind::Dangling, &row.meta.slot, detail, occasion),
            DAY_MILLIS,
        );
    }
}

/// The provider that a reference is looked up with, and what it is asked for. A bare path goes to the default, or to
/// the only provider there is. Any other goes to a provider of its kind: the first, the default before the others by
/// name, within whose mounts and prefix it is.
fn choose<'a>(providers: &'a [Provider], reference: &Reference) -> Result<(&'a Provider, Target), Answer> {
    let is_of_kind = |provider: &&Provider| match (reference, &provider.backend) {
        (Reference::Vault { .. }, Backend::Vault(_)) | (Reference::Gsm { .. }, Backend::Gsm(_)) => true,
        (Reference::Path(_), _) => provider.default || providers.len() == 1,
        (Reference::Vault { .. }, Backend::Gsm(_)) | (Reference::Gsm { .. }, Backend::Vault(_)) => false,
    };
    let candidates = || providers.iter().filter(is_of_kind);
    let defaults = candidates().filter(|provider| provider.default);
    let others = candidates().filter(|provider| !provider.default);
    let mut refused = None;
    for provider in defaults.chain(others) {
        match provider.target(reference) {
            Ok(target) => return Ok((provider, target)),
            Err(error) => refused = refused.or(Some(error)),
        }
    }
    Err(match refused {
        Some(error) => {
            tracing::warn!(
                reason = error.name(),
                "a reference is outside what its provider may be asked for"
            );
            Answer::Denied
        }
        None => Answer::Unavailable(Unavailable::ProviderMissing),
    })
}
