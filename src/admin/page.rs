//! How a list is walked: keyset cursors that a client cannot make up.

use axum::extract::{FromRequestParts, Query};
use axum::http::request::Parts;
use serde::de::DeserializeOwned;

use super::error::ApiError;
use crate::crypto::keyring::Keyring;
use crate::store::Page;

/// Rows of a page where the client does not say.
const LIMIT_DEFAULT: u32 = 100;
/// The most rows of a page.
const LIMIT_MAX: u32 = 1_000;

/// A query's parameters; what does not fit is told without quoting it.
pub(super) struct Params<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Params<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let query = Query::try_from_uri(&parts.uri);
        let refused = |_| ApiError::field("query", "a parameter is missing, unknown or of the wrong type");
        query.map(|Query(params)| Self(params)).map_err(refused)
    }
}

/// The page that a client asks for.
pub(super) fn page(keyring: &Keyring, cursor: Option<&str>, limit: Option<u32>) -> Result<Page, ApiError> {
    let limit = limit.unwrap_or(LIMIT_DEFAULT);
    if !(1..=LIMIT_MAX).contains(&limit) {
        return Err(ApiError::field("limit", "limit is 1 to 1000"));
    }
    let after = cursor.map(|cursor| position(keyring, cursor)).transpose()?;
    Ok(Page { after, limit })
}

/// What a client sends for the next page.
pub(super) fn cursor(keyring: &Keyring, next: Option<u64>) -> Option<String> {
    next.map(|position| format!("{position:x}.{}", tag(keyring, position)))
}

fn position(keyring: &Keyring, cursor: &str) -> Result<u64, ApiError> {
    let parsed = cursor.split_once('.').and_then(|(position, given)| {
        let position = u64::from_str_radix(position, 16).ok()?;
        let is_ours =
            aws_lc_rs::constant_time::verify_slices_are_equal(tag(keyring, position).as_bytes(), given.as_bytes());
        is_ours.ok().map(|()| position)
    });
    parsed.ok_or_else(|| ApiError::field("cursor", "cursor is what next_cursor of the page before said"))
}

fn tag(keyring: &Keyring, position: u64) -> String {
    let mac = keyring.row_mac("cursor", &[&position.to_be_bytes()]);
    data_encoding::HEXLOWER.encode(mac.first_chunk::<8>().map_or(&[], |head| &head[..]))
}
