//! `kiket extensions secrets report`: the rotation report that an auditor files.

use clap::ValueEnum;
use serde_json::Value;

use crate::cli::client::{Call, Client, ClientError};
use crate::cli::remote::{Form, Remote};
use crate::cli::table::{self, ABSENT, age, column, facts, member, text};
use crate::cli::{Exit, Outcome, say};
use crate::clock::{Clock, SystemClock};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kiket extensions secrets report --organization acme
  kiket extensions secrets report --organization acme --format csv > rotation-report.csv

Exit code 1 where a secret is older than the policy allows.")]
pub(super) struct Args {
    /// The form: table, json or csv
    #[arg(long, value_name = "FORMAT", value_enum, hide_possible_values = true)]
    format: Option<Format>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Table,
    Json,
    Csv,
}

/// Where the CSV says whether a secret is overdue; nothing before it can hold a comma.
const OVERDUE_COLUMN: &str = "overdue";

pub(super) fn run(args: &Args, remote: &Remote) -> Outcome {
    let client = remote.client()?;
    let mut remote = remote.clone();
    let is_overdue = match args.format {
        Some(Format::Csv) => csv(&client, &remote)?,
        form => {
            match form {
                Some(Format::Json) => remote.output = Form::Json,
                Some(Format::Table) => remote.output = Form::Table,
                Some(Format::Csv) | None => {}
            }
            let document = client.call(report(&remote))?.body;
            remote.show(&document, told);
            rows(&document)
                .iter()
                .any(|row| row.get("overdue").and_then(Value::as_bool) == Some(true))
        }
    };
    Ok(if is_overdue { Exit::Finding } else { Exit::Fine })
}

fn report(remote: &Remote) -> Call<'static> {
    Call::get(&["extensions", "secrets", "report"]).with("organization_id", remote.organization.as_ref())
}

fn rows(document: &Value) -> Vec<Value> {
    let rows = document.get("data").and_then(Value::as_array);
    rows.cloned().unwrap_or_default()
}

fn told(document: &Value) -> String {
    let now = SystemClock.now();
    let columns = [
        member("KEY", "key"),
        member("SCOPE", "scope"),
        member("ID", "scope_id"),
        member("SOURCE", "source"),
        member("VERSION", "version"),
        member("ROTATIONS", "rotation_count"),
        age("ROTATED", "last_rotated_at", now),
        column("AGE", |row| match text(row, "age_days").as_str() {
            ABSENT => ABSENT.to_owned(),
            age => format!("{age} of {} days", text(row, "max_age_days")),
        }),
        column("STATE", |row| match row.get("overdue").and_then(Value::as_bool) {
            Some(true) => String::from("OVERDUE"),
            _ if text(row, "source") == "placeholder" => String::from("no value"),
            _ => String::from("fine"),
        }),
        member("OWNER", "owner"),
        member("WRITTEN BY", "written_by"),
    ];
    let whose = match text(document, "organization_id").as_str() {
        ABSENT => String::from("all organizations"),
        organization => organization.to_owned(),
    };
    let at = table::text(document, "generated_at");
    let totals = document.get("totals").cloned().unwrap_or_default();
    let counts = ["secrets", "overdue", "external", "placeholders", "never_rotated"];
    let counts: Vec<String> = counts
        .iter()
        .map(|name| format!("{} {}", text(&totals, name), name.replace('_', " ")))
        .collect();
    let head = facts(&[
        ("Rotation report", whose),
        ("Made", crate::cli::moment::absolute(&at)),
        ("Totals", counts.join(", ")),
    ]);
    format!("{head}\n{}", table::of(&columns, &rows(document)))
}

/// Hands the CSV on as it comes, and says whether anything in it is overdue.
fn csv(client: &Client, remote: &Remote) -> Result<bool, ClientError> {
    let mut seen = Overdue::default();
    client.stream(
        report(remote).with("format", Some("csv")).accepting("text/csv"),
        |piece| {
            let text = String::from_utf8_lossy(piece);
            seen.read(&text);
            say(&text);
            true
        },
    )?;
    Ok(seen.is_any)
}

/// Looks for overdue secrets in a CSV that comes in pieces.
#[derive(Default)]
struct Overdue {
    rest: String,
    column: Option<usize>,
    is_any: bool,
}

impl Overdue {
    fn read(&mut self, piece: &str) {
        self.rest.push_str(piece);
        while let Some((line, rest)) = self.rest.split_once("\r\n") {
            match self.column {
                None => {
                    self.column = line
                        .split(',')
                        .position(|name| name == OVERDUE_COLUMN)
                        .or(Some(usize::MAX))
                }
                Some(column) => self.is_any |= line.split(',').nth(column) == Some("true"),
            }
            self.rest = rest.to_owned();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Overdue;

    #[test]
    fn an_overdue_secret_is_seen_wherever_the_pieces_are_cut() {
        let fine = "key,overdue,owner\r\nA,false,true\r\nB,false,\"x,true\"\r\n";
        let overdue = format!("{fine}C,true,\r\n");
        for size in 1..overdue.len() {
            for (text, expected) in [(fine, false), (overdue.as_str(), true)] {
                let mut seen = Overdue::default();
                let pieces = text.as_bytes().chunks(size);
                pieces.for_each(|piece| seen.read(&String::from_utf8_lossy(piece)));
                assert_eq!(seen.is_any, expected, "{size}");
            }
        }
    }
}
