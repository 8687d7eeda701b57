//! `kiket extensions secrets report`: the rotation report that an auditor files.

use crate::cli::client::Call;
use crate::cli::remote::{Remote, json};
use crate::cli::{Exit, Outcome, say};

#[derive(Debug, clap::Args)]
pub(super) struct Args {}

pub(super) fn run(_: &Args, remote: &Remote) -> Outcome {
    let call = Call::get(&["extensions", "secrets", "report"]).with("organization_id", remote.organization.as_ref());
    let answer = remote.client()?.call(call)?;
    say(&json(&answer.body));
    Ok(Exit::Fine)
}
