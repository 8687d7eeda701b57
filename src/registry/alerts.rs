//! Which alerts there are, who has seen them, and how healthy a tenant's secrets are.

use std::collections::{HashMap, HashSet};

use super::extensions::conflict;
use super::{Registry, RegistryError};
use crate::domain::alert::{Alert, AlertKind};
use crate::domain::audit::{Action, Actor, AuditEntry, Source};
use crate::domain::id::ScopeId;
use crate::domain::installation::Installation;
use crate::domain::key::SecretKey;
use crate::domain::policy::{DAY_MILLIS, Policy};
use crate::domain::scope::{Owner, Scope};
use crate::domain::secret::{SecretKind, SecretMeta};
use crate::domain::time::Timestamp;
use crate::store::{Change, Listed, Page, SecretQuery, StoreError, Tenancy, Write};

/// Rows that are read at a time where all are looked at.
const PAGE_ROWS: u32 = 500;

/// How soon before its end a value counts as expiring.
const SOON_MILLIS: u64 = 30 * DAY_MILLIS;

/// Which alerts to list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AlertFilter {
    /// Those that nobody acknowledged.
    Open,
    /// Those that somebody did.
    Acknowledged,
    /// All of them.
    All,
}

/// How a tenant's secrets are, by count.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Health {
    /// Values and references.
    pub secret_count: u64,
    /// Of these, those that end within 30 days.
    pub expiring_soon: u64,
    /// Of these, those older than the policy allows.
    pub overdue: u64,
    /// Of these, those that cannot or must not be used any more: ended, dangling, or not as they were written.
    pub invalid: u64,
}

impl Registry {
    /// The alerts that a tenancy may see, newest first. A page of acknowledged ones may be shorter than asked for
    /// although more follow.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub async fn alerts(
        &self,
        tenancy: &Tenancy,
        filter: AlertFilter,
        page: &Page,
    ) -> Result<Listed<Alert>, RegistryError> {
        let mut listed = self.store.alerts(tenancy, filter == AlertFilter::Open, page).await?;
        if filter == AlertFilter::Acknowledged {
            listed.rows.retain(|alert| alert.acknowledged_at.is_some());
        }
        Ok(listed)
    }

    /// Notes that somebody has seen an alert. One that was acknowledged before stays as it was then.
    ///
    /// # Errors
    /// [`RegistryError`]; `Unknown` for one that the tenancy may not see.
    pub async fn acknowledge_alert(
        &self,
        tenancy: &Tenancy,
        who: &Actor,
        source: Source,
        id: &str,
    ) -> Result<Alert, RegistryError> {
        let alert = self.store.alert(id).await?.ok_or(RegistryError::Unknown)?;
        let is_visible = match tenancy {
            Tenancy::Platform => true,
            Tenancy::Organization(organization) => alert.organization.as_ref() == Some(organization),
        };
        if !is_visible {
            return Err(RegistryError::Unknown);
        }
        if alert.acknowledged_at.is_some() {
            return Ok(alert);
        }
        let now = self.clock.now();
        let mut change = Change::default();
        acknowledge(&alert, who, source, now, &mut change);
        match self.store.commit(change).await.map_err(conflict) {
            Ok(()) => Ok(Alert {
                acknowledged_at: Some(now),
                acknowledged_by: Some(who.name.clone()),
                ..alert
            }),
            // Somebody else was faster.
            Err(RegistryError::Conflict) => self.store.alert(id).await?.ok_or(RegistryError::Unknown),
            Err(error) => Err(error),
        }
    }

    /// Commits a change with which the reason of these alerts of one installation is gone: it closes them, or is not
    /// made.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub(super) async fn commit_settling(
        &self,
        change: Change,
        who: &Actor,
        source: Source,
        installation: &Installation,
        kinds: &[AlertKind],
    ) -> Result<(), RegistryError> {
        let own = Tenancy::Organization(installation.organization.clone());
        let about = [(&installation.id).into()];
        let mut open = self.open_alerts(&own, &about, kinds).await?;
        loop {
            let mut settling = change.clone();
            for alert in &open {
                acknowledge(alert, who, source, self.clock.now(), &mut settling);
            }
            match self.store.commit(settling).await {
                Err(StoreError::Conflict) => {
                    let before = std::mem::replace(&mut open, self.open_alerts(&own, &about, kinds).await?);
                    if open == before {
                        return Err(RegistryError::Conflict);
                    } // else somebody saw an alert meanwhile
                }
                committed => return committed.map_err(conflict),
            }
        }
    }

    /// The open alerts of these kinds about any of these.
    pub(super) async fn open_alerts(
        &self,
        tenancy: &Tenancy,
        about: &[ScopeId],
        kinds: &[AlertKind],
    ) -> Result<Vec<Alert>, StoreError> {
        let mut open = Vec::new();
        let mut page = first_page();
        while !about.is_empty() && !kinds.is_empty() {
            let mut listed = self.store.alerts(tenancy, true, &page).await?;
            listed.rows.retain(|alert| {
                kinds.contains(&alert.kind) && alert.subject.as_ref().is_some_and(|subject| about.contains(subject))
            });
            open.append(&mut listed.rows);
            match listed.next {
                Some(next) => page.after = Some(next),
                None => break,
            }
        }
        Ok(open)
    }

    /// How the secrets that a tenancy may see are. Reads all of them.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub async fn health(&self, tenancy: &Tenancy) -> Result<Health, RegistryError> {
        let now = self.clock.now();
        let unusable = self.unusable(tenancy).await?;
        let mut policies: HashMap<Owner, Policy> = HashMap::new();
        let mut health = Health::default();
        let mut page = first_page();
        loop {
            let listed = self.store.secrets(tenancy, &SecretQuery::default(), &page).await?;
            for row in &listed.rows {
                let meta = &row.meta;
                if !policies.contains_key(&meta.slot.owner) {
                    let policy = match &meta.slot.owner {
                        Owner::Organization(organization) => self.policy(organization).await?.policy,
                        Owner::Partner => Policy::default(),
                    };
                    policies.insert(meta.slot.owner.clone(), policy);
                }
                if let Some(policy) = policies.get(&meta.slot.owner) {
                    let place = (
                        meta.slot.owner.clone(),
                        meta.slot.scope,
                        meta.slot.scope_id.clone(),
                        meta.slot.key.clone(),
                    );
                    health.count(meta, policy, unusable.contains(&place), now);
                }
            }
            match listed.next {
                Some(next) => page.after = Some(next),
                None => return Ok(health),
            }
        }
    }

    /// The secrets that an open alert says cannot be used.
    async fn unusable(&self, tenancy: &Tenancy) -> Result<HashSet<(Owner, Scope, ScopeId, SecretKey)>, RegistryError> {
        let mut found = HashSet::new();
        let mut page = first_page();
        loop {
            let listed = self.store.alerts(tenancy, true, &page).await?;
            for alert in listed.rows {
                let is_unusable = matches!(alert.kind, AlertKind::Dangling | AlertKind::IntegrityFailure);
                if let (true, Some(scope), Some(subject), Some(key)) =
                    (is_unusable, alert.scope, alert.subject, alert.key)
                {
                    let owner = alert.organization.map_or(Owner::Partner, Owner::Organization);
                    found.insert((owner, scope, subject, key));
                }
            }
            match listed.next {
                Some(next) => page.after = Some(next),
                None => return Ok(found),
            }
        }
    }
}

impl Health {
    fn count(&mut self, meta: &SecretMeta, policy: &Policy, is_unusable: bool, now: Timestamp) {
        if !matches!(meta.kind, SecretKind::Value | SecretKind::Reference) {
            return;
        }
        let has_ended = meta.expires_at.is_some_and(|end| end <= now);
        let ends_soon = meta.expires_at.is_some_and(|end| end <= now.plus_millis(SOON_MILLIS));
        self.secret_count += 1;
        self.invalid += u64::from(has_ended || is_unusable);
        self.expiring_soon += u64::from(ends_soon && !has_ended);
        self.overdue += u64::from(policy.age(meta.updated_at, now).is_overdue);
    }
}

/// Adds to a change that somebody has seen an alert.
fn acknowledge(alert: &Alert, who: &Actor, source: Source, now: Timestamp, change: &mut Change) {
    let organization = alert.organization.clone();
    change.writes.push(Write::AlertAcknowledged {
        id: alert.id.clone(),
        by: who.name.clone(),
        at: now,
    });
    change.entries.push(AuditEntry {
        scope: alert.scope,
        subject: alert.subject.clone(),
        key: alert.key.clone(),
        ..AuditEntry::of(organization, now, who.clone(), Action::AlertAcknowledge, source)
    });
}

const fn first_page() -> Page {
    Page {
        after: None,
        limit: PAGE_ROWS,
    }
}
