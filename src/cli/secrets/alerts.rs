//! `kiket secrets alerts`: what somebody should look at.

use std::time::Duration;

use http::Method;
use serde_json::Value;

use crate::cli::client::{Call, Client, ClientError};
use crate::cli::remote::Remote;
use crate::cli::table::{ABSENT, Column, age, column, member, text};
use crate::cli::{Exit, Failure, Outcome, moment};
use crate::clock::{Clock, SystemClock};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kiket secrets alerts
  kiket secrets alerts --wait || page-somebody
  kiket secrets alerts --wait --timeout 1h -o json
  kiket secrets alerts --acknowledge al_52

Exit code 1 where an alert is open, 0 where none is.")]
pub(super) struct Args {
    /// Ask again until an alert is open
    #[arg(long, conflicts_with = "acknowledge")]
    wait: bool,
    /// Wait no longer than this
    #[arg(long, value_name = "SPAN", value_parser = moment::parse_span, requires = "wait")]
    timeout: Option<Duration>,
    /// Say that an alert was seen
    #[arg(long, value_name = "ID", conflicts_with = "all")]
    acknowledge: Option<String>,
    /// Those that were acknowledged, too
    #[arg(long)]
    all: bool,
}

/// Between two questions.
const PAUSE: Duration = Duration::from_secs(2);

pub(super) fn run(args: &Args, remote: &Remote) -> Outcome {
    let client = remote.client()?;
    if let Some(id) = &args.acknowledge {
        let path = ["secrets", "alerts", id.as_str(), "acknowledge"];
        let alert = client.call(Call::new(Method::POST, &path))?.body;
        return Ok(remote.show(&alert, |alert| format!("acknowledged {}\n", text(alert, "id"))));
    }
    let rows = if args.wait {
        wait(&client, args, remote)?
    } else {
        list(&client, args, remote)?
    };
    let is_open = rows
        .iter()
        .any(|row| row.get("acknowledged_at").is_none_or(Value::is_null));
    remote.show_rows(rows, &columns(args.all), "no alert is open");
    Ok(if is_open { Exit::Finding } else { Exit::Fine })
}

fn list(client: &Client, args: &Args, remote: &Remote) -> Result<Vec<Value>, ClientError> {
    client.pages(|| {
        Call::get(&["secrets", "alerts"])
            .with("organization_id", remote.organization.as_ref())
            .with("status", args.all.then_some("all"))
            .with("limit", Some(1_000))
    })
}

/// Asks until an alert is open or the time is over.
fn wait(client: &Client, args: &Args, remote: &Remote) -> Result<Vec<Value>, Failure> {
    let started = std::time::Instant::now();
    loop {
        let rows = list(client, args, remote)?;
        let left = args.timeout.map(|timeout| timeout.saturating_sub(started.elapsed()));
        if !rows.is_empty() || left.is_some_and(|left| left.is_zero()) {
            return Ok(rows);
        }
        client.pause(left.map_or(PAUSE, |left| left.min(PAUSE)));
    }
}

fn columns(with_acknowledged: bool) -> Vec<Column> {
    let now = SystemClock.now();
    let mut columns = vec![
        member("ID", "id"),
        age("RAISED", "raised_at", now),
        member("SEVERITY", "severity"),
        member("KIND", "kind"),
        member("ORGANIZATION", "organization_id"),
        column("ABOUT", |row| {
            let parts = ["scope", "scope_id", "key"].map(|name| text(row, name));
            let known: Vec<&str> = parts
                .iter()
                .map(String::as_str)
                .filter(|part| *part != ABSENT)
                .collect();
            if known.is_empty() {
                ABSENT.to_owned()
            } else {
                known.join(" ")
            }
        }),
        member("DETAIL", "detail"),
    ];
    if with_acknowledged {
        columns.insert(2, member("ACKNOWLEDGED BY", "acknowledged_by"));
    }
    columns
}
