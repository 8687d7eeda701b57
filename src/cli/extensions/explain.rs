//! `kiket extensions secrets explain`: why a key of an installation has the value it has, without showing it.

use super::slot;
use crate::cli::client::Call;
use crate::cli::remote::{Remote, json};
use crate::cli::{Exit, Outcome, say};
use crate::domain::key::SecretKey;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kiket extensions secrets explain --installation ins_7
  kiket extensions secrets explain --installation ins_7 --key CRM_TOKEN -o json")]
pub(super) struct Args {
    /// The installation
    #[arg(long, value_name = "ID")]
    installation: String,
    /// This key only
    #[arg(long, value_name = "KEY", value_parser = slot::key)]
    key: Option<SecretKey>,
}

pub(super) fn run(args: &Args, remote: &Remote) -> Outcome {
    let call = Call::get(&["extensions", "secrets", "explain"])
        .with("installation", Some(&args.installation))
        .with("key", args.key.as_ref())
        .with("organization_id", remote.organization.as_ref());
    let answer = remote.client()?.call(call)?;
    say(&json(&answer.body));
    Ok(Exit::Fine)
}
