//! `kiket secrets audit verify`: whether the log is whole, asked of the server.

use serde_json::Value;

use crate::cli::remote::Remote;
use crate::cli::table::{member, of};
use crate::cli::{Exit, Outcome};

#[derive(Debug, clap::Args)]
pub(super) struct Args {}

pub(super) fn run(_: &Args, remote: &Remote) -> Outcome {
    let report = remote.read(&remote.client()?, &["secrets", "audit", "verify"])?.body;
    remote.show(&report, |report| {
        let rows = report
            .get("data")
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default();
        of(
            &[member("CHAIN", "organization_id"), member("ENTRIES", "entries")],
            &rows,
        )
    });
    Ok(Exit::Fine)
}
