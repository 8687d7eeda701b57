//! The catalogue of faults: whatever goes wrong, there is one answer, the right one, and the next delivery is as good as
//! before.
//!
//! Each row is one fault. After it: exactly one answer, with the status and problem of the contract's table and
//! `Proxy-Status`; one line in the log; at most one complete request at the endpoint; a next delivery that succeeds, over
//! the same inbound connection where that is still open, with nothing left of the faulted one in it; and as many
//! descriptors and about as much memory as before.

mod endpoint;
mod provider;
mod refusals;
mod store;

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use kiket_sidecar::domain::problem::Problem;
use serde_json::{Value, json};

use super::support::endpoint::{Endpoint, Received, answer};
use super::support::fault_proxy::{FaultProxy, Plan};
use super::support::http::{Answer, Client, request};
use super::support::process::Process;
use super::support::usage::{await_descriptors, descriptors, resident_kib};

/// Longer than anything takes; a test that hangs fails.
const PATIENCE: Duration = Duration::from_secs(30);

/// How much memory may grow over all rows of a stage: their installations, buffers of the allocator, the log.
const GROWTH_KIB_MAX: u64 = 48 * 1024;

/// What an endpoint has for a delivery altogether.
const TIMEOUT_MILLIS: u64 = 700;

/// The contract's table (section 5), and what RFC 9209 calls it.
const TABLE: [(&str, u16, bool, &str); 30] = [
    ("malformed-invocation", 400, false, "http_request_error"),
    ("reserved-member", 400, false, "http_request_denied"),
    ("invalid-path", 400, false, "http_request_error"),
    ("dispatcher-unauthenticated", 401, false, "http_request_denied"),
    ("runtime-token-invalid", 403, false, "http_request_denied"),
    ("method-not-allowed", 405, false, "http_request_error"),
    ("installation-unknown", 404, false, "destination_not_found"),
    ("scope-mismatch", 409, false, "http_request_denied"),
    ("installation-not-enabled", 409, false, "http_request_denied"),
    ("destination-unconfirmed", 409, false, "http_request_denied"),
    ("payload-too-large", 413, false, "http_request_error"),
    ("unsupported-media-type", 415, false, "http_request_error"),
    ("required-secrets-missing", 424, false, "proxy_configuration_error"),
    ("signing-key-missing", 424, false, "proxy_configuration_error"),
    ("mtls-identity-missing", 424, false, "proxy_configuration_error"),
    ("internal", 500, true, "proxy_internal_error"),
    ("endpoint-unreachable", 502, true, "destination_unavailable"),
    ("endpoint-tls-failed", 502, true, "tls_protocol_error"),
    ("endpoint-protocol-error", 502, false, "http_protocol_error"),
    ("endpoint-redirected", 502, false, "http_protocol_error"),
    ("destination-refused", 502, false, "destination_ip_prohibited"),
    ("mtls-identity-invalid", 502, false, "proxy_configuration_error"),
    ("secret-echoed", 502, false, "http_request_denied"),
    ("response-too-large", 502, false, "http_response_body_size"),
    ("secret-source-unavailable", 503, true, "proxy_internal_error"),
    ("store-unavailable", 503, true, "proxy_internal_error"),
    ("overloaded", 503, true, "connection_limit_reached"),
    ("endpoint-circuit-open", 503, true, "destination_unavailable"),
    ("draining", 503, true, "proxy_internal_response"),
    ("endpoint-timeout", 504, true, "http_response_timeout"),
];

/// Refusals that need more than one process, or one that does not outlive them: shown by tests of their own.
const ELSEWHERE: [&str; 4] = [
    "runtime-token-invalid",
    "destination-unconfirmed",
    "endpoint-circuit-open",
    "draining",
];

/// What is done to a stage before a row, or after its answer.
type Act = Box<dyn Fn(&Stage)>;

/// What the dispatcher is answered.
#[derive(Debug, Clone, Copy)]
enum Expected {
    Problem(&'static str),
    /// The endpoint's own answer.
    Passed(u16),
}

/// What the endpoint answers, by path.
type Answers = Arc<Mutex<HashMap<String, Vec<u8>>>>;

/// One fault.
struct Row {
    /// Unique; the path of its request.
    what: String,
    expected: Expected,
    /// What the network does.
    plan: Option<Plan>,
    /// What the endpoint answers.
    answer: Option<Vec<u8>>,
    /// What the dispatcher sends; an invocation that nothing is wrong with where `None`.
    request: Option<Vec<u8>>,
    /// Whom the invocation is for; one that nothing is wrong with where `None`.
    installation: Option<&'static str>,
    arrange: Option<Act>,
    mend: Option<Act>,
}

impl Row {
    fn new(what: impl Into<String>, expected: Expected) -> Self {
        Self {
            what: what.into(),
            expected,
            plan: None,
            answer: None,
            request: None,
            installation: None,
            arrange: None,
            mend: None,
        }
    }

    fn invocation(&self, installation: &str) -> Vec<u8> {
        let headers = [JSON, ("X-Kiket-Installation-Id", installation)];
        let body = json!({"id": self.what, "payload": "p".repeat(600)}).to_string();
        request("POST", &format!("/{}", self.what), &headers, body.as_bytes())
    }
}

const JSON: (&str, &str) = ("Content-Type", "application/json");

/// The product in a process of its own, and an endpoint that each row has its own way to.
struct Stage {
    process: Process,
    endpoint: Endpoint,
    answers: Answers,
    /// What the process has open while nobody is connected.
    descriptors: usize,
}

impl Stage {
    fn start(settings: &[(&str, &str)]) -> Self {
        let answers = Answers::default();
        let scripted = Arc::clone(&answers);
        let endpoint = Endpoint::scripted(Arc::new(move |received: &Received| {
            if let Some(bytes) = scripted.lock().unwrap().get(&received.target) {
                return Some(bytes.clone());
            }
            let close = if received.target == "/again" {
                "Connection: close\r\n"
            } else {
                ""
            };
            Some(answer(200, close, received.target.as_bytes()))
        }));
        let process = Process::with(settings);
        Self {
            descriptors: descriptors(process.pid()),
            process,
            endpoint,
            answers,
        }
    }

    /// An enabled installation with this callback and a value.
    fn install(&self, installation: &str, callback: &Value) {
        let configuration = json!({"KEY": {"secret": true, "required": true}});
        let extension = format!("com.example.{installation}");
        self.process.install(installation, &extension, callback, &configuration);
        self.process.enable(installation);
    }

    /// Holds every row, one after another.
    fn hold(&self, rows: Vec<Row>) {
        self.process.set("KEY", "secret-value-of-the-catalogue");
        let begun = resident_kib(self.process.pid());
        // All rows, so that one that fails does not hide the others: each says why by itself.
        let failed: Vec<&str> = rows
            .iter()
            .enumerate()
            .filter(|(n, row)| catch_unwind(AssertUnwindSafe(|| self.hold_one(*n, row))).is_err())
            .map(|(_, row)| row.what.as_str())
            .collect();
        assert!(failed.is_empty(), "{failed:?}");
        let grown = resident_kib(self.process.pid()).saturating_sub(begun);
        assert!(grown < GROWTH_KIB_MAX, "{grown} KiB more than before");
        let log = self.process.log.text();
        assert!(!log.contains("secret-value"), "a value is in the log");
        assert!(!log.contains("panicked"), "{log}");
    }

    fn hold_one(&self, n: usize, row: &Row) {
        let what = row.what.as_str();
        let proxy = FaultProxy::start(self.endpoint.address());
        let own = format!("r{n}");
        let url = format!("http://{}", proxy.address());
        self.install(&own, &json!({"url": url, "timeout": TIMEOUT_MILLIS}));
        self.again(&own, None, what);
        row.arrange.iter().for_each(|arrange| arrange(self));
        row.plan.iter().for_each(|plan| proxy.next(plan.clone()));
        row.answer.iter().for_each(|answer| {
            let _ = self.answers.lock().unwrap().insert(format!("/{what}"), answer.clone());
        });
        let invocation = row.invocation(row.installation.unwrap_or(&own));
        let mut client = self.process.connect();
        let got = client.exchange(row.request.as_ref().unwrap_or(&invocation));
        self.assert_answer(row, &got);
        if row.plan.is_some() {
            proxy.wait_for_faults(1);
        }
        row.mend.iter().for_each(|mend| mend(self));

        self.again(&own, Some(client), what);
        await_descriptors(self.process.pid(), self.descriptors, what);
        let path = format!("/{what}");
        let complete = self
            .endpoint
            .received()
            .iter()
            .filter(|request| request.target == path)
            .count();
        assert!(complete <= 1, "{what}: {complete} complete requests");
        // Whatever was wrong with a connection, nothing else goes over it: one before, the faulted one, one after.
        assert!(row.plan.is_none() || proxy.connections() >= 3, "{what}: used again");
        let delivery = got.header("x-kiket-delivery-id").unwrap().to_owned();
        self.process.log.wait_for(&delivery, 1);
        let of_it = self.process.log.text().matches(delivery.as_str()).count();
        assert_eq!(of_it, 1, "{what}: one line");
    }

    fn assert_answer(&self, row: &Row, got: &Answer) {
        let what = format!("{}: {got:?} {}", row.what, String::from_utf8_lossy(&got.body));
        let status = got.header("proxy-status").unwrap_or_else(|| panic!("{what}"));
        let name = match row.expected {
            Expected::Passed(passed) => {
                assert_eq!(
                    (got.status, status),
                    (passed, format!("kiket; received-status={passed}").as_str()),
                    "{what}"
                );
                return;
            }
            Expected::Problem(name) => name,
        };
        assert!(status.starts_with("kiket; error="), "{what}");
        let (_, code, retryable, error) = TABLE.iter().find(|(row, ..)| *row == name).unwrap();
        super::support::problem::assert_problem(got, *code, name, *retryable, &what);
        assert_eq!(status, format!("kiket; error={error}"), "{what}");
    }

    /// A delivery with nothing wrong, the last over its connections: over the one that is there, if it still is.
    fn again(&self, installation: &str, client: Option<Client>, what: &str) {
        let headers = [JSON, ("X-Kiket-Installation-Id", installation), ("Connection", "close")];
        let bytes = request("POST", "/again", &headers, b"{}");
        let over_it = client.and_then(|mut client| {
            client.send(&bytes);
            let got = client.try_answer()?;
            Some((client, got))
        });
        let (mut client, got) = over_it.unwrap_or_else(|| {
            let mut client = self.process.connect();
            let got = client.exchange(&bytes);
            (client, got)
        });
        let body = String::from_utf8_lossy(&got.body).into_owned();
        assert_eq!(
            (got.status, body.as_str()),
            (200, "/again"),
            "{what}: the next delivery"
        );
        assert!(client.is_closed(), "{what}: more than one answer");
    }
}

/// Asks until it is so.
fn until(what: &str, is_so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "never: {what}");
    }
}

#[test]
fn the_catalogue_has_a_row_for_every_refusal_and_its_table_is_the_products() {
    let rows = [
        endpoint::rows(),
        refusals::rows(),
        refusals::rows_of_blocking(),
        store::rows(),
        provider::names(),
    ];
    let mut expected: Vec<&str> = ELSEWHERE.to_vec();
    for row in rows.iter().flatten() {
        match row.expected {
            Expected::Problem(name) => expected.push(name),
            Expected::Passed(_) => {}
        }
    }
    assert_eq!(TABLE.len(), Problem::ALL.len());
    for ((name, status, retryable, error), problem) in TABLE.iter().zip(Problem::ALL) {
        let product = (
            problem.name(),
            problem.status(),
            problem.retryable(),
            problem.proxy_status(),
        );
        assert_eq!((*name, *status, *retryable, *error), product);
        assert!(expected.contains(name), "{name} has no row");
    }
}
