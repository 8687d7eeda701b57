//! What a collector can do to spans, and that none of it is done to a delivery.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use socket2::{Domain, Socket, Type};

use super::super::support::canary::Canary;
use super::super::support::collector::{Collector, PATH, counted, spans};
use super::super::support::endpoint::Endpoint;
use super::super::support::holding::Gate;
use super::super::support::instance::{Instance, Options};
use super::super::support::pki::Authority;
use super::super::support::process::Process;
use super::super::support::tls_endpoint::{H1, Setup};
use super::{Scene, await_until, invocation};

#[test]
fn a_collector_that_is_busy_is_asked_again_with_the_same_spans() {
    let scene = Scene::start();
    scene.collector.answers(503, "", b"");
    scene.collector.answers(429, "Retry-After: 1\r\n", b"");
    assert_eq!(scene.deliver(&[]).status, 200);
    let requests = scene.collector.await_requests(3);
    assert_eq!(spans(&requests[0].body).len(), 2);
    assert!(requests.iter().all(|request| request.body == requests[0].body));
    scene.await_counted("exported", 2);
    for outcome in ["queue-full", "rejected", "given-up"] {
        assert_eq!(scene.counted(outcome), 0, "{outcome}");
    }
}

#[test]
fn a_collector_that_refuses_or_is_busy_for_too_long_is_not_asked_again() {
    let scene = Scene::start();
    for (requests, (status, headers, outcome, count)) in (1..).zip([
        (400, "Retry-After: 0\r\n", "rejected", 2),
        (500, "", "rejected", 4),
        (307, "Location: http://127.0.0.1/elsewhere\r\n", "rejected", 6),
        (503, "Retry-After: 31\r\n", "given-up", 2),
    ]) {
        scene.collector.answers(status, headers, b"");
        assert_eq!(scene.deliver(&[]).status, 200);
        scene.await_counted(outcome, count);
        assert_eq!(scene.collector.requests().len(), requests, "{status} {headers}");
    }
    // The next ones are taken.
    assert_eq!(scene.deliver(&[]).status, 200);
    scene.await_counted("exported", 2);
    assert_eq!(scene.collector.requests().len(), 5);
}

#[test]
fn spans_that_are_refused_one_by_one_are_counted_and_the_collectors_words_are_not_repeated() {
    let collector = Collector::start();
    let url = collector.url();
    let process = Process::with(&[("otlp_traces_url", &url), ("log", "trace")]);
    let endpoint = Endpoint::start();
    process.simple(&endpoint.url(), "value");
    let metrics = || String::from_utf8(process.health("/metrics").body).unwrap();
    let deliver = |outcome: &str, count: u64| {
        assert_eq!(process.deliver("ins", b"{}").status, 200);
        await_until(outcome, || counted(&metrics(), outcome) == count);
    };
    let words = Canary::new("cnry-of-the-collector-5e");
    // partial_success (1): rejected_spans (1) = 1, error_message (2).
    let text = words.text.as_bytes();
    let length = |bytes: &[u8]| u8::try_from(bytes.len()).unwrap();
    let partial = [&[0x08, 1, 0x12, length(text)][..], text].concat();
    let answer = [&[0x0a, length(&partial)][..], &partial].concat();
    collector.answers(200, "X-Word: cnry-of-the-collector-5e\r\n", &answer);
    deliver("rejected", 1);
    assert_eq!(counted(&metrics(), "exported"), 1);
    collector.answers(200, "", &text.repeat(4_000)); // more than is read
    deliver("rejected", 3);
    collector.answers(400, "", text);
    deliver("rejected", 5);
    let told = metrics() + &process.stop().stderr;
    assert!(told.contains("the answer is too large"), "the log is there: {told}");
    assert_eq!(words.found_in(told.as_bytes()), None, "{told}");
}

#[test]
fn a_collector_that_is_away_costs_no_delivery_and_gets_the_spans_when_it_is_back() {
    // Bound, so that nobody else gets the port, and not listening.
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    socket.bind(&any.into()).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    let url = format!("http://{address}{PATH}");
    let (process, endpoint) = (Process::with(&[("otlp_traces_url", &url)]), Endpoint::start());
    process.simple(&endpoint.url(), "value");
    let mut dispatcher = process.connect();
    for _ in 0..50 {
        assert_eq!(dispatcher.exchange(&invocation(&[])).status, 200);
    }
    process.log.wait_for("spans cannot be exported", 1);
    socket.listen(16).unwrap();
    let collector = Collector::on(TcpListener::from(socket));
    assert_eq!(collector.spans(100).len(), 100);
    process.log.wait_for("spans are exported again", 1);
    let ended = process.stop();
    assert_eq!(
        ended.stderr.matches("spans cannot be exported").count(),
        1,
        "{}",
        ended.stderr
    );
}

#[test]
fn a_collector_that_does_not_answer_costs_spans_and_no_delivery() {
    const DELIVERIES: u64 = 2_800;
    /// What may wait, and what may be under way.
    const ROOM: u64 = 2_048 + 512;
    let gate = Arc::new(Gate::default());
    let scene = Scene::with(Collector::holding(&gate), &[]);
    let mut dispatcher = scene.instance.connect();
    for _ in 0..DELIVERIES {
        assert_eq!(dispatcher.exchange(&invocation(&[])).status, 200);
    }
    let lost = scene.counted("queue-full");
    assert!(lost >= 2 * (DELIVERIES - ROOM), "{lost} dropped");
    assert!(lost < 2 * (DELIVERIES - 2_048), "{lost} dropped, though there was room");
    assert_eq!(scene.counted("exported"), 0);
    gate.open();
    // Every span is accounted for: it was dropped, or came.
    scene.await_counted("exported", 2 * DELIVERIES - lost);
    assert_eq!(scene.counted("queue-full"), lost);
}

#[test]
fn a_collector_is_reached_where_no_delivery_may_go() {
    let collector = Collector::start();
    let instance = collector.instance(&[("egress_allow_cidrs", ""), ("dangerous_allow_http", "false")]);
    assert_eq!(instance.deliver("nobody", b"{}").status, 404);
    assert_eq!(collector.spans(1)[0]["says"]["kiket.error"], "installation-unknown");
}

#[test]
fn a_collector_over_tls_is_one_that_the_operators_authorities_vouch_for() {
    let (authority, stranger) = (Authority::new("dev CA"), Authority::new("unknown CA"));
    let (file, collector) = (authority.file(), Setup::new(&authority, H1).start());
    let impostor = Setup::new(&stranger, H1).start();
    let start = |url: &str| {
        let url = format!("{url}{PATH}");
        let settings = [
            ("egress_ca_file", file.path().to_str().unwrap()),
            ("otlp_traces_url", url.as_str()),
        ];
        let instance = Instance::with(Options {
            settings: &settings,
            ..Options::default()
        });
        assert_eq!(instance.deliver("nobody", b"{}").status, 404);
        instance
    };
    let (exporting, deceived) = (start(&collector.url()), start(&impostor.url()));
    collector.wait("the export", |_, seen| !seen.is_empty());
    assert_eq!(spans(&collector.last().body).len(), 1);
    await_until("a failure", || counted(&deceived.metrics(), "given-up") == 1);
    assert!(impostor.seen().is_empty());
    assert_eq!(counted(&exporting.metrics(), "given-up"), 0);
}
