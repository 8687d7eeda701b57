//! `kiket organizations providers check`: whether a provider can be used, and what is in the way.

use http::Method;
use serde_json::Value;

use super::Which;
use crate::cli::client::Call;
use crate::cli::remote::Remote;
use crate::cli::table::text;
use crate::cli::{Exit, Outcome};

#[derive(Debug, clap::Args)]
#[command(
    allow_missing_positional = true,
    after_help = "\
Example:
  kiket organizations providers check acme main

The server shows the provider its credential and reads no secret. Exit code 1 where it cannot be used."
)]
pub(super) struct Args {
    #[command(flatten)]
    which: Which,
}

pub(super) fn run(args: &Args, remote: &Remote) -> Outcome {
    let organization = args.which.organization(remote)?;
    let path = [
        "organizations",
        organization,
        "providers",
        args.which.name.as_str(),
        "check",
    ];
    let check = remote.client()?.call(Call::new(Method::POST, &path))?.body;
    remote.show(&check, |check| {
        format!("{}: {}\n", text(check, "outcome"), text(check, "detail"))
    });
    match check.get("outcome").and_then(Value::as_str) {
        Some("usable") => Ok(Exit::Fine),
        _ => Ok(Exit::Finding),
    }
}
