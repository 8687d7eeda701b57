//! Endpoints and networks at fault (threat E4): cut, reset, stalled and dripping at every place, and hostile answers.

use super::super::support::endpoint::answer;
use super::super::support::fault_proxy::{Fault, Plan, Way};
use super::{Expected, Row, Stage};

/// The endpoint's plain answer to these rows.
const HEAD: &str = "HTTP/1.1 200 X\r\nContent-Length: 11\r\n\r\n";
const WHOLE: usize = HEAD.len() + 11;

/// Answers that are wrong in themselves. The connection ends with them.
const HOSTILE: [(&str, &str, Expected); 16] = [
    ("not-http", "SSH-2.0-OpenSSH_9.2\r\n\r\n", PROTOCOL),
    ("not-even-a-line", "\u{0}\u{1}\u{2}\u{3}\r\n\r\n", PROTOCOL),
    (
        "two-lengths",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
        PROTOCOL,
    ),
    (
        "negative-length",
        "HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nhello",
        PROTOCOL,
    ),
    (
        "a-number-of-no-size",
        "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\nhello",
        PROTOCOL,
    ),
    (
        "a-huge-length",
        "HTTP/1.1 200 OK\r\nContent-Length: 9000000\r\n\r\nhello",
        TOO_LARGE,
    ),
    (
        "a-bomb",
        "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 5\r\n\r\nhello",
        PROTOCOL,
    ),
    (
        "a-redirect",
        "HTTP/1.1 307 X\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n",
        REDIRECTED,
    ),
    (
        "another-protocol",
        "HTTP/1.1 101 X\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n",
        PROTOCOL,
    ),
    (
        "a-bad-chunk",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n0\r\n\r\n",
        PROTOCOL,
    ),
    (
        "an-endless-chunk",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\nhello",
        PROTOCOL,
    ),
    (
        "a-chunk-without-end",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhelloXX0\r\n\r\n",
        PROTOCOL,
    ),
    (
        "a-short-body",
        "HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhello",
        UNREACHABLE,
    ),
    (
        "a-short-chunk",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n50\r\nhello",
        UNREACHABLE,
    ),
    ("half-a-head", "HTTP/1.1 200 OK\r\nContent-Le", UNREACHABLE),
    (
        "a-folded-field",
        "HTTP/1.1 200 OK\r\nX-A: b\r\n\tc\r\nContent-Length: 0\r\n\r\n",
        PROTOCOL,
    ),
];

/// What comes without end, after so many bytes of the plain answer.
const FLOODS: [(&str, usize, &[u8], Expected); 5] = [
    ("endless-interim-answers", 0, b"HTTP/1.1 100 Continue\r\n\r\n", TIMEOUT),
    (
        "endless-fields",
        HEAD.len() - 2,
        b"X-Own: of the endpoint\r\n",
        PROTOCOL,
    ),
    ("one-endless-field", HEAD.len() - 2, b"x", PROTOCOL),
    ("an-endless-status-line", 12, b"x", PROTOCOL),
    ("an-endless-beginning", 0, b"\r\n", PROTOCOL),
];

/// Answers that go on without end.
const ENDLESS_BODIES: [(&str, &str, &[u8], Expected); 3] = [
    ("an-endless-body", "5\r\nhello\r\n", b"5\r\nhello\r\n", TOO_LARGE),
    (
        "endless-trailers",
        "5\r\nhello\r\n0\r\n",
        b"X-Own: of the endpoint\r\n",
        PROTOCOL,
    ),
    ("an-endless-chunk-extension", "5;", b"x", PROTOCOL),
];

const PROTOCOL: Expected = Expected::Problem("endpoint-protocol-error");
const REDIRECTED: Expected = Expected::Problem("endpoint-redirected");
const TIMEOUT: Expected = Expected::Problem("endpoint-timeout");
const TOO_LARGE: Expected = Expected::Problem("response-too-large");
const UNREACHABLE: Expected = Expected::Problem("endpoint-unreachable");

fn faulted(what: String, way: Way, at: usize, fault: Fault, expected: Expected) -> Row {
    Row {
        plan: Some(Plan { way, at, fault }),
        ..Row::new(what, expected)
    }
}

/// Faults at places of either way. The request is longer than all of them.
fn cut_and_stalled() -> Vec<Row> {
    let mut rows = Vec::new();
    for (name, fault, expected) in [
        ("cut", Fault::Cut, UNREACHABLE),
        ("reset", Fault::Reset, UNREACHABLE),
        ("stall", Fault::Stall, TIMEOUT),
    ] {
        for at in [0, 1, 9, 20, HEAD.len() - 1, HEAD.len(), HEAD.len() + 1, WHOLE - 1] {
            rows.push(faulted(
                format!("answer-{name}-{at}"),
                Way::Answer,
                at,
                fault.clone(),
                expected,
            ));
        }
        for at in [1, 20, 150, 400, 600] {
            rows.push(faulted(
                format!("request-{name}-{at}"),
                Way::Request,
                at,
                fault.clone(),
                expected,
            ));
        }
    }
    for at in [0, 20, HEAD.len()] {
        rows.push(faulted(
            format!("answer-drip-{at}"),
            Way::Answer,
            at,
            Fault::Drip,
            TIMEOUT,
        ));
        rows.push(faulted(
            format!("request-drip-{at}"),
            Way::Request,
            at,
            Fault::Drip,
            TIMEOUT,
        ));
    }
    rows
}

/// Answers before the request was taken.
fn early() -> Vec<Row> {
    let early = b"HTTP/1.1 413 X\r\nConnection: close\r\nContent-Length: 5\r\n\r\nearly";
    let row = |at| {
        let passed = Expected::Passed(413);
        faulted(format!("early-{at}"), Way::Request, at, Fault::Answer(early), passed)
    };
    [1, 150, 400].map(row).into()
}

pub(super) fn rows() -> Vec<Row> {
    let mut rows = cut_and_stalled();
    rows.extend(early());
    for (what, bytes, expected) in HOSTILE {
        let row = faulted(what.to_owned(), Way::Answer, bytes.len(), Fault::Cut, expected);
        rows.push(Row {
            answer: Some(bytes.into()),
            ..row
        });
    }
    for (what, at, bytes, expected) in FLOODS {
        rows.push(faulted(what.to_owned(), Way::Answer, at, Fault::Flood(bytes), expected));
    }
    for (what, begun, bytes, expected) in ENDLESS_BODIES {
        let begun = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{begun}").into_bytes();
        let row = faulted(what.to_owned(), Way::Answer, begun.len(), Fault::Flood(bytes), expected);
        rows.push(Row {
            answer: Some([begun, bytes.to_vec()].concat()),
            ..row
        });
    }
    // A second answer in the same breath is nobody's: not the next delivery's either.
    let poison = answer(200, "", b"poison");
    for (what, first) in [("a-second-answer", 200), ("a-second-answer-to-a-failure", 500)] {
        rows.push(Row {
            answer: Some([answer(first, "", b"first"), poison.clone()].concat()),
            ..Row::new(what, Expected::Passed(first))
        });
    }
    rows
}

#[test]
fn an_endpoint_or_network_at_fault_costs_one_delivery_and_nothing_else() {
    // Answers are held until they are whole, so that each row has a status.
    let stage = Stage::start(&[("response_bytes_max", "48KiB"), ("bundle_idle", "1h")]);
    let mut rows = rows();
    // The plain answer to all that bring none of their own has a body of eleven bytes.
    for row in rows.iter_mut().filter(|row| row.answer.is_none()) {
        row.answer = Some(format!("{HEAD}hello there").into());
    }
    stage.hold(rows);
}
