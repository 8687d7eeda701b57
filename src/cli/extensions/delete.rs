//! `kiket extensions secrets delete`: a secret goes; a wider scope's value is used from then on, if there is one.

use serde_json::json;

use super::slot::{self, At};
use crate::cli::client::Call;
use crate::cli::remote::Remote;
use crate::cli::{Exit, Outcome, prompt};
use crate::domain::key::SecretKey;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  kiket extensions secrets delete --scope project --id web --key CRM_WEBHOOK_SECRET --yes

At a terminal it asks first. The version and the counts of a key go on where they were, should it come back.")]
pub(super) struct Args {
    #[command(flatten)]
    at: At,
    /// The key
    #[arg(long, value_name = "KEY", value_parser = slot::key)]
    key: SecretKey,
    /// For everybody who installs the extension: operators only, scope extension only
    #[arg(long)]
    partner_default: bool,
    /// Only where the secret is at this version
    #[arg(long, value_name = "N")]
    if_version: Option<u64>,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
}

pub(super) fn run(args: &Args, remote: &Remote) -> Outcome {
    let client = remote.client()?;
    let place = args.at.place(remote, args.partner_default)?;
    let shown = match place.id.as_ref().or(place.organization.as_ref()) {
        Some(id) => format!("{} at {} {id}", args.key, place.scope),
        None => format!("{} of the {}", args.key, place.scope),
    };
    if !args.yes && prompt::is_possible() && !prompt::agreed(&format!("delete {shown}?"), false)? {
        prompt::say("nothing was deleted\n");
        return Ok(Exit::Fine);
    }
    let path = ["extensions", "secrets", args.key.as_str()];
    let call = Call::new(http::Method::DELETE, &path)
        .with("scope", Some(&place.scope))
        .with("id", place.id.as_ref())
        .with("organization_id", place.organization.as_ref())
        .with("partner_default", place.partner_default.then_some(true))
        .at_version(args.if_version);
    client.call(call)?;
    Ok(remote.show(&json!({"key": args.key.as_str(), "deleted": true}), |_| {
        format!("deleted {shown}\n")
    }))
}
