//! Whatever is wrong with an invocation, its installation or its secrets: nothing is sent, and the right name is told.

use std::sync::Mutex;

use serde_json::{Value, json};

use super::super::support::endpoint::answer;
use super::super::support::fault_proxy::{Fault, FaultProxy, Plan, Way};
use super::super::support::http::{Client, request};
use super::super::support::instance::invocation;
use super::super::support::pki::Authority;
use super::{Act, Expected, JSON, Row, Stage, until};

const INS: (&str, &str) = ("X-Kiket-Installation-Id", "fine");

/// Deliveries that fit in at a time.
const IN_FLIGHT_MAX: usize = 4;

type Head<'a> = &'a [(&'a str, &'a str)];

fn refused(what: &str, name: &'static str, bytes: Vec<u8>) -> Row {
    Row {
        request: Some(bytes),
        ..Row::new(what, Expected::Problem(name))
    }
}

/// What is wrong with what the dispatcher sends.
fn sent() -> Vec<Row> {
    let long = format!("{{\"a\":\"{}\"}}", "x".repeat(1_048_576));
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(128), "]".repeat(128));
    let both = r#"{"extension_installation_id":"other"}"#;
    let plain = [("Content-Type", "text/plain"), INS];
    let encoded = [JSON, INS, ("Content-Encoding", "gzip")];
    let browser = [JSON, INS, ("Origin", "https://example.com")];
    let unknown = [JSON, ("X-Kiket-Installation-Id", "nobody")];
    let fine = [JSON, INS];
    let all: [(&str, &str, &str, &str, Head<'_>, &str); 16] = [
        ("not-json", "malformed-invocation", "POST", "/x", &fine, "{"),
        ("not-an-object", "malformed-invocation", "POST", "/x", &fine, "[]"),
        ("too-deep", "malformed-invocation", "POST", "/x", &fine, &deep),
        (
            "twice",
            "malformed-invocation",
            "POST",
            "/x",
            &fine,
            r#"{"id":1,"id":2}"#,
        ),
        ("for-nobody", "malformed-invocation", "POST", "/x", &[JSON], "{}"),
        ("reserved", "reserved-member", "POST", "/x", &fine, r#"{"SECRETS":1}"#),
        (
            "reserved-and-folded",
            "reserved-member",
            "POST",
            "/x",
            &fine,
            "{\"\u{17f}ecrets\":1}",
        ),
        ("dots", "invalid-path", "POST", "/a/%2e%2e/b", &fine, "{}"),
        (
            "from-a-browser",
            "dispatcher-unauthenticated",
            "POST",
            "/x",
            &browser,
            "{}",
        ),
        ("got", "method-not-allowed", "GET", "/x", &fine, ""),
        ("unknown", "installation-unknown", "POST", "/x", &unknown, "{}"),
        ("two-installations", "scope-mismatch", "POST", "/x", &fine, both),
        (
            "another-organization",
            "scope-mismatch",
            "POST",
            "/x",
            &fine,
            r#"{"organization_id":"other"}"#,
        ),
        ("too-large", "payload-too-large", "POST", "/x", &fine, &long),
        (
            "not-declared-as-json",
            "unsupported-media-type",
            "POST",
            "/x",
            &plain,
            "{}",
        ),
        ("encoded", "unsupported-media-type", "POST", "/x", &encoded, "{}"),
    ];
    let row = |(what, name, method, path, headers, body): (&str, _, &str, &str, Head<'_>, &str)| {
        refused(what, name, request(method, path, headers, body.as_bytes()))
    };
    all.map(row).into()
}

/// What is wrong with installations, which [`furnish`] makes.
fn stored() -> Vec<Row> {
    let row = |installation, name| Row {
        installation: Some(installation),
        ..Row::new(installation, Expected::Problem(name))
    };
    vec![
        row("pending", "installation-not-enabled"),
        row("incomplete", "required-secrets-missing"),
        row("unsigned", "signing-key-missing"),
        row("without-identity", "mtls-identity-missing"),
        row("with-a-bad-identity", "mtls-identity-invalid"),
        row("without-destination", "destination-refused"),
        row("where-nobody-listens", "endpoint-unreachable"),
        row("where-nobody-speaks-tls", "endpoint-tls-failed"),
        row("forged", "internal"),
    ]
}

fn furnish(stage: &Stage) {
    let process = &stage.process;
    let place = |key: &str| format!("/extensions/secrets/{key}?scope=project&id=proj&organization_id=org");
    let (plain, mutual) = (stage.endpoint.url(), format!("https://{}", stage.endpoint.address()));
    let identity = json!({"certificate_key": "CERTIFICATE", "private_key_key": "PRIVATE"});
    let nobody = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let (good, bad) = (
        Authority::new("dev CA").client("org"),
        Authority::new("other").client("org"),
    );
    process.set("KEY", "secret-value-of-the-catalogue");
    process.set("SIGN", "secret-value-that-signs");
    process.set("CERTIFICATE", &good.certificate_pem());
    process.set("PRIVATE", &bad.key_pem());
    stage.install("fine", &json!({"url": plain}));
    let wanting = json!({"KEY": {"secret": true}, "GONE": {"secret": true, "required": true}});
    process.set("GONE", "secret-value-that-goes");
    process.install("incomplete", "com.example.incomplete", &json!({"url": plain}), &wanting);
    process.enable("incomplete");
    process.must("DELETE", &place("GONE"), &Value::Null);
    process.install("pending", "com.example.pending", &json!({"url": plain}), &json!({}));
    stage.install("unsigned", &json!({"url": plain, "signing_secret_key": "SIGN"}));
    process.must("DELETE", &place("SIGN"), &Value::Null);
    stage.install("with-a-bad-identity", &json!({"url": mutual, "mtls": identity}));
    process.set("GOING", &good.certificate_pem());
    let going = json!({"certificate_key": "GOING", "private_key_key": "PRIVATE"});
    stage.install("without-identity", &json!({"url": mutual, "mtls": going}));
    process.must("DELETE", &place("GOING"), &Value::Null);
    stage.install("without-destination", &json!({}));
    stage.install("where-nobody-listens", &json!({"url": format!("http://{nobody}")}));
    stage.install("where-nobody-speaks-tls", &json!({"url": mutual}));
    stage.install("forged", &json!({"url": plain}));
    let forged = "UPDATE installations SET callback_url = 'http://127.0.0.1:1/' WHERE id = 'forged'";
    assert_eq!(process.home.database.damage(forged), 1);
}

/// A delivery too many: as many as fit in are held by an endpoint that does not answer.
fn crowd() -> Row {
    static HELD: Mutex<Option<(Vec<Client>, FaultProxy)>> = Mutex::new(None);
    let arrange: Act = Box::new(|stage| {
        let silent = FaultProxy::start(stage.endpoint.address());
        silent.always(Some(Plan {
            way: Way::Answer,
            at: 0,
            fault: Fault::Stall,
        }));
        stage.install(
            "silent",
            &json!({"url": format!("http://{}", silent.address()), "timeout": 60_000}),
        );
        let send = |_| {
            let mut client = stage.process.connect();
            client.send(&invocation("silent", b"{}"));
            client
        };
        let held = (0..IN_FLIGHT_MAX).map(send).collect();
        silent.wait_for_faults(IN_FLIGHT_MAX);
        *HELD.lock().unwrap() = Some((held, silent));
    });
    let mend: Act = Box::new(|stage| {
        *HELD.lock().unwrap() = None; // they hang up
        let gauge = || String::from_utf8(stage.process.health("/metrics").body).unwrap();
        until("they are gone", || gauge().contains("\nkiket_in_flight 0\n"));
    });
    Row {
        arrange: Some(arrange),
        mend: Some(mend),
        ..Row::new("a-crowd", Expected::Problem("overloaded"))
    }
}

pub(super) fn rows() -> Vec<Row> {
    let mut rows = sent();
    rows.extend(stored());
    rows.push(crowd());
    rows
}

/// What an instance refuses that passes on no answer with a value.
pub(super) fn rows_of_blocking() -> Vec<Row> {
    let echo = b"you sent secret-value-of-the-catalogue";
    vec![Row {
        answer: Some(answer(200, "", echo)),
        ..Row::new("an-echo", Expected::Problem("secret-echoed"))
    }]
}

#[test]
fn a_refused_invocation_reaches_nobody_and_costs_nothing() {
    let in_flight = IN_FLIGHT_MAX.to_string();
    let settings = [
        ("in_flight_max", in_flight.as_str()),
        ("organization_share_percent", "100"),
        ("destination_share_percent", "100"),
        ("bundle_idle", "1h"),
    ];
    let stage = Stage::start(&settings);
    furnish(&stage);
    let seen = stage.endpoint.received().len();
    stage.hold(rows());
    let after = stage.endpoint.received();
    let reached = after[seen..].iter().filter(|request| request.target != "/again");
    let reached: Vec<_> = reached.map(|request| request.target.as_str()).collect();
    // What the crowd sent was taken, and never answered.
    assert!(
        reached.iter().all(|target| *target == "/webhooks/issue.created"),
        "{reached:?}"
    );
}

#[test]
fn an_answer_with_a_value_reaches_nobody_where_that_is_the_policy() {
    Stage::start(&[("echo_policy", "block")]).hold(rows_of_blocking());
}
