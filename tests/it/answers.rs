//! How an endpoint's answer reaches the dispatcher: as it comes, bounded, and never looking whole where it is not.

use std::sync::{Mutex, mpsc as std_mpsc};

use bytes::Bytes;
use http::{HeaderMap, Response};
use http_body::Frame;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::support::instance::{Instance, invocation};
use super::support::pki::Authority;
use super::support::reading::{Piece, Reading, send};
use super::support::tenant::trusting;
use super::support::tls_endpoint::{self, H1, H2, Reply, Setup, TlsEndpoint, finished, ok};

type Pieces = mpsc::Sender<tls_endpoint::Piece>;

/// An instance, and an endpoint whose answers are sent by the test: piece by piece, to `/webhooks/again` at once.
struct Stage {
    instance: Instance,
    endpoint: TlsEndpoint,
    answers: std_mpsc::Receiver<Pieces>,
}

fn stage(alpn: &'static [&'static str], settings: &[(&str, &str)], length: Option<usize>) -> Stage {
    let authority = Authority::new("dev CA");
    let instance = trusting(&authority, settings);
    let (told, answers) = std_mpsc::channel();
    let told = Mutex::new(told);
    let endpoint = Setup::new(&authority, alpn)
        .script(move |seen| {
            if seen.path == "/webhooks/again" {
                return ok();
            }
            let (pieces, receiver) = mpsc::channel(64);
            told.lock().unwrap().send(pieces).unwrap();
            let mut response = Response::new(receiver);
            if let Some(length) = length {
                response.headers_mut().insert("content-length", length.into());
            }
            Reply::Streamed(response)
        })
        .start();
    instance.simple(&endpoint.url());
    Stage {
        instance,
        endpoint,
        answers,
    }
}

impl Stage {
    fn begin(&self) -> (Reading, Pieces) {
        let reading = Reading::begin(self.instance.proxy(), &invocation("ins", b"{}"));
        assert_eq!(reading.status, 200);
        (reading, self.answers.recv().unwrap())
    }

    /// Delivers once more, and says over how many connections the endpoint was reached so far.
    fn again(&self) -> usize {
        let request = String::from_utf8(invocation("ins", b"{}")).unwrap();
        let request = request.replace("issue.created", "again");
        assert_eq!(self.instance.connect().exchange(request.as_bytes()).status, 200);
        self.endpoint.sessions().len()
    }

    fn line(&self, outcome: &str) -> Value {
        self.instance.await_line(outcome, |line| line["outcome"] == outcome)
    }
}

fn data(text: &str) -> tls_endpoint::Piece {
    Ok(Frame::data(Bytes::copy_from_slice(text.as_bytes())))
}

#[test]
fn an_answer_is_passed_on_as_it_comes() {
    for alpn in [H1, H2] {
        let stage = stage(alpn, &[], None);
        let (mut reading, pieces) = stage.begin();
        for text in ["one", "two", "three"] {
            pieces.blocking_send(data(text)).unwrap();
            assert_eq!(reading.next(), Piece::Data(text.into())); // before the next is sent
        }
        drop(pieces);
        assert_eq!(reading.next(), Piece::End);
        assert_eq!(stage.line("delivered")["bytes_out"], json!(11));
        assert_eq!(stage.again(), 1, "{alpn:?}: the connection was not used again");
    }
}

#[test]
fn trailers_are_left_out_and_harm_nothing() {
    for alpn in [H1, H2] {
        let stage = stage(alpn, &[], None);
        let (mut reading, pieces) = stage.begin();
        let mut trailers = HeaderMap::new();
        trailers.insert("x-kiket-checksum", "forged".parse().unwrap());
        pieces.blocking_send(data("one")).unwrap();
        pieces.blocking_send(Ok(Frame::trailers(trailers))).unwrap();
        drop(pieces);
        assert_eq!(reading.next(), Piece::Data("one".into()));
        assert_eq!(reading.next(), Piece::End);
        stage.line("delivered");
        assert_eq!(stage.again(), 1, "{alpn:?}: the connection was not used again");
    }
}

#[test]
fn an_answer_that_breaks_off_never_looks_whole() {
    for alpn in [H1, H2] {
        for length in [None, Some(100)] {
            let stage = stage(alpn, &[], length);
            let (mut reading, pieces) = stage.begin();
            pieces.blocking_send(data("half")).unwrap();
            match length {
                None => assert_eq!(reading.next(), Piece::Data("half".into())),
                Some(_) => assert_eq!(reading.bytes(4), "half"),
            }
            pieces.blocking_send(Err(h2::Reason::INTERNAL_ERROR.into())).unwrap();
            assert_eq!(reading.next(), Piece::Cut, "{alpn:?} {length:?}");
            let line = stage.line("interrupted");
            assert_eq!((&line["status"], &line["bytes_out"]), (&json!(200), &json!(4)));
            let error = line["error"].as_str().unwrap();
            assert!(
                ["endpoint-unreachable", "endpoint-protocol-error"].contains(&error),
                "{error}"
            );
            stage.again();
        }
    }
}

#[test]
fn an_answer_of_unknown_length_is_cut_where_it_passes_the_limit() {
    const LIMIT: usize = 64 * 1024;
    for alpn in [H1, H2] {
        for (bytes, end, outcome) in [(LIMIT, Piece::End, "delivered"), (LIMIT + 1, Piece::Cut, "interrupted")] {
            let stage = stage(alpn, &[("response_bytes_max", "64KiB")], None);
            let (mut reading, pieces) = stage.begin();
            for part in vec![b'x'; bytes].chunks(8 * 1024) {
                pieces
                    .blocking_send(Ok(Frame::data(Bytes::copy_from_slice(part))))
                    .unwrap();
            }
            drop(pieces);
            let (read, ended) = reading.rest();
            assert_eq!(ended, end, "{alpn:?} {bytes}");
            assert!(read <= LIMIT, "{read}");
            let line = stage.line(outcome);
            assert_eq!(line["error"].as_str(), (bytes > LIMIT).then_some("response-too-large"));
            stage.again();
        }
    }
}

#[test]
fn a_dispatcher_that_hangs_up_during_the_answer_ends_it_at_the_endpoint() {
    for alpn in [H1, H2] {
        let stage = stage(alpn, &[], None);
        let (mut reading, pieces) = stage.begin();
        pieces.blocking_send(data("one")).unwrap();
        assert_eq!(reading.next(), Piece::Data("one".into()));
        drop(reading);
        finished("the end of the answer", pieces.closed());
        let line = stage.line("dispatcher-gone");
        assert_eq!((&line["status"], &line["bytes_out"]), (&json!(200), &json!(3)));
        if alpn == H1 {
            stage
                .endpoint
                .wait("the end of the connection", |sessions, _| sessions[0].closed);
        }
        // Over HTTP/2 only the stream ends: others share the connection.
        assert_eq!(stage.again(), if alpn == H1 { 2 } else { 1 });
    }
}

#[test]
fn a_dispatcher_that_hangs_up_before_the_answer_ends_the_delivery() {
    for alpn in [H1, H2] {
        let authority = Authority::new("dev CA");
        let instance = trusting(&authority, &[]);
        let endpoint = Setup::new(&authority, alpn).script(|_| Reply::Stall).start();
        instance.simple(&endpoint.url());
        let dispatcher = send(instance.proxy(), &invocation("ins", b"{}"));
        endpoint.wait("the request", |_, seen| seen.len() == 1);
        drop(dispatcher);
        let line = instance.await_line("the delivery", |line| line["outcome"] == "dispatcher-gone");
        assert_eq!((&line["status"], &line["attempts"]), (&Value::Null, &json!(1)));
        if alpn == H1 {
            endpoint.wait("the end of the connection", |sessions, _| sessions[0].closed);
        }
        assert!(
            instance.metrics().contains("kiket_in_flight 0\n"),
            "{}",
            instance.metrics()
        );
    }
}
