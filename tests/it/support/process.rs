//! The product as it is shipped: the binary in a process of its own, with its signals, its files and its exit code.

use std::fs;
use std::net::SocketAddr;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::captured::Captured;
use super::database::Database;
use super::http::{Answer, Client, once, request};
use super::instance::{invocation, set_mode};
use super::operator::Operator;

/// Settings, as name and value.
pub type Settings<'a> = &'a [(&'a str, &'a str)];

/// Where one `serve` keeps what it needs: keys, the first token, the database.
pub struct Home {
    dir: TempDir,
    pub database: Database,
    pub token: String,
}

/// A process that ended by itself.
#[derive(Debug)]
pub struct Ended {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// A `kiket serve` that accepts. Killed when dropped.
pub struct Process {
    pub home: Arc<Home>,
    pub log: Captured,
    stdout: Captured,
    /// `None` once it was waited for: its id may be another's then.
    child: Option<Child>,
    pid: Pid,
    operator: Operator,
    proxy: Option<SocketAddr>,
    metrics: SocketAddr,
}

/// The binary with nothing of this process's environment.
pub fn kiket(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kiket"));
    command.args(arguments);
    bare(command)
}

fn bare(mut command: Command) -> Command {
    command
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .stdin(Stdio::null());
    command
}

/// Runs a command to its end.
pub fn run(mut command: Command) -> Ended {
    command.stdout(Stdio::piped());
    run_inheriting(command)
}

/// The same with whatever the command has for its standard output; it is not captured unless it is a pipe.
pub fn run_inheriting(mut command: Command) -> Ended {
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    drop(command);
    let stdout = captured(&mut child);
    let stderr = Captured::start(child.stderr.take().unwrap());
    ended(&mut child, &stdout, &stderr)
}

fn captured(child: &mut Child) -> Captured {
    match child.stdout.take() {
        Some(pipe) => Captured::start(pipe),
        None => Captured::start(std::io::empty()),
    }
}

fn ended(child: &mut Child, stdout: &Captured, stderr: &Captured) -> Ended {
    stdout.wait_for_end();
    stderr.wait_for_end();
    Ended {
        code: child.wait().unwrap().code(),
        stdout: stdout.text(),
        stderr: stderr.text(),
    }
}

impl Home {
    /// A new directory with keys that `kiket keys generate` made.
    pub fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let token = format!("bootstrap-{}", dir.path().file_name().unwrap().display());
        let database = Database::fresh(dir.path());
        let home = Self { dir, database, token };
        let keys = run(kiket(&["keys", "generate"]));
        assert_eq!(keys.code, Some(0), "{}", keys.stderr);
        home.write("master.key", &keys.stdout);
        home.write("operator.token", &home.token);
        home
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// A file in it that only its owner may read.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path().join(name);
        fs::write(&path, text).unwrap();
        set_mode(&path, 0o600);
        path
    }

    /// `kiket serve` in it, may deliver to loopback over plain HTTP. A setting without a value is left out.
    pub fn serve(&self, settings: Settings<'_>) -> Command {
        self.serve_under(&[], settings)
    }

    /// The same, run by another program that is given with its arguments.
    pub fn serve_under(&self, runner: &[&str], settings: Settings<'_>) -> Command {
        let file = |name: &str| self.path().join(name).display().to_string();
        let (database, keys, token) = (self.database.url(), file("master.key"), file("operator.token"));
        let mut all = vec![
            ("proxy_listen", "127.0.0.1:0"),
            ("admin_listen", "127.0.0.1:0"),
            ("metrics_listen", "127.0.0.1:0"),
            ("database_url", &database),
            ("master_key_file", &keys),
            ("bootstrap_token_file", &token),
            ("egress_allow_cidrs", "127.0.0.0/8"),
            ("dangerous_allow_http", "true"),
            ("api_burst", "1000000"),
        ];
        for (name, value) in settings {
            all.retain(|(default, _)| default != name);
            if !value.is_empty() {
                all.push((name, value));
            }
        }
        let words: Vec<&str> = runner.iter().copied().chain([env!("CARGO_BIN_EXE_kiket")]).collect();
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).arg("serve");
        for (name, value) in all {
            command.arg("--set").arg(format!("{name}={value}"));
        }
        let mut command = bare(command);
        command.current_dir(self.path());
        command
    }
}

impl Process {
    pub fn start() -> Self {
        Self::with(&[])
    }

    pub fn with(settings: Settings<'_>) -> Self {
        let home = Home::new();
        let command = home.serve(settings);
        Self::spawn(home, command)
    }

    /// Runs a `serve` and waits until it accepts.
    pub fn spawn(home: Home, command: Command) -> Self {
        Self::spawn_in(Arc::new(home), command)
    }

    /// The same, where another one ran before.
    pub fn spawn_in(home: Arc<Home>, mut command: Command) -> Self {
        command.stdout(Stdio::piped());
        Self::spawn_inheriting(home, command)
    }

    /// The same with whatever the command has for its standard output.
    pub fn spawn_inheriting(home: Arc<Home>, command: Command) -> Self {
        Self::begin(home, command).unwrap_or_else(|ended| panic!("{ended}"))
    }

    /// The same for a process that may end before it accepts: then this is what it said.
    pub fn try_spawn(home: Arc<Home>, mut command: Command) -> Result<Self, String> {
        command.stdout(Stdio::piped());
        Self::begin(home, command)
    }

    fn begin(home: Arc<Home>, mut command: Command) -> Result<Self, String> {
        let mut child = command
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let log = Captured::start(child.stderr.take().unwrap());
        let stdout = captured(&mut child);
        let Some(serving) = log.line_with("serving") else {
            let _ = child.wait();
            return Err(format!("{command:?} ended: {}", log.text()));
        };
        // `"name":"…"` or `name=…`: several addresses are separated by commas.
        let after = |name: &str| {
            let (_, rest) = serving.split_once(name)?;
            let rest = rest.trim_start_matches(['"', ':', '=']);
            let value = &rest[..rest.find(['"', ' ']).unwrap_or(rest.len())];
            value.split(',').find_map(|address| address.parse::<SocketAddr>().ok())
        };
        let operator = Operator {
            admin: after("admin").unwrap(),
            token: home.token.clone(),
        };
        Ok(Self {
            home,
            log,
            stdout,
            pid: served_by(&child),
            child: Some(child),
            operator,
            proxy: after("proxy"),
            metrics: after("metrics").unwrap(),
        })
    }

    /// Where deliveries go.
    pub fn proxy(&self) -> SocketAddr {
        self.proxy.expect("a TCP listener")
    }

    pub fn pid(&self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }

    /// A connection to the data plane.
    pub fn connect(&self) -> Client {
        Client::connect(self.proxy())
    }

    pub fn deliver(&self, installation: &str, body: &[u8]) -> Answer {
        once(self.proxy(), &invocation(installation, body))
    }

    /// What the metrics listener answers.
    pub fn health(&self, path: &str) -> Answer {
        once(self.metrics, &request("GET", path, &[], b""))
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid, signal).unwrap();
    }

    /// Waits for the end.
    pub fn wait(mut self) -> Ended {
        let mut child = self.child.take().unwrap();
        ended(&mut child, &self.stdout, &self.log)
    }

    /// Kills it, unless it is gone already, and waits for its end.
    pub fn kill(self) -> Ended {
        if self.child.as_ref().is_some_and(|child| self.is_run_by(child)) {
            let _ = kill_process(self.pid, Signal::KILL);
        }
        self.wait()
    }

    /// Whether the process is still this child or its child: when another program has waited for it, its id may be
    /// another's.
    fn is_run_by(&self, child: &Child) -> bool {
        let id = child.id();
        let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap_or_default();
        let is_child = i32::try_from(id).is_ok_and(|id| id == self.pid());
        is_child || children.split_whitespace().any(|child| child.parse() == Ok(self.pid()))
    }

    /// Asks for the end once everything is done, and waits for it.
    pub fn stop(self) -> Ended {
        self.signal(Signal::TERM);
        self.wait()
    }
}

impl Deref for Process {
    type Target = Operator;

    fn deref(&self) -> &Operator {
        &self.operator
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            if self.is_run_by(&child) {
                let _ = kill_process(self.pid, Signal::KILL);
            }
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The process that serves: the child, or where another program runs it, that one's child.
fn served_by(child: &Child) -> Pid {
    let id = child.id();
    let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap();
    let served = match children.split_whitespace().next() {
        Some(grandchild) => grandchild.parse().unwrap(),
        None => i32::try_from(id).unwrap(),
    };
    Pid::from_raw(served).unwrap()
}
