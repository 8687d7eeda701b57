//! `kiket marketplace enable` and `disable`: whether deliveries reach an installation.

use http::Method;
use serde_json::{Value, json};

use crate::cli::client::{Call, Client, ClientError};
use crate::cli::remote::Remote;
use crate::cli::{Exit, Outcome};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kiket marketplace enable ins_7
  kiket marketplace disable ins_7

Enabling ends with 1, and changes nothing, where a required key has no value.")]
pub(super) struct Args {
    /// The installation
    id: String,
}

pub(super) fn run(args: &Args, remote: &Remote, state: &'static str) -> Outcome {
    let document = change(&remote.client()?, &args.id, state)?;
    remote.show(&document, |_| format!("{state} {}\n", args.id));
    Ok(Exit::Fine)
}

pub(super) fn change(client: &Client, id: &str, state: &str) -> Result<Value, ClientError> {
    let path = ["marketplace", "installations", id];
    let answer = client.call(Call::new(Method::PATCH, &path).json(&json!({ "state": state })))?;
    Ok(answer.body)
}
