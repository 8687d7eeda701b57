//! A long run with faults: no byte of any secret comes out, and what is replaced on the way is out of memory in time.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use super::support::canary::Canary;
use super::support::endpoint::{Endpoint, Received, answer};
use super::support::fault_proxy::{Fault, FaultProxy, Plan, Way};
use super::support::http::{Answer, Client, request};
use super::support::memory::occurrences;
use super::support::pki::{Authority, Identity};
use super::support::process::{Home, Process};
use super::support::referred::{Backend, VaultBackend};
use super::support::tls_endpoint::{H1, Reply, Setup, TlsEndpoint};
use super::support::usage::resident_kib;

/// How many deliveries, where long runs are asked for and elsewhere.
const DELIVERIES_FULL: usize = 100_000;
const DELIVERIES: usize = 3_000;

/// One of so many meets a fault.
const FAULTED_EACH: usize = 20;

/// How often a value is replaced meanwhile.
const REPLACED: usize = 12;

/// How long a value may stay (contract, section 6).
const SOON: Duration = Duration::from_secs(2);

/// How long a delivery may hang at an endpoint that stalls: its value is in use for as long, and has to be out of it well
/// before a value that was replaced may be there no more.
const IN_USE_MILLIS: u64 = 1_500;

/// What every secret of this run begins with, and how some end.
const BEGINNING: &str = "cnry-7d1f3a-";
const ODD: &str = "/\u{fc}\" \\\u{1f511}";

/// How much memory may grow.
const GROWTH_KIB_MAX: u64 = 64 * 1024;

/// The three ways in which values come in and are used.
const INSTALLATIONS: [&str; 3] = ["api", "vault", "mutual"];

/// What is done to a delivery. The network's faults need a connection of their own.
#[derive(Clone, Copy)]
enum Trouble {
    Network(Way, usize, u8),
    /// The endpoint does this, by its path.
    Endpoint(&'static str),
    /// The dispatcher sends this instead.
    Dispatcher(&'static str),
}

const CUT: u8 = 0;
const RESET: u8 = 1;
const STALL: u8 = 2;

const TROUBLES: [Trouble; 12] = [
    Trouble::Network(Way::Answer, 30, CUT),
    Trouble::Endpoint("/echo"),
    Trouble::Network(Way::Request, 300, RESET),
    Trouble::Endpoint("/garbage"),
    Trouble::Dispatcher(r#"{"id":"#),
    Trouble::Network(Way::Answer, 36, RESET),
    Trouble::Endpoint("/redirect"),
    Trouble::Endpoint("/fails"),
    Trouble::Dispatcher(r#"{"secrets":{}}"#),
    Trouble::Network(Way::Request, 600, CUT),
    Trouble::Endpoint("/closes"),
    Trouble::Network(Way::Answer, 10, STALL),
];

/// What an endpoint answers that lets secrets out as well as it can.
fn lets_out(target: &str, body: &[u8]) -> Option<(u16, &'static str, Vec<u8>)> {
    match target {
        "/echo" => Some((200, "X-Echo", body.to_vec())),
        "/fails" => Some((500, "X-Echo", [b"cannot handle ", body].concat())),
        "/redirect" => Some((302, "Location", Vec::new())),
        _ => None,
    }
}

fn value(n: usize) -> String {
    format!("{BEGINNING}{n:06}{ODD}")
}

struct Run {
    process: Process,
    plain: Endpoint,
    tls: TlsEndpoint,
    backend: VaultBackend,
    networks: HashMap<&'static str, FaultProxy>,
    identity: Identity,
    canary: Canary,
}

impl Run {
    fn start() -> Self {
        let authority = Authority::new("dev CA");
        let plain = Endpoint::scripted(Arc::new(|received: &Received| {
            let secret = || {
                let json = received.json();
                json["secrets"]
                    .as_object()?
                    .values()
                    .next()?
                    .as_str()
                    .map(str::to_owned)
            };
            match received.target.as_str() {
                "/garbage" => Some(format!("{}\r\n\r\n", secret()?).into_bytes()),
                "/closes" => None,
                "/last" => Some(answer(200, "Connection: close\r\n", b"{}")),
                target => Some(match lets_out(target, &received.body) {
                    Some((status, name, body)) => answer(status, &format!("{name}: /{}\r\n", secret()?), &body),
                    None => answer(200, "", b"{}"),
                }),
            }
        }));
        let tls = Setup::mutual(&authority, H1)
            .script(|seen| {
                if ["/garbage", "/closes"].contains(&seen.path.as_str()) {
                    return Reply::Reset(h2::Reason::INTERNAL_ERROR);
                }
                let (status, _, body) = lets_out(&seen.path, &seen.body).unwrap_or((200, "", b"{}".to_vec()));
                let response = http::Response::builder().status(status).body(body.into()).unwrap();
                if seen.path == "/last" {
                    Reply::Last(response)
                } else {
                    Reply::Whole(response)
                }
            })
            .start();
        let home = Home::new();
        let command = home.serve(&[("log", "trace"), ("bundle_idle", "1h"), ("max_stale", "1h")]);
        let run = Self {
            process: Process::spawn(home, command),
            networks: INSTALLATIONS
                .map(|name| {
                    let to = tls.url().trim_start_matches("https://").parse().unwrap();
                    (
                        name,
                        FaultProxy::start(if name == "mutual" { to } else { plain.address() }),
                    )
                })
                .into(),
            plain,
            backend: VaultBackend::start(),
            identity: authority.client("org"),
            tls,
            canary: Canary::new(BEGINNING.trim_end_matches('-')),
        };
        run.furnish(&authority);
        run
    }

    fn furnish(&self, authority: &Authority) {
        let process = &self.process;
        for (key, value) in self.backend.credentials() {
            let secret = json!({"scope": "organization", "id": "org", "key": key, "value": value});
            process.must("POST", "/extensions/secrets", &secret);
        }
        self.backend.put(&value(1));
        process.must("PUT", "/organizations/org/providers/main", &self.backend.document());
        let link = json!({
            "scope": "project", "id": "proj", "organization_id": "org", "external_secret_name": self.backend.reference(),
        });
        process.must("POST", "/extensions/secrets/REFERRED/link", &link);
        for (key, value) in [
            ("KEY", value(0)),
            ("SIGN", format!("{BEGINNING}signs{ODD}")),
            ("CERTIFICATE", self.identity.certificate_pem()),
            ("PRIVATE", self.identity.key_pem()),
            ("CA", authority.pem()),
        ] {
            process.set(key, &value);
        }
        let identity = json!({"certificate_key": "CERTIFICATE", "private_key_key": "PRIVATE", "ca_key": "CA"});
        let url = |name: &str, scheme: &str| format!("{scheme}://{}", self.networks[name].address());
        for (name, callback, key) in [
            (
                "api",
                json!({"url": url("api", "http"), "timeout": IN_USE_MILLIS, "signing_secret_key": "SIGN"}),
                "KEY",
            ),
            (
                "vault",
                json!({"url": url("vault", "http"), "timeout": IN_USE_MILLIS}),
                "REFERRED",
            ),
            (
                "mutual",
                json!({"url": url("mutual", "https"), "timeout": 20_000, "mtls": identity}),
                "KEY",
            ),
        ] {
            let configuration = json!({key: {"secret": true, "required": true}});
            process.install(name, &format!("com.example.{name}"), &callback, &configuration);
            process.enable(name);
        }
    }

    /// One dispatcher's part of the run. Returns how many faults it met.
    fn deliver(&self, installation: &'static str, count: usize, told: &mpsc::Sender<()>) -> usize {
        let mut client = self.process.connect();
        let mut faults = 0;
        for n in 0..count {
            let trouble = (n % FAULTED_EACH == FAULTED_EACH - 1).then(|| TROUBLES[faults % TROUBLES.len()]);
            faults += usize::from(trouble.is_some());
            let mut path = "/webhooks/issue.created";
            let mut body = format!("{{\"id\":\"{installation}-{n}\",\"payload\":\"{}\"}}", "p".repeat(600));
            match trouble {
                None if n % FAULTED_EACH == FAULTED_EACH - 2 => path = "/last",
                None => {}
                Some(Trouble::Network(way, at, fault)) => {
                    let fault = match fault {
                        CUT => Fault::Cut,
                        // In a handshake there is more time than a test has.
                        STALL if installation != "mutual" => Fault::Stall,
                        _ => Fault::Reset,
                    };
                    self.networks[installation].next(Plan { way, at, fault });
                }
                Some(Trouble::Endpoint(other)) => path = other,
                Some(Trouble::Dispatcher(other)) => other.clone_into(&mut body),
            }
            let answer = self.exchange(&mut client, installation, path, &body);
            let what = || {
                format!(
                    "{installation} {n} {path}: {} {:?} {}",
                    answer.status,
                    answer.headers,
                    String::from_utf8_lossy(&answer.body)
                )
            };
            assert_eq!(self.canary.found_in(&whole(&answer)), None, "{}", what());
            match trouble {
                None => assert_eq!(answer.status, 200, "{}", what()),
                // Cut within a handshake, it is tried again: nothing was sent.
                Some(Trouble::Network(..)) if installation == "mutual" && answer.status == 200 => {}
                Some(Trouble::Network(..)) => assert!(answer.status >= 502, "{}", what()),
                Some(Trouble::Dispatcher(_)) => assert_eq!(answer.status, 400, "{}", what()),
                Some(Trouble::Endpoint("/echo")) => {
                    let text = String::from_utf8_lossy(&answer.body).into_owned();
                    assert!(answer.status == 200 && text.contains("[redacted:"), "{}", what());
                }
                Some(Trouble::Endpoint(_)) => assert!(answer.status >= 500, "{}", what()),
            }
            told.send(()).unwrap();
        }
        faults
    }

    fn exchange(&self, client: &mut Client, installation: &str, path: &str, body: &str) -> Answer {
        let headers = [
            ("Content-Type", "application/json"),
            ("X-Kiket-Installation-Id", installation),
        ];
        let bytes = request("POST", path, &headers, body.as_bytes());
        client.send(&bytes);
        client.try_answer().unwrap_or_else(|| {
            *client = self.process.connect();
            client.exchange(&bytes)
        })
    }

    /// Replaces values while deliveries go on, and looks whether the old ones leave memory in time. Returns how many
    /// deliveries it heard of.
    fn replace(&self, total: usize, done: &mpsc::Receiver<()>) -> usize {
        let (mut count, mut at) = (0, [0, 1]); // which value each way has
        for n in 0..REPLACED {
            let heard = done.iter().take((total * n / REPLACED).saturating_sub(count));
            count += heard.count();
            self.look();
            let (way, next) = (n % 2, n + 2);
            let old = value(at[way]);
            if way == 0 {
                self.process.set("KEY", &value(next));
            } else {
                self.backend.put(&value(next));
                let place = json!({"scope": "project", "id": "proj", "organization_id": "org"});
                self.process
                    .must("POST", "/extensions/secrets/REFERRED/refresh", &place);
            }
            at[way] = next;
            // Without its odd end: in the fragment it is written in another way.
            self.must_forget(old.trim_end_matches(ODD));
        }
        count + done.iter().count()
    }

    fn must_forget(&self, text: &str) {
        let begun = Instant::now();
        loop {
            let looked_at = begun.elapsed();
            let held = occurrences(self.process.pid(), text.as_bytes());
            if held == 0 {
                return;
            }
            assert!(looked_at < SOON, "{text}: still {held} times");
        }
    }

    /// Nothing is in what the listeners tell.
    fn look(&self) {
        for path in ["/metrics", "/readyz"] {
            assert_eq!(self.canary.found_in(&whole(&self.process.health(path))), None, "{path}");
        }
        for path in [
            "/extensions/secrets?organization_id=org",
            "/secrets/audit?organization_id=org",
            "/secrets/alerts",
        ] {
            let answer = self.process.call("GET", path, b"");
            assert!(
                answer.status == 200 && self.canary.found_in(&whole(&answer)).is_none(),
                "{path}"
            );
        }
    }
}

fn whole(answer: &Answer) -> Vec<u8> {
    [format!("{:?}", answer.headers).into_bytes(), answer.body.clone()].concat()
}

/// Every file below a folder but the keys and tokens that an operator put there.
fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let named = entries.map(|path| (path.display().to_string(), fs::read(&path).unwrap()));
    named.filter(|(name, _)| !name.ends_with("master.key")).collect()
}

#[test]
fn in_a_long_run_with_faults_no_secret_comes_out_and_what_is_replaced_leaves_memory() {
    let is_full = std::env::var("KIKET_TEST_SCALE").is_ok_and(|scale| scale == "full");
    let total = if is_full { DELIVERIES_FULL } else { DELIVERIES };
    let each = total.div_ceil(INSTALLATIONS.len()).next_multiple_of(FAULTED_EACH);
    let run = Run::start();
    let mut warm = run.process.connect();
    for installation in INSTALLATIONS {
        assert_eq!(run.exchange(&mut warm, installation, "/last", "{}").status, 200);
    }
    drop(warm);
    let memory = resident_kib(run.process.pid());
    let (delivered, faults) = thread::scope(|scope| {
        let (told, done) = mpsc::channel();
        let dispatchers = INSTALLATIONS.map(|installation| {
            let (run, told) = (&run, told.clone());
            scope.spawn(move || run.deliver(installation, each, &told))
        });
        drop(told);
        let delivered = run.replace(total, &done);
        let faults = dispatchers.map(|dispatcher| dispatcher.join().unwrap());
        (delivered, faults.iter().sum::<usize>())
    });
    run.look();
    assert!(
        delivered >= total && faults >= total / FAULTED_EACH,
        "{delivered} and {faults}"
    );
    let grown = resident_kib(run.process.pid()).saturating_sub(memory);
    assert!(grown < GROWTH_KIB_MAX, "{grown} KiB more than before");

    let received = run.plain.received();
    let mut seen: HashMap<String, usize> = HashMap::new();
    let bodies = received.iter().map(|request| request.json());
    for body in bodies.chain(run.tls.seen().iter().map(|request| request.json())) {
        if let Some(id) = body["id"].as_str() {
            *seen.entry(id.to_owned()).or_default() += 1;
        }
    }
    assert!(seen.values().all(|times| *times == 1), "a delivery came twice");
    assert!(
        run.canary.found_in(&received[received.len() / 2].body).is_some(),
        "the search finds what is there"
    );
    ends(run, delivered);
}

/// What is left of the run: files while it runs and afterwards, the process table, and all that was logged.
fn ends(run: Run, delivered: usize) {
    let pid = run.process.pid();
    let mut places = files(run.process.home.path());
    for name in ["cmdline", "environ"] {
        let path = format!("/proc/{pid}/{name}");
        places.push((path.clone(), fs::read(path).unwrap()));
    }
    let home = Arc::clone(&run.process.home);
    let Run {
        process,
        identity,
        canary,
        ..
    } = run;
    let ended = process.stop();
    assert_eq!(ended.code, Some(0));
    places.extend(files(home.path()));
    let lines = ended.stderr.matches("\"message\":\"delivery\"").count();
    places.push(("log".to_owned(), ended.stderr.into_bytes()));
    places.push(("stdout".to_owned(), ended.stdout.into_bytes()));
    let key = identity.key_pem();
    let key = key.lines().nth(1).unwrap();
    for (place, bytes) in &places {
        assert_eq!(canary.found_in(bytes), None, "in {place}");
        assert!(
            !String::from_utf8_lossy(bytes).contains(key),
            "the private key in {place}"
        );
    }
    assert!(lines >= delivered, "each delivery has its line: {lines}");
    assert!(places.iter().any(|(name, _)| name.ends_with("kiket.db")));
}
