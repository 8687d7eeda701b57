//! The product in this process: started on a throw-away store, driven over its listeners, its clock moved by hand.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use kiket_sidecar::app::{self, Running, Setup, StartError};
use kiket_sidecar::clock::Clock;
use kiket_sidecar::config::{Config, Listen};
use kiket_sidecar::crypto::keyring::Keyring;
use kiket_sidecar::domain::time::Timestamp;
use kiket_sidecar::egress::Resolver;
use kiket_sidecar::store::SharedStore;
use kiket_sidecar::telemetry::{LogFormat, LogHandle};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::database::Database;
use super::http::{Answer, Client, once, request};
use super::leaks;

/// Longer than anything takes; a test that hangs fails.
const PATIENCE: Duration = Duration::from_secs(30);

/// A clock that stands until it is moved; begins where the system's stands.
#[derive(Debug)]
pub struct HandClock(AtomicU64);

impl HandClock {
    /// One that stands at this moment.
    pub fn at(millis: u64) -> Self {
        Self(AtomicU64::new(millis))
    }

    pub fn advance(&self, millis: u64) {
        self.0.fetch_add(millis, Ordering::SeqCst);
    }
}

impl Clock for HandClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::SeqCst))
    }
}

/// Everything that was logged.
#[derive(Clone, Default)]
pub struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

pub struct Instance {
    pub dir: TempDir,
    pub clock: Arc<HandClock>,
    pub running: Running,
    pub database: Database,
    token: String,
    log: Log,
    handle: LogHandle,
}

/// What an instance is started with beside the defaults of tests.
#[derive(Default)]
pub struct Options<'a> {
    pub settings: &'a [(&'a str, &'a str)],
    pub resolver: Option<Arc<dyn Resolver>>,
    pub store: Option<SharedStore>,
    pub keyring: Option<Keyring>,
}

impl Instance {
    /// One that may deliver to loopback over plain HTTP.
    pub fn start() -> Self {
        Self::with(Options::default())
    }

    pub fn with(options: Options<'_>) -> Self {
        Self::try_with(options).unwrap()
    }

    /// One that may be refused.
    pub fn try_with(options: Options<'_>) -> Result<Self, StartError> {
        let dir = throw_away();
        let token = format!("bootstrap-{}", dir.path().display());
        let token_file = dir.path().join("operator.token");
        std::fs::write(&token_file, &token).unwrap();
        set_mode(&token_file, 0o600);
        let database = match options.store {
            None => Database::fresh(dir.path()),
            Some(_) => Database::File(dir.path().join("kiket.db")), // nobody opens it
        };
        let url = database.url();
        let mut settings = vec![
            ("proxy_listen", "127.0.0.1:0"),
            ("admin_listen", "127.0.0.1:0"),
            ("metrics_listen", "127.0.0.1:0"),
            ("database_url", &url),
            ("bootstrap_token_file", token_file.to_str().unwrap()),
            ("egress_allow_cidrs", "127.0.0.0/8"),
            ("dangerous_allow_http", "true"),
            ("drain_grace", "5s"),
            ("api_burst", "1000000"), // tests ask again and again, under a clock that stands
        ];
        settings.extend_from_slice(options.settings);
        let now = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap();
        let clock = Arc::new(HandClock::at(u64::try_from(now.as_millis()).unwrap()));
        let log = Log::default();
        let handle = LogHandle::new(LogFormat::Json, Box::new(log.clone())).unwrap();
        let running = app::start(Setup {
            config: Config::with(&settings).unwrap(),
            keyring: options
                .keyring
                .unwrap_or_else(|| Keyring::generate(clock.now()).unwrap()),
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
            log: handle.clone(),
            resolver: options.resolver,
            store: options.store,
            supervisor: Default::default(),
        })?;
        Ok(Self {
            dir,
            clock,
            running,
            database,
            token,
            log,
            handle,
        })
    }

    /// Where deliveries go.
    pub fn proxy(&self) -> SocketAddr {
        match &self.running.proxy()[0] {
            Listen::Tcp(address) => *address,
            Listen::Unix(_) => panic!("a Unix socket"),
        }
    }

    /// The token of whoever came first.
    pub fn bootstrap_token(&self) -> &str {
        &self.token
    }

    /// A connection to the data plane.
    pub fn connect(&self) -> Client {
        Client::connect(self.proxy())
    }

    /// A call of the REST API as the first operator.
    pub fn api(&self, method: &str, path: &str, body: &Value) -> Answer {
        self.api_as(&self.token, method, path, body)
    }

    pub fn api_as(&self, token: &str, method: &str, path: &str, body: &Value) -> Answer {
        leaks::told(self.running.admin().unwrap(), path, body);
        let authorization = format!("Bearer {token}");
        let headers = [
            ("Authorization", authorization.as_str()),
            ("Content-Type", "application/json"),
        ];
        let body = if body.is_null() {
            Vec::new()
        } else {
            body.to_string().into_bytes()
        };
        once(
            self.running.admin().unwrap(),
            &request(method, &format!("/api/v1{path}"), &headers, &body),
        )
    }

    /// A call that has to succeed.
    pub fn must(&self, method: &str, path: &str, body: &Value) -> Value {
        let answer = self.api(method, path, body);
        assert!(
            answer.status < 300,
            "{method} {path}: {} {}",
            answer.status,
            String::from_utf8_lossy(&answer.body)
        );
        if answer.body.is_empty() {
            Value::Null
        } else {
            answer.json()
        }
    }

    /// Registers an extension with this callback and these configuration entries.
    pub fn register(&self, extension: &str, callback: Value, configuration: Value) {
        let delivery = json!({"type": "http", "callback": callback});
        let manifest = json!({"extension": {"id": extension, "delivery": delivery, "configuration": configuration}});
        self.must("PUT", &format!("/extensions/{extension}"), &manifest);
    }

    /// Installs an extension for `org` and `proj`.
    pub fn install(&self, id: &str, extension: &str) {
        self.must(
            "POST",
            "/marketplace/installations",
            &json!({
                "id": id, "extension_id": extension, "organization_id": "org", "project_id": "proj",
            }),
        );
    }

    pub fn enable(&self, id: &str) {
        self.must(
            "PATCH",
            &format!("/marketplace/installations/{id}"),
            &json!({"state": "enabled"}),
        );
    }

    /// Writes a secret of organization `org`.
    pub fn set(&self, scope: &str, id: &str, key: &str, value: &str) -> Value {
        self.must(
            "POST",
            "/extensions/secrets",
            &json!({
                "scope": scope, "id": id, "key": key, "value": value, "organization_id": "org",
            }),
        )
    }

    /// An enabled installation `ins` that delivers the key `KEY` to an endpoint.
    pub fn simple(&self, url: &str) {
        self.register(
            "com.example.simple",
            json!({"url": url}),
            json!({"KEY": {"secret": true}}),
        );
        self.install("ins", "com.example.simple");
        self.enable("ins");
    }

    /// Posts an invocation over a connection of its own.
    pub fn deliver(&self, installation: &str, body: &[u8]) -> Answer {
        once(self.proxy(), &invocation(installation, body))
    }

    /// All that was logged so far.
    pub fn log(&self) -> String {
        self.handle.flush();
        String::from_utf8(self.log.0.lock().unwrap().clone()).unwrap()
    }

    /// Delivery lines so far.
    pub fn lines(&self) -> Vec<Value> {
        let log = self.log();
        let lines = log.lines().map(|line| serde_json::from_str(line).unwrap());
        lines.filter(|line: &Value| line["message"] == "delivery").collect()
    }

    /// Waits for a delivery's line: the last byte of an answer can be there before it.
    pub fn await_line(&self, what: &str, is_it: impl Fn(&Value) -> bool) -> Value {
        let asked = Instant::now();
        loop {
            if let Some(line) = self.lines().into_iter().find(&is_it) {
                return line;
            }
            assert!(asked.elapsed() < PATIENCE, "no line of {what}: {}", self.log());
            self.metrics(); // takes its time, and lets others have theirs
        }
    }

    /// Waits until so many attempts to deliver a notice failed: what became of them is noted by then, or right after.
    pub fn await_failed(&self, count: usize) {
        let asked = Instant::now();
        let failed = |metrics: &str| -> usize {
            let of_notices = metrics.lines().filter(|line| line.starts_with("kiket_notices_total{"));
            let failed = of_notices.filter(|line| line.contains("outcome=\"failed\""));
            failed
                .map(|line| line.rsplit(' ').next().unwrap().parse::<usize>().unwrap())
                .sum()
        };
        while failed(&self.metrics()) < count {
            assert!(asked.elapsed() < PATIENCE, "never: {count} failed attempts");
        }
    }

    /// What the metrics listener answers.
    pub fn metrics(&self) -> String {
        let answer = once(self.running.metrics(), &request("GET", "/metrics", &[], b""));
        String::from_utf8(answer.body).unwrap()
    }
}

/// A folder in memory, where the system has a place for it: how long a shared disk takes is not what is tested here.
fn throw_away() -> TempDir {
    TempDir::new_in("/dev/shm").or_else(|_| TempDir::new()).unwrap()
}

/// An invocation's request.
pub fn invocation(installation: &str, body: &[u8]) -> Vec<u8> {
    let headers = [
        ("Content-Type", "application/json"),
        ("X-Kiket-Installation-Id", installation),
    ];
    request("POST", "/webhooks/issue.created", &headers, body)
}

pub fn set_mode(path: &std::path::Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}
