//! How an instance says which key-encryption keys it has, refuses to start without one it needs, and does its share.

use std::sync::Arc;

use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::StartError;
use crate::clock::Clock;
use crate::config::Config;
use crate::crypto::keyring::Keyring;
use crate::domain::audit::Actor;
use crate::keys::{self, Keks, KeksError};
use crate::proxy::NoRandomness;
use crate::store::{SharedStore, StoreError};

/// Refuses a keyring that is another database's, before anything is written.
pub(super) fn vet(config: &Config, store: &SharedStore, keyring: &Keyring, runtime: &Handle) -> Result<(), StartError> {
    let own = runtime.block_on(keys::vet(store, keyring));
    own.map_err(|error| refused(config, error))
}

/// Announces the keys and follows the active one, before anything is sealed.
pub(super) fn enter(
    config: &Config,
    store: &SharedStore,
    keyring: &Arc<Keyring>,
    clock: &Arc<dyn Clock>,
    actor: &Actor,
    runtime: &Handle,
) -> Result<Arc<Keks>, StartError> {
    let mut salt = [0; 4];
    aws_lc_rs::rand::fill(&mut salt).map_err(|_| NoRandomness)?;
    let keks = Keks::new(
        Arc::clone(store),
        Arc::clone(keyring),
        Arc::clone(clock),
        actor.clone(),
        config.role,
        salt,
    );
    runtime.block_on(keks.enter()).map_err(|error| refused(config, error))?;
    Ok(Arc::new(keks))
}

/// What cannot be started with, and which file to change.
fn refused(config: &Config, error: KeksError) -> StartError {
    match keks_advice(config, &error) {
        Ok(advice) => StartError::Keks { error, advice },
        Err(error) => StartError::Store(error),
    }
}

/// What to do where the keyring and the store do not go together.
///
/// # Errors
/// [`StoreError`] where that could not be told.
pub fn keks_advice(config: &Config, error: &KeksError) -> Result<String, StoreError> {
    let file = match &config.master_key_file {
        Some(path) => path.display().to_string(),
        None => String::from("the keyring"),
    };
    Ok(match error {
        KeksError::Store(error) => return Err(*error),
        KeksError::Lacking(_) | KeksError::Another(_) | KeksError::Needed { .. } => {
            format!("add its [[kek]] table to {file} (master_key_file) from a file of an instance that has it")
        }
        KeksError::Foreign { .. } => {
            format!("{file} (master_key_file) is another database's: serve with the one that this one was served with")
        }
        KeksError::Tampered | KeksError::SetBack => {
            String::from("somebody wrote to table `keks`, or the keyring is another database's")
        }
    })
}

/// Says that the instance is there, and puts rows under the active key where the role has background work.
pub(super) fn run(keks: &Arc<Keks>, administers: bool, stop: &CancellationToken, runtime: &Handle) {
    let (there, until) = (Arc::clone(keks), stop.clone());
    runtime.spawn(async move { there.stay(until).await });
    if administers {
        let (keks, until) = (Arc::clone(keks), stop.clone());
        runtime.spawn(async move { keks.rewrap(until).await });
    }
}
