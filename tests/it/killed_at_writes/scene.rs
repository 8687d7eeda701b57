//! Where each run begins, and where the calls of a change can be cut.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use kiket_sidecar::crypto::keyring::Keyring;
use kiket_sidecar::store;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use super::super::support::captured::PATIENCE;
use super::super::support::database::Database;
use super::super::support::endpoint::Endpoint;
use super::super::support::http::{Client, request};
use super::super::support::process::{Home, Process, kiket, run};
use super::changes::{OF_EXTENSION, OF_SPARE, PROVIDER, SECRETS, Write, installation, manifest, provider, secret};
use super::standing::{Standing, lasting, recorded};

/// Calls by which files change, and those by which an answer leaves.
const CALLS: &str = "pwrite64,pwritev,fsync,fdatasync,ftruncate,fallocate,unlink,rename,writev,sendto,write";

const ALERTS: &str = "/secrets/alerts?organization_id=org";

/// What tells that a word of an organization's admin is waited for.
const KINDS: [&str; 2] = ["destination-unconfirmed", "keys-not-accepted"];

/// Where each run begins.
pub(super) struct Scene {
    home: Arc<Home>,
    database: Database,
    path: PathBuf,
    files: Vec<(PathBuf, Vec<u8>)>,
    endpoint: Endpoint,
    /// What placeholders stand for.
    made: Vec<(&'static str, String)>,
    keyring: Keyring,
    runtime: Runtime,
}

/// A call, and its how-manieth of one thread.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Point {
    call: String,
    nth: u64,
}

impl Scene {
    pub(super) fn set() -> Self {
        let (home, endpoint) = (Arc::new(Home::new()), Endpoint::start());
        let keys = home.path().join("master.key");
        for _ in 0..2 {
            let added = run(kiket(&["keys", "add", keys.to_str().unwrap()]));
            assert_eq!(added.code, Some(0), "{}", added.stderr);
        }
        let path = home.path().join("kiket.db");
        let mut scene = Self {
            database: Database::File(path.clone()),
            keyring: Keyring::parse(&fs::read_to_string(keys).unwrap()).unwrap(),
            runtime: Runtime::new().unwrap(),
            home,
            path,
            files: Vec::new(),
            endpoint,
            made: Vec::new(),
        };
        let process = scene.start(&[]).unwrap();
        scene.furnish(&process);
        assert_eq!(process.stop().code, Some(0));
        scene.database.released();
        for entry in fs::read_dir(scene.home.path()).unwrap() {
            let path = entry.unwrap().path();
            if path.file_name().unwrap().to_string_lossy().starts_with("kiket.db") {
                let bytes = fs::read(&path).unwrap();
                scene.files.push((path, bytes));
            }
        }
        scene
    }

    /// Makes everything that a change is made to.
    fn furnish(&mut self, process: &Process) {
        process.must(
            "PUT",
            "/extensions/com.example.simple",
            &manifest("com.example.simple", &self.endpoint.url(), "1.0.0"),
        );
        process.must(
            "POST",
            "/marketplace/installations",
            &installation("ins", "com.example.simple"),
        );
        for (key, value) in [("KEY", "first"), ("SPARE", "older"), ("SPARE", "newer")] {
            process.must("POST", SECRETS, &secret(key, value));
        }
        process.enable("ins");
        let sdk = json!({"secret": {"key": "SDK", "value": "value"}});
        process.must("POST", OF_EXTENSION, &sdk);
        process.must("PUT", PROVIDER, &provider());
        let token = json!({"name": "early", "role": "auditor", "organization_id": "org"});
        let token = process.must("POST", "/tokens", &token).json();
        for _ in 0..26 {
            process.must("GET", OF_SPARE, &Value::Null);
        }
        let alerts = await_some(
            || process.must("GET", ALERTS, &Value::Null).json(),
            |alerts| !alerts["data"].as_array().unwrap().is_empty(),
        );
        self.keep_waiting(process);
        let keys = process.must("GET", "/keys", &Value::Null).json();
        let ids: Vec<&str> = keys["data"]
            .as_array()
            .unwrap()
            .iter()
            .map(|key| key["id"].as_str().unwrap())
            .collect();
        let [first, second, third] = ids[..] else {
            panic!("{keys}")
        }; // the active one is first
        process.must("POST", &format!("/keys/{second}/promote"), &Value::Null);
        rewrapped(process).expect("it lives");
        self.made = vec![
            ("{token}", token["id"].as_str().unwrap().to_owned()),
            ("{alert}", alerts["data"][0]["id"].as_str().unwrap().to_owned()),
            ("{first}", first.to_owned()),
            ("{third}", third.to_owned()),
        ];
    }

    /// Makes what waits for two consents: an installation whose extension moved and asks for more.
    fn keep_waiting(&self, process: &Process) {
        let other = "com.example.other";
        let path = format!("/extensions/{other}");
        process.must("PUT", &path, &manifest(other, &self.endpoint.url(), "1.0.0"));
        process.must("POST", "/marketplace/installations", &installation("waiting", other));
        process.enable("waiting");
        let mut moved = manifest(other, "http://127.0.0.1:9", "2.0.0");
        moved["extension"]["configuration"]["SPARE"] = json!({"secret": true});
        process.must("PUT", &path, &moved);
        await_some(
            || process.must("GET", ALERTS, &Value::Null).json(),
            |alerts| KINDS.iter().all(|kind| is_told(alerts, kind, "waiting")),
        );
    }

    /// Starts the process, under another program if one is named; `None` where it ended before it served.
    fn start(&self, runner: &[&str]) -> Option<Process> {
        let url = self.database.url();
        let command = self.home.serve_under(runner, &[("database_url", &url)]);
        Process::try_spawn(Arc::clone(&self.home), command).ok()
    }

    /// Puts the files back as they were.
    pub(super) fn restore(&self) {
        for tail in ["", "-wal", "-shm"] {
            let _ = fs::remove_file(format!("{}{tail}", self.path.display()));
        }
        for (path, bytes) in &self.files {
            fs::write(path, bytes).unwrap();
        }
    }

    /// Makes a change, and gives whether it was acknowledged. All that it brings about has been done by then.
    fn make(&self, (_, method, path, body): &Write, process: &Process) -> bool {
        let path = self
            .made
            .iter()
            .fold((*path).to_owned(), |path, (name, is)| path.replace(name, is));
        let body = match body() {
            Value::Null => Vec::new(),
            body => body.to_string().into_bytes(),
        };
        let authorization = format!("Bearer {}", process.token);
        let headers = [
            ("Authorization", authorization.as_str()),
            ("Content-Type", "application/json"),
        ];
        let Some(mut client) = Client::try_connect(process.admin) else {
            return false;
        };
        client.send(&request(method, &format!("/api/v1{path}"), &headers, &body));
        let Some(answer) = client.try_answer() else {
            return false;
        };
        assert!(
            answer.status < 300,
            "{method} {path}: {}",
            String::from_utf8_lossy(&answer.body)
        );
        if path.ends_with("/promote") {
            rewrapped(process);
        }
        true
    }

    /// What stands, after the chains were found whole; and how the next process finds it.
    pub(super) fn standing(&self) -> Standing {
        self.database.released();
        let recorded = self.runtime.block_on(async {
            let store = store::open(&self.database.url(), self.keyring.chain_key())
                .await
                .unwrap();
            recorded(&store, &self.keyring).await
        });
        self.database.released();
        let process = self.start(&[]).expect("it starts again");
        let shown = self.shown(&process);
        process.kill();
        Standing { shown, recorded }
    }

    fn shown(&self, process: &Process) -> Value {
        let pages = [
            "/extensions/secrets?organization_id=org&limit=200",
            "/extensions",
            "/marketplace/installations?organization_id=org",
            "/tokens",
            "/organizations/org/policy",
            "/organizations/org/providers",
            ALERTS,
            "/keys",
        ];
        let delivered = process.deliver("ins", b"{}");
        // An alert that a kill kept from following its change is made up for at the next delivery, which this is.
        if delivered.status == 409 && delivered.problem() == "destination-unconfirmed" {
            let alerts = || process.must("GET", ALERTS, &Value::Null).json();
            await_some(alerts, |alerts| is_told(alerts, KINDS[0], "ins"));
        }
        let mut shown: Vec<Value> = pages
            .iter()
            .map(|path| lasting(process.must("GET", path, &Value::Null).json()))
            .collect();
        let value = (delivered.status == 200).then(|| self.endpoint.last().secret("KEY"));
        shown.push(json!([delivered.status, value]));
        Value::Array(shown)
    }

    /// Makes a change once, and finds where it can be cut.
    pub(super) fn trace(&self, write: Option<&Write>) -> (Vec<Point>, Standing) {
        self.restore();
        let out = self.home.path().join("calls").display().to_string();
        let trace = format!("trace={CALLS}");
        let strace = [
            "strace",
            "-f",
            "-ttt",
            "-y",
            "-s",
            "16",
            "-e",
            "signal=none",
            "-e",
            &trace,
            "-o",
            &out,
        ];
        let mut from = 0.0;
        let process = self.start(&strace).expect("it starts under strace");
        if let Some(write) = write {
            from = now();
            assert!(self.make(write, &process));
        }
        let to = now();
        process.kill();
        let points = points(&fs::read_to_string(&out).unwrap(), from, to);
        fs::remove_file(out).unwrap();
        (points, self.standing())
    }

    /// Makes it again, killed at a point; gives whether it was acknowledged.
    pub(super) fn cut(&self, write: Option<&Write>, point: &Point) -> bool {
        self.restore();
        let (trace, kill) = (
            format!("trace={}", point.call),
            format!("inject={}:signal=KILL:when={}", point.call, point.nth),
        );
        let strace = [
            "strace",
            "-f",
            "-e",
            "signal=none",
            "-e",
            &trace,
            "-e",
            &kill,
            "-o",
            "/dev/null",
        ];
        let Some(process) = self.start(&strace) else {
            return false;
        };
        let acknowledged = write.is_some_and(|write| self.make(write, &process));
        process.kill(); // it is gone already, but where the kill would have come later than the answer
        acknowledged
    }
}

/// Waits until nothing is under another key than the active one; `None` where the process is killed meanwhile.
fn rewrapped(process: &Process) -> Option<()> {
    let authorization = format!("Bearer {}", process.token);
    let question = request("GET", "/api/v1/keys", &[("Authorization", &authorization)], b"");
    for _ in 0..10_000 {
        let mut client = Client::try_connect(process.admin)?;
        client.send(&question);
        if client.try_answer()?.json()["rewrap"]["rows_left"] == 0 {
            return Some(());
        }
    }
    panic!("rows stay under another key");
}

/// Whether there is an alert of a kind about an installation.
fn is_told(alerts: &Value, kind: &str, installation: &str) -> bool {
    let is = |alert: &Value| alert["kind"] == kind && alert["scope_id"] == installation;
    alerts["data"].as_array().unwrap().iter().any(is)
}

fn await_some(mut ask: impl FnMut() -> Value, found: impl Fn(&Value) -> bool) -> Value {
    let asked = Instant::now();
    loop {
        let answer = ask();
        if found(&answer) {
            return answer;
        }
        assert!(asked.elapsed() < PATIENCE, "never: {answer}");
    }
}

fn now() -> f64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    now.as_secs_f64()
}

/// Where a change can be cut: every write to a file between two moments, and the answer.
fn points(trace: &str, from: f64, to: f64) -> Vec<Point> {
    let mut counts: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    let mut points = Vec::new();
    for line in trace.lines() {
        let mut words = line.splitn(3, char::is_whitespace);
        let (thread, rest) = (words.next().unwrap(), line.split_once(' ').unwrap().1.trim_start());
        let (at, what) = rest.split_once(' ').unwrap();
        let Some((call, arguments)) = what.split_once('(') else {
            continue;
        };
        if call.starts_with('<') || call.starts_with('+') {
            continue;
        }
        let count = counts.entry((thread, call)).or_default();
        *count += 1;
        let to_file =
            !arguments.contains("<anon_inode:") && !arguments.contains("<socket:") && !arguments.starts_with("2<");
        let is_answer = arguments.contains("\"HTTP/1.1 2");
        let moment: f64 = at.parse().unwrap();
        if (to_file && !arguments.contains("<TCP") || is_answer) && moment >= from && moment <= to {
            points.push(Point {
                call: call.to_owned(),
                nth: *count,
            });
        }
    }
    points.sort();
    points.dedup();
    points
}
