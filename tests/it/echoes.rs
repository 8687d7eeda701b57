//! Whether an injected value that an endpoint gives back reaches the dispatcher, who may store it.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use data_encoding::{BASE64, HEXLOWER};
use serde_json::{Value, json};

use super::support::endpoint::{Endpoint, Received, answer};
use super::support::http::Answer;
use super::support::instance::Instance;
use super::support::problem::assert_problem;

const VALUE: &str = "s3cret/\"value\u{e9} of an extension";
const SHORT: &str = "1234567";

/// The value as a URL's encoder writes it.
const PERCENT: &str = "s3cret%2F%22value%C3%A9%20of%20an%20extension";

/// How something writes a value.
type Form = fn(&str) -> String;

/// What the endpoint answers next: made of the value that it received.
type Next = Arc<Mutex<Box<dyn Fn(&str) -> Vec<u8> + Send>>>;

/// An instance with this policy, and an endpoint that answers as it is told.
fn echoing(policy: &str) -> (Instance, Next) {
    let next: Next = Arc::new(Mutex::new(Box::new(|_| answer(200, "", b"ok"))));
    let script = Arc::clone(&next);
    let endpoint = Endpoint::scripted(Arc::new(move |received: &Received| {
        let value = received.secret("KEY").unwrap();
        assert_eq!(
            (value.as_str(), received.secret("PIN").as_deref()),
            (VALUE, Some(SHORT))
        );
        Some(script.lock().unwrap()(&value))
    }));
    let instance = Instance::with(super::support::instance::Options {
        settings: &[("echo_policy", policy)],
        ..Default::default()
    });
    let configuration = json!({"KEY": {"secret": true}, "PIN": {"secret": true}});
    instance.register("com.example.echo", json!({"url": endpoint.url()}), configuration);
    instance.install("ins", "com.example.echo");
    instance.enable("ins");
    instance.set("organization", "org", "KEY", VALUE);
    instance.set("project", "proj", "PIN", SHORT);
    (instance, next)
}

fn deliver(instance: &Instance, next: &Next, answers: impl Fn(&str) -> Vec<u8> + Send + 'static) -> Answer {
    *next.lock().unwrap() = Box::new(answers);
    instance.deliver("ins", b"{}")
}

fn chunked(pieces: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = b"HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\nETag: \"of-the-body\"\r\n\r\n".to_vec();
    for piece in pieces.iter().filter(|piece| !piece.is_empty()) {
        bytes.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
        bytes.extend_from_slice(piece);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"0\r\n\r\n");
    bytes
}

fn text(answer: &Answer) -> String {
    String::from_utf8(answer.body.clone()).unwrap()
}

#[test]
fn a_value_is_replaced_in_a_short_answer_and_the_length_is_right() {
    let (instance, next) = echoing("redact");
    let forms: [(&str, Form); 5] = [
        ("raw", |value| value.to_owned()),
        ("JSON", |value| serde_json::to_string(value).unwrap()),
        ("hex", |value| HEXLOWER.encode(value.as_bytes())),
        ("base64", |value| BASE64.encode(format!("12{value}34").as_bytes())),
        ("percent", |_| PERCENT.to_owned()),
    ];
    for (name, form) in forms {
        let got = deliver(&instance, &next, move |value| {
            answer(
                200,
                "ETag: \"x\"\r\nX-Kept: yes\r\n",
                format!("<{}>", form(value)).as_bytes(),
            )
        });
        assert!(text(&got).contains("[redacted:KEY]"), "{name}: {}", text(&got));
        assert!(!text(&got).contains(VALUE), "{name}");
        assert_eq!(
            got.header("content-length"),
            Some(got.body.len().to_string().as_str()),
            "{name}"
        );
        assert_eq!(
            (got.header("etag"), got.header("x-kept")),
            (None, Some("yes")),
            "{name}"
        );
    }
    let got = deliver(&instance, &next, |_| {
        answer(200, "ETag: \"x\"\r\n", format!("PIN {SHORT}").as_bytes())
    });
    assert_eq!(
        text(&got),
        format!("PIN {SHORT}"),
        "values under eight bytes are not looked for"
    );
    assert_eq!(
        got.header("etag"),
        Some("\"x\""),
        "an answer without a value is as it came"
    );
}

#[test]
fn a_value_is_replaced_in_header_fields() {
    let (instance, next) = echoing("redact");
    let got = deliver(&instance, &next, |value| {
        let encoded = BASE64.encode(value.as_bytes());
        answer(
            201,
            &format!("X-Debug: token={encoded}!\r\nLocation: /{PERCENT}\r\n"),
            b"",
        )
    });
    assert_eq!(got.status, 201);
    assert!(
        got.header("x-debug").unwrap().starts_with("token=[redacted:KEY]"),
        "{got:?}"
    );
    assert_eq!(got.header("location"), Some("/[redacted:KEY]"));
}

#[test]
fn a_long_answer_is_redacted_as_it_passes_wherever_its_pieces_end() {
    let (instance, next) = echoing("redact");
    let filler = vec![b'.'; 70_000];
    for cut in 0..=VALUE.len() {
        let before = filler.clone();
        let got = deliver(&instance, &next, move |value| {
            let (one, other) = value.as_bytes().split_at(cut);
            let first = [before.as_slice(), one].concat();
            let second = [other, before.as_slice()].concat();
            chunked(&[first, second])
        });
        assert_eq!(got.header("content-length"), None);
        assert_eq!(got.header("etag"), None);
        let expected = [filler.as_slice(), b"[redacted:KEY]", &filler].concat();
        assert!(got.body == expected, "cut at {cut}: {} bytes", got.body.len());
    }
    let long = filler.repeat(20);
    let answered = long.clone();
    let got = deliver(&instance, &next, move |_| answer(200, "", &answered));
    assert!(got.body == long, "a long answer without a value passes");
}

#[test]
fn where_the_policy_is_to_block_nothing_of_an_answer_with_a_value_passes() {
    let (instance, next) = echoing("block");
    let filler = vec![b'.'; 70_000];
    let in_body = filler.clone();
    let got = deliver(&instance, &next, move |value| {
        chunked(&[in_body.clone(), value.as_bytes().to_vec(), in_body.clone()])
    });
    assert_problem(&got, 502, "secret-echoed", false, "body");
    let got = deliver(&instance, &next, |value| {
        answer(200, &format!("X-Debug: {}\r\n", HEXLOWER.encode(value.as_bytes())), b"")
    });
    assert_problem(&got, 502, "secret-echoed", false, "header");
    let answered = filler.clone();
    let got = deliver(&instance, &next, move |_| {
        chunked(&[answered.clone(), answered.clone()])
    });
    assert!(got.status == 200 && got.body == filler.repeat(2), "{}", got.status);
}

#[test]
fn where_the_guard_is_off_everything_passes() {
    let (instance, next) = echoing("off");
    let got = deliver(&instance, &next, |value| {
        let debug = HEXLOWER.encode(value.as_bytes());
        answer(
            200,
            &format!("X-Debug: {debug}\r\nContent-Encoding: br\r\n"),
            value.as_bytes(),
        )
    });
    assert_eq!(
        (text(&got).as_str(), got.header("content-encoding")),
        (VALUE, Some("br"))
    );
    assert!(got.header("x-debug").unwrap().starts_with("7333"));
    let (guarded, next) = echoing("redact");
    let got = deliver(&guarded, &next, |_| answer(200, "Content-Encoding: br\r\n", b"?"));
    assert_problem(&got, 502, "endpoint-protocol-error", false, "nobody can look into it");
}

#[test]
fn an_echo_is_counted_audited_and_alerted_once_a_day() {
    let (instance, next) = echoing("redact");
    for _ in 0..3 {
        deliver(&instance, &next, |value| answer(200, "", value.repeat(2).as_bytes()));
    }
    assert!(instance.metrics().contains("\nkiket_echoes_total 6\n"));
    let ask = |path: &str| {
        instance.must("GET", path, &Value::Null)["data"]
            .as_array()
            .unwrap()
            .clone()
    };
    let begun = Instant::now();
    let echoed = || ask("/secrets/audit?action=secret.echoed&organization_id=org");
    let count = |entries: &[Value]| {
        entries
            .iter()
            .map(|entry| entry["count"].as_u64().unwrap())
            .sum::<u64>()
    };
    while count(&echoed()) < 6 {
        assert!(
            begun.elapsed() < Duration::from_secs(30),
            "never in the log: {:?}",
            echoed()
        );
    }
    let alerts = ask("/secrets/alerts?organization_id=org");
    assert_eq!(alerts.len(), 1, "{alerts:?}");
    assert_eq!(
        (&alerts[0]["kind"], &alerts[0]["key"]),
        (&json!("secret-echoed"), &json!("KEY"))
    );
    let everything = format!("{:?}{alerts:?}{}", echoed(), instance.log());
    assert!(!everything.contains("s3cret"), "{everything}");
}

#[test]
fn an_answer_that_breaks_off_before_its_head_was_sent_is_a_problem_and_no_half_answer() {
    let (instance, next) = echoing("redact");
    let got = deliver(&instance, &next, |_| {
        b"HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nxx".to_vec()
    });
    assert!(got.status == 502, "{}", got.status);
}
