//! `kiket keys wrap`: a keyring whose keys stand in its file, or were wrapped before, wrapped by the Vault of the settings.

use std::path::PathBuf;

use super::generate::refuse_screen;
use crate::app::{self, KeysUnread};
use crate::cli::config::Settings;
use crate::cli::{Outcome, say};
use crate::crypto::keyring::{Keyring, KeyringError};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  (umask 077; kiket keys wrap --config /etc/kiket/kiket.toml /etc/kiket/plain.key > /etc/kiket/master.key)

The keys stay what they are, so that one instance after another can be given the new file. One that is wrapped already
is wrapped anew, under the newest version of the Transit key. What stands in a plain file can be read back from a disk:
destroy it, and its copies, or rotate the keys.")]
pub(super) struct Args {
    /// The keyring file
    file: PathBuf,
    #[command(flatten)]
    settings: Settings,
}

pub(super) fn run(args: &Args) -> Outcome {
    refuse_screen("wrap FILE")?;
    let wrapping = app::wrapping(&args.settings.loaded()?)?;
    let read = match Keyring::read(&args.file) {
        Err(KeyringError::Wrapped { .. }) => Keyring::read_wrapped(&args.file, &wrapping),
        read => read,
    };
    let wrapped = read.and_then(|keyring| keyring.to_wrapped_toml(&wrapping));
    Ok(say(&wrapped.map_err(KeysUnread::from)?))
}
