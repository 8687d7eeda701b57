//! When a delivery is tried again, over which connection it goes, and that no endpoint ever gets it twice.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use serde_json::json;

use super::support::instance::{Instance, invocation};
use super::support::pki::Authority;
use super::support::problem::assert_problem;
use super::support::tenant::{Tenant, mutual_callback, trusting};
use super::support::tls_endpoint::{H1, H2, Opening, Reply, Setup, ok};

/// Longer than anything takes; a test that hangs fails.
const PATIENCE: Duration = Duration::from_secs(30);

const BODY: &[u8] = b"{\"id\":\"inv_1\",\"payload\":[1,2,3]}";

/// An endpoint over plain HTTP that reads of the next request exactly as many bytes as it is told, then closes.
/// Later connections of the same delivery are served.
struct Closing {
    url: String,
    state: Arc<Mutex<State>>,
    /// Hears of each connection's end.
    closed: mpsc::Receiver<()>,
}

#[derive(Default)]
struct State {
    /// How many requests the next connection answers before it closes within one.
    answers: usize,
    /// How much of that one is read.
    bytes: usize,
    connections: usize,
    /// Requests that were read whole.
    complete: usize,
    /// How long the last request was.
    length: usize,
}

impl Closing {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let state: Arc<Mutex<State>> = Arc::default();
        let shared = Arc::clone(&state);
        let (told, closed) = mpsc::channel();
        thread::spawn(move || {
            for stream in listener.incoming() {
                serve(stream.unwrap(), &shared);
                let _ = told.send(()); // the test may be over
            }
        });
        Self { url, state, closed }
    }

    /// What the next connection does.
    fn next(&self, answers: usize, bytes: usize) {
        let mut state = self.state.lock().unwrap();
        (state.answers, state.bytes, state.connections, state.complete) = (answers, bytes, 0, 0);
    }
}

/// One connection, alone: a later one waits until it is closed.
fn serve(mut stream: TcpStream, state: &Mutex<State>) {
    let (mut answers, bytes, length) = {
        let mut state = state.lock().unwrap();
        state.connections += 1;
        let is_first = state.connections == 1;
        (
            if is_first { state.answers } else { usize::MAX },
            state.bytes,
            state.length,
        )
    };
    while answers > 0 {
        let Some(length) = read_whole(&mut stream) else {
            return;
        };
        let mut state = state.lock().unwrap();
        (state.complete, state.length) = (state.complete + 1, length);
        drop(state);
        answers -= 1;
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            .unwrap();
    }
    let mut taken = vec![0; bytes];
    let read = stream.read_exact(&mut taken).is_ok();
    // Counted before the client can know.
    state.lock().unwrap().complete += usize::from(read && length > 0 && bytes == length);
}

/// Reads one request and says how long it was.
fn read_whole(stream: &mut TcpStream) -> Option<usize> {
    let (mut read, mut one) = (Vec::new(), [0]);
    while !read.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut one).ok()?;
        read.push(one[0]);
    }
    let head = String::from_utf8(read).unwrap().to_lowercase();
    let length = head.split_once("content-length: ").unwrap().1;
    let length: usize = length.split("\r\n").next().unwrap().parse().unwrap();
    stream.read_exact(&mut vec![0; length]).ok()?;
    Some(head.len() + length)
}

/// An instance that delivers to a closing endpoint, and how long its request is.
fn measured(closing: &Closing) -> (Instance, usize) {
    let instance = Instance::start();
    instance.simple(&closing.url);
    closing.next(1, 0);
    assert_eq!(instance.deliver("ins", BODY).status, 200);
    closing.closed.recv_timeout(PATIENCE).unwrap();
    let length = closing.state.lock().unwrap().length;
    assert!(length > BODY.len());
    (instance, length)
}

#[test]
fn an_endpoint_that_closes_after_any_byte_of_a_request_never_gets_it_again() {
    let closing = Closing::start();
    let (instance, length) = measured(&closing);
    let mut client = instance.connect();
    for bytes in (1..=length).chain([0]) {
        closing.next(0, bytes);
        let answer = client.exchange(&invocation("ins", BODY));
        let state = closing.state.lock().unwrap();
        assert!(state.complete <= 1, "{bytes} of {length}: {} requests", state.complete);
        if bytes > 0 {
            assert_problem(&answer, 502, "endpoint-unreachable", true, "closing");
            assert_eq!(
                (state.connections, answer.header("x-kiket-attempts")),
                (1, Some("1")),
                "{bytes}"
            );
        }
        assert_eq!(answer.status == 200, state.complete == 1 && bytes < length, "{bytes}");
    }
}

#[test]
fn an_endpoint_that_closes_a_used_connection_after_any_byte_never_gets_a_request_again() {
    let closing = Closing::start();
    let (instance, length) = measured(&closing);
    let mut client = instance.connect();
    for bytes in (1..=length).step_by(7).chain([length - 1, length, 0]) {
        closing.next(1, bytes);
        assert_eq!(client.exchange(&invocation("ins", BODY)).status, 200);
        let answer = client.exchange(&invocation("ins", BODY));
        let state = closing.state.lock().unwrap();
        assert!(state.complete <= 2, "{bytes} of {length}: {} requests", state.complete);
        if bytes > 0 {
            assert_problem(&answer, 502, "endpoint-unreachable", true, "closing");
            assert_eq!(
                (state.connections, answer.header("x-kiket-attempts")),
                (1, Some("1")),
                "{bytes}"
            );
        } else {
            // Closed while it was idle, or while the request was on its way.
            assert_eq!(answer.status == 200, state.complete == 2);
        }
    }
}

#[test]
fn over_tls_an_endpoint_that_closes_within_a_request_never_gets_it_again() {
    let authority = Authority::new("dev CA");
    for bytes in [0, 1, 2, 40, 100, 200] {
        let instance = trusting(&authority, &[]);
        let endpoint = Setup::new(&authority, H1)
            .openings(move |n| {
                if n == 0 {
                    Opening::CloseAfter(bytes)
                } else {
                    Opening::Serve
                }
            })
            .start();
        instance.simple(&endpoint.url());
        let answer = instance.deliver("ins", BODY);
        endpoint.wait("the end of the first connection", |sessions, _| sessions[0].closed);
        assert_eq!(endpoint.sessions()[0].bytes, bytes, "the request is longer");
        if bytes > 0 {
            assert_problem(&answer, 502, "endpoint-unreachable", true, "closing");
            assert_eq!((endpoint.sessions().len(), endpoint.seen().len()), (1, 0), "{bytes}");
        }
        assert!(endpoint.seen().len() <= 1);
    }
}

#[test]
fn a_connection_that_the_endpoint_closed_while_it_was_idle_is_passed_over() {
    for alpn in [H1, H2] {
        let authority = Authority::new("dev CA");
        let instance = trusting(&authority, &[]);
        // `Last` says so over HTTP/1.1 and HTTP/2; the plain endpoint below does not.
        let endpoint = Setup::new(&authority, alpn)
            .script(|_| Reply::Last(Response::new(Bytes::new())))
            .start();
        instance.simple(&endpoint.url());
        for round in 0..5 {
            let answer = instance.deliver("ins", BODY);
            assert_eq!(
                (answer.status, answer.header("x-kiket-attempts")),
                (200, Some("1")),
                "{round}"
            );
            endpoint.wait("the end of the connection", |sessions, _| sessions[round].closed);
        }
        assert_eq!(endpoint.seen().len(), 5);
    }

    let closing = Closing::start();
    let (instance, _) = measured(&closing);
    for round in 0..20 {
        closing.next(1, 0); // closes after its answer, without a word
        let answer = instance.deliver("ins", BODY);
        assert_eq!(
            (answer.status, answer.header("x-kiket-attempts")),
            (200, Some("1")),
            "{round}"
        );
        closing.closed.recv_timeout(PATIENCE).unwrap();
    }
}

#[test]
fn an_endpoint_that_closes_whenever_it_likes_gets_nothing_twice() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let instance = Instance::start();
    instance.simple(&format!("http://{}", listener.local_addr().unwrap()));
    let complete = Arc::new(Mutex::new(HashMap::<String, usize>::new()));
    let counted = Arc::clone(&complete);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, counted) = (stream.unwrap(), Arc::clone(&counted));
            thread::spawn(move || {
                let mut body = Vec::new();
                while !body.ends_with(b"}}") {
                    let mut some = [0; 4096];
                    match stream.read(&mut some) {
                        Ok(n @ 1..) => body.extend_from_slice(&some[..n]),
                        _ => return,
                    }
                }
                let text = String::from_utf8(body).unwrap();
                let id = text
                    .split("\"id\":\"")
                    .nth(1)
                    .unwrap()
                    .split('"')
                    .next()
                    .unwrap()
                    .to_owned();
                *counted.lock().unwrap().entry(id).or_default() += 1;
                // Looks as if it could be used again, and is closed in the same breath.
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
            });
        }
    });
    let delivered: Vec<String> = thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|n| {
                let instance = &instance;
                scope.spawn(move || {
                    let mut client = instance.connect();
                    let mut delivered = Vec::new();
                    for round in 0..100 {
                        let id = format!("{n}-{round}");
                        let answer = client.exchange(&invocation("ins", format!("{{\"id\":\"{id}\"}}").as_bytes()));
                        match answer.status {
                            200 => delivered.push(id),
                            _ => assert_problem(&answer, 502, "endpoint-unreachable", true, &id),
                        }
                    }
                    delivered
                })
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    let complete = complete.lock().unwrap();
    assert!(complete.values().all(|times| *times == 1), "{complete:?}");
    assert!(delivered.iter().all(|id| complete.contains_key(id)));
    assert!(!delivered.is_empty());
}

#[test]
fn a_connection_is_kept_as_long_as_its_endpoint_says() {
    for (says, connections) in [
        (None, 1),
        (Some(("keep-alive", "timeout=100")), 1),
        (Some(("keep-alive", "timeout=1")), 4),
        (Some(("keep-alive", "timeout=0")), 4),
        (Some(("connection", "close")), 4),
    ] {
        let authority = Authority::new("dev CA");
        let instance = trusting(&authority, &[]);
        let endpoint = Setup::new(&authority, H1)
            .script(move |_| {
                let mut response = Response::new(Bytes::from_static(b"{}"));
                if let Some((name, value)) = says {
                    response.headers_mut().insert(name, value.parse().unwrap());
                }
                Reply::Whole(response)
            })
            .start();
        instance.simple(&endpoint.url());
        let mut client = instance.connect();
        for _ in 0..4 {
            let answer = client.exchange(&invocation("ins", BODY));
            // What concerns that connection is not said of this one.
            assert_eq!(
                (answer.status, answer.header("keep-alive"), answer.header("connection")),
                (200, None, None)
            );
        }
        assert_eq!(endpoint.sessions().len(), connections, "{says:?}");
    }
}

#[test]
fn an_answer_without_a_body_gives_its_connection_back() {
    for (status, alpn) in [(200, H1), (204, H1), (500, H1), (204, H2)] {
        let authority = Authority::new("dev CA");
        let instance = trusting(&authority, &[]);
        let endpoint = Setup::new(&authority, alpn)
            .script(move |_| {
                let mut response = Response::new(Bytes::new());
                *response.status_mut() = status.try_into().unwrap();
                Reply::Whole(response)
            })
            .start();
        instance.simple(&endpoint.url());
        for _ in 0..4 {
            let answer = instance.deliver("ins", BODY);
            assert_eq!((answer.status, answer.body.len()), (status, 0));
        }
        assert_eq!(endpoint.sessions().len(), 1, "{status} {alpn:?}");
    }
}

#[test]
fn handshakes_are_at_most_as_many_as_deliveries_at_the_same_time() {
    const AT_ONCE: usize = 4;
    const EACH: usize = 250;
    for (alpn, handshakes_max) in [(H1, AT_ONCE), (H2, 1)] {
        let authority = Authority::new("dev CA");
        let instance = Instance::start();
        let endpoint = Setup::mutual(&authority, alpn).script(|_| ok()).start();
        let callback = mutual_callback(&endpoint.url());
        instance.register("com.example.many", callback, json!({"KEY": {"secret": true}}));
        let identity = authority.client("org");
        Tenant::enabled(&instance, "com.example.many", ["org", "ins"], &identity, &authority);
        thread::scope(|scope| {
            for _ in 0..AT_ONCE {
                scope.spawn(|| {
                    let mut client = instance.connect();
                    for _ in 0..EACH {
                        assert_eq!(client.exchange(&invocation("ins", BODY)).status, 200);
                    }
                });
            }
        });
        let handshakes = endpoint.sessions().len();
        assert!(
            (1..=handshakes_max).contains(&handshakes),
            "{alpn:?}: {handshakes} handshakes"
        );
        assert_eq!(endpoint.seen().len(), AT_ONCE * EACH);
    }
}
