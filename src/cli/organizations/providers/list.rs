//! `kiket organizations providers list`: which providers there are, and which is the default.

use serde_json::Value;

use super::{mounts, organization};
use crate::cli::Outcome;
use crate::cli::client::Call;
use crate::cli::remote::{self, Remote};
use crate::cli::table::{ABSENT, age, column, member, text};
use crate::clock::{Clock, SystemClock};

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  kiket organizations providers list acme")]
pub(super) struct Args {
    /// The organization; else that of --organization
    #[arg(value_name = "ORGANIZATION", value_parser = remote::organization)]
    organization: Option<String>,
}

pub(super) fn run(args: &Args, remote: &Remote) -> Outcome {
    let organization = organization(args.organization.as_ref(), remote)?;
    let path = ["organizations", organization, "providers"];
    let listed = remote.client()?.call(Call::get(&path))?.body;
    let rows = listed.get("data").and_then(Value::as_array).cloned();
    let now = SystemClock.now();
    let columns = [
        member("NAME", "name"),
        member("KIND", "kind"),
        member("ADDRESS", "address"),
        member("PATH PREFIX", "path_prefix"),
        column("MOUNTS", mounts),
        column("AUTH", |row| {
            row.get("auth")
                .map_or_else(|| ABSENT.to_owned(), |auth| text(auth, "method"))
        }),
        member("DEFAULT", "default"),
        age("CHANGED", "updated_at", now),
    ];
    Ok(remote.show_rows(rows.unwrap_or_default(), &columns, "no providers"))
}
