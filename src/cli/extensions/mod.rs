//! `kiket extensions secrets`: what can be done with secrets, one command per file.

mod delete;
pub(super) mod explain;
mod link;
mod list;
mod report;
mod rollback;
mod rotate;
mod set;
mod slot;

use clap::Subcommand;

use super::Outcome;
use super::remote::Remote;
pub(super) use set::write;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kiket extensions secrets list --organization acme
  kiket extensions secrets explain --installation ins_7")]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Secrets: list, set, link, rotate, rollback, delete, explain, report
    #[command(after_help = EXAMPLES)]
    Secrets {
        #[command(subcommand)]
        command: Secrets,
    },
}

const EXAMPLES: &str = "\
Examples:
  kiket extensions secrets list --scope extension --id com.example.mailchimp
  kiket extensions secrets set --scope extension --id com.example.mailchimp --key MAILCHIMP_API_KEY --env-file .env
  kiket extensions secrets link --scope project --id PROJECT_KEY --key CRM_WEBHOOK_SECRET \\
      --external secrets/kiket/projects/project_key/crm_webhook
  kiket extensions secrets explain --installation ins_7

Scopes, the first that has a value wins: extension_installation (or installation), product_installation (or product),
extension, project, organization. Without --scope, the current organization. No command ever prints a value.";

#[derive(Debug, Subcommand)]
enum Secrets {
    /// List secrets, without their values
    List(list::Args),
    /// Create secrets or replace their values
    Set(set::Args),
    /// Take a secret's value from an external store
    Link(link::Args),
    /// Replace a value; the one before stays valid in signatures for a day
    Rotate(rotate::Args),
    /// Bring the previous value back, as a new version
    Rollback(rollback::Args),
    /// Delete a secret
    Delete(delete::Args),
    /// Say which scope each key of an installation gets its value from, and why
    Explain(explain::Args),
    /// Report how old every secret is against the rotation policy
    Report(report::Args),
}

pub(super) fn run(args: Args) -> Outcome {
    let Args {
        command: Command::Secrets { command },
        remote,
    } = args;
    match command {
        Secrets::List(args) => list::run(&args, &remote),
        Secrets::Set(args) => set::run(args, &remote),
        Secrets::Link(args) => link::run(&args, &remote),
        Secrets::Rotate(args) => rotate::run(args, &remote),
        Secrets::Rollback(args) => rollback::run(&args, &remote),
        Secrets::Delete(args) => delete::run(&args, &remote),
        Secrets::Explain(args) => explain::run(&args, &remote),
        Secrets::Report(args) => report::run(&args, &remote),
    }
}
