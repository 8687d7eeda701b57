//! What becomes of spans when the process ends: the last delivery's too are exported, for as long as that may take.

use std::sync::Arc;

use rustix::process::Signal;

use super::super::support::collector::Collector;
use super::super::support::holding::{Gate, Holding};
use super::super::support::http::Client;
use super::super::support::instance::invocation;
use super::super::support::process::{Ended, Process};

/// Ends a process while a delivery is under way that is the last thing before its end: nobody connects any more, and no
/// second goes by after it.
fn ended_with_a_last_delivery(collector: &Collector) -> Ended {
    let url = collector.url();
    let process = Process::with(&[("otlp_traces_url", &url), ("drain_grace", "1s")]);
    let holding = Holding::start();
    process.simple(&holding.url(), "value");
    let mut held = process.connect();
    held.send(&invocation("ins", b"{}"));
    holding.await_arrival();
    let mut quiet: Client = process.connect();
    assert_eq!(quiet.exchange(&invocation("nobody", b"{}")).status, 404);
    process.signal(Signal::TERM);
    assert!(quiet.is_closed());
    holding.let_go();
    assert_eq!(held.answer().status, 200);
    process.wait()
}

#[test]
fn what_is_left_is_exported_before_the_end() {
    let collector = Collector::start();
    let ended = ended_with_a_last_delivery(&collector);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let spans = collector.received();
    let of_last = spans.iter().filter(|span| span["says"]["kiket.outcome"] == "delivered");
    assert_eq!((of_last.count(), spans.len()), (1, 3), "{spans:?}");
}

#[test]
fn a_collector_that_does_not_answer_does_not_hold_up_the_end() {
    let gate = Arc::new(Gate::default());
    let collector = Collector::holding(&gate);
    let ended = ended_with_a_last_delivery(&collector);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let told = ended
        .stderr
        .lines()
        .find(|line| line.contains("spans could not be exported before the end"));
    assert!(
        told.is_some_and(|line| line.contains("\"spans\":3")),
        "{}",
        ended.stderr
    );
    gate.open();
}
