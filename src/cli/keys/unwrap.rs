//! `kiket keys unwrap`: a wrapped keyring with its keys plain, for a safe or for the way out of Vault.

use std::path::PathBuf;

use super::generate::refuse_screen;
use crate::app::{self, KeysUnread};
use crate::cli::config::Settings;
use crate::cli::{Outcome, say};
use crate::crypto::keyring::Keyring;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  (umask 077; kiket keys unwrap --config /etc/kiket/kiket.toml /etc/kiket/master.key > /media/safe/plain.key)

Whoever has what is printed, and the database, reads every secret. The keys stay what they are, so that one instance
after another can be given the other file.")]
pub(super) struct Args {
    /// The keyring file
    file: PathBuf,
    #[command(flatten)]
    settings: Settings,
}

pub(super) fn run(args: &Args) -> Outcome {
    refuse_screen("unwrap FILE")?;
    let wrapping = app::wrapping(&args.settings.loaded()?)?;
    let keyring = Keyring::read_wrapped(&args.file, &wrapping).map_err(KeysUnread::from)?;
    Ok(say(&keyring.to_toml()))
}
