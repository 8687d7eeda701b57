//! What `kiket doctor` says of a host, of what is broken there and of what is not; it changes and tells nothing.

mod network;
mod rows;
mod settings;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::sync::Arc;

use serde_json::Value;

use super::support::database::Database;
use super::support::process::{Ended, Home, Process, Settings, kiket, run};

const CANARY: &str = "cnry-doctor-8251";

/// Few enough for any limit on open files.
const MODEST: [(&str, &str); 2] = [("connections_max", "64"), ("in_flight_max", "64")];

/// What was said.
struct Report {
    code: Option<i32>,
    /// State, what was seen, what to do; by the check's name.
    checks: BTreeMap<String, [String; 3]>,
}

/// A server's home over SQLite, whatever else tests run over.
struct Patient {
    home: Arc<Home>,
    database: Database,
}

impl Patient {
    fn new() -> Self {
        let home = Arc::new(Home::new());
        let database = Database::File(home.path().join("kiket.db"));
        Self { home, database }
    }

    /// One whose database holds an installation, a value and a log, and that nobody serves any more.
    fn furnished() -> Self {
        let patient = Self::new();
        let process = patient.serve(&[]);
        process.simple("http://127.0.0.1:9/", CANARY);
        assert_eq!(process.stop().code, Some(0));
        patient
    }

    fn serve(&self, settings: Settings<'_>) -> Process {
        let url = self.database.url();
        let command = self.home.serve(&[&[("database_url", url.as_str())], settings].concat());
        Process::spawn_in(Arc::clone(&self.home), command)
    }

    /// What is said of a `serve` with these settings.
    fn look(&self, settings: Settings<'_>) -> Report {
        let ended = self.ended(&["--output", "json"], settings);
        let document: Value = serde_json::from_str(&ended.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}{}", ended.stdout, ended.stderr));
        assert_eq!(ended.stderr, "");
        let text = |check: &Value, name: &str| check[name].as_str().unwrap_or_default().to_owned();
        let checks: BTreeMap<String, [String; 3]> = document["checks"]
            .as_array()
            .unwrap()
            .iter()
            .map(|check| {
                (
                    text(check, "check"),
                    ["state", "seen", "advice"].map(|name| text(check, name)),
                )
            })
            .collect();
        for (name, [state, seen, advice]) in &checks {
            let is_finding = state == "warning" || state == "failed";
            assert_eq!(is_finding, !advice.is_empty(), "{name}: {seen}: {advice}");
            assert!(!seen.is_empty(), "{name}");
        }
        let findings = checks.values().filter(|[_, _, advice]| !advice.is_empty()).count();
        assert_eq!(document["findings"], findings, "{document}");
        Report {
            code: ended.code,
            checks,
        }
    }

    /// The same as it was printed. Nothing that is secret is in it, whatever it looked at.
    fn ended(&self, arguments: &[&str], settings: Settings<'_>) -> Ended {
        let url = self.database.url();
        let settings = [&[("database_url", url.as_str())], &MODEST[..], settings].concat();
        let serve = self.home.serve(&settings);
        let flags: Vec<OsString> = serve.get_args().skip(1).map(OsString::from).collect();
        let mut command = kiket(&[&["doctor"], arguments].concat());
        command.args(flags).current_dir(self.home.path());
        let ended = run(command);
        let said = format!("{}{}", ended.stdout, ended.stderr);
        let keyring = fs::read_to_string(self.home.path().join("master.key")).unwrap_or_default();
        let keys = keyring.lines().filter_map(|line| line.strip_prefix("key = \""));
        for secret in keys.chain([CANARY, &self.home.token, "BEGIN"]) {
            assert!(!said.contains(secret.trim_end_matches('"')), "{said}");
        }
        ended
    }
}

impl Report {
    /// One check, and the rest without a finding.
    #[track_caller]
    fn only(&self, name: &str, state: &str, seen: &str) -> &Self {
        for (other, [state, seen, _]) in self.checks.iter().filter(|(other, _)| *other != name) {
            assert!(
                matches!(state.as_str(), "ok" | "not applicable"),
                "{other}: {state}: {seen}"
            );
        }
        self.has(name, state, seen)
    }

    #[track_caller]
    fn has(&self, name: &str, state: &str, seen: &str) -> &Self {
        let [was, said, _] = &self.checks[name];
        assert_eq!(was, state, "{name}: {said}");
        assert!(said.contains(seen), "{name}: no `{seen}` in: {said}");
        self
    }

    #[track_caller]
    fn ends(&self, code: i32) {
        assert_eq!(self.code, Some(code), "{:?}", self.checks);
    }
}

/// The files of a folder with what is in them, but for the index of SQLite's log, which whoever reads makes anew.
fn files(home: &Home) -> BTreeMap<OsString, Vec<u8>> {
    let entries = fs::read_dir(home.path()).unwrap();
    let read = entries.map(|entry| {
        let entry = entry.unwrap();
        let name = entry.file_name();
        let is_index = name.to_string_lossy().ends_with("-shm");
        let held = if is_index {
            Vec::new()
        } else {
            fs::read(entry.path()).unwrap_or_default()
        };
        (name, held)
    });
    read.collect()
}

#[test]
fn a_host_where_a_first_start_would_go_well_is_told_so_and_left_as_it_is() {
    let patient = Patient::new();
    let before = files(&patient.home);
    let report = patient.look(&[]);
    report.only("store", "ok", "no file at").ends(0);
    report.has("keys", "ok", "1 key-encryption key");
    report.has("clock", "not applicable", "nothing to hold it against");
    report.has("guards", "ok", "all 6 are active");
    assert_eq!(files(&patient.home), before);
    let told = patient.ended(&[], &[]);
    assert_eq!((told.code, told.stderr.as_str()), (Some(0), ""));
    assert!(told.stdout.ends_with("\nnothing to do\n"), "{}", told.stdout);
}

#[test]
fn a_database_that_nobody_serves_is_read_without_a_change() {
    let patient = Patient::furnished();
    let before = files(&patient.home);
    let report = patient.look(&[]);
    report.only("store", "ok", "this version's, whole").ends(0);
    report.has("sealed values", "ok", "1 row tried, all open");
    report.has("clock", "ok", "not behind");
    report.has("destinations", "ok", "1 registered host");
    assert!(files(&patient.home) == before, "the doctor changed a file");
    // Also where the one before was killed and left its log behind.
    let process = patient.serve(&[]);
    process.set("OTHER", CANARY);
    process.kill();
    let report = patient.look(&[]);
    report.only("store", "ok", "this version's").ends(0);
    report.has("sealed values", "ok", "2 rows tried, all open");
    let process = patient.serve(&[]);
    assert_eq!(process.stop().code, Some(0));
}

#[test]
fn a_running_server_is_seen_and_goes_on() {
    let patient = Patient::new();
    let process = patient.serve(&[]);
    process.simple("http://127.0.0.1:9/", CANARY);
    let (proxy, admin, metrics) = (
        process.proxy().to_string(),
        process.admin.to_string(),
        process.health("/readyz"),
    );
    assert_eq!(metrics.status, 200);
    let settings = [("proxy_listen", proxy.as_str()), ("admin_listen", admin.as_str())];
    let report = patient.look(&settings);
    report.only("store", "ok", "a running kiket has it").ends(0);
    report.has("proxy_listen", "ok", "a running kiket listens on");
    report.has("admin_listen", "ok", "a running kiket listens on");
    process.set("OTHER", CANARY);
    assert_eq!(process.deliver("ins", b"{}").status, 502, "it takes deliveries still");
    assert_eq!(process.stop().code, Some(0));
}

#[test]
fn no_value_key_token_or_password_is_told_whatever_is_broken() {
    let patient = Patient::furnished();
    patient.database.damage("UPDATE installations SET mac = zeroblob(32)");
    let password = format!("postgres://kiket:{CANARY}@127.0.0.1:1/kiket?sslmode=disable");
    for settings in [
        &[("database_url", password.as_str())][..],
        &[("egress_allow_cidrs", "")],
        &[("master_key_file", "operator.token")],
        &[
            ("bootstrap_token_file", "master.key"),
            ("dispatcher_token_file", CANARY),
        ],
        &[("smtp_url", CANARY)],
    ] {
        // Both forms are looked through.
        patient.look(settings);
        patient.ended(&[], settings);
    }
}
