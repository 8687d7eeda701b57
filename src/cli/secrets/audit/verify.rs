//! `kiket secrets audit verify`: whether the log is whole, asked of the server, or found out without it.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::audit::ChainReport;
use crate::cli::audit_export::{self, ExportError};
use crate::cli::remote::{Form, Remote, json};
use crate::cli::table::{ABSENT, column, member, of, text};
use crate::cli::{Exit, Failure, Outcome, say};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kiket secrets audit verify
  kiket secrets audit --organization acme --format ndjson > audit.ndjson
  kiket secrets audit verify --export audit.ndjson --public-key r8Zk…=

With --export nobody is asked: the export is held against the checkpoints in it, and those in --checkpoints, by a public
key that you kept from an earlier `verify`. Exit code 1 where a chain is not as it was written.")]
pub(super) struct Args {
    /// An export in NDJSON, in place of the server's log
    #[arg(long, value_name = "FILE", requires = "public_key")]
    export: Option<PathBuf>,
    /// The key that checkpoints are signed with, in base64, or a file that holds it
    #[arg(long, value_name = "KEY", requires = "export")]
    public_key: Option<String>,
    /// The server's log, or another export, with checkpoints that were kept apart
    #[arg(long, value_name = "FILE", requires = "export")]
    checkpoints: Option<PathBuf>,
}

pub(super) fn run(args: &Args, remote: &Remote) -> Outcome {
    let report = match (&args.export, &args.public_key) {
        (Some(export), Some(key)) => offline(export, key, args.checkpoints.as_deref())?,
        _ => remote.read(&remote.client()?, &["secrets", "audit", "verify"])?.body,
    };
    match remote.output {
        Form::Json => say(&json(&report)),
        Form::Table => say(&told(&report)),
    };
    Ok(if text(&report, "status") == "intact" {
        Exit::Fine
    } else {
        Exit::Finding
    })
}

/// What the server would say of the same chains.
fn offline(export: &Path, key: &str, beside: Option<&Path>) -> Result<Value, Failure> {
    let named = |path: &Path, error: ExportError| Failure::usage(format!("{}: {error}", path.display()));
    let open = |path: &Path| {
        let file = File::open(path).map_err(|error| named(path, ExportError::Read(error.kind())))?;
        Ok::<_, Failure>(BufReader::new(file))
    };
    let key = std::fs::read_to_string(key).unwrap_or_else(|_| key.to_owned());
    let public_key =
        audit_export::public_key(&key).map_err(|error| Failure::usage(format!("--public-key: {error}")))?;
    let checkpoints = match beside {
        Some(path) => audit_export::checkpoints(open(path)?).map_err(|error| named(path, error))?,
        None => Vec::new(),
    };
    let reports = audit_export::verify(open(export)?, &public_key, checkpoints);
    let reports = reports.map_err(|error| Failure {
        // A line that is none was altered, or this is no export: either is found, not asked for.
        exit: if matches!(error, ExportError::Line(_)) {
            Exit::Finding
        } else {
            Exit::Usage
        },
        ..named(export, error)
    })?;
    if reports.is_empty() {
        return Err(Failure::usage(format!(
            "{}: there is no entry in the export",
            export.display()
        )));
    }
    let is_intact = reports.iter().all(|report| report.finding.is_none());
    let chains: Vec<Value> = reports.iter().map(chain).collect();
    Ok(json!({"status": status(is_intact), "public_key": key.trim(), "chains": chains}))
}

const fn status(is_intact: bool) -> &'static str {
    if is_intact { "intact" } else { "broken" }
}

fn chain(report: &ChainReport) -> Value {
    json!({
        "organization_id": report.organization.as_ref().map(ToString::to_string),
        "status": status(report.finding.is_none()),
        "first": report.first,
        "last": report.last,
        "entries": report.entries,
        "checkpoints": report.checkpoints,
        "signed_up_to": report.signed_up_to,
        "finding": report.finding.map(|finding| finding.name()),
        "sequence": report.finding.and_then(|finding| finding.sequence()),
        "detail": report.finding.map(|finding| finding.to_string()),
    })
}

fn told(report: &Value) -> String {
    let chains = report
        .get("chains")
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    let columns = [
        column("CHAIN", |chain| match text(chain, "organization_id").as_str() {
            ABSENT => String::from("(platform)"),
            organization => organization.to_owned(),
        }),
        member("STATUS", "status"),
        member("FIRST", "first"),
        member("LAST", "last"),
        member("ENTRIES", "entries"),
        member("CHECKPOINTS", "checkpoints"),
        member("SIGNED UP TO", "signed_up_to"),
        member("FINDING", "detail"),
    ];
    format!(
        "{}\npublic key: {}\n",
        of(&columns, &chains),
        text(report, "public_key")
    )
}
