//! How an organization's policy is written and read back.

use super::extensions::conflict;
use super::rows::slices;
use super::{Registry, RegistryError, Stored};
use crate::crypto::encoding::Encoder;
use crate::crypto::keyring::Keyring;
use crate::domain::audit::{Action, Actor, AuditEntry, Source};
use crate::domain::destination::Destination;
use crate::domain::id::OrganizationId;
use crate::domain::policy::{Policy, PolicyError};
use crate::domain::time::Timestamp;
use crate::store::{Change, PolicyRow, SharedStore, Write};

const POLICIES: &str = "policies";

/// An organization's policy as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyRecord {
    /// Whose.
    pub organization: OrganizationId,
    /// What it says.
    pub policy: Policy,
    /// 0 where the organization wrote none, so that the defaults hold.
    pub version: u64,
    /// When it was last written.
    pub updated_at: Option<Timestamp>,
}

impl Registry {
    /// An organization's policy; the defaults where it wrote none.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub async fn policy(&self, organization: &OrganizationId) -> Result<PolicyRecord, RegistryError> {
        policy_of(&self.store, &self.keyring, organization).await
    }

    /// Writes a policy, whole. `expected` is the version the caller read, if it insists on one.
    ///
    /// # Errors
    /// [`RegistryError`]: `Policy` for a rule that cannot be kept.
    pub async fn put_policy(
        &self,
        who: &Actor,
        source: Source,
        organization: &OrganizationId,
        policy: Policy,
        expected: Option<u64>,
    ) -> Result<Stored<PolicyRecord>, RegistryError> {
        policy.check()?;
        if let Some(url) = &policy.webhook_url {
            self.check_webhook(url)?;
        }
        let replaced = self.store.policy(organization).await?.map(|row| row.version);
        if expected.is_some_and(|expected| expected != replaced.unwrap_or(0)) {
            return Err(RegistryError::Conflict);
        }
        let now = self.clock.now();
        let row = PolicyRow {
            organization: organization.clone(),
            policy,
            version: replaced.map_or(1, |version| version.saturating_add(1)),
            updated_at: now,
            mac: Vec::new(),
        };
        let row = sealed_policy(&self.keyring, row);
        let entry = AuditEntry {
            subject: Some(organization.into()),
            version: Some(row.version),
            ..AuditEntry::of(Some(organization.clone()), now, who.clone(), Action::PolicyPut, source)
        };
        let write = Write::Policy {
            row: row.clone(),
            expected: replaced,
        };
        let change = Change {
            writes: vec![write],
            entries: vec![entry],
        };
        self.store.commit(change).await.map_err(conflict)?;
        Ok(Stored {
            record: record(row),
            changed: Vec::new(),
            created: replaced.is_none(),
        })
    }

    /// Alerts may be posted where deliveries may go.
    fn check_webhook(&self, url: &str) -> Result<(), RegistryError> {
        let refused = RegistryError::Policy(PolicyError {
            field: "webhook_url",
            expected: "an https URL to a public host, without user name, query or fragment",
        });
        let destination = Destination::parse(url).map_err(|_| refused.clone())?;
        self.policy.check(&destination).map_err(|_| refused)
    }
}

/// An organization's policy; the defaults where it wrote none.
///
/// # Errors
/// [`RegistryError::Store`], or [`RegistryError::Tampered`] where the row is not as it was written.
pub async fn policy_of(
    store: &SharedStore,
    keyring: &Keyring,
    organization: &OrganizationId,
) -> Result<PolicyRecord, RegistryError> {
    let Some(row) = store.policy(organization).await? else {
        return Ok(PolicyRecord {
            organization: organization.clone(),
            policy: Policy::default(),
            version: 0,
            updated_at: None,
        });
    };
    if policy_is_authentic(keyring, &row) {
        Ok(record(row))
    } else {
        Err(RegistryError::Tampered)
    }
}

/// The row with its MAC, ready to be stored.
#[must_use]
pub fn sealed_policy(keyring: &Keyring, mut row: PolicyRow) -> PolicyRow {
    row.mac = keyring.row_mac(POLICIES, &slices(&fields(&row))).to_vec();
    row
}

/// Whether a row is as it was stored: how long the log is kept, and whom alerts go to, included.
#[must_use]
pub fn policy_is_authentic(keyring: &Keyring, row: &PolicyRow) -> bool {
    keyring.row_mac_holds(POLICIES, &slices(&fields(row)), &row.mac)
}

fn record(row: PolicyRow) -> PolicyRecord {
    PolicyRecord {
        organization: row.organization,
        policy: row.policy,
        version: row.version,
        updated_at: Some(row.updated_at),
    }
}

fn fields(row: &PolicyRow) -> [Vec<u8>; 1] {
    // Every rule is named, so that a new one cannot be forgotten here.
    let Policy {
        rotation_max_age_days,
        read_threshold,
        read_window_secs,
        delivery_read_threshold,
        unused_days,
        retention_days,
        webhook_url,
        webhook_signing_key,
        emails,
    } = &row.policy;
    let number = |encoder: Encoder, number: u32| encoder.number(number.into());
    let mut fields = Encoder::new("kiket.policy-row.v1")
        .text(row.organization.as_str())
        .number((*rotation_max_age_days).into())
        .number((*read_threshold).into())
        .number((*read_window_secs).into())
        .optional(*delivery_read_threshold, number)
        .optional(*unused_days, number)
        .optional(*retention_days, number)
        .optional(webhook_url.as_deref(), Encoder::text)
        .optional(webhook_signing_key.as_deref(), Encoder::text)
        .number(emails.len() as u64);
    for address in emails {
        fields = fields.text(address);
    }
    [fields.number(row.version).number(row.updated_at.0).finish()]
}
