//! How a stored API token is told from one that somebody wrote into the database.

use super::slices;
use crate::crypto::encoding::Encoder;
use crate::crypto::keyring::Keyring;
use crate::store::TokenRow;

const TOKENS: &str = "tokens";

fn fields(row: &TokenRow) -> [Vec<u8>; 1] {
    let fields = Encoder::new("kiket.token-row.v1")
        .text(&row.id)
        .bytes(&row.hash)
        .text(&row.name)
        .text(row.role.name())
        .optional(row.organization.as_ref(), |encoder, id| encoder.text(id.as_str()))
        .text(&row.created_by)
        .number(row.created_at.0)
        .optional(row.expires_at, |encoder, at| encoder.number(at.0));
    [fields.finish()]
}

/// The row with its MAC, ready to be stored.
#[must_use]
pub fn sealed_token(keyring: &Keyring, mut row: TokenRow) -> TokenRow {
    row.mac = keyring.row_mac(TOKENS, &slices(&fields(&row))).to_vec();
    row
}

/// Whether a row is as it was stored: role, organization and end included.
#[must_use]
pub fn token_is_authentic(keyring: &Keyring, row: &TokenRow) -> bool {
    keyring.row_mac_holds(TOKENS, &slices(&fields(row)), &row.mac)
}
