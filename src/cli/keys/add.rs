//! `kiket keys add`: one more key-encryption key in a keyring file, inactive until it is promoted.

use std::path::PathBuf;

use crate::app::{self, KeysUnread};
use crate::cli::config::Settings;
use crate::cli::{Exit, Failure, Outcome, say};
use crate::clock::{Clock, SystemClock};
use crate::crypto::keyring::{AddError, KeyId, Keyring, KeyringError};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  kiket keys add /etc/kiket/master.key
  kiket keys add --config /etc/kiket/kiket.toml /etc/kiket/master.key    where its keys are wrapped: by the settings

The file is replaced in one step and keeps its mode and owner. Add the key once and copy the file to every instance:
two files that each got a key of their own do not go together. The key seals nothing until it is promoted.")]
pub(super) struct Args {
    /// The keyring file
    file: PathBuf,
    /// A key that is lost for good: the new one takes its name, and opens nothing of what it sealed
    #[arg(long, value_name = "ID", value_parser = id)]
    in_place_of: Option<KeyId>,
    #[command(flatten)]
    settings: Settings,
}

fn id(text: &str) -> Result<KeyId, String> {
    KeyId::parse(text).ok_or_else(|| String::from("an id is 1 to 64 of A-Z, a-z, 0-9 and . _ -"))
}

pub(super) fn run(args: &Args) -> Outcome {
    let file = args.file.display();
    let (name, now) = (args.in_place_of.clone(), SystemClock.now());
    let added = match Keyring::add_kek(&args.file, name.clone(), now) {
        // The file says of itself that its keys are wrapped.
        Err(AddError::Keyring(KeyringError::Wrapped { .. })) => {
            let wrapping = app::wrapping(&args.settings.loaded()?)?;
            Keyring::add_wrapped_kek(&args.file, name, now, &wrapping)
        }
        added => added,
    };
    match added {
        Ok(id) => Ok(say(&format!(
            "added {id} to {file}\n\nNext:\n  1. copy {file} to every instance, and restart them one by one\n  \
             2. kiket keys status       until no instance lacks {id}\n  \
             3. kiket keys promote {id}\n"
        ))),
        Err(AddError::Keyring(error @ KeyringError::Wrapping(_))) => Err(KeysUnread::from(error).into()),
        Err(error) => Err(Failure {
            exit: match &error {
                AddError::Keyring(KeyringError::Library) | AddError::UnderWay(_) => Exit::Unavailable,
                AddError::Keyring(_) | AddError::Owner | AddError::Write(_) => Exit::Usage,
            },
            reason: format!("{file}: {error}"),
        }),
    }
}
