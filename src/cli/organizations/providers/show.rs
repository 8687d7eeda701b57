//! `kiket organizations providers show`: what a provider says.

use super::{Which, told};
use crate::cli::Outcome;
use crate::cli::client::Call;
use crate::cli::remote::Remote;

#[derive(Debug, clap::Args)]
#[command(
    allow_missing_positional = true,
    after_help = "Example:\n  kiket organizations providers show acme main"
)]
pub(super) struct Args {
    #[command(flatten)]
    which: Which,
}

pub(super) fn run(args: &Args, remote: &Remote) -> Outcome {
    let organization = args.which.organization(remote)?;
    let path = ["organizations", organization, "providers", args.which.name.as_str()];
    let provider = remote.client()?.call(Call::get(&path))?.body;
    Ok(remote.show(&provider, told))
}
