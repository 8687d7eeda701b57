//! How an organization's stored policy is told from one that somebody wrote into the database.

use super::slices;
use crate::crypto::encoding::Encoder;
use crate::crypto::keyring::Keyring;
use crate::domain::policy::Policy;
use crate::store::PolicyRow;

const POLICIES: &str = "policies";

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
