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

/// An endpoint that does what the test says at the moment, and tells of each request; to `/well` it is well, and to
/// `/hang` it answers nothing. Two installations of one organization are there, so that both go through one circuit:
/// `ins`, and `hasty`, whose deliveries may take a tenth of a second.
struct Stage {
    instance: Instance,
    url: String,
    mood: Arc<Mutex<Mood>>,
    arrived: mpsc::Receiver<()>,
    hung: Arc<Gate>,
    _endpoint: Endpoint,
}

#[derive(Clone)]
enum Mood {
    Answers(u16),
    /// Closes the connection instead of an answer.
    Breaks,
    /// Does not answer until the gate opens.
    Holds(Arc<Gate>),
}

impl Stage {
    fn start() -> Self {
        let (mood, hung) = (Arc::new(Mutex::new(Mood::Answers(200))), Arc::new(Gate::default()));
        let (arrival, arrived) = mpsc::channel();
        let (now, hangs, arrival) = (Arc::clone(&mood), Arc::clone(&hung), Mutex::new(arrival));
        let endpoint = Endpoint::scripted(Arc::new(move |received| {
            let mood = match received.target.as_str() {
                "/well" => Mood::Answers(200),
                "/hang" => Mood::Holds(Arc::clone(&hangs)),
                _ => now.lock().unwrap().clone(),
            };
            let _ = arrival.lock().unwrap().send(()); // the test may be over
            match mood {
                Mood::Answers(status) => Some(answer(status, "Location: http://127.0.0.1:1/\r\n", b"{}")),
                Mood::Breaks => None,
                Mood::Holds(gate) => {
                    gate.wait();
                    Some(answer(200, "", b"{}"))
                }
            }
        }));
        let (instance, url) = (started(&[]), endpoint.url());
        tenant(&instance, "org", "ins", &url);
        let callback = json!({"url": url, "timeout": 100});
        instance.register("com.example.hasty", callback, json!({}));
        install(&instance, "org", "hasty", "com.example.hasty");
        Self {
            instance,
            url,
            mood,
            arrived,
            hung,
            _endpoint: endpoint,
        }
    }

    /// One whose circuit was opened.
    fn opened() -> Self {
        let stage = Self::start();
        for n in 1..=10 {
            stage.fail(&n.to_string());
        }
        assert_left_alone(&stage.deliver(), "the eleventh");
        stage.arrivals();
        stage
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

    fn deliver(&self) -> Answer {
        self.instance.deliver("ins", b"{}")
    }

    /// A delivery that the endpoint does not answer in time.
    fn fail(&self, what: &str) {
        let failed = self.instance.connect().exchange(&to("hasty", "/hang"));
        assert_problem(&failed, 504, "endpoint-timeout", true, what);
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.hung.open();
    }
}

fn to(installation: &str, path: &str) -> Vec<u8> {
    let headers = [
        ("Content-Type", "application/json"),
        ("X-Kiket-Installation-Id", installation),
    ];
    request("POST", path, &headers, b"{}")
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
    let stage = Stage::start();
    for n in 1..=9 {
        stage.fail(&n.to_string());
    }
    assert_eq!(stage.deliver().status, 200);
    for n in 1..=10 {
        stage.fail(&n.to_string());
    }
    assert_left_alone(&stage.deliver(), "it hung ten times in a row");
    assert_left_alone(&stage.instance.deliver("hasty", b"{}"), "whichever installation it is");
}

#[test]
fn what_an_endpoint_answers_never_counts_nor_does_a_connection_that_breaks() {
    let broken = (Mood::Breaks, 502);
    let answers = [(500, 500), (503, 503), (429, 429), (404, 404), (302, 502)];
    let answers = answers.map(|(status, passed_on)| (Mood::Answers(status), passed_on));
    let stage = Stage::start();
    for (mood, status) in answers.into_iter().chain([broken]) {
        stage.is(mood);
        let mut client = stage.instance.connect();
        for n in 1..=60 {
            assert_eq!(client.exchange(&invocation("ins", b"{}")).status, status, "{n}");
        }
        assert_eq!(changes(&stage.instance, "open"), 0);
    }
}

#[test]
fn half_of_twenty_deliveries_failed_and_never_ten_in_a_row() {
    let stage = Stage::start();
    for n in 1..=10 {
        assert_eq!(stage.deliver().status, 200, "{n}");
        stage.fail(&n.to_string());
    }
    assert_left_alone(&stage.deliver(), "ten of twenty");
}

#[test]
fn exactly_one_probe_passes_while_others_are_told_to_wait() {
    let stage = Stage::opened();
    stage.instance.clock.advance(10_000);
    let gate = stage.holds();
    let mut probe = stage.instance.connect();
    probe.send(&invocation("ins", b"{}"));
    stage.await_arrival();
    for n in 0..20 {
        assert_left_alone(&stage.deliver(), &n.to_string());
        stage.instance.clock.advance(1_000); // also for longer than the circuit was open
    }
    assert_eq!(stage.arrivals(), 0, "one probe only");
    gate.open();
    assert_eq!(probe.answer().status, 200);
    assert_eq!(stage.deliver().status, 200);
    assert_eq!(stage.arrivals(), 1);
}

#[test]
fn a_probe_that_tells_nothing_makes_room_for_the_next() {
    let stage = Stage::opened();
    stage.instance.clock.advance(10_000);
    let gate = stage.holds();
    let mut probe = stage.instance.connect();
    probe.send(&invocation("ins", b"{}"));
    stage.await_arrival();
    assert_left_alone(&stage.deliver(), "while it is out");
    drop(probe);
    await_metric(&stage.instance, "kiket_in_flight", 0);
    gate.open();
    stage.is(Mood::Breaks);
    assert_eq!(stage.deliver().status, 502);
    assert_eq!(metric(&stage.instance, OPEN), 1);
    stage.is(Mood::Answers(500));
    assert_eq!(stage.deliver().status, 500, "an answer closes it, whatever it says");
    assert_eq!(
        (metric(&stage.instance, OPEN), changes(&stage.instance, "closed")),
        (0, 1)
    );
}

#[test]
fn a_large_body_is_not_read_for_an_endpoint_that_is_left_alone() {
    let stage = Stage::opened();
    let mut client = stage.instance.connect();
    client.send(
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nExpect: 100-continue\r\n\
          X-Kiket-Installation-Id: ins\r\nContent-Length: 100000\r\n\r\n",
    );
    assert_left_alone(&client.answer(), "before the body");
}

#[test]
fn what_one_organization_makes_fail_stays_open_for_others_and_a_change_forgets_nothing() {
    let stage = Stage::opened();
    let instance = &stage.instance;
    install(instance, "another", "theirs", "com.example.ins");
    assert_eq!(
        instance.connect().exchange(&to("theirs", "/well")).status,
        200,
        "another organization's"
    );
    // A bundle that is built anew, and another installation of the same organization, find what is known.
    let callback = json!({"url": stage.url, "secret_keys": ["NEW"]});
    instance.register("com.example.ins", callback, json!({}));
    instance.set("organization", "org", "NEW", "a new value");
    install(instance, "org", "more", "com.example.ins");
    for id in ["ins", "more"] {
        assert_left_alone(&instance.deliver(id, b"{}"), id);
    }
    // Another path below the same host is another destination.
    tenant(instance, "org", "elsewhere", &format!("{}/elsewhere", stage.url));
    assert_eq!(instance.deliver("elsewhere", b"{}").status, 200);
}
