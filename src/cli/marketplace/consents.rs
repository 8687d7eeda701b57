//! `kiket marketplace confirm` and `accept-keys`: what an organization's admin agrees to.

use http::Method;
use serde_json::{Value, json};

use super::checklist::{Awaiting, Installed};
use super::status;
use crate::cli::client::{Answer, Call, Client, ClientError};
use crate::cli::remote::Remote;
use crate::cli::table::printable;
use crate::cli::{Exit, Failure, Outcome};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kiket marketplace confirm ins_7
  kiket marketplace confirm ins_7 --destination https://ext.example.com/kiket

Until then no secret goes to a changed destination: deliveries end with 409 destination-unconfirmed.
With --destination nothing is confirmed where another one stands there by now.")]
pub(super) struct ConfirmArgs {
    /// The installation
    id: String,
    /// The destination that you have seen
    #[arg(long, value_name = "URL")]
    destination: Option<String>,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kiket marketplace accept-keys ins_7
  kiket marketplace accept-keys ins_7 --key CRM_TOKEN:payload --key HOOK_SECRET:signing

Until then a key that an update of the manifest added, or a new use of one, has no value for the extension.
With --key only these are accepted, and nothing at all where the manifest does not use one of them so.")]
pub(super) struct AcceptArgs {
    /// The installation
    id: String,
    /// A key that you have seen, with its use: payload, handshake or signing
    #[arg(long = "key", value_name = "KEY[:USE]")]
    keys: Vec<String>,
}

pub(super) fn confirm(args: &ConfirmArgs, remote: &Remote) -> Outcome {
    let client = remote.client()?;
    let seen = match &args.destination {
        Some(destination) => Some(destination.clone()),
        None => waiting(&client, &args.id)?.destination,
    };
    let Some(destination) = seen else {
        return Ok(nothing_waits(remote, &args.id));
    };
    let body = json!({ "destination": destination });
    let answer = agree(&client, &args.id, "confirm-destination", &body)?;
    Ok(remote.show(&answer.body, |_| {
        format!("secrets of {} may go to {}\n", args.id, printable(&destination))
    }))
}

pub(super) fn accept(args: &AcceptArgs, remote: &Remote) -> Outcome {
    let client = remote.client()?;
    let keys: Vec<Value> = if args.keys.is_empty() {
        let waiting = waiting(&client, &args.id)?.keys;
        let keys = waiting.iter();
        keys.map(|used| json!({"key": used.key, "used_for": used.used_for}))
            .collect()
    } else {
        args.keys.iter().map(|text| named(text)).collect()
    };
    if keys.is_empty() {
        return Ok(nothing_waits(remote, &args.id));
    }
    let answer = agree(&client, &args.id, "accept-keys", &json!({ "keys": keys }))?;
    Ok(remote.show(&answer.body, |_| {
        format!("{} gets {} more: {}\n", args.id, counted(keys.len()), listed(&keys))
    }))
}

/// `KEY` or `KEY:USE`, as the API takes it.
fn named(text: &str) -> Value {
    match text.split_once(':') {
        None => json!(text),
        Some((key, used_for)) => json!({"key": key, "used_for": used_for}),
    }
}

fn counted(keys: usize) -> String {
    match keys {
        1 => String::from("1 key"),
        keys => format!("{keys} keys"),
    }
}

fn listed(keys: &[Value]) -> String {
    let name = |key: &Value| match (key.get("key"), key.get("used_for")) {
        (Some(Value::String(key)), Some(Value::String(used_for))) => format!("{key} ({used_for})"),
        _ => key.as_str().unwrap_or_default().to_owned(),
    };
    let names: Vec<String> = keys.iter().map(|key| printable(&name(key))).collect();
    names.join(", ")
}

fn waiting(client: &Client, id: &str) -> Result<Awaiting, Failure> {
    let document = status::read(client, id)?;
    Ok(Installed::read(&document)?.awaiting)
}

fn nothing_waits(remote: &Remote, id: &str) -> Exit {
    remote.show(&json!({"id": id}), |_| format!("nothing of {id} waits for a consent\n"))
}

fn agree(client: &Client, id: &str, consent: &str, body: &Value) -> Result<Answer, Failure> {
    let path = ["marketplace", "installations", id, consent];
    or_not_there(
        client,
        id,
        consent,
        client.call(Call::new(Method::POST, &path).json(body)),
    )
}

/// Tells a server that does not have a route from one that does not have the installation.
pub(super) fn or_not_there(
    client: &Client,
    id: &str,
    what: &str,
    answered: Result<Answer, ClientError>,
) -> Result<Answer, Failure> {
    let is_absent = matches!(&answered, Err(ClientError::Refused(problem)) if matches!(problem.status, 404 | 405));
    if is_absent && status::read(client, id).is_ok() {
        return Err(Failure {
            exit: Exit::Refused,
            reason: format!(
                "the installation is there, but this server has no `{what}`: it is older than this command"
            ),
        });
    }
    Ok(answered?)
}
