//! Which deliveries are traced, and that the others pass as if nothing were.

use std::collections::HashSet;

use serde_json::json;

use super::super::support::collector::{Collector, counted};
use super::super::support::endpoint::Endpoint;
use super::super::support::http::once;
use super::super::support::instance::Instance;
use super::{NONE, Scene, TRACE, invocation, traceparent};

#[test]
fn a_dispatcher_that_says_so_decides() {
    for one_in in ["0", "1"] {
        let scene = Scene::with(Collector::start(), &[("otlp_traces_one_in", one_in)]);
        let (not, sampled) = (traceparent("00"), traceparent("01"));
        let received = scene.delivered(&[("traceparent", &not), ("tracestate", "a=b")]);
        assert_eq!(received.header("traceparent"), Some(not.as_str()), "as it came");
        assert_eq!(received.header("tracestate"), Some("a=b"));
        let received = scene.delivered(&[("traceparent", &sampled)]);
        let told = received.header("traceparent").unwrap().to_owned();
        let spans = scene.collector.spans(2);
        assert_eq!(spans.len(), 2, "{spans:?}");
        assert_eq!(told, format!("00-{TRACE}-{}-01", spans[1]["id"].as_str().unwrap()));
        let lines = scene.instance.lines();
        assert!(lines.iter().all(|line| line["trace_id"] == TRACE), "{lines:?}");
    }
}

#[test]
fn a_trace_begins_here_where_the_request_names_none() {
    let scene = Scene::start();
    let named = traceparent("01");
    let (mut traces, mut ids) = (HashSet::new(), HashSet::new());
    for headers in [
        NONE,
        &[("traceparent", "garbage"), ("tracestate", "a=b")],
        &[("traceparent", &named), ("traceparent", &named), ("tracestate", "a=b")],
    ] {
        let received = scene.delivered(headers);
        let told: Vec<_> = received
            .headers
            .iter()
            .filter(|(name, _)| name.starts_with("trace"))
            .collect();
        let [(_, told)] = told[..] else {
            panic!("another trace's state, or two parents: {told:?}");
        };
        let spans = scene.collector.spans(2 * traces.len() + 2);
        let (server, client) = (&spans[2 * traces.len()], &spans[2 * traces.len() + 1]);
        assert_eq!(server["parent"], "");
        assert_eq!((&server["flags"], &client["parent"]), (&json!(0x101), &server["id"]));
        let trace = server["trace"].as_str().unwrap().to_owned();
        assert_eq!(*told, format!("00-{trace}-{}-01", client["id"].as_str().unwrap()));
        scene.instance.await_line("the trace", |line| line["trace_id"] == trace);
        ids.extend([&server["id"], &client["id"]].map(|id| id.as_str().unwrap().to_owned()));
        assert!(trace != TRACE && traces.insert(trace));
    }
    assert_eq!(ids.len(), 6);
}

#[test]
fn one_in_so_many_is_traced_and_the_rest_is_left_alone() {
    let of = |one_in: &str, deliveries: usize| {
        let scene = Scene::with(Collector::start(), &[("otlp_traces_one_in", one_in)]);
        let mut dispatcher = scene.instance.connect();
        for _ in 0..deliveries {
            assert_eq!(dispatcher.exchange(&invocation(&[])).status, 200);
        }
        let received = scene.endpoint.received();
        let told = received
            .iter()
            .filter(|received| received.header("traceparent").is_some());
        let told = told.count();
        if told > 0 {
            scene.collector.spans(2 * told);
        }
        scene.await_counted("exported", 2 * told as u64);
        told
    };
    assert_eq!(of("0", 20), 0);
    assert_eq!(of("1", 20), 20);
    let traced = of("10", 400); // forty, give or take five times the deviation
    assert!((10..=70).contains(&traced), "{traced}");
}

#[test]
fn without_a_collector_nothing_is_traced_and_headers_pass_as_they_come() {
    let (instance, endpoint) = (Instance::start(), Endpoint::start());
    instance.simple(&endpoint.url());
    let said = traceparent("01");
    for headers in [
        NONE,
        &[("traceparent", "garbage"), ("tracestate", "a=b")],
        &[("traceparent", &said), ("tracestate", "a=b")],
    ] {
        assert_eq!(once(instance.proxy(), &invocation(headers)).status, 200);
        let received = endpoint.last();
        let passed: Vec<_> = received
            .headers
            .iter()
            .filter(|(name, _)| name.starts_with("trace"))
            .collect();
        let sent: Vec<_> = headers
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        assert_eq!(passed, sent.iter().collect::<Vec<_>>());
    }
    for outcome in ["exported", "queue-full", "rejected", "given-up", "ended"] {
        assert_eq!(counted(&instance.metrics(), outcome), 0);
    }
}
