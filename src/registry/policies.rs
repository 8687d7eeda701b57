//! How an organization's stored policy is told from one that somebody wrote into the database.

use super::slices;
use crate::crypto::encoding::Encoder;
use crate::crypto::keyring::Keyring;
use crate::store::PolicyRow;

const POLICIES: &str = "policies";

fn fields(row: &PolicyRow) -> [Vec<u8>; 1] {
    let policy = &row.policy;
    let fields = Encoder::new("kiket.policy-row.v1")
        .text(row.organization.as_str())
        .number(policy.rotation_max_age_days.into())
        .number(policy.read_threshold.into())
        .number(policy.read_window_secs.into())
        .optional(policy.delivery_read_threshold, |encoder, n| encoder.number(n.into()))
        .optional(policy.unused_days, |encoder, n| encoder.number(n.into()))
        .optional(policy.retention_days, |encoder, n| encoder.number(n.into()))
        .optional(policy.webhook_url.as_deref(), Encoder::text)
        .optional(policy.webhook_signing_key.as_deref(), Encoder::text)
        .text(&policy.emails.join(" "))
        .number(row.version);
    [fields.finish()]
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
