//! `kiket store copy`: all rows from one database to another, and whether they arrived.

use std::io::{self, IsTerminal};
use std::time::Instant;

use crate::app;
use crate::audit::{ChainReport, Finding, Verifier};
use crate::cli::config::Settings;
use crate::cli::progress::Progress;
use crate::cli::{Exit, Failure, Outcome, prompt, say, table, warn};
use crate::crypto::keyring::Keyring;
use crate::store::copy::{CopiedTable, CopyError, Doing, Ends, Step};
use crate::store::{OpenError, SharedStore, StoreError};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kiket store copy --from sqlite:/var/lib/kiket/kiket.db --to 'postgres://kiket@db.example.com/kiket'
  kiket store copy --from 'postgres://kiket@db.example.com/kiket' --to sqlite:/var/lib/kiket/kiket.db

The way out of one machine, and back:
  1. Stop every `kiket serve` on the source (SIGTERM; dispatchers keep what they are not rid of, and send it again).
  2. Make the target: an empty PostgreSQL database in UTF8 that a user of its own owns, or a folder for the file.
  3. Copy, with the KIKET_MASTER_KEY_FILE that the source is served with. Exit code 0: everything arrived.
  4. Serve from the target: the same key file, KIKET_DATABASE_URL set to the URL of --to.
  5. Put the source away. It serves still, and what is written to both from now on can never be brought together again.
     It is the way back for as long as nothing was written to the target; later, copy the other way, into a new file.

Secrets stay sealed on the way and keep their ids, versions and predecessors; tokens, policies, alerts, notices and the
audit log with its signed heads are copied as they are, so that cursors, exports and `audit verify` go on. The copy adds
no entry of its own: it would make the target another log than the source. A password belongs in PGPASSWORD or ~/.pgpass
rather than in a URL, which other users of the machine can see while the command runs.

The source is never written. It is read as it stood when the copy began; on SQLite a second process is kept out, on
PostgreSQL a copy is refused while an instance is connected, and an instance does not start. What anything else writes
to it meanwhile is not copied. The target must have no rows. Until every row was compared there, and every audit chain
found as it is in the source, `kiket serve` refuses the target; after an interruption, copy again: it starts over.

Exit codes: 0 fine, 1 something arrived altered or an audit chain is broken (where it was so in the source, the copy is
whole all the same), 2 usage or keys, 3 a database is away or full, 4 refused: in use, or not empty.")]
pub(super) struct Args {
    /// The database to copy, as KIKET_DATABASE_URL names it; nobody serves from it
    #[arg(long, value_name = "URL")]
    from: String,
    /// The database to copy to: empty, or not there yet
    #[arg(long, value_name = "URL")]
    to: String,
    #[command(flatten)]
    settings: Settings,
    /// Taken so that a URL without its flag is refused without being quoted
    #[arg(hide = true)]
    stray: Vec<String>,
}

/// With these steps, one more is drawn.
const DRAW_EVERY: u64 = 1_000;

pub(super) fn run(args: &Args) -> Outcome {
    if !args.stray.is_empty() {
        return Err(Failure::usage("a URL stands behind --from or --to"));
    }
    let config = args.settings.loaded()?;
    let keyring = app::read_keys(&config)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure {
        exit: Exit::Unavailable,
        reason: format!("cannot start a runtime: {}", error.kind()),
    })?;
    runtime.block_on(copy(args, &keyring))
}

async fn copy(args: &Args, keyring: &Keyring) -> Outcome {
    let began = Instant::now();
    let verifier = Verifier::new(keyring).map_err(|error| Failure::usage(format!("master_key_file: {error}")))?;
    let ends = Ends::open(&args.from, &args.to, keyring.chain_key()).await?;
    let before = chains(&verifier, ends.source().await?).await?;
    refuse_other_keys(&before)?;
    let mut shown = Shown::default();
    let copied = ends.copy(&mut |step| shown.step(step)).await;
    drop(shown);
    let copied = copied?;
    let after = chains(&verifier, copied.target().await?).await?;
    if after != before {
        return Err(Failure {
            exit: Exit::Finding,
            reason: String::from("table audit: its chains are not what they are in the source"),
        });
    }
    let tables = copied.tables.clone();
    copied.confirm().await?;
    say(&summary(&tables, before.len(), began.elapsed().as_secs_f64()));
    let broken = before.iter().filter(|report| report.finding.is_some());
    Ok(broken.fold(Exit::Fine, |_, report| {
        warn(&format!("{}; it is in the source, too", broken_chain(report)));
        Exit::Finding
    }))
}

async fn chains(verifier: &Verifier, store: SharedStore) -> Result<Vec<ChainReport>, Failure> {
    let reports = verifier.verify_all(&store).await;
    reports.map_err(|error| Failure {
        exit: exit_of_store(error),
        reason: format!("the audit log cannot be read: {error}"),
    })
}

/// Under other keys no entry of any chain holds.
fn refuse_other_keys(reports: &[ChainReport]) -> Result<(), Failure> {
    let is_other = |report: &ChainReport| {
        let held = report.entries;
        held == 0
            && matches!(
                report.finding,
                Some(Finding::Altered { .. } | Finding::StartRemoved { .. })
            )
    };
    if !reports.is_empty() && reports.iter().all(is_other) {
        return Err(Failure::usage(
            "master_key_file: these are not the keys that the source is served with; nothing was copied",
        ));
    }
    Ok(())
}

fn broken_chain(report: &ChainReport) -> String {
    let whose = report.organization.as_ref().map_or("(platform)", |id| id.as_str());
    let finding = report.finding.map(|finding| finding.to_string()).unwrap_or_default();
    format!("the audit chain of {whose} is broken: {finding}")
}

/// What somebody who waits sees: a bar at a terminal, a line for each table elsewhere.
#[derive(Default)]
struct Shown {
    bar: Option<(Doing, Progress)>,
    drawn: u64,
}

impl Shown {
    fn step(&mut self, step: Step) {
        let word = match step.doing {
            Doing::Copying => "copying   ",
            Doing::Comparing => "comparing ",
        };
        if !io::stderr().is_terminal() {
            if step.is_last {
                prompt::say(&format!("{word} {}: {} rows\n", step.table, step.rows));
            }
            return;
        }
        if self.bar.as_ref().is_none_or(|(doing, _)| *doing != step.doing) {
            drop(self.bar.take()); // ends its line before the next one begins
            self.drawn = 0;
        }
        let count = |rows| usize::try_from(rows).unwrap_or(usize::MAX);
        let (_, bar) = self
            .bar
            .get_or_insert_with(|| (step.doing, Progress::doing(word, count(step.total))));
        if step.done == step.total || step.done >= self.drawn.saturating_add(DRAW_EVERY) {
            self.drawn = step.done;
            bar.at(count(step.done));
        }
    }
}

fn summary(tables: &[CopiedTable], chains: usize, seconds: f64) -> String {
    let heading = ["TABLE", "ROWS", "SECONDS"].map(str::to_owned).to_vec();
    let row = |name: &str, rows: u64, seconds: f64| vec![name.to_owned(), rows.to_string(), format!("{seconds:.1}")];
    let rows = tables
        .iter()
        .map(|table| row(table.name, table.rows, table.took.as_secs_f64()));
    let total = tables.iter().map(|table| table.rows).fold(0, u64::saturating_add);
    let lines: Vec<_> = std::iter::once(heading)
        .chain(rows)
        .chain([row("total", total, seconds)])
        .collect();
    format!(
        "{}\nevery row was compared, and {chains} audit chains are as they are in the source\n",
        table::aligned(&lines)
    )
}

const fn exit_of_store(error: StoreError) -> Exit {
    match error {
        StoreError::Damaged => Exit::Finding,
        StoreError::Conflict | StoreError::Unavailable | StoreError::Full => Exit::Unavailable,
    }
}

impl From<CopyError> for Failure {
    fn from(error: CopyError) -> Self {
        let exit = match error {
            CopyError::Open(_, OpenError::Unreachable) => Exit::Unavailable,
            CopyError::Open(_, OpenError::InUse | OpenError::Unfinished) | CopyError::NotEmpty => Exit::Refused,
            CopyError::Open(..) | CopyError::Same | CopyError::Older | CopyError::Unlike { .. } => Exit::Usage,
            CopyError::Store(_, error) => exit_of_store(error),
            CopyError::Differs { .. } => Exit::Finding,
        };
        let reason = error.to_string();
        Self { exit, reason }
    }
}
