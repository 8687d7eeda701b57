//! How an organization's admin agrees to a changed destination and to added keys, who is alerted that something waits,
//! and what counts as agreed to where an installation is older than consents.
//!
//! A consent is for what was seen: the destination or the keys that it names, or the version of the installation that
//! it insists on. What it names and does not stand there (any more) is refused. One that names nothing is for what the
//! sidecar finds; whichever way, the row keeps what was agreed to word by word, so that what changes a moment later
//! waits again.

use super::rows::{sealed_installation, verified_installation};
use super::{Installed, Registered, Registry, RegistryError, Stored, put_together, registered};
use crate::crypto::keyring::Keyring;
use crate::domain::alert::AlertKind;
use crate::domain::audit::{Action, Actor, Asker, AuditEntry, Delivered, Source};
use crate::domain::change::Changed;
use crate::domain::consent::{Awaiting, Consent, KeyUse, UsedKey};
use crate::domain::destination::Destination;
use crate::domain::id::{ExtensionId, InstallationId, ScopeId};
use crate::domain::installation::InstallationState;
use crate::domain::key::SecretKey;
use crate::domain::manifest::Manifest;
use crate::domain::scope::Scope;
use crate::domain::secret::successor;
use crate::domain::time::Timestamp;
use crate::store::{Change, Finding, Page, SharedStore, StoreError, Tenancy, Write};

/// Rows that are read at a time where all are looked at.
const PAGE_ROWS: u32 = 500;

/// How often a row is read again that somebody else changed meanwhile.
const OVERTAKEN_MAX: u32 = 8;

/// Keys that an alert names; of more it says how many.
const NAMED_MAX: usize = 10;

/// The two things that wait for a word.
const KINDS: [AlertKind; 2] = [AlertKind::DestinationUnconfirmed, AlertKind::KeysNotAccepted];

/// A key that was seen: for one use, or for all that the manifest has for it.
pub type SeenKey = (SecretKey, Option<KeyUse>);

/// What whoever agrees has seen; `None` where they name nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// A destination.
    Destination(Option<Destination>),
    /// Keys.
    Keys(Option<Vec<SeenKey>>),
}

/// The kinds of alert that an installation gives no reason for (any more).
pub(super) fn settled(awaiting: &Awaiting) -> Vec<AlertKind> {
    let settled = [awaiting.destination.is_none(), awaiting.keys.is_empty()];
    let kinds = KINDS.into_iter().zip(settled).filter(|(_, is_settled)| *is_settled);
    kinds.map(|(kind, _)| kind).collect()
}

impl Registry {
    /// Agrees to an installation's destination or keys as they stand. `expected` is the version the caller read, if it
    /// insists on one.
    ///
    /// # Errors
    /// [`RegistryError`]: `NotAsSeen` where something else stands there than what was seen.
    pub async fn consent(
        &self,
        tenancy: &Tenancy,
        asker: &Asker,
        id: &InstallationId,
        seen: Seen,
        expected: Option<u64>,
    ) -> Result<Stored<Installed>, RegistryError> {
        let mut registered = self.registered(tenancy, id).await?.ok_or(RegistryError::Unknown)?;
        let replaced = registered.installation.version;
        if expected.is_some_and(|expected| expected != replaced) {
            return Err(RegistryError::Conflict);
        }
        let version = successor(replaced).ok_or(RegistryError::Exhausted)?;
        let now = self.clock.now();
        let about = |action| AuditEntry {
            subject: Some(id.into()),
            version: Some(version),
            ..asker.entry(Some(registered.installation.organization.clone()), now, action)
        };
        let (consent, entries, kind) = match seen {
            Seen::Destination(seen) => {
                let destination = seen_destination(&registered, seen)?;
                let entry = AuditEntry {
                    delivered: Some(Delivered {
                        destination: destination.to_string(),
                        count: 0,
                    }),
                    ..about(Action::DestinationConfirm)
                };
                let consent = Consent {
                    destination: Some(destination),
                    confirmed_in: version,
                    ..registered.consent.clone()
                };
                (consent, vec![entry], AlertKind::DestinationUnconfirmed)
            }
            Seen::Keys(seen) => {
                let keys = seen_keys(&registered, seen)?;
                let entries = keys.iter().map(|used| AuditEntry {
                    key: Some(used.key.clone()),
                    ..about(Action::KeyAccept)
                });
                let entries = entries.collect();
                let demand = registered.manifest.demand();
                let before = demand.used_keys().filter(|used| registered.consent.keys.contains(used));
                let consent = Consent {
                    keys: before.chain(keys).collect(),
                    accepted_in: version,
                    ..registered.consent.clone()
                };
                (consent, entries, AlertKind::KeysNotAccepted)
            }
        };
        registered.consent = consent;
        registered.installation.version = version;
        registered.installation.updated_at = now;
        let row = sealed_installation(&self.keyring, registered.installation.clone(), &registered.consent);
        let change = Change {
            writes: vec![Write::Installation {
                row,
                expected: Some(replaced),
            }],
            entries,
        };
        self.commit_settling(change, &asker.actor, asker.source, &registered.installation, &[kind])
            .await?;
        Ok(Stored {
            record: self.installed(registered).await?,
            changed: vec![Changed::Installation(id.clone())],
            created: false,
        })
    }

    /// Alerts the admins of all enabled installations of an extension to what an update of its manifest has left
    /// waiting, and closes the alerts that it has taken the reason from. What fails here is made up for when an
    /// installation is next delivered to.
    pub(super) async fn announce(&self, who: &Actor, source: Source, extension: &ExtensionId, manifest: &Manifest) {
        let mut page = Page {
            after: None,
            limit: PAGE_ROWS,
        };
        let mut settled: Vec<ScopeId> = Vec::new();
        let announced = async {
            loop {
                let listed = self.store.installations(&Tenancy::Platform, &page).await?;
                let mut change = Change::default();
                for row in listed.rows {
                    if row.installation.extension != *extension {
                        continue;
                    }
                    let Ok((installation, consent)) = verified_installation(&self.keyring, row) else {
                        continue; // told by whoever needs it
                    };
                    let Ok(registered) = put_together(installation, consent, manifest.clone()) else {
                        continue;
                    };
                    let found = findings(&registered, &registered.awaiting());
                    if found.is_empty() {
                        settled.push((&registered.installation.id).into());
                    }
                    let now = self.clock.now();
                    let raised = found.into_iter().map(|finding| finding.raise(Timestamp(0), who, now));
                    change.writes.extend(raised);
                }
                if !change.writes.is_empty() {
                    self.store.commit(change).await?;
                }
                match listed.next {
                    Some(next) => page.after = Some(next),
                    None => return Ok::<(), StoreError>(()),
                }
            }
        };
        if announced.await.is_err() {
            tracing::warn!(
                "not every installation could be told of the manifest's update; the rest is at its next delivery"
            );
        }
        self.close(who, source, &settled).await;
    }

    /// Acknowledges open alerts to what an update has settled. One that stays open harms nobody, and anybody may still
    /// acknowledge it.
    async fn close(&self, who: &Actor, source: Source, about: &[ScopeId]) {
        let closed = async {
            for alert in self.open_alerts(&Tenancy::Platform, about, &KINDS).await? {
                self.acknowledge_alert(&Tenancy::Platform, who, source, &alert.id)
                    .await?;
            }
            Ok::<(), RegistryError>(())
        };
        if closed.await.is_err() {
            tracing::warn!("an alert whose reason is gone stays open");
        }
    }
}

/// The destination that stands, if it is the one that was seen.
fn seen_destination(registered: &Registered, seen: Option<Destination>) -> Result<Destination, RegistryError> {
    let standing = registered.destination.clone().ok_or(RegistryError::NotAsSeen)?;
    match seen {
        Some(seen) if seen != standing => Err(RegistryError::NotAsSeen),
        _ => Ok(standing),
    }
}

/// The keys that are asked for, as far as they were seen. A key that was seen for another use than it now has was not.
fn seen_keys(registered: &Registered, seen: Option<Vec<SeenKey>>) -> Result<Vec<UsedKey>, RegistryError> {
    let asked: Vec<UsedKey> = registered.manifest.demand().used_keys().collect();
    let Some(seen) = seen else { return Ok(asked) };
    let mut keys = Vec::new();
    for (key, used_for) in seen {
        let is_it = |used: &&UsedKey| used.key == key && used_for.is_none_or(|used_for| used.used_for == used_for);
        let before = keys.len();
        keys.extend(asked.iter().filter(is_it).cloned());
        if keys.len() == before {
            return Err(RegistryError::NotAsSeen);
        }
    }
    Ok(keys)
}

/// What an installation's admins have to be alerted to: each once for as long as the same waits.
#[must_use]
pub fn findings(registered: &Registered, awaiting: &Awaiting) -> Vec<Finding> {
    let Registered {
        installation, consent, ..
    } = registered;
    let finding = |kind, detail, occasion| Finding {
        kind,
        organization: Some(installation.organization.clone()),
        scope: Some(Scope::ExtensionInstallation),
        subject: Some((&installation.id).into()),
        key: None,
        detail,
        occasion,
    };
    let mut findings = Vec::new();
    if let Some(destination) = &awaiting.destination {
        let detail = format!("its destination is {destination} now, which gets nothing until an admin confirms it");
        let occasion = format!("{} {destination}", consent.confirmed_in);
        findings.push(finding(AlertKind::DestinationUnconfirmed, detail, occasion));
    }
    if !awaiting.keys.is_empty() {
        let keys = awaiting.keys.iter();
        let keys: Vec<String> = keys
            .map(|used| format!("{} ({})", used.key, used.used_for.name()))
            .collect();
        let named = keys.get(..NAMED_MAX).unwrap_or(&keys).join(", ");
        let more = match keys.len().saturating_sub(NAMED_MAX) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let detail = format!("its manifest asks for keys that are withheld until an admin accepts them: {named}{more}");
        let occasion = format!("{} {}", consent.accepted_in, keys.join(" "));
        findings.push(finding(AlertKind::KeysNotAccepted, detail, occasion));
    }
    findings
}

/// Gives the enabled installations that are older than consents one for what stands: their destination and keys. They
/// were enabled for these, nobody was ever asked for more, and to withhold them would end every delivery on the day of
/// an update. Only rows of the form before consents are taken so: one that was written since cannot be brought back to
/// that form without its MAC. Meant for each start of an instance that administers, before it serves.
///
/// # Errors
/// [`StoreError`]. A row that is not as it was written gets none.
pub async fn adopt_consents(
    store: &SharedStore,
    keyring: &Keyring,
    actor: &Actor,
    now: Timestamp,
) -> Result<(), StoreError> {
    let mut page = Page {
        after: None,
        limit: PAGE_ROWS,
    };
    loop {
        let listed = store.installations(&Tenancy::Platform, &page).await?;
        let old = listed.rows.iter().filter(|row| row.consent.is_none());
        for row in old.filter(|row| row.installation.state == InstallationState::Enabled) {
            for _ in 0..OVERTAKEN_MAX {
                match adopt(store, keyring, actor, &row.installation.id, now).await {
                    Err(StoreError::Conflict) => {}
                    Err(error) => return Err(error),
                    Ok(()) => break,
                }
            }
        }
        match listed.next {
            Some(next) => page.after = Some(next),
            None => return Ok(()),
        }
    }
}

async fn adopt(
    store: &SharedStore,
    keyring: &Keyring,
    actor: &Actor,
    id: &InstallationId,
    now: Timestamp,
) -> Result<(), StoreError> {
    let Some(snapshot) = store.installation(id).await? else {
        return Ok(());
    };
    let is_old = snapshot.installation.consent.is_none();
    let Ok(Registered {
        mut installation,
        manifest,
        destination,
        ..
    }) = registered(keyring, snapshot)
    else {
        return Ok(()); // told by whoever needs it
    };
    let replaced = installation.version;
    let (true, InstallationState::Enabled, Some(version)) = (is_old, installation.state, successor(replaced)) else {
        return Ok(());
    };
    installation.version = version;
    let entry = AuditEntry {
        subject: Some(id.into()),
        version: Some(version),
        delivered: destination.as_ref().map(|destination| Delivered {
            destination: destination.to_string(),
            count: 0,
        }),
        ..AuditEntry::of(
            Some(installation.organization.clone()),
            now,
            actor.clone(),
            Action::ConsentAdopt,
            Source::Refresh,
        )
    };
    let consent = Consent::to_all(destination.as_ref(), &manifest.demand(), version);
    let row = sealed_installation(keyring, installation, &consent);
    let change = Change {
        writes: vec![Write::Installation {
            row,
            expected: Some(replaced),
        }],
        entries: vec![entry],
    };
    store.commit(change).await
}
