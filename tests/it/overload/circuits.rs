//! That an endpoint which fails again and again is left alone, and delivered to again once it is back.

use std::net::TcpListener;
use std::sync::{Arc, Mutex, mpsc};

use serde_json::json;

use super::super::support::endpoint::{Endpoint, answer};
use super::super::support::holding::Gate;
use super::super::support::http::{Answer, request};
use super::super::support::instance::{Instance, invocation};
use super::super::support::problem::assert_problem;
use super::{PATIENCE, await_metric, install, metric, started, tenant};

const OPEN: &str = "kiket_circuits_open";

fn changes(instance: &Instance, to: &str) -> u64 {
    metric(instance, &format!("kiket_circuit_changes_total{{to=\"{to}\"}}"))
}

fn assert_left_alone(answer: &Answer, what: &str) {
    assert_problem(answer, 503, "endpoint-circuit-open", true, what);
    assert_eq!(answer.header("retry-after"), Some("10"), "{what}");
    assert_eq!(answer.header("x-kiket-attempts"), Some("0"), "{what}");
    let status = answer.header("proxy-status");
    assert_eq!(status, Some("kiket; error=destination_unavailable"), "{what}");
}

/// An endpoint that does what the test says at the moment, and tells of each request.
struct Moody {
    endpoint: Endpoint,
    mood: Arc<Mutex<Mood>>,
    arrived: mpsc::Receiver<()>,
}

#[derive(Clone)]
enum Mood {
    Answers(u16),
    /// Closes the connection instead of an answer.
    Breaks,
    /// Does not answer until the gate opens.
    Holds(Arc<Gate>),
}

impl Moody {
    fn start() -> Self {
        let mood = Arc::new(Mutex::new(Mood::Answers(200)));
        let (arrival, arrived) = mpsc::channel();
        let (now, arrival) = (Arc::clone(&mood), Mutex::new(arrival));
        let endpoint = Endpoint::scripted(Arc::new(move |received| {
            let _ = arrival.lock().unwrap().send(()); // the test may be over
            if received.target == "/well" {
                return Some(answer(200, "", b"{}"));
            }
            let mood = now.lock().unwrap().clone();
            match mood {
                Mood::Answers(status) => Some(answer(status, "Location: http://127.0.0.1:1/\r\n", b"{}")),
                Mood::Breaks => None,
                Mood::Holds(gate) => {
                    gate.wait();
                    Some(answer(200, "", b"{}"))
                }
            }
        }));
        Self {
            endpoint,
            mood,
            arrived,
        }
    }

    fn is(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }

    fn holds(&self) -> Arc<Gate> {
        let gate = Arc::new(Gate::default());
        self.is(Mood::Holds(Arc::clone(&gate)));
        gate
    }

    fn await_arrival(&self) {
        self.arrived.recv_timeout(PATIENCE).expect("hangs: nothing arrives");
    }

    /// How many requests arrived since the last time it was asked.
    fn arrivals(&self) -> usize {
        self.arrived.try_iter().count()
    }
}

/// An instance with an installation `ins` at an endpoint whose circuit was opened.
fn opened() -> (Instance, Moody) {
    let (instance, endpoint) = (started(&[]), Moody::start());
    tenant(&instance, "org", "ins", &endpoint.endpoint.url());
    endpoint.is(Mood::Breaks);
    for n in 1..=10 {
        let failed = instance.deliver("ins", b"{}");
        assert_problem(&failed, 502, "endpoint-unreachable", true, &n.to_string());
    }
    assert_left_alone(&instance.deliver("ins", b"{}"), "the eleventh");
    endpoint.arrivals();
    (instance, endpoint)
}

#[test]
fn an_endpoint_that_refuses_connections_is_left_alone_until_it_is_back() {
    let instance = started(&[]);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    tenant(&instance, "org", "ins", &format!("http://{address}"));
    let fails = |what: &str| {
        let failed = instance.deliver("ins", b"{}");
        assert_problem(&failed, 502, "endpoint-unreachable", true, what);
        assert_eq!(failed.header("x-kiket-attempts"), Some("3"), "a delivery counts once");
    };
    (1..=10).for_each(|n| fails(&n.to_string()));
    assert_eq!((metric(&instance, OPEN), changes(&instance, "open")), (1, 1));
    instance.clock.advance(9_999);
    assert_left_alone(&instance.deliver("ins", b"{}"), "before its time is over");
    let line = instance.await_line("it", |line| line["error"] == "endpoint-circuit-open");
    assert_eq!(
        (
            &line["outcome"],
            &line["status"],
            &line["attempts"],
            &line["upstream_ms"]
        ),
        (&"refused".into(), &503.into(), &0.into(), &json!(null))
    );
    instance.clock.advance(1);
    fails("the probe");
    assert_left_alone(&instance.deliver("ins", b"{}"), "after a probe that failed");
    assert_eq!((metric(&instance, OPEN), changes(&instance, "half-open")), (1, 1));

    let endpoint = Endpoint::on(
        TcpListener::bind(address).unwrap(),
        Arc::new(|_| Some(answer(200, "", b"{}"))),
    );
    assert_left_alone(&instance.deliver("ins", b"{}"), "although it is back");
    instance.clock.advance(10_000);
    for _ in 0..20 {
        assert_eq!(instance.deliver("ins", b"{}").status, 200);
    }
    assert_eq!(endpoint.received().len(), 20);
    assert_eq!((metric(&instance, OPEN), changes(&instance, "closed")), (0, 1));
    assert_eq!(
        metric(&instance, "kiket_refusals_total{problem=\"endpoint-circuit-open\"}"),
        3
    );
}

#[test]
fn an_endpoint_that_hangs_is_left_alone() {
    let (instance, endpoint) = (started(&[]), Moody::start());
    let callback = json!({"url": endpoint.endpoint.url(), "timeout": 100});
    instance.register("com.example.hangs", callback, json!({}));
    install(&instance, "org", "ins", "com.example.hangs");
    let gate = endpoint.holds();
    for n in 1..=10 {
        let failed = instance.deliver("ins", b"{}");
        assert_problem(&failed, 504, "endpoint-timeout", true, &n.to_string());
    }
    assert_left_alone(&instance.deliver("ins", b"{}"), "it hung ten times");
    gate.open();
}

#[test]
fn what_an_endpoint_answers_never_counts() {
    for (status, passed_on) in [(500, 500), (503, 503), (429, 429), (404, 404), (302, 502)] {
        let (instance, endpoint) = (started(&[]), Moody::start());
        tenant(&instance, "org", "ins", &endpoint.endpoint.url());
        endpoint.is(Mood::Answers(status));
        let mut client = instance.connect();
        for n in 1..=60 {
            assert_eq!(
                client.exchange(&invocation("ins", b"{}")).status,
                passed_on,
                "{status} {n}"
            );
        }
        assert_eq!(changes(&instance, "open"), 0);
    }
}

#[test]
fn half_of_twenty_deliveries_failed_and_never_ten_in_a_row() {
    let (instance, endpoint) = (started(&[]), Moody::start());
    tenant(&instance, "org", "ins", &endpoint.endpoint.url());
    for n in 1..=20 {
        let (mood, status) = [(Mood::Breaks, 502), (Mood::Answers(200), 200)][n % 2].clone();
        endpoint.is(mood);
        assert_eq!(instance.deliver("ins", b"{}").status, status, "{n}");
    }
    endpoint.is(Mood::Answers(200));
    assert_left_alone(&instance.deliver("ins", b"{}"), "ten of twenty");
}

#[test]
fn exactly_one_probe_passes_while_others_are_told_to_wait() {
    let (instance, endpoint) = opened();
    instance.clock.advance(10_000);
    let gate = endpoint.holds();
    let mut probe = instance.connect();
    probe.send(&invocation("ins", b"{}"));
    endpoint.await_arrival();
    for n in 0..20 {
        assert_left_alone(&instance.deliver("ins", b"{}"), &n.to_string());
        instance.clock.advance(1_000); // also for longer than the circuit was open
    }
    assert_eq!(endpoint.arrivals(), 0, "one probe only");
    gate.open();
    assert_eq!(probe.answer().status, 200);
    assert_eq!(instance.deliver("ins", b"{}").status, 200);
    assert_eq!(endpoint.arrivals(), 1);
}

#[test]
fn a_probe_that_its_dispatcher_gave_up_makes_room_for_the_next() {
    let (instance, endpoint) = opened();
    instance.clock.advance(10_000);
    let gate = endpoint.holds();
    let mut probe = instance.connect();
    probe.send(&invocation("ins", b"{}"));
    endpoint.await_arrival();
    assert_left_alone(&instance.deliver("ins", b"{}"), "while it is out");
    drop(probe);
    await_metric(&instance, "kiket_in_flight", 0);
    gate.open();
    assert_eq!(instance.deliver("ins", b"{}").status, 200);
    assert_eq!((metric(&instance, OPEN), changes(&instance, "closed")), (0, 1));
}

#[test]
fn a_large_body_is_not_read_for_an_endpoint_that_is_left_alone() {
    let (instance, _endpoint) = opened();
    let mut client = instance.connect();
    client.send(
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nExpect: 100-continue\r\n\
          X-Kiket-Installation-Id: ins\r\nContent-Length: 100000\r\n\r\n",
    );
    assert_left_alone(&client.answer(), "before the body");
}

#[test]
fn what_one_organization_makes_fail_stays_open_for_others_and_a_change_forgets_nothing() {
    let (instance, endpoint) = opened();
    install(&instance, "another", "theirs", "com.example.ins");
    let well = request(
        "POST",
        "/well",
        &[
            ("Content-Type", "application/json"),
            ("X-Kiket-Installation-Id", "theirs"),
        ],
        b"{}",
    );
    assert_eq!(instance.connect().exchange(&well).status, 200, "another organization's");
    // A bundle that is built anew, and another installation of the same organization, find what is known.
    let url = endpoint.endpoint.url();
    instance.register(
        "com.example.ins",
        json!({"url": url, "secret_keys": ["NEW"]}),
        json!({}),
    );
    instance.set("organization", "org", "NEW", "a new value");
    install(&instance, "org", "more", "com.example.ins");
    for id in ["ins", "more"] {
        assert_left_alone(&instance.deliver(id, b"{}"), id);
    }
    // Another path below the same host is another destination.
    tenant(&instance, "org", "elsewhere", &format!("{url}/elsewhere"));
    endpoint.is(Mood::Answers(200));
    assert_eq!(instance.deliver("elsewhere", b"{}").status, 200);
}
