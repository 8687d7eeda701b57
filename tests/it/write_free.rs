//! Whether a delivery writes anything: every system call of the binary, looked at one by one.

use super::support::endpoint::Endpoint;
use super::support::instance::invocation;
use super::support::trace::{Call, Traced};

/// The value that is delivered, and the one that replaces it.
const VALUES: [&str; 2] = ["canary-value-5c1d90", "canary-value-88e2f4"];

/// Deliveries that are looked at.
const DELIVERIES: usize = 300;

fn left_behind(calls: &[Call]) -> Vec<String> {
    let leaving = calls.iter().filter(|call| call.leaves_something());
    leaving
        .map(|call| format!("{} {}({}", call.thread, call.name, call.text))
        .collect()
}

#[test]
fn a_warm_delivery_writes_to_sockets_and_the_log_only_and_no_value_anywhere_else() {
    let (traced, endpoint) = (Traced::start(&[]), Endpoint::start());
    traced.process.simple(&endpoint.url(), VALUES[0]);
    let mut dispatcher = traced.process.connect();
    let request = invocation("ins", b"{\"id\":\"inv_1\",\"payload\":\"canary-payload-d07a\"}");
    traced.mark("cold");
    traced.deliver_cold(&mut dispatcher, &request);
    traced.mark("warm");
    for _ in 0..DELIVERIES {
        assert_eq!(dispatcher.exchange(&request).status, 200);
    }
    // The log's writer is part of it.
    traced.process.log.wait_for("\"outcome\":\"delivered\"", DELIVERIES + 1);
    traced.mark("warmed");
    traced.process.set("KEY", VALUES[1]);
    traced.mark("written");
    traced.deliver_cold(&mut dispatcher, &request);
    let operator_token = traced.process.token.clone();
    let calls = traced.finish();

    let warm = calls.between("warm", "warmed");
    let none: Vec<String> = Vec::new();
    assert_eq!(left_behind(warm), none);
    let to_sockets = warm
        .iter()
        .filter(|call| call.is_to_socket() && call.text.contains(VALUES[0]));
    assert_eq!(to_sockets.count(), DELIVERIES, "the trace shows what was sent");

    // The same eyes see a write: the audit row of a cold delivery, and a secret that an operator sets.
    for (from, to) in [("cold", "warm"), ("warmed", "written")] {
        let seen = left_behind(calls.between(from, to));
        let to_database = |call: &&String| call.contains("pwrite64(") && call.contains("/kiket.db-wal>");
        assert!(seen.iter().find(to_database).is_some(), "{from}: {seen:?}");
    }

    // From start to end, no value and no payload is an argument of anything but a socket's call.
    let elsewhere = |what: &str| {
        let calls = calls
            .all()
            .iter()
            .filter(|call| call.text.contains(what) && !call.is_to_socket());
        calls
            .map(|call| format!("{} {}({}", call.thread, call.name, call.text))
            .collect::<Vec<_>>()
    };
    for canary in [VALUES[0], VALUES[1], "canary-payload-d07a"] {
        assert_eq!(elsewhere(canary), none);
    }
    assert!(
        !elsewhere(&operator_token).is_empty(),
        "the token is read from its file"
    );
}
