//! `kiket store`: what is done to a database while nobody serves from it.

mod copy;

use clap::Subcommand;

use super::Outcome;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kiket store copy --from sqlite:/var/lib/kiket/kiket.db --to 'postgres://kiket@db.example.com/kiket'")]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Copy all rows from one database to another, verified: the way out of one machine, and back
    Copy(copy::Args),
}

pub(super) fn run(args: &Args) -> Outcome {
    match &args.command {
        Command::Copy(args) => copy::run(args),
    }
}
