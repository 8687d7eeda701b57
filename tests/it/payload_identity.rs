//! Whether the endpoint gets the dispatcher's bytes: any acceptable object, less what was inserted, is what was sent.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::string::string_regex;
use proptest::test_runner::{Config, TestRunner};
use serde_json::json;

use super::support::endpoint::Endpoint;
use super::support::http::Client;
use super::support::instance::{Instance, invocation};

/// What is inserted, after a comma where the object has members: one line, no spaces.
const INSERTED: &str = r#""secrets":{"FIRST":"a \"value\"\n","SECOND":"ü"},"secret_status":{"missing":["ABSENT"]}"#;

/// Names that look like reserved ones and are not, at any depth; and the reserved ones, which are data deeper down.
const NEARLY_RESERVED: [&str; 5] = ["secret", "secrets ", "secret-status", "\\u0073ecret", "SECRETSTATUS"];
const RESERVED: [&str; 3] = ["secrets", "secret_status", "\\u0053ECRETS"];

fn cases() -> u32 {
    let full = std::env::var("KIKET_TEST_SCALE").is_ok_and(|scale| scale == "full");
    if full { 1_500 } else { 300 }
}

fn white_space() -> impl Strategy<Value = String> {
    prop_oneof![4 => Just(String::new()), 1 => string_regex("[ \t\r\n]{1,4}").unwrap()]
}

/// A string's inside: any text, any escape, surrogates without their other half among them.
fn text() -> impl Strategy<Value = String> {
    let plain = any::<char>().prop_filter("must be escaped", |c| *c >= ' ' && !matches!(c, '"' | '\\'));
    let piece = prop_oneof![
        4 => plain.prop_map(String::from),
        2 => string_regex("[a-z0-9 {}\\[\\]:,]{1,8}").unwrap(),
        1 => string_regex(r#"\\["\\/bfnrt]"#).unwrap(),
        1 => string_regex(r"\\u[0-9a-fA-F]{4}").unwrap(),
    ];
    vec(piece, 0..6).prop_map(|pieces| pieces.concat())
}

fn scalar() -> impl Strategy<Value = String> {
    prop_oneof![
        text().prop_map(|text| format!("\"{text}\"")),
        string_regex(r"-?(0|[1-9][0-9]{0,24})(\.[0-9]{1,6})?([eE][+-]?[0-9]{1,3})?").unwrap(),
        prop_oneof![Just("true"), Just("false"), Just("null")].prop_map(String::from),
    ]
}

/// Items within brackets, white space wherever it may be.
fn bracketed(open: char, close: char, items: Vec<(String, String, String)>, inside: &str) -> String {
    let items: Vec<String> = items
        .into_iter()
        .map(|(before, item, after)| format!("{before}{item}{after}"))
        .collect();
    if items.is_empty() {
        format!("{open}{inside}{close}")
    } else {
        format!("{open}{}{close}", items.join(","))
    }
}

fn object(
    name: impl Strategy<Value = String> + 'static,
    value: impl Strategy<Value = String> + 'static,
) -> impl Strategy<Value = String> {
    let member = (name, white_space(), white_space(), value)
        .prop_map(|(name, before, after, value)| format!("\"{name}\"{before}:{after}{value}"));
    let members = vec((white_space(), member, white_space()), 0..5);
    (members, white_space()).prop_map(|(members, inside)| bracketed('{', '}', members, &inside))
}

fn value() -> impl Strategy<Value = String> {
    scalar().prop_recursive(6, 48, 5, |inner| {
        let name = prop_oneof![4 => text(), 1 => proptest::sample::select(&RESERVED[..]).prop_map(String::from)];
        let array = (vec((white_space(), inner.clone(), white_space()), 0..5), white_space())
            .prop_map(|(items, inside)| bracketed('[', ']', items, &inside));
        prop_oneof![array, object(name, inner)]
    })
}

/// A body that is to be delivered.
fn body() -> impl Strategy<Value = String> {
    let any_name = text().prop_map(|text| format!("~{text}")); // never a name that the sidecar reads
    let nearly = proptest::sample::select(&NEARLY_RESERVED[..]).prop_map(String::from);
    let name = prop_oneof![4 => any_name, 1 => nearly];
    (white_space(), object(name, value()), white_space()).prop_map(|(before, object, after)| before + &object + &after)
}

/// An instance with an installation `ins` that gets two values and misses a third.
fn ready() -> (Instance, Endpoint) {
    let (instance, endpoint) = (Instance::start(), Endpoint::start());
    let configuration = json!({
        "SECOND": {"secret": true}, "FIRST": {"secret": true}, "ABSENT": {"secret": true},
    });
    instance.register("com.example.any", json!({"url": endpoint.url()}), configuration);
    instance.install("ins", "com.example.any");
    instance.set("organization", "org", "FIRST", "a \"value\"\n");
    instance.set("organization", "org", "SECOND", "ü");
    instance.enable("ins");
    (instance, endpoint)
}

/// Delivers a body and holds what arrived against it.
fn check(dispatcher: &mut Client, endpoint: &Endpoint, body: &str) -> Result<(), TestCaseError> {
    let answer = dispatcher.exchange(&invocation("ins", body.as_bytes()));
    prop_assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
    let received = String::from_utf8(endpoint.last().body).unwrap();
    let (head, tail) = body.split_at(body.rfind('}').unwrap());
    let is_empty = head.trim_start().trim_end() == "{";
    let comma = if is_empty { "" } else { "," };
    prop_assert_eq!(&received, &format!("{head}{comma}{INSERTED}{tail}"));
    // Where another parser accepts the original, it finds the two members in the result, and all the others.
    if let Ok(mut original) = serde_json::from_str::<serde_json::Value>(body) {
        let inserted: serde_json::Value = serde_json::from_str(&format!("{{{INSERTED}}}")).unwrap();
        original
            .as_object_mut()
            .unwrap()
            .extend(inserted.as_object().unwrap().clone());
        prop_assert_eq!(serde_json::from_str::<serde_json::Value>(&received).unwrap(), original);
    }
    Ok(())
}

#[test]
fn what_arrives_less_what_was_inserted_is_what_was_sent_byte_for_byte() {
    let (instance, endpoint) = ready();
    let dispatcher = std::cell::RefCell::new(instance.connect());
    let config = Config {
        cases: cases(),
        failure_persistence: None,
        ..Config::default()
    };
    let result = TestRunner::new(config).run(&body(), |body| check(&mut dispatcher.borrow_mut(), &endpoint, &body));
    if let Err(failed) = result {
        panic!("{failed}");
    }
}

#[test]
fn edges_of_an_object_keep_their_bytes() {
    let (instance, endpoint) = ready();
    let mut dispatcher = instance.connect();
    let deep = format!("{{\"d\":{}{}}}", "[".repeat(127), "]".repeat(127));
    let large = format!("{{\"t\":\"{}\"}}", "ü".repeat(200_000));
    let bodies = [
        "{}",
        " \t{ \r\n }\n",
        "{\"a\":\"}\"}",
        "{\"a\":\"\\\"}\\\\\"}",
        "{\"a\":{}}",
        "{\"\":0}",
        "{\"a\":1,\"a\":2}",
        "{\"lone\":\"\\ud800\"}",
        "{\"n\":-0.0e+0,\"big\":123456789012345678901234567890}",
        &deep,
        &large,
    ];
    for body in bodies {
        if let Err(failed) = check(&mut dispatcher, &endpoint, body) {
            panic!("{failed}");
        }
    }
}
