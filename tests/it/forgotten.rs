//! Whether a value that was deleted, replaced or not used any more is out of the process's memory in two seconds, idle or
//! not, whatever it was used for and however it came in.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::support::endpoint::Endpoint;
use super::support::http::{Client, request};
use super::support::instance::invocation;
use super::support::memory::occurrences;
use super::support::pki::Authority;
use super::support::process::Process;
use super::support::tls_endpoint::{H1, Setup, TlsEndpoint};

/// How long a value may stay (contract, section 6).
const SOON: Duration = Duration::from_secs(2);

/// How often each value is delivered before it ends: every buffer had its turn.
const DELIVERIES: usize = 20;

const SECRETS: &str = "/extensions/secrets";
const PLACE: &str = "scope=project&id=proj&organization_id=org";

/// An instance in a process of its own, whose every value came in by the REST API, over a connection that its client
/// keeps open.
struct Stage {
    process: Process,
    endpoint: Endpoint,
    mutual: TlsEndpoint,
    authority: Authority,
    operator: Client,
}

impl Stage {
    fn start(settings: &[(&str, &str)]) -> Self {
        let process = Process::with(settings);
        let authority = Authority::new("dev CA");
        let stage = Self {
            endpoint: Endpoint::start(),
            mutual: Setup::mutual(&authority, H1).start(),
            operator: Client::connect(process.admin),
            process,
            authority,
        };
        let process = &stage.process;
        let configuration = json!({"KEY": {"secret": true}});
        process.set("OTHER", "a value that stays");
        let other = json!({"url": stage.endpoint.url()});
        process.install(
            "other",
            "com.example.other",
            &other,
            &json!({"OTHER": {"secret": true}}),
        );
        process.enable("other");
        let signed = json!({"url": stage.endpoint.url(), "signing_secret_key": "SIGN"});
        process.install("ins", "com.example.signed", &signed, &configuration);
        let identity = json!({"certificate_key": "CERT", "private_key_key": "PRIVATE", "ca_key": "CA"});
        let mutual = json!({"url": stage.mutual.url(), "mtls": identity});
        process.install("mtls", "com.example.mutual", &mutual, &json!({}));
        process.set("CA", &stage.authority.pem());
        stage
    }

    /// Writes a value over the operator's connection; once the other end closed it, over the next.
    fn set(&mut self, key: &str, value: &str) {
        let authorization = format!("Bearer {}", self.process.token);
        let headers = [
            ("Authorization", authorization.as_str()),
            ("Content-Type", "application/json"),
        ];
        let secret = json!({"scope": "project", "id": "proj", "key": key, "value": value, "organization_id": "org"});
        let bytes = request(
            "POST",
            &format!("/api/v1{SECRETS}"),
            &headers,
            secret.to_string().as_bytes(),
        );
        self.operator.send(&bytes);
        let answer = self.operator.try_answer().unwrap_or_else(|| {
            self.operator = Client::connect(self.process.admin);
            self.operator.exchange(&bytes)
        });
        assert!(answer.status < 300, "{key}: {}", answer.status);
    }

    fn deliver(&self, installation: &str) {
        let mut client = self.process.connect();
        for _ in 0..DELIVERIES {
            let got = client.exchange(&invocation(installation, b"{\"id\":\"inv\"}"));
            assert_eq!(
                got.status,
                200,
                "{installation}: {}",
                String::from_utf8_lossy(&got.body)
            );
        }
    }

    fn held(&self, needles: &[Vec<u8>]) -> usize {
        needles
            .iter()
            .map(|needle| occurrences(self.process.pid(), needle))
            .sum()
    }

    /// Waits until none of it is there any more, for as long as it may stay after what ended it.
    fn must_forget(&self, needles: &[Vec<u8>], stays: Duration, what: &str) {
        let begun = Instant::now();
        loop {
            let looked_at = begun.elapsed();
            let held = self.held(needles);
            if held == 0 {
                return;
            }
            assert!(looked_at < stays + SOON, "{what}: still {held} times");
            thread::yield_now();
        }
    }

    /// Runs something while others deliver, or nobody does.
    fn beside<T>(&self, is_busy: bool, what: impl FnOnce() -> T) -> T {
        let stop = AtomicBool::new(!is_busy);
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut client = self.process.connect();
                while !stop.load(Ordering::SeqCst) {
                    assert_eq!(client.exchange(&invocation("other", b"{}")).status, 200);
                    // What becomes of these is for the end that they meet to say.
                    let _ = self.process.deliver("ins", b"{}");
                }
            });
            let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(what));
            stop.store(true, Ordering::SeqCst);
            done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
}

fn delete(stage: &Stage, key: &str) {
    stage
        .process
        .must("DELETE", &format!("{SECRETS}/{key}?{PLACE}"), &Value::Null);
}

type End = fn(&Stage);

/// What ends the use of `KEY`.
const ENDS: [(&str, End); 5] = [
    ("deleted", |stage| delete(stage, "KEY")),
    ("replaced", |stage| stage.process.set("KEY", "the next value")),
    ("rolled back", |stage| {
        let place = json!({"scope": "project", "id": "proj", "organization_id": "org"});
        stage.process.must("POST", &format!("{SECRETS}/KEY/rollback"), &place);
    }),
    ("disabled", |stage| {
        let path = "/marketplace/installations/ins";
        stage.process.must("PATCH", path, &json!({"state": "disabled"}));
    }),
    ("uninstalled", |stage| {
        stage
            .process
            .must("DELETE", "/marketplace/installations/ins", &Value::Null);
    }),
];

#[test]
fn an_injected_value_leaves_memory_with_what_ends_its_use_idle_or_not() {
    for is_busy in [false, true] {
        for (name, end) in ENDS {
            let what = format!("{name}, busy: {is_busy}");
            let mut stage = Stage::start(&[]);
            let value = format!("needle-{}-77c0e1", name.replace(' ', "-"));
            stage.set("SIGN", "a secret that signs");
            stage.set("KEY", "the value before");
            stage.set("KEY", &value);
            stage.process.enable("ins");
            stage.deliver("ins");
            let needles = [value.into_bytes()];
            assert!(stage.held(&needles) > 0, "{what}: what is in use is found");
            stage.beside(is_busy, || {
                end(&stage);
                stage.must_forget(&needles, Duration::ZERO, &what);
            });
        }
    }
}

#[test]
fn a_value_that_nobody_uses_any_more_leaves_memory_by_itself() {
    let mut stage = Stage::start(&[("bundle_idle", "1s")]);
    stage.set("SIGN", "needle-of-signatures-31f7");
    stage.set("KEY", "needle-of-payloads-31f7");
    stage.process.enable("ins");
    stage.deliver("ins");
    let needles = ["needle-of-signatures-31f7", "needle-of-payloads-31f7"].map(|text| text.as_bytes().to_vec());
    stage.must_forget(&needles, Duration::from_secs(1), "idle");
}

#[test]
fn a_secret_that_signs_leaves_memory_when_it_is_deleted_or_revoked() {
    let ends: [(&str, End); 2] = [
        ("deleted", |stage| delete(stage, "SIGN")),
        ("revoked", |stage| {
            let next = json!({
                "scope": "project", "id": "proj", "organization_id": "org", "value": "the next", "revoke_now": true,
            });
            stage.process.must("POST", &format!("{SECRETS}/SIGN/rotate"), &next);
        }),
    ];
    for (name, end) in ends {
        // With the assertion on, it is kept in more forms.
        let mut stage = Stage::start(&[("leak_assertion", "true")]);
        let value = format!("needle-signs-{name}-77c0e1");
        stage.set("SIGN", &value);
        stage.process.enable("ins");
        stage.deliver("ins");
        let needles = [value.into_bytes()];
        assert!(stage.held(&needles) > 0, "{name}: what is in use is found");
        end(&stage);
        stage.must_forget(&needles, Duration::ZERO, name);
    }
}

#[test]
fn a_client_key_leaves_memory_when_it_is_deleted_or_replaced() {
    for name in ["deleted", "replaced"] {
        let mut stage = Stage::start(&[]);
        let (identity, next) = (stage.authority.client("org"), stage.authority.client("org"));
        let pem = identity.key_pem();
        stage.set("CERT", &identity.certificate_pem());
        stage.set("PRIVATE", &pem);
        stage.process.enable("mtls");
        stage.deliver("mtls");
        // A line of the file, and the number that is the key, both ways round.
        let line = pem.lines().nth(1).unwrap().as_bytes().to_vec();
        let der = identity.private_key().secret_der().to_vec();
        let at = der.windows(2).position(|bytes| bytes == [0x04, 0x20]).unwrap() + 2;
        let number = der[at..at + 32].to_vec();
        let reversed: Vec<u8> = number.iter().rev().copied().collect();
        let needles = [line, number, reversed];
        assert!(stage.held(&needles) > 0, "{name}: what is in use is found");
        if name == "deleted" {
            delete(&stage, "PRIVATE");
        } else {
            stage.set("PRIVATE", &next.key_pem());
            stage.set("CERT", &next.certificate_pem());
            stage.deliver("mtls");
        }
        stage.must_forget(&needles, Duration::ZERO, name);
    }
}
