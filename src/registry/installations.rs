//! How an extension is installed, what its installation still needs, and when it may be enabled.

use std::collections::HashMap;

use super::consents::settled;
use super::extensions::conflict;
use super::rows::{sealed_installation, verified_installation, verified_manifest};
use super::{Registered, Registry, RegistryError, Stored, findings, load, put_together};
use crate::domain::audit::{Action, Actor, AuditEntry, Source};
use crate::domain::change::Changed;
use crate::domain::checklist::{ChecklistItem, Satisfaction, checklist, missing};
use crate::domain::consent::{Awaiting, Consent};
use crate::domain::destination::Destination;
use crate::domain::id::{ExtensionId, InstallationId, OrganizationId, ProductInstallationId, ProjectId};
use crate::domain::installation::{Installation, InstallationState};
use crate::domain::key::SecretKey;
use crate::domain::manifest::{FieldScope, Manifest};
use crate::domain::resolution::{PartnerDefaults, slots};
use crate::domain::scope::{Owner, Scope, Slot};
use crate::domain::secret::{SecretKind, SecretMeta, successor};
use crate::domain::time::Timestamp;
use crate::egress::DestinationRefused;
use crate::store::{Change, Listed, Page, SecretRow, Tenancy, Write};

/// What to install where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewInstallation {
    /// Its id, or a new one.
    pub id: Option<InstallationId>,
    /// Of which extension.
    pub extension: ExtensionId,
    /// In which organization.
    pub organization: OrganizationId,
    /// In which project.
    pub project: ProjectId,
    /// Under which marketplace install.
    pub product_installation: Option<ProductInstallationId>,
    /// A callback instead of the manifest's.
    pub callback_url: Option<String>,
    /// Whether to leave a placeholder for every key that nothing satisfies.
    pub scaffold: bool,
}

/// What to change of an installation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InstallationPatch {
    /// Where it stands from now on.
    pub state: Option<InstallationState>,
    /// Its own callback, or none any more.
    pub callback_url: Option<Option<String>>,
}

/// An installation and what it still needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installed {
    /// The record.
    pub installation: Installation,
    /// Every key of its demand.
    pub checklist: Vec<ChecklistItem>,
    /// Required keys without a value, sorted.
    pub missing: Vec<SecretKey>,
    /// Keys that a placeholder was made for just now.
    pub scaffolded: Vec<SecretKey>,
    /// Where its deliveries go.
    pub destination: Option<Destination>,
    /// What waits for the organization's word.
    pub awaiting: Awaiting,
}

impl Registry {
    /// Installs an extension; the installation is pending.
    ///
    /// # Errors
    /// [`RegistryError`]: `Unknown` without such an extension, `Conflict` where the id is taken.
    pub async fn install(
        &self,
        who: &Actor,
        source: Source,
        new: NewInstallation,
    ) -> Result<Stored<Installed>, RegistryError> {
        let extension = self
            .store
            .extension(&new.extension)
            .await?
            .ok_or(RegistryError::Unknown)?;
        let manifest = verified_manifest(&self.keyring, &extension)?;
        if let Some(url) = &new.callback_url {
            self.check_url(url, &manifest)?;
        }
        let now = self.clock.now();
        let installation = Installation {
            id: new.id.map_or_else(new_id, Ok)?,
            extension: new.extension,
            organization: new.organization,
            project: new.project,
            product_installation: new.product_installation,
            state: InstallationState::Pending,
            callback_url: new.callback_url,
            version: 1,
            created_at: now,
            updated_at: now,
        };
        let registered = put_together(installation, Consent::default(), manifest)?;
        let Registered {
            installation, manifest, ..
        } = &registered;
        let partner = registered.partner_defaults;
        let (items, rows) = self.checklist(installation, manifest, partner).await?;
        let placeholders = if new.scaffold {
            placeholders(installation, &items, &rows, who, now)?
        } else {
            Vec::new()
        };
        let mut change = Change::default();
        let mut changed = vec![Changed::Installation(installation.id.clone())];
        let row = sealed_installation(&self.keyring, installation.clone(), &registered.consent);
        change.writes.push(Write::Installation { row, expected: None });
        change
            .entries
            .push(entry(installation, who, source, Action::InstallationCreate, now));
        let mut scaffolded = Vec::new();
        for (row, expected) in placeholders {
            let scaffold = entry(installation, who, source, Action::SecretScaffold, now);
            change
                .entries
                .push(scaffold.about(&row.meta.slot, row.meta.version, false));
            changed.push(Changed::Secret(row.meta.slot.clone()));
            scaffolded.push(row.meta.slot.key.clone());
            change.writes.push(Write::Secret { row, expected });
        }
        self.store.commit(change).await.map_err(conflict)?;
        // The placeholders just made show.
        let installed = self.installed(registered).await?;
        Ok(Stored {
            record: Installed {
                scaffolded,
                ..installed
            },
            changed,
            created: true,
        })
    }

    /// An installation that a tenancy may see.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub async fn installation(
        &self,
        tenancy: &Tenancy,
        id: &InstallationId,
    ) -> Result<Option<Installed>, RegistryError> {
        match self.registered(tenancy, id).await? {
            None => Ok(None),
            Some(registered) => self.installed(registered).await.map(Some),
        }
    }

    /// The installations that a tenancy may see, as deliveries go by them.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub async fn installations(&self, tenancy: &Tenancy, page: &Page) -> Result<Listed<Registered>, RegistryError> {
        let listed = self.store.installations(tenancy, page).await?;
        let mut manifests: HashMap<ExtensionId, Manifest> = HashMap::new();
        let mut rows = Vec::with_capacity(listed.rows.len());
        for row in listed.rows {
            let (installation, consent) = verified_installation(&self.keyring, row)?;
            let manifest = match manifests.get(&installation.extension) {
                Some(manifest) => manifest.clone(),
                None => {
                    let row = self.store.extension(&installation.extension).await?;
                    let manifest = verified_manifest(&self.keyring, &row.ok_or(RegistryError::Tampered)?)?;
                    manifests.insert(installation.extension.clone(), manifest.clone());
                    manifest
                }
            };
            rows.push(put_together(installation, consent, manifest)?);
        }
        Ok(Listed {
            rows,
            next: listed.next,
        })
    }

    /// Changes an installation. Enabling one with a required key missing is refused; enabling one that was not agrees to
    /// its destination and its keys as they stand. One that is enabled already keeps the consents it has, whatever else
    /// the patch changes: repeating the word `enabled` confirms nothing. `expected` is the version the caller read, if it
    /// insists on one.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub async fn patch_installation(
        &self,
        tenancy: &Tenancy,
        who: &Actor,
        source: Source,
        id: &InstallationId,
        patch: InstallationPatch,
        expected: Option<u64>,
    ) -> Result<Stored<Installed>, RegistryError> {
        let Registered {
            mut installation,
            manifest,
            consent,
            ..
        } = self.registered(tenancy, id).await?.ok_or(RegistryError::Unknown)?;
        let replaced = installation.version;
        if expected.is_some_and(|expected| expected != replaced) {
            return Err(RegistryError::Conflict);
        }
        let now = self.clock.now();
        let was_enabled = installation.state == InstallationState::Enabled;
        if let Some(callback_url) = patch.callback_url {
            if let Some(url) = &callback_url {
                self.check_url(url, &manifest)?;
            }
            installation.callback_url = callback_url;
        }
        if let Some(state) = patch.state {
            installation.state = state;
        }
        installation.version = successor(replaced).ok_or(RegistryError::Exhausted)?;
        installation.updated_at = now;
        let mut registered = put_together(installation, consent, manifest)?;
        if patch.state == Some(InstallationState::Enabled) && !was_enabled {
            let demand = registered.manifest.demand();
            let version = registered.installation.version;
            registered.consent = Consent::to_all(registered.destination.as_ref(), &demand, version);
        }
        let row = sealed_installation(&self.keyring, registered.installation.clone(), &registered.consent);
        let mut writes = vec![Write::Installation {
            row,
            expected: Some(replaced),
        }];
        let found = findings(&registered, &registered.awaiting());
        writes.extend(found.into_iter().map(|finding| finding.raise(Timestamp(0), who, now)));
        let installed = self.installed(registered).await?;
        if patch.state == Some(InstallationState::Enabled) && !installed.missing.is_empty() {
            return Err(RegistryError::RequiredMissing(installed.missing));
        }
        let change = Change {
            writes,
            entries: vec![entry(
                &installed.installation,
                who,
                source,
                Action::InstallationUpdate,
                now,
            )],
        };
        let settled = settled(&installed.awaiting);
        self.commit_settling(change, who, source, &installed.installation, &settled)
            .await?;
        Ok(Stored {
            record: installed,
            changed: vec![Changed::Installation(id.clone())],
            created: false,
        })
    }

    /// What a delivery to an installation goes by. A foreign one looks absent.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub async fn registered(
        &self,
        tenancy: &Tenancy,
        id: &InstallationId,
    ) -> Result<Option<Registered>, RegistryError> {
        let registered = load(&self.store, &self.keyring, id).await?;
        Ok(registered.filter(|registered| match tenancy {
            Tenancy::Platform => true,
            Tenancy::Organization(organization) => registered.installation.organization == *organization,
        }))
    }

    /// What an installation still needs.
    pub(super) async fn installed(&self, registered: Registered) -> Result<Installed, RegistryError> {
        let awaiting = registered.awaiting();
        let Registered {
            installation,
            manifest,
            partner_defaults,
            destination,
            ..
        } = registered;
        let (checklist, _) = self.checklist(&installation, &manifest, partner_defaults).await?;
        let missing = missing(&checklist);
        Ok(Installed {
            installation,
            checklist,
            missing,
            scaffolded: Vec::new(),
            destination,
            awaiting,
        })
    }

    /// The checklist, and the rows it was read from.
    async fn checklist(
        &self,
        installation: &Installation,
        manifest: &Manifest,
        partner: PartnerDefaults,
    ) -> Result<(Vec<ChecklistItem>, HashMap<Slot, SecretRow>), RegistryError> {
        let keys = checklist(manifest, |_| Satisfaction::default());
        let probed: Vec<Slot> = keys
            .iter()
            .flat_map(|item| slots(installation, partner, &item.key))
            .collect();
        let rows = self.store.slots(&probed).await?;
        let by_slot: HashMap<Slot, SecretRow> = rows.into_iter().map(|row| (row.meta.slot.clone(), row)).collect();
        let kind = |slot: &Slot| by_slot.get(slot).map(|row| row.meta.kind);
        let items = checklist(manifest, |key| {
            let slots = slots(installation, partner, key);
            let has_value = |slot: &&Slot| matches!(kind(slot), Some(SecretKind::Value | SecretKind::Reference));
            Satisfaction {
                by: slots.iter().find(has_value).map(|slot| slot.scope),
                placeholder: slots.iter().any(|slot| kind(slot) == Some(SecretKind::Placeholder)),
            }
        });
        Ok((items, by_slot))
    }

    fn check_url(&self, url: &str, manifest: &Manifest) -> Result<(), RegistryError> {
        let destination = Destination::parse(url).map_err(|_| DestinationRefused)?;
        self.check(&destination, manifest)
    }
}

/// A placeholder for each key that nothing satisfies and none waits for, where a wizard would store it, with the
/// version of the tombstone that it replaces.
fn placeholders(
    installation: &Installation,
    items: &[ChecklistItem],
    rows: &HashMap<Slot, SecretRow>,
    who: &Actor,
    now: Timestamp,
) -> Result<Vec<(SecretRow, Option<u64>)>, RegistryError> {
    let open = items
        .iter()
        .filter(|item| item.satisfied_by.is_none() && !item.placeholder);
    open.map(|item| {
        let (scope, scope_id) = match item.scope {
            FieldScope::Extension => (Scope::Extension, (&installation.extension).into()),
            FieldScope::Installation => (Scope::ExtensionInstallation, (&installation.id).into()),
        };
        let owner = Owner::Organization(installation.organization.clone());
        let slot = Slot {
            owner,
            scope,
            scope_id,
            key: item.key.clone(),
        };
        let replaced = rows.get(&slot).map(|row| &row.meta);
        let version = replaced.map_or(Some(1), |meta| successor(meta.version));
        let meta = SecretMeta {
            kind: SecretKind::Placeholder,
            version: version.ok_or(RegistryError::Exhausted)?,
            rotation_count: replaced.map_or(0, |meta| meta.rotation_count),
            last_rotated_at: replaced.and_then(|meta| meta.last_rotated_at),
            created_at: replaced.map_or(now, |meta| meta.created_at),
            updated_at: now,
            expires_at: None,
            written_by: who.name.clone(),
            contact: replaced.and_then(|meta| meta.contact.clone()),
            last_used_at: replaced.and_then(|meta| meta.last_used_at),
            slot: slot.clone(),
        };
        let row = SecretRow {
            meta,
            sealed: Vec::new(),
            predecessor: None,
        };
        Ok((row, replaced.map(|meta| meta.version)))
    })
    .collect()
}

fn entry(installation: &Installation, who: &Actor, source: Source, action: Action, now: Timestamp) -> AuditEntry {
    let organization = Some(installation.organization.clone());
    AuditEntry {
        subject: Some((&installation.id).into()),
        version: Some(installation.version),
        ..AuditEntry::of(organization, now, who.clone(), action, source)
    }
}

fn new_id() -> Result<InstallationId, RegistryError> {
    let mut random = [0_u8; 16];
    aws_lc_rs::rand::fill(&mut random).map_err(|_| RegistryError::Internal)?;
    let digits = data_encoding::HEXLOWER.encode(&random);
    InstallationId::parse(&format!("ins_{digits}")).map_err(|_| RegistryError::Internal)
}
