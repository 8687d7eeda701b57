//! `kiket marketplace`: install extensions, see what they still need, enable them; one command per file.

mod checklist;
mod consents;
mod install;
mod state;
mod status;
mod uninstall;
mod wizard;

use clap::Subcommand;

use super::Outcome;
use super::remote::Remote;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kiket marketplace install mailchimp.yaml --project web --organization acme --id ins_7
  kiket marketplace status ins_7
  kiket marketplace enable ins_7")]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Install an extension in a project, with the values it needs
    Install(install::Args),
    /// Show which keys have no value yet and what waits for a consent; exit code 1 where there is anything
    Status(status::Args),
    /// Let deliveries reach an installation
    Enable(state::Args),
    /// Let no delivery reach an installation
    Disable(state::Args),
    /// Remove an installation and its own secrets
    Uninstall(uninstall::Args),
    /// Confirm that secrets may go to the installation's changed destination
    Confirm(consents::ConfirmArgs),
    /// Accept the keys that an update of the manifest asks for
    AcceptKeys(consents::AcceptArgs),
}

pub(super) fn run(args: Args) -> Outcome {
    let Args { command, remote } = args;
    match command {
        Command::Install(args) => install::run(&args, &remote),
        Command::Status(args) => status::run(&args, &remote),
        Command::Enable(args) => state::run(&args, &remote, "enabled"),
        Command::Disable(args) => state::run(&args, &remote, "disabled"),
        Command::Uninstall(args) => uninstall::run(&args, &remote),
        Command::Confirm(args) => consents::confirm(&args, &remote),
        Command::AcceptKeys(args) => consents::accept(&args, &remote),
    }
}
