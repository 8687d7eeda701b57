//! What a copy costs: its memory does not grow with the number of rows.

use std::process::Command;
use std::time::Instant;

use kiket_sidecar::domain::audit::{Action, Actor, AuditEntry, Source};
use kiket_sidecar::domain::scope::Scope;
use kiket_sidecar::domain::time::Timestamp;
use kiket_sidecar::store::{self, Change, Write};

use super::super::store_contract::rows::{organization, secret, slot};
use super::super::support::postgres::Database;
use super::super::support::process::Ended;
use super::super::support::python::interpreter;
use super::Desk;

/// So many secrets that the databases' own caches are full, and many more; as many of these as were promised where long
/// runs are asked for.
const FEW: usize = 10_000;
const MANY: usize = 30_000;
const MANY_FULL: usize = 100_000;

/// The most that memory may grow by with all the rows that there are more. A copy that kept them would take many times
/// as much.
const GROWTH_MAX: f64 = 1.25;

/// Runs a command, and tells on the last line of stderr what it took at most, in KiB.
const MEASURE: &str = "
import resource, subprocess, sys
code = subprocess.call(sys.argv[1:])
print('peak', resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=sys.stderr)
sys.exit(code)
";

/// A file with so many secrets of ten organizations, each with its entry in the audit log.
fn filled(desk: &Desk, name: &str, count: usize) -> String {
    let url = desk.file(name);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let store = store::open(&url, desk.keyring().chain_key()).await.unwrap();
        for first in (0..count).step_by(1_000) {
            let mut change = Change::default();
            for n in first..count.min(first + 1_000) {
                let of = format!("org{}", n % 10);
                let place = slot(&of, Scope::Project, &format!("proj{n}"), "KEY");
                let mut row = secret(place, 1);
                row.sealed = (0..200).map(|byte| u8::try_from((n + byte) % 251).unwrap()).collect();
                change.writes.push(Write::Secret { row, expected: None });
                let actor = Actor {
                    id: String::from("tok_1"),
                    name: String::from("Ada"),
                };
                let at = Timestamp(u64::try_from(n).unwrap());
                let entry = AuditEntry::of(Some(organization(&of)), at, actor, Action::SecretCreate, Source::Api);
                change.entries.push(entry);
            }
            store.commit(change).await.unwrap();
        }
    });
    drop(runtime);
    url
}

/// Copies, and tells the most memory that it took, in KiB.
fn peak(desk: &Desk, from: &str, to: &str) -> f64 {
    let copy = desk.copy_command(from, to);
    let mut command: Command = interpreter();
    command
        .args(["-c", MEASURE])
        .arg(copy.get_program())
        .args(copy.get_args());
    command.env("KIKET_MASTER_KEY_FILE", desk.home.path().join("master.key"));
    // Not as other commands are waited for: this one takes as long as there are rows.
    let output = command.output().unwrap();
    let ended = Ended {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    };
    super::assert_ended(&ended, 0, &["peak "]);
    let (_, kib) = ended.stderr.trim_end().rsplit_once(' ').unwrap();
    kib.parse().unwrap()
}

#[test]
#[expect(
    clippy::print_stdout,
    reason = "the figures are for whoever asks for them with --nocapture"
)]
fn a_copy_of_many_secrets_and_back_takes_the_memory_of_a_copy_of_few() {
    let is_full = std::env::var("KIKET_TEST_SCALE").is_ok_and(|scale| scale == "full");
    let desk = Desk::new();
    let mut peaks = Vec::new();
    for (name, count) in [("few", FEW), ("many", if is_full { MANY_FULL } else { MANY })] {
        let (server, back) = (Database::fresh(), desk.file(&format!("{name}-back.db")));
        let file = filled(&desk, &format!("{name}.db"), count);
        let began = Instant::now();
        let there = peak(&desk, &file, &server.url());
        let (took, began) = (began.elapsed(), Instant::now());
        let again = peak(&desk, &server.url(), &back);
        println!(
            "{count} secrets: to PostgreSQL {took:.1?}, {there} KiB; to SQLite {:.1?}, {again} KiB",
            began.elapsed()
        );
        peaks.push([there, again]);
    }
    for (n, direction) in ["to PostgreSQL", "to SQLite"].into_iter().enumerate() {
        let growth = peaks[1][n] / peaks[0][n];
        assert!(growth < GROWTH_MAX, "{direction}: {peaks:?} KiB");
    }
}
