//! How deliveries share HTTP/2 connections, and what follows when a stream or a connection ends early.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use aws_lc_rs::hmac;
use bytes::Bytes;
use http::Response;
use http_body::Frame;
use serde_json::json;
use tokio::sync::mpsc;

use super::support::http::request;
use super::support::instance::{Instance, invocation};
use super::support::pki::Authority;
use super::support::problem::assert_problem;
use super::support::tenant::trusting;
use super::support::tls_endpoint::{H2, Opening, Reply, Seen, Setup, TlsEndpoint, ok};

const AT_ONCE: usize = 16;
const ROUNDS: usize = 10;

/// An instance with one worker and an endpoint that it delivers to; the installation is `ins`.
fn started(setup: impl FnOnce(Setup) -> Setup) -> (Instance, TlsEndpoint) {
    let authority = Authority::new("dev CA");
    let instance = trusting(&authority, &[("workers", "1")]);
    let endpoint = setup(Setup::new(&authority, H2)).start();
    let callback = json!({"url": endpoint.url(), "timeout": 20_000, "signing_secret_key": "SIGN"});
    instance.register("com.example.h2", callback, json!({"KEY": {"secret": true}}));
    instance.install("ins", "com.example.h2");
    instance.set("organization", "org", "SIGN", "signing-secret");
    instance.set("organization", "org", "KEY", "wide");
    instance.enable("ins");
    (instance, endpoint)
}

/// Fails unless the endpoint received the body with its secrets, signed.
fn assert_signed(seen: &Seen, body: &str) {
    let spliced = format!(
        "{},\"secrets\":{{\"KEY\":\"wide\"}},\"secret_status\":{{\"missing\":[]}}}}",
        &body[..body.len() - 1]
    );
    assert_eq!(seen.body.len(), spliced.len());
    assert!(seen.body == spliced.as_bytes());
    let key = hmac::Key::new(hmac::HMAC_SHA256, b"signing-secret");
    let signed = [seen.header("x-kiket-timestamp").unwrap().as_bytes(), b".", &seen.body].concat();
    let signature = data_encoding::HEXLOWER.decode(seen.header("x-kiket-signature").unwrap().as_bytes());
    hmac::verify(&key, &signed, &signature.unwrap()).expect("the signature is the body's");
}

#[test]
fn deliveries_at_the_same_time_share_one_connection() {
    let held: Mutex<Vec<mpsc::Sender<_>>> = Mutex::new(Vec::new());
    let (instance, endpoint) = started(|setup| {
        // Nobody's answer ends before all of a round are here.
        setup.script(move |_| {
            let (answer, pieces) = mpsc::channel(1);
            let mut held = held.lock().unwrap();
            held.push(answer);
            if held.len() == AT_ONCE {
                for answer in held.drain(..) {
                    answer.try_send(Ok(Frame::data(Bytes::from_static(b"{}")))).unwrap();
                }
            }
            Reply::Streamed(Response::new(pieces))
        })
    });
    thread::scope(|scope| {
        for n in 0..AT_ONCE {
            let instance = &instance;
            scope.spawn(move || {
                let mut client = instance.connect();
                for round in 0..ROUNDS {
                    let answer = client.exchange(&invocation("ins", format!("{{\"id\":\"{n}-{round}\"}}").as_bytes()));
                    assert_eq!((answer.status, answer.body.as_slice()), (200, b"{}".as_slice()));
                }
            });
        }
    });
    let sessions = endpoint.sessions();
    assert!(sessions.len() == 1 && sessions[0].h2, "{sessions:?}");
    let seen = endpoint.seen();
    assert_eq!(seen.len(), AT_ONCE * ROUNDS);
    for request in &seen {
        let id = request.json()["id"].as_str().unwrap().to_owned();
        assert_eq!(request.header("webhook-id"), Some(id.as_str()));
        assert_signed(request, &format!("{{\"id\":\"{id}\"}}"));
    }
}

#[test]
fn a_connection_that_ends_unprocessed_costs_another_attempt_and_delivers_once() {
    for (bad, reason, status) in [
        (1, h2::Reason::NO_ERROR, 200),
        (1, h2::Reason::ENHANCE_YOUR_CALM, 200),
        (2, h2::Reason::NO_ERROR, 200),
        (3, h2::Reason::NO_ERROR, 502),
    ] {
        let goodbye = Opening::GoAway {
            processed: false,
            reason,
        };
        let (instance, endpoint) =
            started(|setup| setup.openings(move |n| if n < bad { goodbye } else { Opening::Serve }));
        let answer = instance.deliver("ins", b"{\"id\":1}");
        let text = String::from_utf8_lossy(&answer.body);
        assert_eq!(answer.status, status, "{bad} {reason:?}: {text}");
        if status == 502 {
            assert_problem(&answer, 502, "endpoint-unreachable", true, "never processed");
        }
        let attempts = (bad + 1).min(3).to_string();
        assert_eq!(answer.header("x-kiket-attempts"), Some(attempts.as_str()));
        let seen = endpoint.seen();
        assert_eq!(seen.len(), usize::from(status == 200));
        seen.iter().for_each(|seen| assert_signed(seen, "{\"id\":1}"));
        assert_eq!(instance.deliver("ins", b"{}").status, 200, "after {bad}");
    }
}

#[test]
fn a_connection_that_ends_after_a_request_was_processed_is_not_followed_by_another_attempt() {
    for reason in [h2::Reason::NO_ERROR, h2::Reason::INTERNAL_ERROR] {
        let goodbye = Opening::GoAway {
            processed: true,
            reason,
        };
        let (instance, endpoint) =
            started(|setup| setup.openings(move |n| if n == 0 { goodbye } else { Opening::Serve }));
        let answer = instance.deliver("ins", b"{}");
        let text = String::from_utf8_lossy(&answer.body);
        assert_eq!(answer.status, 502, "{reason:?}: {text}");
        assert_eq!(answer.header("x-kiket-attempts"), Some("1"), "{reason:?}");
        assert_eq!((endpoint.sessions().len(), endpoint.seen().len()), (1, 0), "{reason:?}");
        assert_eq!(instance.deliver("ins", b"{}").status, 200, "after {reason:?}");
    }
}

#[test]
fn a_refused_stream_is_tried_again_at_most_twice() {
    for (refused, status) in [(1, 200), (2, 200), (3, 502)] {
        let count = Arc::new(AtomicUsize::new(0));
        let (asked, taken) = (Arc::clone(&count), Arc::new(AtomicUsize::new(0)));
        let processed = Arc::clone(&taken);
        let (instance, _endpoint) = started(|setup| {
            setup.script(move |_| {
                if asked.fetch_add(1, Ordering::SeqCst) < refused {
                    return Reply::Reset(h2::Reason::REFUSED_STREAM);
                }
                processed.fetch_add(1, Ordering::SeqCst);
                ok()
            })
        });
        let answer = instance.deliver("ins", b"{}");
        assert_eq!(
            answer.status,
            status,
            "{refused}: {}",
            String::from_utf8_lossy(&answer.body)
        );
        if status == 502 {
            assert_problem(&answer, 502, "endpoint-unreachable", true, "never processed");
        }
        let attempts = (refused + 1).min(3);
        assert_eq!(answer.header("x-kiket-attempts"), Some(attempts.to_string().as_str()));
        assert_eq!(count.load(Ordering::SeqCst), attempts);
        assert_eq!(taken.load(Ordering::SeqCst), usize::from(status == 200));
        assert_eq!(instance.deliver("ins", b"{}").status, 200, "after {refused}");
    }
}

#[test]
fn a_stream_that_is_reset_after_it_was_processed_is_not_tried_again() {
    for reason in [
        h2::Reason::INTERNAL_ERROR,
        h2::Reason::CANCEL,
        h2::Reason::NO_ERROR,
        h2::Reason::ENHANCE_YOUR_CALM,
    ] {
        let (instance, endpoint) = started(|setup| {
            setup.script(move |seen| {
                if seen.path == "/again" {
                    ok()
                } else {
                    Reply::Reset(reason)
                }
            })
        });
        let answer = instance.deliver("ins", b"{}");
        assert_problem(&answer, 502, "endpoint-protocol-error", false, "reset");
        assert_eq!(answer.header("x-kiket-attempts"), Some("1"), "{reason:?}");
        assert_eq!(endpoint.seen().len(), 1, "{reason:?}");
        // The connection is as good as before.
        let headers = [("Content-Type", "application/json"), ("X-Kiket-Installation-Id", "ins")];
        assert_eq!(
            instance
                .connect()
                .exchange(&request("POST", "/again", &headers, b"{}"))
                .status,
            200
        );
        assert_eq!(endpoint.sessions().len(), 1, "{reason:?}");
    }
}

#[test]
fn an_endpoint_that_says_goodbye_under_load_gets_every_delivery_exactly_once() {
    // More than are under way at a time: a delivery is not let down three times in a row.
    const EVERY: usize = 40;
    let count = AtomicUsize::new(0);
    let (instance, endpoint) = started(|setup| {
        setup.script(move |_| {
            if count.fetch_add(1, Ordering::SeqCst) % EVERY == EVERY - 1 {
                return Reply::Last(Response::new(Bytes::from_static(b"{}")));
            }
            ok()
        })
    });
    thread::scope(|scope| {
        for n in 0..AT_ONCE {
            let instance = &instance;
            scope.spawn(move || {
                let mut client = instance.connect();
                for round in 0..ROUNDS {
                    let body = format!("{{\"id\":\"{n}-{round}\"}}");
                    let answer = client.exchange(&invocation("ins", body.as_bytes()));
                    assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
                }
            });
        }
    });
    let mut times: HashMap<String, usize> = HashMap::new();
    for seen in endpoint.seen() {
        *times.entry(seen.json()["id"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    assert_eq!(times.len(), AT_ONCE * ROUNDS);
    assert!(times.values().all(|times| *times == 1), "{times:?}");
    assert!(endpoint.sessions().len() > 2);
}

#[test]
fn large_bodies_and_answers_pass_through_small_windows() {
    const ANSWER_BYTES: usize = 4 << 20;
    let large: Bytes = (0..ANSWER_BYTES).map(|n| (n % 251) as u8).collect();
    let answered = large.clone();
    let (instance, endpoint) = started(|setup| setup.script(move |_| Reply::Whole(Response::new(answered.clone()))));
    let text = "a".repeat((1 << 20) - "{\"x\":\"\"}".len());
    let body = format!("{{\"x\":\"{text}\"}}");
    assert_eq!(body.len(), 1 << 20);
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let answer = instance.deliver("ins", body.as_bytes());
                assert_eq!(answer.status, 200);
                assert!(answer.body == large, "{} bytes", answer.body.len());
            });
        }
    });
    let seen = endpoint.seen();
    assert_eq!((seen.len(), endpoint.sessions().len()), (3, 1));
    seen.iter().for_each(|seen| assert_signed(seen, &body));
}
