//! `kiket secrets audit --follow`: entries as they come, one line each.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value;

use super::{Filter, action, entries, is_passing, place};
use crate::cli::client::Client;
use crate::cli::remote::{Form, Remote};
use crate::cli::table::{ABSENT, text};
use crate::cli::{Outcome, moment, say, warn};

/// Between two questions.
const PAUSE: Duration = Duration::from_secs(2);

/// Reading the log is in the log. Who follows does not want to read that.
const OWN_ACTION: &str = "audit.export";

/// An entry's place in the log.
type Position = (String, u64);

pub(super) fn run(client: &Client, filter: &Filter, remote: &Remote) -> Outcome {
    let mut seen: BTreeSet<Position> = BTreeSet::new();
    let mut is_away = false;
    loop {
        match client.call(filter.call(remote)) {
            Ok(answer) => {
                is_away = false;
                let entries = entries(&answer.body);
                let positions: BTreeSet<Position> = entries.iter().map(position).collect();
                for entry in entries.iter().rev() {
                    let is_own = text(entry, "action") == OWN_ACTION && filter.action.is_none();
                    if !is_own && !seen.contains(&position(entry)) {
                        say(&line(entry, remote.output));
                    }
                }
                seen = positions; // what is on no page any more does not come back
            }
            // Who follows outlasts a restart of the server.
            Err(error) if is_passing(&error) && !seen.is_empty() => {
                if !is_away {
                    warn(&format!("{error}\n  asking again until it is back"));
                }
                is_away = true;
            }
            Err(error) => return Err(error.into()),
        }
        client.pause(PAUSE);
    }
}

fn position(entry: &Value) -> Position {
    let sequence = entry.get("sequence").and_then(Value::as_u64).unwrap_or(0);
    (text(entry, "organization_id"), sequence)
}

fn line(entry: &Value, form: Form) -> String {
    if form == Form::Json {
        return format!("{entry}\n");
    }
    let at = entry
        .get("at")
        .and_then(Value::as_str)
        .map(moment::absolute)
        .unwrap_or_default();
    let (action, outcome) = (action(entry), text(entry, "outcome"));
    let mut line = format!("{at}  {outcome:<7}  {action:<20}");
    let key = text(entry, "key");
    if key != ABSENT {
        line.push_str(&format!("  {key}"));
    }
    if text(entry, "version") != ABSENT {
        line.push_str(&format!(" version {}", text(entry, "version")));
    }
    if place(entry) != ABSENT {
        line.push_str(&format!("  at {}", place(entry)));
    }
    format!("{line}  by {} ({})\n", text(entry, "actor_name"), text(entry, "source"))
}
