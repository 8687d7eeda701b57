//! `kiket keys`: the keys that seal every secret, in files and in the fleet, one command per file.

mod add;
mod generate;
mod promote;
mod retire;
mod status;
mod unwrap;
mod wrap;

use clap::Subcommand;

use super::{Exit, ended};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
To put everything under a new key:
  kiket keys add /etc/kiket/master.key     once; copy the file to every instance and restart them one by one
  kiket keys status                        until no instance lacks the new key
  kiket keys promote KEY                   it seals; what is under other keys is put under it in the background
  kiket keys status                        until no row is left under the old key
  kiket keys retire KEY                    then take the old key out of the files, and keep it with older backups")]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print a new keyring; redirect it into a file that only you can read
    Generate(generate::Args),
    /// Add a key-encryption key to a keyring file, for a rotation
    Add(add::Args),
    /// Print a keyring with every key wrapped by a Vault's Transit engine
    Wrap(wrap::Args),
    /// Print a wrapped keyring with its keys plain
    Unwrap(unwrap::Args),
    /// Show which keys there are, who has loaded them, what is under them
    Status(status::Args),
    /// Let a key seal from now on
    Promote(promote::Args),
    /// Give a key up that nothing is under any more
    Retire(retire::Args),
}

pub(super) fn run(args: &Args) -> Exit {
    match &args.command {
        Command::Generate(generate) => ended(generate::run(generate)),
        Command::Add(add) => ended(add::run(add)),
        Command::Wrap(wrap) => ended(wrap::run(wrap)),
        Command::Unwrap(unwrap) => ended(unwrap::run(unwrap)),
        Command::Status(status) => ended(status::run(status)),
        Command::Promote(promote) => ended(promote::run(promote)),
        Command::Retire(retire) => ended(retire::run(retire)),
    }
}
