//! That whatever a delivery held is given back however it ends.

use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, mpsc};

use async_trait::async_trait;
use kiket_sidecar::egress::Resolver;
use serde_json::json;

use super::super::support::endpoint::{Endpoint, answer};
use super::super::support::holding::Gate;
use super::super::support::http::{Answer, Client, request};
use super::super::support::instance::{Instance, Options};
use super::super::support::reading::Reading;
use super::{PATIENCE, assert_shed, await_metric, await_nothing_held, install, tenant};

/// Room for ten deliveries, of which one tenant gets four at one endpoint: one that is not given back is missed.
const ROOM: [(&str, &str); 1] = [("in_flight_max", "10")];
const FLOOD: usize = 4;

/// A resolver whose answer is a panic.
struct Panics;

#[async_trait]
impl Resolver for Panics {
    async fn lookup(&self, _: &str) -> io::Result<Vec<IpAddr>> {
        panic!("a resolver that panics")
    }
}

/// An endpoint with two installations of one organization, so that both go through one lane: `ins`, whose deliveries may
/// take half a second, and `patient`.
struct Stage {
    instance: Instance,
    arrived: mpsc::Receiver<()>,
    /// What `/hold` and `/wait` wait at.
    gate: Arc<Gate>,
    _endpoint: Endpoint,
}

fn stage() -> Stage {
    let instance = Instance::with(Options {
        settings: &ROOM,
        resolver: Some(Arc::new(Panics)),
        ..Default::default()
    });
    let gate = Arc::new(Gate::default());
    let (arrival, arrived) = mpsc::channel();
    let (held, arrival) = (Arc::clone(&gate), Mutex::new(arrival));
    let endpoint = Endpoint::scripted(Arc::new(move |received| match received.target.as_str() {
        "/break" => None,
        "/garbage" => Some(b"SSH-2.0-OpenSSH\r\n\r\n".to_vec()),
        "/begin" => Some(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n".to_vec()),
        "/hold" => {
            held.wait();
            None
        }
        "/wait" => {
            let _ = arrival.lock().unwrap().send(()); // the test may be over
            held.wait();
            Some(answer(200, "", b"{}"))
        }
        _ => Some(answer(200, "", b"{}")),
    }));
    let callback = json!({"url": endpoint.url(), "timeout": 500});
    instance.register("com.example.ins", callback, json!({}));
    install(&instance, "org", "ins", "com.example.ins");
    tenant(&instance, "org", "patient", &endpoint.url());
    tenant(&instance, "org", "panics", "http://panics.example.com");
    Stage {
        instance,
        arrived,
        gate,
        _endpoint: endpoint,
    }
}

fn to(installation: &str, path: &str, body: &[u8]) -> Vec<u8> {
    let headers = [
        ("Content-Type", "application/json"),
        ("X-Kiket-Installation-Id", installation),
    ];
    request("POST", path, &headers, body)
}

impl Stage {
    fn deliver(&self, installation: &str, path: &str, body: &[u8]) -> Answer {
        self.instance.connect().exchange(&to(installation, path, body))
    }

    /// Sends all of a request but so many bytes, waits until it is being read, and hangs up.
    fn hang_up(&self, request: &[u8], before: usize) {
        let mut client = self.instance.connect();
        client.send(&request[..request.len() - before]);
        await_metric(&self.instance, "kiket_in_flight", 1);
    }

    fn begin(&self, path: &str) -> Client {
        let mut client = self.instance.connect();
        client.send(&to("patient", path, b"{}"));
        self.arrived.recv_timeout(PATIENCE).expect("hangs: nothing arrives");
        client
    }
}

/// How a delivery ends.
type End = (&'static str, fn(&Stage));

const ENDS: [End; 10] = [
    ("answered", |stage| {
        assert_eq!(stage.deliver("ins", "/", b"{}").status, 200)
    }),
    ("not answered", |stage| {
        assert_eq!(stage.deliver("ins", "/break", b"{}").status, 502)
    }),
    ("not answered in HTTP", |stage| {
        assert_eq!(stage.deliver("ins", "/garbage", b"{}").status, 502);
    }),
    ("not answered in time", |stage| {
        assert_eq!(stage.deliver("ins", "/hold", b"{}").status, 504)
    }),
    ("a panic", |stage| {
        assert_eq!(stage.deliver("panics", "/", b"{}").status, 500)
    }),
    ("no JSON", |stage| {
        assert_eq!(stage.deliver("ins", "/", b"{").status, 400)
    }),
    ("a dispatcher that hangs up within the body", |stage| {
        stage.hang_up(&to("ins", "/", b"{\"payload\":[1,2,3]}"), 5);
    }),
    ("one that does within a body that has its place already", |stage| {
        stage.hang_up(&to("ins", "/", &[b' '; 100_000]), 50_000);
    }),
    ("one that does before the answer", |stage| drop(stage.begin("/wait"))),
    ("one that does within the answer", |stage| {
        let reading = Reading::begin(stage.instance.proxy(), &to("ins", "/begin", b"{}"));
        assert_eq!(reading.status, 200);
    }),
];

#[test]
fn however_deliveries_end_there_is_as_much_room_as_before() {
    for (what, end) in ENDS {
        let stage = stage();
        for _ in 0..6 {
            end(&stage);
            await_nothing_held(&stage.instance);
        }
        let mut held: Vec<_> = (0..FLOOD).map(|_| stage.begin("/wait")).collect();
        assert_shed(&stage.deliver("patient", "/wait", b"{}"), what);
        stage.gate.open();
        held.iter_mut()
            .for_each(|client| assert_eq!(client.answer().status, 200, "{what}"));
    }
}
