//! What is traced and exported: which spans, of which deliveries, and what a collector can do to either.

mod ending;
mod export;
mod sampling;
mod silence;
mod spans;

use std::time::{Duration, Instant};

use super::support::collector::{Collector, counted};
use super::support::endpoint::{Endpoint, Received};
use super::support::http::{Answer, once, request};
use super::support::instance::Instance;

/// Longer than anything takes; a test that hangs fails.
const PATIENCE: Duration = Duration::from_secs(30);

/// No header fields.
const NONE: &[(&str, &str)] = &[];

/// A trace that a dispatcher has, and the span that its request comes from.
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const SPAN: &str = "b7ad6b7169203331";

fn traceparent(flags: &str) -> String {
    format!("00-{TRACE}-{SPAN}-{flags}")
}

/// An instance that exports to a collector, and the endpoint of its installation `ins`.
struct Scene {
    collector: Collector,
    endpoint: Endpoint,
    instance: Instance,
}

impl Scene {
    fn start() -> Self {
        Self::with(Collector::start(), &[])
    }

    fn with(collector: Collector, settings: &[(&str, &str)]) -> Self {
        let (instance, endpoint) = (collector.instance(settings), Endpoint::start());
        instance.simple(&endpoint.url());
        instance.set("organization", "org", "KEY", "a-value-of-this-key");
        Self {
            collector,
            endpoint,
            instance,
        }
    }

    /// An invocation with these header fields beside what it needs.
    fn deliver(&self, headers: &[(&str, &str)]) -> Answer {
        once(self.instance.proxy(), &invocation(headers))
    }

    /// What the endpoint got of an invocation with these header fields.
    fn delivered(&self, headers: &[(&str, &str)]) -> Received {
        assert_eq!(self.deliver(headers).status, 200);
        self.endpoint.last()
    }

    fn counted(&self, outcome: &str) -> u64 {
        counted(&self.instance.metrics(), outcome)
    }

    /// Waits until so many spans are counted.
    fn await_counted(&self, outcome: &str, count: u64) {
        await_until(outcome, || self.counted(outcome) == count);
    }
}

/// Waits for something that takes its time to look at.
fn await_until(what: &str, is_so: impl Fn() -> bool) {
    let asked = Instant::now();
    while !is_so() {
        assert!(asked.elapsed() < PATIENCE, "never: {what}");
    }
}

fn invocation(headers: &[(&str, &str)]) -> Vec<u8> {
    let own = [("Content-Type", "application/json"), ("X-Kiket-Installation-Id", "ins")];
    let all: Vec<_> = own.iter().chain(headers).copied().collect();
    request("POST", "/webhooks/issue.created", &all, b"{\"id\":\"inv_1\"}")
}
