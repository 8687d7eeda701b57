//! `kiket extensions secrets explain`: why a key of an installation has the value it has, without showing it.

use serde_json::Value;

use super::slot;
use crate::cli::client::{Call, Client, ClientError};
use crate::cli::remote::Remote;
use crate::cli::table::{ABSENT, aligned, printable, text};
use crate::cli::{Exit, Outcome, moment};
use crate::clock::{Clock, SystemClock};
use crate::domain::key::SecretKey;
use crate::domain::time::Timestamp;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kiket extensions secrets explain --installation ins_7
  kiket extensions secrets explain --installation ins_7 --key CRM_TOKEN -o json

The scope that decides is marked with `>`; those behind it are hidden. Exit code 1 where a required key has no value
or the destination is not confirmed.")]
pub(super) struct Args {
    /// The installation
    #[arg(long, value_name = "ID")]
    installation: String,
    /// This key only
    #[arg(long, value_name = "KEY", value_parser = slot::key)]
    key: Option<SecretKey>,
}

pub(super) fn run(args: &Args, remote: &Remote) -> Outcome {
    let document = ask(remote, &remote.client()?, &args.installation, args.key.as_ref())?;
    let now = SystemClock.now();
    remote.show(&document, |document| told(document, now));
    let is_unconfirmed = unconfirmed(&document).is_some();
    let is_missing = keys(&document).any(|key| is(key, "required") && text(key, "outcome") != "found");
    Ok(if is_missing || is_unconfirmed {
        Exit::Finding
    } else {
        Exit::Fine
    })
}

/// Where an installation's values come from, as the API says it.
pub(in crate::cli) fn ask(
    remote: &Remote,
    client: &Client,
    installation: &str,
    key: Option<&SecretKey>,
) -> Result<Value, ClientError> {
    let call = Call::get(&["extensions", "secrets", "explain"])
        .with("installation", Some(installation))
        .with("key", key)
        .with("organization_id", remote.organization.as_ref());
    Ok(client.call(call)?.body)
}

/// The destination that gets nothing yet.
pub(in crate::cli) fn unconfirmed(document: &Value) -> Option<&str> {
    document.pointer("/awaiting_consent/destination")?.as_str()
}

pub(in crate::cli) fn keys(document: &Value) -> impl Iterator<Item = &Value> {
    document.get("data").and_then(Value::as_array).into_iter().flatten()
}

pub(in crate::cli) fn is(object: &Value, name: &str) -> bool {
    object.get(name).and_then(Value::as_bool) == Some(true)
}

pub(in crate::cli) fn told(document: &Value, now: Timestamp) -> String {
    let (installation, organization) = (text(document, "installation_id"), text(document, "organization_id"));
    let cached = match document.get("cache_age_ms").and_then(Value::as_u64) {
        Some(millis) => format!("values read {} ago", moment::span(millis / 1_000)),
        None => String::from("no value read yet"),
    };
    let mut shown = format!("{installation} of {organization}, {cached} by this instance\n");
    if let Some(destination) = unconfirmed(document) {
        shown.push_str(&format!(
            "no delivery is made: nobody confirmed its destination {}\n",
            printable(destination)
        ));
    }
    for key in keys(document) {
        let needed = if is(key, "required") { "required" } else { "optional" };
        let (name, used_for, outcome) = (text(key, "key"), text(key, "used_for"), text(key, "outcome"));
        shown.push_str(&format!("\n{name} ({used_for}, {needed}): {outcome}\n"));
        if let Some(says) = key.get("says").and_then(Value::as_str) {
            shown.push_str(&format!("  {}\n", printable(says)));
        }
        let tried: Vec<&Value> = key
            .get("tried")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .collect();
        let winner = key.get("winner").filter(|winner| !winner.is_null());
        let headings = ["", "SCOPE", "ID", "OUTCOME", "VERSION", "SOURCE", "UPDATED"]
            .map(String::from)
            .to_vec();
        let rows = tried.into_iter().map(|tried| row(tried, winner, now));
        for line in aligned(&std::iter::once(headings).chain(rows).collect::<Vec<_>>()).lines() {
            shown.push_str(&format!("  {line}\n"));
        }
    }
    shown
}

fn row(tried: &Value, winner: Option<&Value>, now: Timestamp) -> Vec<String> {
    let mark = if winner == Some(tried) { ">" } else { "" };
    let layer = if is(tried, "partner_default") {
        " (partner's default)"
    } else {
        ""
    };
    let hidden = if is(tried, "hidden") && text(tried, "outcome") != "absent" {
        ", hidden"
    } else {
        ""
    };
    let updated = tried.get("updated_at").and_then(Value::as_str);
    vec![
        mark.to_owned(),
        text(tried, "scope"),
        format!("{}{layer}", text(tried, "scope_id")),
        format!("{}{hidden}", text(tried, "outcome")),
        text(tried, "version"),
        text(tried, "source"),
        updated.map_or_else(|| ABSENT.to_owned(), |at| moment::relative(at, now)),
    ]
}
