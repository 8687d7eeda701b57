//! Whether anything gets to a collector that is nobody's business there: values, bodies, headers, paths, queries, lengths.

use std::sync::Arc;

use serde_json::{Value, json};

use super::super::support::canary::Canary;
use super::super::support::collector::Collector;
use super::super::support::endpoint::{Endpoint, answer};
use super::super::support::http::{once, request};
use super::super::support::process::{Home, Process};
use super::Scene;

/// What has no place in a span, by where it stands.
struct Canaries {
    value: Canary,
    signing: Canary,
    body: Canary,
    header: Canary,
    path: Canary,
    query: Canary,
    method: Canary,
    state: Canary,
    answered: Canary,
    answer_header: Canary,
    token: Canary,
}

impl Canaries {
    fn new() -> Self {
        let canary = |word: &str| Canary::new(&format!("cnry-{word}-7b"));
        Self {
            value: canary("value"),
            signing: canary("signing"),
            body: canary("body"),
            header: canary("header"),
            path: canary("path"),
            query: canary("query"),
            method: canary("method"),
            state: canary("state"),
            answered: canary("answered"),
            answer_header: canary("answer-header"),
            token: canary("token"),
        }
    }

    fn all(&self) -> [&Canary; 11] {
        [
            &self.value,
            &self.signing,
            &self.body,
            &self.header,
            &self.path,
            &self.query,
            &self.method,
            &self.state,
            &self.answered,
            &self.answer_header,
            &self.token,
        ]
    }
}

/// What a span may say: an installation of this name.
const SEEN: &str = "cnry-seen-1a";

#[test]
fn nothing_of_what_was_sent_or_injected_is_in_what_the_collector_gets() {
    let (collector, canaries, home) = (Collector::start(), Canaries::new(), Home::new());
    let (url, token) = (collector.url(), home.write("dispatcher.token", &canaries.token.text));
    let settings = [
        ("otlp_traces_url", url.as_str()),
        ("log", "trace"),
        ("dispatcher_token_file", token.to_str().unwrap()),
    ];
    let command = home.serve(&settings);
    let process = Process::spawn(home, command);
    let (words, headers) = (canaries.answered.text.clone(), canaries.answer_header.text.clone());
    let endpoint = Endpoint::scripted(Arc::new(move |received| {
        let status = if received.target.contains("/fails") { 500 } else { 200 };
        Some(answer(status, &format!("X-Answer: {headers}\r\n"), words.as_bytes()))
    }));
    let callback = json!({"url": endpoint.url(), "signing_secret_key": "SIGN"});
    process.install(SEEN, "com.example.seen", &callback, &json!({"KEY": {"secret": true}}));
    process.set("KEY", &canaries.value.text);
    process.set("SIGN", &canaries.signing.text);
    process.enable(SEEN);

    let bearer = format!("Bearer {}", canaries.token.text);
    let deliver = |method: &str, target: &str, installation: &str, before: &str| {
        let headers = [
            ("Content-Type", "application/json"),
            ("X-Kiket-Installation-Id", installation),
            ("Authorization", &bearer),
            ("X-Own", &canaries.header.text),
            ("Cookie", &canaries.header.text),
            ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
            ("tracestate", &format!("vendor={}", canaries.state.text)),
        ];
        let body = format!("{before}{{\"id\":\"inv_1\",\"payload\":\"{}\"}}", canaries.body.text);
        once(process.proxy(), &request(method, target, &headers, body.as_bytes())).status
    };
    let target = |path: &str| format!("{path}/{}?q={}", canaries.path.text, canaries.query.text);
    let strange = format!("{}/../", target("")); // refused for its path
    for (method, target, installation, before, status) in [
        ("POST", target("/works"), SEEN, "", 200),
        ("POST", target("/fails"), SEEN, "", 500),
        ("POST", target("/x"), SEEN, "no JSON", 400),
        ("POST", target("/x"), "nobody", "", 404),
        ("POST", strange, SEEN, "", 200), // within a query, dots are nothing
        (canaries.method.text.as_str(), target("/x"), SEEN, "", 405),
    ] {
        assert_eq!(
            deliver(method, &target, installation, before),
            status,
            "{method} {target}"
        );
    }
    collector.spans(9); // three of them reach the endpoint
    let ended = process.stop();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);

    let mut sent = Vec::new();
    for request in collector.requests() {
        sent.extend(format!("{}{:?}", request.target, request.headers).into_bytes());
        sent.extend(request.body);
    }
    for canary in canaries.all() {
        assert_eq!(canary.found_in(&sent), None, "{}", canary.text);
    }
    assert_is_seen(&sent, &endpoint, &canaries);
}

/// The same search finds what is there, and all of it was somewhere.
fn assert_is_seen(sent: &[u8], endpoint: &Endpoint, canaries: &Canaries) {
    assert_eq!(Canary::new(SEEN).found_in(sent), Some("raw"));
    let received = endpoint.received();
    assert_eq!(received.len(), 3);
    let mut whole = received[0].body.clone();
    whole.extend(format!("{} {:?}", received[0].target, received[0].headers).into_bytes());
    let reached = [
        &canaries.value,
        &canaries.body,
        &canaries.header,
        &canaries.path,
        &canaries.query,
        &canaries.state,
    ];
    for canary in reached {
        assert_eq!(canary.found_in(&whole), Some("raw"), "{}", canary.text);
    }
    assert!(received[0].header("x-kiket-signature").is_some());
}

#[test]
fn no_span_tells_a_short_value_from_a_long_one() {
    let scene = Scene::start();
    let told: Vec<Vec<Value>> = [1, 64 * 1024]
        .into_iter()
        .enumerate()
        .map(|(position, length)| {
            scene.instance.set("organization", "org", "KEY", &"x".repeat(length));
            assert_eq!(scene.deliver(&[]).status, 200);
            assert_eq!(scene.endpoint.last().secret("KEY").unwrap().len(), length);
            let spans = scene.collector.spans(2 * position + 2);
            let says = spans[2 * position..].iter().map(|span| {
                let mut says = span["says"].clone();
                let members = says.as_object_mut().unwrap();
                members.retain(|name, _| !["kiket.delivery.id", "kiket.resolve.duration"].contains(&name.as_str()));
                says
            });
            says.collect()
        })
        .collect();
    assert_eq!(told[0], told[1]);
}
