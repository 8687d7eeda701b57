//! `kiket keys generate`: a new keyring, printed once, into a file that the operator chose.

use std::io::{self, IsTerminal};

use crate::cli::{Exit, fail, say};
use crate::clock::{Clock, SystemClock};
use crate::crypto::keyring::Keyring;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  (umask 077; kiket keys generate > /etc/kiket/master.key)\n\n\
        Keep a copy apart from the database: without the keys no secret can be read again."
)]
pub(super) struct Args {}

pub(super) fn run() -> Exit {
    if io::stdout().is_terminal() {
        let reason = "keys do not belong on a screen: (umask 077; kiket keys generate > FILE)";
        return fail(Exit::Usage, &reason);
    }
    if others_may_read_stdout() {
        let warning = "warning: others may read the file; `kiket serve` refuses it until you `chmod o-rwx` it";
        fail(Exit::Fine, &warning);
    }
    match Keyring::generate(SystemClock.now()) {
        Ok(keyring) => say(&keyring.to_toml()),
        Err(error) => fail(Exit::Unavailable, &error),
    }
}

/// Whether stdout is a file whose mode gives others any right. Pipes are nobody's file.
fn others_may_read_stdout() -> bool {
    rustix::fs::fstat(io::stdout()).is_ok_and(|status| {
        let is_file = rustix::fs::FileType::from_raw_mode(status.st_mode).is_file();
        is_file && status.st_mode & 0o007 != 0
    })
}
