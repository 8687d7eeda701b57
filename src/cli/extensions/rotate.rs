//! `kiket extensions secrets rotate`: a new value in place of the current one.

use super::set::end;
use super::slot::{self, At, told};
use crate::cli::Outcome;
use crate::cli::client::{Call, SecretBody};
use crate::cli::remote::Remote;
use crate::cli::value::Given;
use crate::domain::key::SecretKey;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kiket extensions secrets rotate --scope extension --id com.example.mailchimp --key MAILCHIMP_API_KEY
  openssl rand -base64 32 | kiket extensions secrets rotate --key KIKET_WEBHOOK_SECRET

Extensions that subscribe hear of it. A replaced signing secret stays valid in signatures for a day; with --revoke-now
it ends at once.")]
pub(super) struct Args {
    #[command(flatten)]
    at: At,
    /// The key
    #[arg(long, value_name = "KEY", value_parser = slot::key)]
    key: SecretKey,
    /// For everybody who installs the extension: operators only, scope extension only
    #[arg(long)]
    partner_default: bool,
    /// End the replaced value now
    #[arg(long)]
    revoke_now: bool,
    /// When the new value ends: a moment, a date, or a span from now
    #[arg(long, value_name = "WHEN", value_parser = end)]
    expires: Option<String>,
    /// Whom to ask about it; stays as it is where left out
    #[arg(long, value_name = "NAME")]
    owner: Option<String>,
    /// Only where the secret is at this version
    #[arg(long, value_name = "N")]
    if_version: Option<u64>,
    #[command(flatten)]
    given: Given,
}

pub(super) fn run(args: Args, remote: &Remote) -> Outcome {
    let client = remote.client()?;
    let mut members = args.at.place(remote, args.partner_default)?.members();
    members.extend(args.expires.map(|end| (String::from("expires_at"), end.into())));
    members.extend(args.owner.map(|owner| (String::from("owner"), owner.into())));
    if args.revoke_now {
        members.insert("revoke_now".into(), true.into());
    }
    let value = args.given.one(&args.key)?;
    let path = ["extensions", "secrets", args.key.as_str(), "rotate"];
    let call = Call::new(http::Method::POST, &path)
        .secret(SecretBody::one(&members, &value))
        .at_version(args.if_version);
    let answer = client.call(call)?;
    Ok(remote.show(&answer.body, |secret| told("rotated", secret)))
}
