//! Does the keyring open what the store holds?

use std::sync::Arc;

use super::check::{Check, UNREAD, counted};
use super::registered::Registered;
use crate::app;
use crate::config::Config;
use crate::crypto::keyring::Keyring;
use crate::domain::scope::Slot;
use crate::domain::secret::SecretKind;
use crate::keys;
use crate::registry::RegistryError;
use crate::store::{Page, SecretQuery, SecretRow, SharedStore, StoreError, Tenancy};

const NAME: &str = "sealed values";

/// So many are opened to see; what they hold is wiped at once.
const OPENED_MAX: u32 = 20;

/// Whose keyring it should be.
const ANOTHER: &str =
    "name the keyring that this store was served with (master_key_file), or the store that is this one's";

pub(super) async fn look(
    config: &Config,
    rows: Option<&SharedStore>,
    keyring: Option<&Arc<Keyring>>,
    registered: Option<&Result<Registered, RegistryError>>,
) -> Check {
    let (Some(rows), Some(keyring)) = (rows, keyring) else {
        return Check::not_applicable(NAME, UNREAD);
    };
    if let Err(error) = keys::fits(rows, keyring).await {
        return match app::keks_advice(config, &error) {
            Ok(advice) => Check::failed(NAME, error.to_string(), advice),
            Err(error) => away(error),
        };
    }
    match registered {
        Some(Err(RegistryError::Store(error))) => return away(*error),
        Some(Err(error)) => return Check::failed(NAME, error.to_string(), ANOTHER),
        Some(Ok(_)) | None => {}
    }
    match opened(rows, keyring).await {
        Err(error) => away(error),
        Ok((_, 0)) => Check::ok(NAME, "no value is stored yet"),
        Ok((0, tried)) => Check::ok(
            NAME,
            format!(
                "the active key is loaded; {} tried, all open",
                counted(tried, "row", "rows")
            ),
        ),
        Ok((closed, tried)) => Check::failed(NAME, format!("{closed} of {tried} rows do not open"), ANOTHER),
    }
}

fn away(error: StoreError) -> Check {
    let advice = match error {
        StoreError::Damaged => {
            "restore the store from its backup; `kiket secrets audit verify` says what else is damaged"
        }
        _ => "look at the database's own log",
    };
    Check::failed(NAME, error.to_string(), advice)
}

/// Of some rows that hold something, how many do not open, and how many there were.
async fn opened(rows: &SharedStore, keyring: &Keyring) -> Result<(usize, usize), StoreError> {
    let page = Page {
        after: None,
        limit: OPENED_MAX,
    };
    let listed = rows.secrets(&Tenancy::Platform, &SecretQuery::default(), &page).await?;
    let slots: Vec<Slot> = listed.rows.into_iter().map(|row| row.meta.slot).collect();
    let found = rows.slots(&slots).await?;
    let holds = |row: &&SecretRow| matches!(row.meta.kind, SecretKind::Value | SecretKind::Reference);
    let tried: Vec<&SecretRow> = found.iter().filter(holds).collect();
    let is_closed = |row: &&&SecretRow| {
        let meta = &row.meta;
        keyring.open(&meta.slot, meta.kind, meta.version, &row.sealed).is_err()
    };
    Ok((tried.iter().filter(is_closed).count(), tried.len()))
}
