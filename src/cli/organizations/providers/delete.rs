//! `kiket organizations providers delete`: references are not looked up there any more.

use http::Method;
use serde_json::json;

use super::Which;
use crate::cli::client::Call;
use crate::cli::remote::Remote;
use crate::cli::{Exit, Outcome, prompt};

#[derive(Debug, clap::Args)]
#[command(
    allow_missing_positional = true,
    after_help = "\
Example:
  kiket organizations providers delete acme main --yes

At a terminal it asks first. References to the provider stay, and cannot be fetched."
)]
pub(super) struct Args {
    #[command(flatten)]
    which: Which,
    /// Only where the provider is at this version
    #[arg(long, value_name = "N")]
    if_version: Option<u64>,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
}

pub(super) fn run(args: &Args, remote: &Remote) -> Outcome {
    let (organization, name) = (args.which.organization(remote)?, args.which.name.as_str());
    let client = remote.client()?;
    let shown = format!("provider {name} of {organization}");
    if !args.yes && prompt::is_possible() && !prompt::agreed(&format!("remove {shown}?"), false)? {
        prompt::say("nothing was removed\n");
        return Ok(Exit::Fine);
    }
    let path = ["organizations", organization, "providers", name];
    client.call(Call::new(Method::DELETE, &path).at_version(args.if_version))?;
    Ok(remote.show(&json!({"name": name, "deleted": true}), |_| {
        format!("removed {shown}\n")
    }))
}
