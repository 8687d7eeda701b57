//! `kiket secrets`: what was done with secrets, what needs attention; one command per file.

mod alerts;
mod audit;
mod health;

use clap::Subcommand;

use super::Outcome;
use super::remote::Remote;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kiket secrets audit --action secret.rotate
  kiket secrets alerts
  kiket secrets health")]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Read, follow, export or verify the audit log
    Audit(audit::Args),
    /// List open alerts, wait for one, or acknowledge one; exit code 1 where one is open
    Alerts(alerts::Args),
    /// Count secrets, and those that are overdue, expiring or broken
    Health(health::Args),
}

pub(super) fn run(args: &Args) -> Outcome {
    match &args.command {
        Command::Audit(audit) => audit::run(audit, &args.remote),
        Command::Alerts(alerts) => alerts::run(alerts, &args.remote),
        Command::Health(health) => health::run(health, &args.remote),
    }
}
