//! Which installations and providers the store has, read to be looked at.

use std::sync::Arc;

use crate::clock::SystemClock;
use crate::crypto::keyring::Keyring;
use crate::domain::destination::Destination;
use crate::domain::provider::Provider;
use crate::egress::DestinationPolicy;
use crate::registry::{self, Registry, RegistryError};
use crate::secrets::providers::{self, ProvidersError};
use crate::store::{Page, SharedStore, Tenancy};

/// Installations that are read at a time.
const PAGE: u32 = 500;

/// What deliveries and references are addressed to.
#[derive(Default)]
pub(super) struct Registered {
    pub(super) installations: Vec<registry::Registered>,
    pub(super) providers: Vec<Provider>,
}

impl Registered {
    /// Where installations and providers are, each as often as it is named.
    pub(super) fn destinations(&self) -> impl Iterator<Item = &Destination> {
        let callbacks = self.installations.iter().filter_map(|one| one.destination.as_ref());
        callbacks.chain(self.providers.iter().map(|provider| provider.backend.address()))
    }
}

pub(super) async fn read(rows: &SharedStore, keyring: &Arc<Keyring>) -> Result<Registered, RegistryError> {
    let clock = Arc::new(SystemClock);
    let registry = Registry::new(
        Arc::clone(rows),
        Arc::clone(keyring),
        clock,
        DestinationPolicy::default(),
    );
    let mut found = Registered::default();
    let mut after = None;
    loop {
        let page = Page { after, limit: PAGE };
        let listed = registry.installations(&Tenancy::Platform, &page).await?;
        found.installations.extend(listed.rows);
        match listed.next {
            Some(next) => after = Some(next),
            None => break,
        }
    }
    for organization in rows.organizations().await? {
        let own = providers::load(rows, keyring, &organization).await;
        found.providers.extend(own.map_err(|error| match error {
            ProvidersError::Store(error) => RegistryError::Store(error),
            _ => RegistryError::Tampered,
        })?);
    }
    Ok(found)
}
