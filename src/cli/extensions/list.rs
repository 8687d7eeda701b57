//! `kiket extensions secrets list`: what is there, never a value.

use serde_json::Value;

use super::slot::{self, At};
use crate::cli::Outcome;
use crate::cli::client::Call;
use crate::cli::remote::Remote;
use crate::cli::table::{Column, age, column, member};
use crate::clock::{Clock, SystemClock};
use crate::domain::key::SecretKey;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kiket extensions secrets list --scope extension --id com.example.mailchimp
  kiket extensions secrets list --organization acme -o json

Without --scope, the secrets of all scopes.")]
pub(super) struct Args {
    #[command(flatten)]
    at: At,
    /// This key only
    #[arg(long, value_name = "KEY", value_parser = slot::key)]
    key: Option<SecretKey>,
}

pub(super) fn run(args: &Args, remote: &Remote) -> Outcome {
    let client = remote.client()?;
    let rows = client.pages(|| {
        Call::get(&["extensions", "secrets"])
            .with("scope", args.at.scope)
            .with("id", args.at.id.as_ref())
            .with("key", args.key.as_ref())
            .with("organization_id", remote.organization.as_ref())
            .with("limit", Some(1_000))
    })?;
    Ok(remote.show_rows(rows.clone(), &columns(&rows), "no secrets"))
}

fn columns(rows: &[Value]) -> Vec<Column> {
    let now = SystemClock.now();
    let first = rows.first().and_then(|row| row.get("organization_id"));
    let is_mixed = rows.iter().any(|row| row.get("organization_id") != first);
    let mut columns = vec![member("KEY", "key"), member("SCOPE", "scope"), member("ID", "scope_id")];
    if is_mixed {
        columns.push(member("ORGANIZATION", "organization_id"));
    }
    columns.extend([
        column("SOURCE", slot::source),
        member("VERSION", "version"),
        member("ROTATIONS", "rotation_count"),
        age("ROTATED", "last_rotated_at", now),
        age("UPDATED", "updated_at", now),
    ]);
    if rows
        .iter()
        .any(|row| row.get("expires_at").is_some_and(|end| !end.is_null()))
    {
        columns.push(age("EXPIRES", "expires_at", now));
    }
    columns
}
