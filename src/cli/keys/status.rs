//! `kiket keys status`: which keys there are, who has loaded them, and how many rows are under each.

use serde_json::Value;

use crate::cli::client::Call;
use crate::cli::remote::{Form, Remote, json};
use crate::cli::table::{self, age, member};
use crate::cli::{Exit, Outcome, say};
use crate::clock::{Clock, SystemClock};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kiket keys status
  kiket keys status -o json

States: active seals; re-wrapping has rows that are being put under the active key; idle has none, and can be promoted
or retired; retired is given up. Exit code 1 where an instance lacks the active key, or rows do not open.")]
pub(super) struct Args {
    #[command(flatten)]
    remote: Remote,
}

pub(super) fn run(args: &Args) -> Outcome {
    let document = args.remote.client()?.call(Call::get(&["keys"]))?.body;
    let rows = document.get("data").and_then(Value::as_array).cloned();
    let rows = rows.unwrap_or_default();
    let now = SystemClock.now();
    let columns = [
        member("ID", "id"),
        member("STATE", "state"),
        member("ROWS", "rows_wrapped"),
        age("CREATED", "created_at", now),
        member("LOADED BY", "loaded_by"),
        member("MISSING ON", "missing_on"),
    ];
    match args.remote.output {
        Form::Json => say(&json(&document)),
        Form::Table => say(&format!("{}{}", table::of(&columns, &rows), told(&document))),
    };
    let is_active = |row: &&Value| row.get("active").and_then(Value::as_bool) == Some(true);
    let lacks_it = |row: &Value| {
        let missing = row.get("missing_on").and_then(Value::as_array);
        missing.is_some_and(|names| !names.is_empty())
    };
    let is_wrong = rows.iter().filter(is_active).any(lacks_it) || count(&document, "unreadable") > 0;
    Ok(if is_wrong { Exit::Finding } else { Exit::Fine })
}

/// How far rows have come under the active key.
fn told(document: &Value) -> String {
    let (left, unreadable) = (count(document, "rows_left"), count(document, "unreadable"));
    let mut text = String::new();
    if left > 0 {
        text += &format!("\n{left} rows are left to be put under the active key\n");
    }
    if unreadable > 0 {
        text += &format!(
            "{unreadable} of them do not open and stay: `kiket secrets alerts` names them; \
             replace each with `rotate --revoke-now`, or delete it\n"
        );
    }
    text
}

fn count(document: &Value, name: &str) -> u64 {
    let counted = document.get("rewrap").and_then(|rewrap| rewrap.get(name));
    counted.and_then(Value::as_u64).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_left_and_what_does_not_open_is_told_and_nothing_where_all_is_done() {
        let told = |left, unreadable| told(&json!({"rewrap": {"rows_left": left, "unreadable": unreadable}}));
        assert_eq!(told(0, 0), "");
        assert_eq!(told(3, 0), "\n3 rows are left to be put under the active key\n");
        assert!(told(3, 1).contains("1 of them do not open"));
    }
}
