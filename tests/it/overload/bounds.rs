//! That connections, deliveries and bytes are bounded, and what answers all the while.

use serde_json::Value;

use super::super::support::endpoint::Endpoint;
use super::super::support::holding::Holding;
use super::super::support::http::{Client, once, request};
use super::super::support::instance::{Instance, invocation};
use super::{assert_shed, await_metric, await_nothing_held, hold, metric, sheds, started, tenant};

const SHARES: [(&str, &str); 2] = [
    ("organization_share_percent", "100"),
    ("destination_share_percent", "100"),
];

/// Metrics, health and the REST API answer, whatever deliveries do.
fn assert_alive(instance: &Instance) {
    for path in ["/metrics", "/livez", "/readyz"] {
        let answer = once(instance.running.metrics(), &request("GET", path, &[], b""));
        assert_eq!(answer.status, 200, "{path}");
    }
    instance.must("GET", "/secrets/health", &Value::Null);
}

#[test]
fn deliveries_under_way_are_bounded_and_everything_else_answers_at_the_bound() {
    let (instance, slow) = (
        started(&[SHARES[0], SHARES[1], ("in_flight_max", "8")]),
        Holding::start(),
    );
    tenant(&instance, "org", "ins", &slow.url());
    let mut held = hold(&instance, "ins", &slow, 8);
    for n in 0..20 {
        assert_shed(&instance.deliver("ins", b"{}"), &n.to_string());
        assert_alive(&instance);
    }
    // Before anything else is looked at: not even the method.
    assert_shed(
        &once(instance.proxy(), &request("GET", "/", &[], b"")),
        "whatever it is",
    );
    assert!(!slow.has_more());
    assert_eq!(
        (sheds(&instance, "in-flight"), metric(&instance, "kiket_in_flight")),
        (21, 8)
    );
    slow.let_go();
    held.iter_mut()
        .for_each(|client| assert_eq!(client.answer().status, 200));
    await_nothing_held(&instance);
    assert_eq!(instance.deliver("ins", b"{}").status, 200);
}

#[test]
fn bytes_of_bodies_are_bounded_and_what_is_only_announced_counts() {
    let settings = [
        SHARES[0],
        SHARES[1],
        ("buffered_bytes_max", "1000"),
        ("payload_bytes_max", "600"),
    ];
    let (instance, endpoint) = (started(&settings), Endpoint::start());
    tenant(&instance, "org", "ins", &endpoint.url());
    let whole = invocation("ins", format!("{{\"payload\":\"{}\"}}", "x".repeat(586)).as_bytes());
    let mut client = instance.connect();
    let (begun, rest) = whole.split_at(whole.len() - 1);
    client.send(begun);
    await_metric(&instance, "kiket_buffered_bytes", 600);
    let body = |length: usize| format!("{{\"payload\":\"{}\"}}", "x".repeat(length - 14)).into_bytes();
    assert_shed(&instance.deliver("ins", &body(401)), "401 bytes");
    assert_eq!(instance.deliver("ins", &body(400)).status, 200);
    assert_alive(&instance);
    assert_eq!(sheds(&instance, "buffered-bytes"), 1);
    client.send(rest);
    assert_eq!(client.answer().status, 200);
    await_nothing_held(&instance);
    // One of unknown length could come to 600, and once it is there takes what it takes.
    let slow = Holding::start();
    tenant(&instance, "org", "slow", &slow.url());
    let chunked = |body: &str| {
        format!(
            "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nX-Kiket-Installation-Id: slow\r\n\
             Transfer-Encoding: chunked\r\n\r\n{body}"
        )
    };
    let mut client = instance.connect();
    client.send(chunked("2\r\n{").as_bytes());
    await_metric(&instance, "kiket_buffered_bytes", 600);
    client.send(b"}\r\n0\r\n\r\n");
    slow.await_arrival();
    assert_eq!(metric(&instance, "kiket_buffered_bytes"), 2);
    slow.let_go();
    assert_eq!(client.answer().status, 200);
    await_nothing_held(&instance);
}

#[test]
fn connections_are_bounded_and_one_more_is_served_when_one_ends() {
    let (instance, endpoint) = (started(&[("connections_max", "4")]), Endpoint::start());
    tenant(&instance, "org", "ins", &endpoint.url());
    let mut open: Vec<Client> = (0..4).map(|_| instance.connect()).collect();
    for client in &mut open {
        assert_eq!(client.exchange(&invocation("ins", b"{}")).status, 200);
    }
    // The kernel takes a fifth one and keeps it.
    let mut fifth = instance.connect();
    fifth.send(&invocation("ins", b"{}"));
    for client in &mut open {
        assert_eq!(
            client.exchange(&invocation("ins", b"{}")).status,
            200,
            "those that are open go on"
        );
    }
    assert_alive(&instance);
    assert_eq!(metric(&instance, "kiket_connections{listener=\"proxy\"}"), 4);
    assert_eq!(endpoint.received().len(), 8, "the fifth waits");
    drop(open.pop());
    assert_eq!(fifth.answer().status, 200);
    assert_eq!(endpoint.received().len(), 9);
}
