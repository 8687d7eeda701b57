//! How old an organization's secrets are against its policy: the rotation report, page by page.

use std::collections::HashMap;
use std::sync::Arc;

use crate::audit::PolicyIsAuthentic;
use crate::clock::Clock;
use crate::domain::audit::Action;
use crate::domain::id::OrganizationId;
use crate::domain::policy::{Age, Policy};
use crate::domain::scope::Owner;
use crate::domain::secret::{SecretKind, SecretMeta};
use crate::domain::time::Timestamp;
use crate::secrets::manage::Asker;
use crate::store::{Page, SecretQuery, SharedStore, StoreError, Tenancy};

/// Rows that are read at a time.
const PAGE_ROWS: u32 = 500;

/// Where a secret's value stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValueSource {
    /// Sealed here.
    Value,
    /// In an external backend.
    External,
    /// Nowhere yet.
    Placeholder,
}

impl ValueSource {
    /// The word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Value => "value",
            Self::External => "external",
            Self::Placeholder => "placeholder",
        }
    }
}

/// One secret of a report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportLine {
    /// The secret.
    pub meta: SecretMeta,
    /// Where its value stands.
    pub source: ValueSource,
    /// How old the value is; `None` where there is none.
    pub age: Option<Age>,
    /// How old its organization's policy lets it become.
    pub max_age_days: u32,
}

/// What a report adds up to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Lines.
    pub secrets: u64,
    /// Older than the policy allows.
    pub overdue: u64,
    /// In an external backend.
    pub external: u64,
    /// Without a value yet.
    pub placeholders: u64,
    /// With a value that was never replaced.
    pub never_rotated: u64,
}

impl Totals {
    /// Counts a line in.
    pub fn add(&mut self, line: &ReportLine) {
        let is_placeholder = line.source == ValueSource::Placeholder;
        for (total, counts) in [
            (&mut self.secrets, true),
            (&mut self.overdue, line.age.is_some_and(|age| age.is_overdue)),
            (&mut self.external, line.source == ValueSource::External),
            (&mut self.placeholders, is_placeholder),
            (
                &mut self.never_rotated,
                !is_placeholder && line.meta.rotation_count == 0,
            ),
        ] {
            *total = total.saturating_add(u64::from(counts));
        }
    }
}

/// A report under way. Holds one page at a time.
pub struct Report {
    store: SharedStore,
    policy_is_authentic: PolicyIsAuthentic,
    tenancy: Tenancy,
    /// The moment that ages are told for.
    pub at: Timestamp,
    policies: HashMap<OrganizationId, Policy>,
    after: Option<u64>,
    is_over: bool,
}

impl Report {
    /// Begins a report, recorded before anything of it is read. A policy that somebody edited in the database ends it
    /// as damaged: it could call overdue values fine.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn begin(
        store: SharedStore,
        policy_is_authentic: PolicyIsAuthentic,
        clock: &Arc<dyn Clock>,
        asker: &Asker,
        tenancy: Tenancy,
    ) -> Result<Self, StoreError> {
        let at = clock.now();
        let organization = match &tenancy {
            Tenancy::Platform => None,
            Tenancy::Organization(organization) => Some(organization.clone()),
        };
        store
            .record(vec![asker.entry(organization, at, Action::ReportExport)])
            .await?;
        Ok(Self {
            store,
            policy_is_authentic,
            tenancy,
            at,
            policies: HashMap::new(),
            after: None,
            is_over: false,
        })
    }

    /// The next lines; none where the report is over.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn next(&mut self) -> Result<Vec<ReportLine>, StoreError> {
        if self.is_over {
            return Ok(Vec::new());
        }
        let page = Page {
            after: self.after,
            limit: PAGE_ROWS,
        };
        let listed = self
            .store
            .secrets(&self.tenancy, &SecretQuery::default(), &page)
            .await?;
        self.after = listed.next;
        self.is_over = listed.next.is_none();
        let mut lines = Vec::with_capacity(listed.rows.len());
        for row in listed.rows {
            let policy = self.policy(&row.meta.slot.owner).await?;
            lines.push(line(row.meta, &policy, self.at));
        }
        Ok(lines)
    }

    async fn policy(&mut self, owner: &Owner) -> Result<Policy, StoreError> {
        let Owner::Organization(organization) = owner else {
            return Ok(Policy::default());
        };
        if let Some(policy) = self.policies.get(organization) {
            return Ok(policy.clone());
        }
        let policy = match self.store.policy(organization).await? {
            None => Policy::default(),
            Some(row) if (self.policy_is_authentic)(&row) => row.policy,
            Some(_) => return Err(StoreError::Damaged),
        };
        self.policies.insert(organization.clone(), policy.clone());
        Ok(policy)
    }
}

/// A value's age counts from its last write: every write of a secret replaces its value.
fn line(meta: SecretMeta, policy: &Policy, now: Timestamp) -> ReportLine {
    let source = match meta.kind {
        SecretKind::Value => ValueSource::Value,
        SecretKind::Reference => ValueSource::External,
        SecretKind::Placeholder | SecretKind::Tombstone => ValueSource::Placeholder,
    };
    let age = (source != ValueSource::Placeholder).then(|| policy.age(meta.updated_at, now));
    ReportLine {
        source,
        age,
        max_age_days: policy.rotation_max_age_days,
        meta,
    }
}
