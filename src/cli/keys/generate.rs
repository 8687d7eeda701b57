//! `kiket keys generate`: a new keyring, printed once, into a file that the operator chose.

use std::io::{self, IsTerminal};

use crate::app::{self, KeysUnread};
use crate::cli::config::Settings;
use crate::cli::{Exit, Failure, Outcome, fail, say};
use crate::clock::{Clock, SystemClock};
use crate::crypto::keyring::{Keyring, KeyringError};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  (umask 077; kiket keys generate > /etc/kiket/master.key)
  (umask 077; kiket keys generate --transit --config /etc/kiket/kiket.toml > /etc/kiket/master.key)

Keep a copy apart from the database: without the keys no secret can be read again.")]
pub(super) struct Args {
    /// Have every key wrapped by the Vault of the settings: the file alone then opens nothing
    #[arg(long)]
    transit: bool,
    #[command(flatten)]
    settings: Settings,
}

pub(super) fn run(args: &Args) -> Outcome {
    refuse_screen("generate")?;
    let keyring = Keyring::generate(SystemClock.now()).map_err(unmade)?;
    if args.transit {
        let wrapping = app::wrapping(&args.settings.loaded()?)?;
        let wrapped = keyring.to_wrapped_toml(&wrapping).map_err(KeysUnread::from)?;
        return Ok(say(&wrapped));
    }
    Ok(say(&keyring.to_toml()))
}

fn unmade(error: KeyringError) -> Failure {
    Failure {
        exit: Exit::Unavailable,
        reason: error.to_string(),
    }
}

/// Keyrings go into files that others may not read.
pub(super) fn refuse_screen(command: &str) -> Result<(), Failure> {
    if io::stdout().is_terminal() {
        let reason = format!("keys do not belong on a screen: (umask 077; kiket keys {command} > FILE)");
        return Err(Failure::usage(reason));
    }
    if others_may_read_stdout() {
        let warning = "warning: others may read the file; `kiket serve` refuses it until you `chmod o-rwx` it";
        fail(Exit::Fine, &warning);
    }
    Ok(())
}

/// Whether stdout is a file whose mode gives others any right. Pipes are nobody's file.
fn others_may_read_stdout() -> bool {
    rustix::fs::fstat(io::stdout()).is_ok_and(|status| {
        let is_file = rustix::fs::FileType::from_raw_mode(status.st_mode).is_file();
        is_file && status.st_mode & 0o007 != 0
    })
}
