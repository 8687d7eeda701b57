//! Are the keys there, kept from others, and usable?

use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::check::{Check, counted};
use crate::app::KeysUnread;
use crate::config::Config;
use crate::crypto::keyring::{Keyring, KeyringError};

const NAME: &str = "keys";

pub(super) fn look(config: &Config, read: &Result<Keyring, KeysUnread>) -> Check {
    match read {
        Ok(keyring) => Check::ok(NAME, seen(config, keyring)),
        Err(error) => Check::failed(NAME, error.to_string(), advice(config, error)),
    }
}

fn seen(config: &Config, keyring: &Keyring) -> String {
    let infos = keyring.kek_infos();
    let active = infos.iter().find(|info| info.is_active);
    let active = active.map(|info| info.id.to_string()).unwrap_or_default();
    let count = counted(infos.len(), "key-encryption key", "key-encryption keys");
    let status = config.master_key_file.as_ref().and_then(|file| fs::metadata(file).ok());
    let mode = status.map(|status| format!(", file mode {:04o}", status.permissions().mode() & 0o7777));
    let wrapped = match config.master_key_transit {
        Some(_) => ", unwrapped by Vault",
        None => "",
    };
    format!("{count}, {active} first{}{wrapped}", mode.unwrap_or_default())
}

fn advice(config: &Config, error: &KeysUnread) -> String {
    let file = config.master_key_file.as_ref();
    let file = file.map_or_else(|| String::from("FILE"), |file| file.display().to_string());
    match error {
        KeysUnread::Config(_) => String::from(
            "(umask 077; kiket keys generate > FILE), keep a copy elsewhere, set KIKET_MASTER_KEY_FILE=FILE",
        ),
        KeysUnread::File(KeyringError::OpenToOthers) => {
            format!("chmod o-rwx {file}; if others of this host may have read it, rotate: `kiket keys --help`")
        }
        KeysUnread::File(KeyringError::Unreadable(_)) => {
            format!(
                "put the keyring at {file}, readable for the user that serves; `kiket keys generate` makes a first one"
            )
        }
        KeysUnread::File(_) => {
            format!("restore {file} from its copy: what is in the store is read with its keys alone")
        }
        KeysUnread::Credential(_) | KeysUnread::Roots(_) | KeysUnread::Transit(_) => {
            String::from("change that setting or its file; `kiket config print --manual` explains both")
        }
        KeysUnread::Wrapping(_) => {
            String::from("make Vault answer this login (unsealed, reachable, its policy): a start waits for it as well")
        }
    }
}
