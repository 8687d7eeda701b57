//! What a warm delivery costs in things that can be counted: system calls, allocations, copies of the body.

use serde_json::json;

use super::support::allocations::{self, Allocations};
use super::support::alone::alone;
use super::support::collector::Collector;
use super::support::endpoint::Endpoint;
use super::support::instance::{Instance, invocation};
use super::support::process::Settings;
use super::support::trace::Traced;

/// Deliveries, one after another over one connection, that an average is taken over.
const DELIVERIES: usize = 600;

/// The most system calls of the worker for one delivery, in tenths.
const SYSTEM_CALLS_TENTHS_MAX: usize = 62;

/// Allocations of the worker for one delivery without signature.
const ALLOCATIONS: usize = 23;

/// The same with the three signature fields of one secret.
const ALLOCATIONS_SIGNED: usize = 30;

/// A body of this size, with an id.
fn body(bytes: usize) -> Vec<u8> {
    let mut body = br#"{"id":"inv_1","payload":""#.to_vec();
    body.resize(bytes - 2, b'x');
    body.extend_from_slice(b"\"}");
    body
}

#[test]
fn a_warm_delivery_makes_six_system_calls_on_its_worker() {
    six_system_calls(&[]);
}

#[test]
fn a_delivery_whose_spans_are_exported_makes_no_more_of_them() {
    let collector = Collector::start();
    six_system_calls(&[("otlp_traces_url", &collector.url())]);
    assert!(collector.spans(2 * DELIVERIES).len() >= 2 * DELIVERIES);
}

fn six_system_calls(settings: Settings<'_>) {
    let (traced, endpoint) = (Traced::start(settings), Endpoint::start());
    traced.process.simple(&endpoint.url(), "value");
    let mut dispatcher = traced.process.connect();
    let request = invocation("ins", &body(1024));
    traced.deliver_cold(&mut dispatcher, &request);
    let mut deliver = || assert_eq!(dispatcher.exchange(&request).status, 200);
    (0..10).for_each(|_| deliver());
    traced.mark("from");
    (0..DELIVERIES).for_each(|_| deliver());
    traced.mark("to");
    let calls = traced.finish();
    let worker = calls
        .between("from", "to")
        .iter()
        .filter(|call| call.thread == "kiket-worker-0");
    let names: Vec<&str> = worker.map(|call| call.name.as_str()).collect();
    assert!(names.len() >= DELIVERIES, "the worker was seen");
    assert!(
        names.len() * 10 <= DELIVERIES * SYSTEM_CALLS_TENTHS_MAX,
        "{} for {DELIVERIES}, at the end {:?}",
        names.len(),
        &names[names.len() - 12..]
    );
}

/// What the worker allocates for so many warm deliveries of a body, and of these the ones as large as the body.
fn counted(instance: &Instance, installation: &str, bytes: usize, deliveries: usize) -> Allocations {
    let mut dispatcher = instance.connect();
    let request = invocation(installation, &body(bytes));
    let mut deliver = || assert_eq!(dispatcher.exchange(&request).status, 200);
    (0..20).for_each(|_| deliver()); // reading adapts to the size that comes
    allocations::start(bytes);
    (0..deliveries).for_each(|_| deliver());
    allocations::stop()
}

#[test]
fn the_allocations_of_a_warm_delivery_are_counted() {
    alone("counts::the_allocations_of_a_warm_delivery_are_counted", || {
        let (instance, endpoint) = (Instance::start(), Endpoint::start());
        instance.simple(&endpoint.url());
        instance.set("organization", "org", "KEY", "value");
        instance.register(
            "com.example.signed",
            json!({"url": endpoint.url(), "signing_secret_key": "SIGN"}),
            json!({"KEY": {"secret": true}}),
        );
        instance.set("organization", "org", "SIGN", "a-signing-secret");
        instance.install("signed", "com.example.signed");
        instance.enable("signed");
        for (installation, bound) in [("ins", ALLOCATIONS), ("signed", ALLOCATIONS_SIGNED)] {
            let counted = counted(&instance, installation, 1024, DELIVERIES);
            assert!(counted.count >= DELIVERIES, "the worker was seen");
            // What the worker does now and then besides does not come to one for each delivery.
            let each = counted.count / DELIVERIES;
            assert!(each <= bound, "{installation}: {each}, {counted:?}");
        }
    });
}

#[test]
fn a_body_is_copied_at_most_once_on_its_way_from_socket_to_socket() {
    alone(
        "counts::a_body_is_copied_at_most_once_on_its_way_from_socket_to_socket",
        || {
            let (instance, endpoint) = (Instance::start(), Endpoint::start());
            instance.simple(&endpoint.url());
            // 16 KiB arrive in one piece and stay in the buffer that they were read into: there is no copy. 256 KiB
            // come in pieces that are gathered once. Either way one block has room for the whole body.
            for (bytes, deliveries) in [(16 * 1024, 200), (256 * 1024, 60)] {
                let counted = counted(&instance, "ins", bytes, deliveries);
                assert_eq!(counted.large, deliveries, "{bytes}: {counted:?}");
            }
        },
    );
}
