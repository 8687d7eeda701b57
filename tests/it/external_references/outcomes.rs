//! The outcome table: what can be so of a backend, for a key that a delivery needs and for one that it does not.

use std::thread;

use super::super::support::instance::Instance;
use super::super::support::problem::assert_problem;
use super::super::support::referred::{BACKENDS, Backend, Condition, Start};
use super::Stage;

const UNAVAILABLE: &str = "503 secret-source-unavailable";

/// What comes of a delivery that needs the key, and of one that does not.
const fn row(condition: Condition) -> (&'static str, &'static str) {
    match condition {
        Condition::Found => ("the fetched value", "the fetched value"),
        Condition::Largest => ("the largest", "the largest"),
        Condition::Dangling => ("424 required-secrets-missing", "missing [\"KEY\"]"),
        Condition::Denied
        | Condition::Sealed
        | Condition::RateLimited
        | Condition::ServerError
        | Condition::WrongShape
        | Condition::Slow
        | Condition::TooLarge => (UNAVAILABLE, UNAVAILABLE),
    }
}

/// Every condition of a backend, over an instance of its own each: some of them wait.
fn hold(kind: &'static str, start: Start) {
    thread::scope(|scope| {
        let rows = Condition::ALL.map(|condition| (condition, scope.spawn(move || deliver(kind, start(), condition))));
        for (condition, row) in rows {
            assert!(row.join().is_ok(), "{kind}: {condition:?}");
        }
    });
}

fn deliver(kind: &str, backend: Box<dyn Backend>, condition: Condition) {
    backend.arrange(condition);
    let stage = Stage::furnish(Instance::start(), backend);
    let (required, optional) = row(condition);
    let outcome = stage.backend.outcome(condition);
    let what = format!("{kind} {outcome}");
    for (installation, expected) in [("required", required), ("optional", optional)] {
        let answer = stage.deliver(installation);
        let delivered = usize::from(answer.status == 200);
        let received = stage.endpoint.received();
        match expected.split_once(' ').filter(|_| answer.status != 200) {
            Some((status, problem)) => {
                let status = status.parse().unwrap();
                assert_problem(&answer, status, problem, status == 503, &what);
            }
            None => {
                let body = received.last().expect("a delivery").json();
                let carried = match body["secrets"]["KEY"].as_str() {
                    Some(value) if value.len() == 64 * 1024 => String::from("the largest"),
                    Some(value) => value.to_owned(),
                    None => format!("missing {}", body["secret_status"]["missing"]),
                };
                assert_eq!(carried, expected, "{what} {installation}");
            }
        }
        assert_eq!(
            delivered,
            usize::from(!expected.starts_with(['4', '5'])),
            "{what} {installation}"
        );
    }
    let sent = stage.endpoint.received();
    let expected = [required, optional]
        .iter()
        .filter(|expected| !expected.starts_with(['4', '5']))
        .count();
    assert_eq!(sent.len(), expected, "{what}: nothing else is sent");
    let everything: Vec<u8> = sent.into_iter().flat_map(|received| received.body).collect();
    assert!(
        !String::from_utf8_lossy(&everything).contains("a wider value"),
        "{what}"
    );
    let counted = stage.metric(&format!(
        "kiket_source_fetches_total{{backend=\"{kind}\",outcome=\"{outcome}\"}}"
    ));
    assert!(counted > 0, "{what}: {}", stage.instance.metrics());
    let alerted = usize::from(condition == Condition::Dangling);
    stage.until(&what, || stage.alerts("dangling-reference").len() == alerted); // beside the delivery
    explained(&stage, condition, outcome);
}

/// `explain` says the same, and never the value.
fn explained(stage: &Stage<dyn Backend>, condition: Condition, outcome: &str) {
    let explained = stage.instance.must(
        "GET",
        "/extensions/secrets/explain?installation=optional&key=KEY",
        &serde_json::Value::Null,
    );
    let winner = &explained["data"][0]["winner"];
    let (slot, key) = match condition {
        Condition::Found | Condition::Largest => ("found", "found"),
        Condition::Dangling => ("dangling", "missing"),
        Condition::Denied => ("denied", "denied"),
        _ => ("unavailable", "unavailable"),
    };
    assert_eq!(
        winner["scope"], "project",
        "{condition:?}: no wider scope decides: {explained}"
    );
    assert_eq!(
        (&winner["outcome"], &explained["data"][0]["outcome"]),
        (&slot.into(), &key.into())
    );
    assert_eq!(winner["fetched"]["outcome"], outcome, "{explained}");
    assert_eq!(winner["fetched"]["version"].is_string(), slot == "found", "{explained}");
    assert!(!explained.to_string().contains("the fetched value"));
}

#[test]
fn every_outcome_of_a_backend_is_what_it_is_in_a_delivery_and_no_wider_value_is_used() {
    for (kind, start) in BACKENDS {
        hold(kind, start);
    }
}

#[test]
fn what_nobody_delivers_is_looked_over_now_and_then() {
    let stage = super::vault_with(&[("secret_audit_every", "1h")]);
    let look = || {
        let reads = stage.backend.reads().len();
        stage.instance.clock.advance(3_600_000);
        stage.until("it is looked at", || stage.backend.reads().len() > reads);
    };
    look();
    stage.backend.put("the second value");
    look();
    stage.until("the rotation is noted", || stage.secret()["version"] == 2);
    stage.backend.arrange(Condition::Dangling);
    look();
    stage.until("it is told", || stage.alerts("dangling-reference").len() == 1);
}
