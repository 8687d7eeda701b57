//! Which secrets admins should look after: overdue, ending, unused; references that point to nothing; certificates that
//! end; records that were altered.
//!
//! Run at the start and then every so often (`Extensions::SecretAuditJob` of the spec). What was found is alerted once:
//! for each version, stage and last use. Several instances may look at the same time; the store keeps the first alert.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::{LOOK_EVERY, Sources};
use crate::delivery::identity::certificate_end;
use crate::domain::alert::AlertKind;
use crate::domain::id::OrganizationId;
use crate::domain::installation::InstallationState;
use crate::domain::policy::{DAY_MILLIS, Policy};
use crate::domain::scope::Slot;
use crate::domain::secret::{SecretKind, SecretMeta};
use crate::domain::time::Timestamp;
use crate::registry::{self, Registered, RegistryError, policy_of};
use crate::secrets::resolve::SecretResolver;
use crate::secrets::sources::Freshness;
use crate::store::{Finding, Page, SecretQuery, SecretRow, StoreError, Tenancy};

/// Rows that are read at a time.
const PAGE_ROWS: u32 = 500;

/// How many references are asked for at a time.
const REFERENCES_AT_A_TIME: usize = 16;

/// How many days before an end admins are told, the nearest first.
const STAGES_DAYS: [u64; 3] = [7, 14, 30];

/// The scheduled look at all secrets.
pub struct SecretAudit {
    sources: Sources,
    secrets: SecretResolver,
    /// When the certificate of each slot's version ends, so that each is opened once.
    ends: Mutex<HashMap<Slot, (u64, Option<Timestamp>)>>,
}

impl SecretAudit {
    /// One over these sources.
    #[must_use]
    pub fn new(sources: Sources, secrets: SecretResolver) -> Self {
        Self {
            sources,
            secrets,
            ends: Mutex::default(),
        }
    }

    /// Looks at the start and then `every` so often, until `stop`.
    pub async fn run_every(self, every: Duration, stop: CancellationToken) {
        let every = u64::try_from(every.as_millis()).unwrap_or(u64::MAX);
        let mut due_at = Timestamp(0);
        loop {
            let now = self.sources.clock.now();
            if due_at <= now {
                if let Err(error) = self.run().await {
                    tracing::warn!(%error, "the secrets could not all be looked over");
                }
                due_at = now.plus_millis(every);
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
        }
    }

    /// Looks all secrets of all organizations over, once. What keeps one organization from being looked at does not
    /// keep the others.
    ///
    /// # Errors
    /// The first [`StoreError`] there was; everything else was looked at.
    pub async fn run(&self) -> Result<(), StoreError> {
        let mut result = Ok(());
        for organization in self.sources.store.organizations().await? {
            if let Err(error) = self.look_at_organization(&organization).await {
                result = result.and(Err(error));
                if error == StoreError::Damaged {
                    self.raise_daily(registry::tampered((&organization).into())).await?;
                }
            }
        }
        result
    }

    async fn look_at_organization(&self, organization: &OrganizationId) -> Result<(), StoreError> {
        let policy = match policy_of(&self.sources.store, &self.sources.keyring, organization).await {
            Ok(record) => record.policy,
            Err(RegistryError::Store(error)) => return Err(error),
            Err(_) => {
                self.raise_daily(registry::tampered(organization.into())).await?;
                Policy::default()
            }
        };
        self.look_at_secrets(organization, &policy).await?;
        self.look_at_installations(organization).await
    }

    async fn look_at_secrets(&self, organization: &OrganizationId, policy: &Policy) -> Result<(), StoreError> {
        let tenancy = Tenancy::Organization(organization.clone());
        let now = self.sources.clock.now();
        let mut page = first_page();
        loop {
            let listed = self
                .sources
                .store
                .secrets(&tenancy, &SecretQuery::default(), &page)
                .await?;
            for row in &listed.rows {
                for finding in findings(&row.meta, policy, now) {
                    self.sources.raise(finding, Timestamp(0)).await?;
                }
            }
            self.look_at_references(organization, &listed.rows).await;
            match listed.next {
                Some(next) => page.after = Some(next),
                None => return Ok(()),
            }
        }
    }

    /// Where references point to, some at a time, as a delivery would ask. Whoever asks tells of those that point to
    /// nothing, and notes rotations; what could not be asked is looked at next time.
    async fn look_at_references(&self, organization: &OrganizationId, rows: &[SecretRow]) {
        let references = rows.iter().filter(|row| row.meta.kind == SecretKind::Reference);
        let references: Vec<SecretRow> = references.cloned().collect();
        for some in references.chunks(REFERENCES_AT_A_TIME) {
            let looked = self.secrets.states(Some(organization), some, Freshness::Fresh).await;
            if let Err(error) = looked {
                tracing::warn!(%error, organization_id = %organization, "references could not be looked at");
                return;
            }
        }
    }

    async fn look_at_installations(&self, organization: &OrganizationId) -> Result<(), StoreError> {
        let tenancy = Tenancy::Organization(organization.clone());
        let mut page = first_page();
        loop {
            let listed = self.sources.store.installations(&tenancy, &page).await?;
            for row in &listed.rows {
                let id = &row.installation.id;
                match registry::load(&self.sources.store, &self.sources.keyring, id).await {
                    Ok(Some(registered)) => self.look_at_certificate(&registered).await?,
                    Ok(None) => {}
                    Err(RegistryError::Store(error)) => return Err(error),
                    Err(_) => self.raise_daily(registry::tampered(id.into())).await?,
                }
            }
            match listed.next {
                Some(next) => page.after = Some(next),
                None => return Ok(()),
            }
        }
    }

    /// When the certificate ends that an enabled installation shows to its endpoint.
    async fn look_at_certificate(&self, registered: &Registered) -> Result<(), StoreError> {
        let Registered {
            installation,
            manifest,
            partner_defaults,
            ..
        } = registered;
        let demand = manifest.demand();
        let Some(keys) = demand
            .handshake
            .filter(|_| installation.state == InstallationState::Enabled)
        else {
            return Ok(());
        };
        let winner = self
            .secrets
            .winner(installation, *partner_defaults, &keys.certificate_key);
        let Ok(Some(row)) = winner.await else {
            return Ok(()); // missing keys show in checklists, a source that is away shows in deliveries
        };
        let (slot, version) = (&row.meta.slot, row.meta.version);
        let end = match self.known_end(slot, version) {
            Some(end) => end,
            None => {
                let Ok(certificate) = self.secrets.look_at(&row).await else {
                    return Ok(()); // told by whoever could not open it
                };
                let end = certificate_end(&certificate);
                self.ends().insert(slot.clone(), (version, end));
                end
            }
        };
        let finding =
            end.and_then(|end| ending(AlertKind::CertificateExpiring, &row.meta, end, self.sources.clock.now()));
        match finding {
            Some(finding) => self.sources.raise(finding, Timestamp(0)).await,
            None => Ok(()),
        }
    }

    fn known_end(&self, slot: &Slot, version: u64) -> Option<Option<Timestamp>> {
        let ends = self.ends();
        ends.get(slot)
            .filter(|(known, _)| *known == version)
            .map(|(_, end)| *end)
    }

    fn ends(&self) -> std::sync::MutexGuard<'_, HashMap<Slot, (u64, Option<Timestamp>)>> {
        self.ends.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn raise_daily(&self, finding: Finding) -> Result<(), StoreError> {
        let quiet_since = self.sources.clock.now().0.saturating_sub(DAY_MILLIS);
        self.sources.raise(finding, Timestamp(quiet_since)).await
    }
}

const fn first_page() -> Page {
    Page {
        after: None,
        limit: PAGE_ROWS,
    }
}

/// What admins should know of one secret.
fn findings(meta: &SecretMeta, policy: &Policy, now: Timestamp) -> Vec<Finding> {
    if !matches!(meta.kind, SecretKind::Value | SecretKind::Reference) {
        return Vec::new();
    }
    let mut found = Vec::new();
    let age = policy.age(meta.updated_at, now);
    if age.is_overdue {
        let (days, allowed) = (age.days, policy.rotation_max_age_days);
        let detail = format!("the value is {days} days old; the policy allows {allowed}");
        let occasion = format!("v{}", meta.version);
        found.push(Finding::about(AlertKind::RotationOverdue, &meta.slot, detail, occasion));
    }
    let end = meta.expires_at;
    found.extend(end.and_then(|end| ending(AlertKind::Expiring, meta, end, now)));
    found.extend(unused(meta, policy, now));
    found
}

/// An end that is near or past: once for each stage that is reached.
fn ending(kind: AlertKind, meta: &SecretMeta, end: Timestamp, now: Timestamp) -> Option<Finding> {
    let left = end.0.saturating_sub(now.0);
    let (stage, when) = if left == 0 {
        (String::from("past"), String::from("has ended"))
    } else {
        let stage = STAGES_DAYS.into_iter().find(|days| left <= days * DAY_MILLIS)?;
        (stage.to_string(), format!("ends within {stage} days"))
    };
    let what = match kind {
        AlertKind::CertificateExpiring => "the client certificate",
        _ => "the value",
    };
    let detail = format!("{what} {when}: {}", end.to_rfc3339());
    let occasion = format!("v{} {stage}", meta.version);
    Some(Finding::about(kind, &meta.slot, detail, occasion))
}

fn unused(meta: &SecretMeta, policy: &Policy, now: Timestamp) -> Option<Finding> {
    let allowed = policy.unused_days?;
    let since = meta.last_used_at.unwrap_or(meta.created_at);
    let idle = now.0.saturating_sub(since.0);
    if idle <= u64::from(allowed) * DAY_MILLIS {
        return None;
    }
    let (what, days) = (
        meta.last_used_at.map_or("never used", |_| "not used"),
        idle / DAY_MILLIS,
    );
    let detail = format!("the value was {what} for {days} days; the policy asks after {allowed}");
    let occasion = format!("since {}", since.0);
    Some(Finding::about(AlertKind::Unused, &meta.slot, detail, occasion))
}
