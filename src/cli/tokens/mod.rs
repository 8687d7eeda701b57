//! `kiket tokens`: who may call the API, one command per file.

mod create;
mod delete;
mod list;

use clap::Subcommand;

use super::Outcome;
use super::remote::Remote;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  (umask 077; kiket tokens create --name platform --role platform_operator > platform.token)
  kiket tokens list
  kiket tokens delete tok_45fc4dd062510ccd4c8a9257")]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a token; its text is printed this once
    Create(create::Args),
    /// List tokens, without their texts
    List(list::Args),
    /// Remove a token: it is refused from then on
    Delete(delete::Args),
}

pub(super) fn run(args: &Args) -> Outcome {
    match &args.command {
        Command::Create(create) => create::run(create, &args.remote),
        Command::List(list) => list::run(list, &args.remote),
        Command::Delete(delete) => delete::run(delete, &args.remote),
    }
}
