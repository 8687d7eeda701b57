//! `kiket organizations`: what an organization wants to be told, how long things may last, and where its references are
//! looked up.

mod policy;
mod providers;

use clap::Subcommand;

use super::Outcome;
use super::remote::Remote;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kiket organizations policy get acme
  kiket organizations providers list acme")]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show or change an organization's policy: rotation, read alerts, notifications, retention
    #[command(after_help = "Example:\n  kiket organizations policy get acme")]
    Policy {
        #[command(subcommand)]
        command: policy::Command,
    },
    /// Say where an organization's references are looked up: its Vaults and Google projects
    Providers(providers::Args),
}

pub(super) fn run(args: &Args) -> Outcome {
    match &args.command {
        Command::Policy { command } => policy::run(command, &args.remote),
        Command::Providers(providers) => providers::run(providers, &args.remote),
    }
}
