//! `kiket secrets audit`: who did what with which secret, as a table, followed, or exported.

mod follow;
mod verify;

use clap::{Subcommand, ValueEnum};
use serde_json::Value;

use crate::cli::client::{Call, ClientError};
use crate::cli::remote::{Form, Remote, json};
use crate::cli::table::{self, ABSENT, Column, column, member, text};
use crate::cli::{Exit, Outcome, moment, say, warn};
use crate::clock::{Clock, SystemClock};

#[derive(Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "\
Examples:
  kiket secrets audit --key MAILCHIMP_API_KEY --since 24h
  kiket secrets audit --action secret.rotate --source cli
  kiket secrets audit --follow
  kiket secrets audit --organization acme --format csv > audit.csv
  kiket secrets audit verify"
)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    filter: Filter,
    /// Go on with what happens from now on, until interrupted
    #[arg(long, short, conflicts_with = "until")]
    follow: bool,
    /// The form: table, json, csv or ndjson; csv and ndjson export all that matches
    #[arg(
        long,
        value_name = "FORMAT",
        value_enum,
        hide_possible_values = true,
        conflicts_with = "follow"
    )]
    format: Option<Format>,
}

/// Which entries.
#[derive(Debug, Clone, clap::Args)]
struct Filter {
    /// Of this key
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// With this action, for example secret.rotate
    #[arg(long, value_name = "ACTION")]
    action: Option<String>,
    /// By this way: api, cli, sdk, delivery, handshake, signing or refresh
    #[arg(long, value_name = "SOURCE")]
    source: Option<String>,
    /// By this token's id or name
    #[arg(long, value_name = "ACTOR")]
    actor: Option<String>,
    /// Not before: a moment, a date, or a span before now
    #[arg(long, value_name = "WHEN", value_parser = past)]
    since: Option<String>,
    /// Before: likewise
    #[arg(long, value_name = "WHEN", value_parser = past)]
    until: Option<String>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Find out whether the log is whole; exit code 1 where it is not
    Verify(verify::Args),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Table,
    Json,
    Csv,
    Ndjson,
}

fn past(text: &str) -> Result<String, String> {
    moment::parse_past(text, SystemClock.now())
}

impl Filter {
    fn call(&self, remote: &Remote) -> Call<'static> {
        Call::get(&["secrets", "audit"])
            .with("organization_id", remote.organization.as_ref())
            .with("key", self.key.as_ref())
            .with("action", self.action.as_ref())
            .with("source", self.source.as_ref())
            .with("actor", self.actor.as_ref())
            .with("since", self.since.as_ref())
            .with("until", self.until.as_ref())
    }
}

pub(super) fn run(args: &Args, remote: &Remote) -> Outcome {
    if let Some(Command::Verify(verify)) = &args.command {
        return verify::run(verify, remote);
    }
    let client = remote.client()?;
    if args.follow {
        return follow::run(&client, &args.filter, remote);
    }
    let form = args.format.unwrap_or(match remote.output {
        Form::Table => Format::Table,
        Form::Json => Format::Json,
    });
    let export = |format: &'static str, media_type| {
        let call = args
            .filter
            .call(remote)
            .with("format", Some(format))
            .accepting(media_type);
        let mut text = Utf8::default();
        client.stream(call, |piece| {
            text.say(piece);
            true
        })
    };
    match form {
        Format::Csv => export("csv", "text/csv")?,
        Format::Ndjson => export("ndjson", "application/x-ndjson")?,
        Format::Json => {
            say(&json(&client.call(args.filter.call(remote))?.body));
        }
        Format::Table => {
            let page = client.call(args.filter.call(remote))?.body;
            say(&told(&page));
            warn_of_alerts(&page);
        }
    }
    Ok(Exit::Fine)
}

fn entries(page: &Value) -> Vec<Value> {
    page.get("data").and_then(Value::as_array).cloned().unwrap_or_default()
}

fn told(page: &Value) -> String {
    let entries = entries(page);
    match entries.len() {
        0 => String::from("no entries\n"),
        _ => table::of(&columns(), &entries),
    }
}

fn columns() -> [Column; 8] {
    [
        table::moment("TIME", "at"),
        member("WHO", "actor_name"),
        column("ACTION", action),
        member("KEY", "key"),
        column("AT", place),
        column("VERSION", |entry| {
            match entry.get("external").and_then(Value::as_bool) {
                Some(true) => format!("{} (external)", text(entry, "version")),
                _ => text(entry, "version"),
            }
        }),
        member("BY WAY OF", "source"),
        member("OUTCOME", "outcome"),
    ]
}

/// What was done; of deliveries, how often.
fn action(entry: &Value) -> String {
    match entry.get("count").and_then(Value::as_u64) {
        Some(count) => format!("{} ×{count}", text(entry, "action")),
        None => text(entry, "action"),
    }
}

/// What it concerns.
fn place(entry: &Value) -> String {
    let parts = ["scope", "scope_id"].map(|name| text(entry, name));
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
}

fn warn_of_alerts(page: &Value) {
    let open = page.get("alerts").and_then(Value::as_array).map_or(0, Vec::len);
    if open > 0 {
        warn(&format!("{open} open alerts; see `kiket secrets alerts`"));
    }
}

/// Prints bytes that come in pieces, cut anywhere.
#[derive(Default)]
struct Utf8(Vec<u8>);

impl Utf8 {
    fn say(&mut self, piece: &[u8]) {
        self.0.extend_from_slice(piece);
        let whole = self
            .0
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |at| at.saturating_add(1));
        let text: Vec<u8> = self.0.drain(..whole).collect();
        say(&String::from_utf8_lossy(&text));
    }
}

impl Drop for Utf8 {
    fn drop(&mut self) {
        say(&String::from_utf8_lossy(&self.0));
    }
}

/// Whether a server that is away may come back while one waits.
fn is_passing(error: &ClientError) -> bool {
    matches!(error, ClientError::Away(_))
}
