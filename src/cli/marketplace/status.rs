//! `kiket marketplace status`: what installations still need.

use serde_json::Value;

use super::checklist::Installed;
use crate::cli::client::{Call, Client, ClientError};
use crate::cli::remote::Remote;
use crate::cli::table::{ABSENT, column, member};
use crate::cli::{Exit, Outcome};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kiket marketplace status
  kiket marketplace status ins_7 -o json

Exit code 1 where a required key has no value, a placeholder waits for one, or a changed destination or added keys wait
for an admin's consent.")]
pub(super) struct Args {
    /// The installation; all of them where left out
    id: Option<String>,
}

pub(super) fn run(args: &Args, remote: &Remote) -> Outcome {
    let client = remote.client()?;
    match &args.id {
        Some(id) => show(remote, &read(&client, id)?),
        None => all(&client, remote),
    }
}

/// An installation with its checklist.
pub(super) fn read(client: &Client, id: &str) -> Result<Value, ClientError> {
    let answer = client.call(Call::get(&["marketplace", "installations", id]))?;
    Ok(answer.body)
}

/// Prints it; a finding where something is left to do.
pub(super) fn show(remote: &Remote, document: &Value) -> Outcome {
    let installed = Installed::read(document)?;
    remote.show(document, |_| installed.told());
    Ok(installed.exit())
}

fn all(client: &Client, remote: &Remote) -> Outcome {
    let listed = client.pages(|| {
        Call::get(&["marketplace", "installations"])
            .with("organization_id", remote.organization.as_ref())
            .with("limit", Some(1_000))
    })?;
    let mut documents = Vec::with_capacity(listed.len());
    let mut exit = Exit::Fine;
    for id in listed.iter().filter_map(|row| row.get("id")?.as_str()) {
        let document = read(client, id)?;
        if Installed::read(&document)?.exit() == Exit::Finding {
            exit = Exit::Finding;
        }
        documents.push(document);
    }
    let keys = |document: &Value, pick: fn(&Installed) -> Vec<String>| {
        let keys = Installed::read(document)
            .map(|installed| pick(&installed))
            .unwrap_or_default();
        if keys.is_empty() {
            ABSENT.to_owned()
        } else {
            keys.join(", ")
        }
    };
    let columns = [
        member("ID", "id"),
        member("EXTENSION", "extension_id"),
        member("ORGANIZATION", "organization_id"),
        member("PROJECT", "project_id"),
        member("STATE", "state"),
        column("MISSING", move |row| keys(row, |installed| installed.missing.clone())),
        column("PLACEHOLDERS", move |row| {
            keys(row, |installed| {
                installed.placeholders().map(|line| line.key.clone()).collect()
            })
        }),
        column("CONSENT", move |row| keys(row, |installed| installed.awaiting.words())),
    ];
    remote.show_rows(documents, &columns, "nothing is installed");
    Ok(exit)
}
