//! `kiket tokens list`: which tokens there are, and when each was last used.

use crate::cli::Outcome;
use crate::cli::client::Call;
use crate::cli::remote::Remote;
use crate::cli::table::{age, member};
use crate::clock::{Clock, SystemClock};

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  kiket tokens list --organization acme")]
pub(super) struct Args {}

pub(super) fn run(_: &Args, remote: &Remote) -> Outcome {
    let rows = remote.client()?.pages(|| {
        Call::get(&["tokens"])
            .with("organization_id", remote.organization.as_ref())
            .with("limit", Some(1_000))
    })?;
    let now = SystemClock.now();
    let columns = [
        member("ID", "id"),
        member("NAME", "name"),
        member("ROLE", "role"),
        member("ORGANIZATION", "organization_id"),
        age("CREATED", "created_at", now),
        member("BY", "created_by"),
        age("LAST USED", "last_used_at", now),
        age("EXPIRES", "expires_at", now),
    ];
    Ok(remote.show_rows(rows, &columns, "no tokens"))
}
