//! What is held when there is too much of everything: bounds, shares, and endpoints that are left alone.

mod bounds;
mod circuits;
mod released;
mod shares;

use std::time::{Duration, Instant};

use serde_json::json;

use super::support::holding::Holding;
use super::support::http::{Answer, Client};
use super::support::instance::{Instance, Options, invocation};
use super::support::problem::assert_problem;

/// Longer than anything takes; a test that hangs fails.
const PATIENCE: Duration = Duration::from_secs(30);

fn started(settings: &[(&str, &str)]) -> Instance {
    Instance::with(Options {
        settings,
        ..Default::default()
    })
}

/// An enabled installation of an organization whose extension, of the same name, is at `url`.
fn tenant(instance: &Instance, organization: &str, installation: &str, url: &str) {
    let extension = format!("com.example.{installation}");
    instance.register(&extension, json!({"url": url}), json!({}));
    install(instance, organization, installation, &extension);
}

fn install(instance: &Instance, organization: &str, installation: &str, extension: &str) {
    let new = json!({
        "id": installation, "extension_id": extension, "organization_id": organization, "project_id": "proj",
    });
    instance.must("POST", "/marketplace/installations", &new);
    instance.enable(installation);
}

/// Delivers so often, one after the other, that so many deliveries are held.
fn hold(instance: &Instance, installation: &str, slow: &Holding, count: usize) -> Vec<Client> {
    let held = (0..count).map(|_| {
        let mut client = instance.connect();
        client.send(&invocation(installation, b"{}"));
        slow.await_arrival();
        client
    });
    held.collect()
}

fn assert_shed(answer: &Answer, what: &str) {
    assert_problem(answer, 503, "overloaded", true, what);
    assert_eq!(answer.header("retry-after"), Some("1"), "{what}");
    assert_eq!(answer.header("x-kiket-attempts"), Some("0"), "{what}");
    assert_eq!(
        answer.header("proxy-status"),
        Some("kiket; error=connection_limit_reached"),
        "{what}"
    );
}

/// A metric's value.
fn metric(instance: &Instance, name: &str) -> u64 {
    let metrics = instance.metrics();
    let line = metrics
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no metric {name}")).parse().unwrap()
}

/// Deliveries that were shed at a bound.
fn sheds(instance: &Instance, reason: &str) -> u64 {
    metric(instance, &format!("kiket_sheds_total{{reason=\"{reason}\"}}"))
}

/// Waits until a metric has a value: the last byte of an answer can be there before it.
fn await_metric(instance: &Instance, name: &str, value: u64) {
    let asked = Instant::now();
    while metric(instance, name) != value {
        assert!(
            asked.elapsed() < PATIENCE,
            "{name} never gets {value}: {}",
            instance.metrics()
        );
    }
}

/// Waits until nothing is held any more.
fn await_nothing_held(instance: &Instance) {
    await_metric(instance, "kiket_in_flight", 0);
    await_metric(instance, "kiket_buffered_bytes", 0);
}
