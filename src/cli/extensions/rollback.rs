//! `kiket extensions secrets rollback`: the previous value comes back as a new version.

use super::slot::{self, At, told};
use crate::cli::Outcome;
use crate::cli::client::Call;
use crate::cli::remote::Remote;
use crate::domain::key::SecretKey;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  kiket extensions secrets rollback --scope extension --id com.example.mailchimp --key MAILCHIMP_API_KEY")]
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
}

pub(super) fn run(args: &Args, remote: &Remote) -> Outcome {
    let client = remote.client()?;
    let members = args.at.place(remote, args.partner_default)?.members();
    let path = ["extensions", "secrets", args.key.as_str(), "rollback"];
    let call = Call::new(http::Method::POST, &path)
        .json(&members.into())
        .at_version(args.if_version);
    let answer = client.call(call)?;
    Ok(remote.show(&answer.body, |secret| told("rolled back", secret)))
}
