//! `kiket organizations`: what an organization wants to be told, and how long things may last.

mod policy;

use clap::Subcommand;

use super::Outcome;
use super::remote::Remote;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show or change an organization's policy: rotation, read alerts, notifications, retention
    Policy {
        #[command(subcommand)]
        command: policy::Command,
    },
}

pub(super) fn run(args: &Args) -> Outcome {
    let Command::Policy { command } = &args.command;
    policy::run(command, &args.remote)
}
