//! A collector of traces: it reads what is exported by the numbers of OTLP's fields, and fails as it is told to.

use std::collections::VecDeque;
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

use data_encoding::HEXLOWER;
use serde_json::{Map, Value, json};

use super::endpoint::{Endpoint, Received, answer};
use super::holding::Gate;
use super::instance::{Instance, Options};
use super::protobuf::Message;

/// Where traces are taken.
pub const PATH: &str = "/v1/traces";

/// A running collector.
pub struct Collector {
    server: Endpoint,
    next: Arc<Mutex<VecDeque<Vec<u8>>>>,
}

impl Collector {
    /// One that takes everything.
    pub fn start() -> Self {
        Self::behind(None, TcpListener::bind("127.0.0.1:0").unwrap())
    }

    /// One that takes everything, on a listener that was bound before.
    pub fn on(listener: TcpListener) -> Self {
        Self::behind(None, listener)
    }

    /// One that answers nobody until the gate is opened.
    pub fn holding(gate: &Arc<Gate>) -> Self {
        Self::behind(Some(Arc::clone(gate)), TcpListener::bind("127.0.0.1:0").unwrap())
    }

    fn behind(gate: Option<Arc<Gate>>, listener: TcpListener) -> Self {
        let next: Arc<Mutex<VecDeque<Vec<u8>>>> = Arc::default();
        let told = Arc::clone(&next);
        let server = Endpoint::on(
            listener,
            Arc::new(move |_| {
                if let Some(gate) = &gate {
                    gate.wait();
                }
                let next = told.lock().unwrap().pop_front();
                Some(next.unwrap_or_else(|| answer(200, "Content-Type: application/x-protobuf\r\n", b"")))
            }),
        );
        Self { server, next }
    }

    /// What the next request that has no answer yet is answered.
    pub fn answers(&self, status: u16, headers: &str, body: &[u8]) {
        self.next.lock().unwrap().push_back(answer(status, headers, body));
    }

    pub fn url(&self) -> String {
        format!("{}{PATH}", self.server.url())
    }

    /// An instance that exports to it.
    pub fn instance(&self, settings: &[(&str, &str)]) -> Instance {
        let url = self.url();
        let mut all = vec![("otlp_traces_url", url.as_str())];
        all.extend_from_slice(settings);
        Instance::with(Options {
            settings: &all,
            ..Options::default()
        })
    }

    /// All requests so far.
    pub fn requests(&self) -> Vec<Received> {
        self.server.received()
    }

    /// Waits for so many requests.
    pub fn await_requests(&self, count: usize) -> Vec<Received> {
        self.server.wait(count)
    }

    /// All spans so far, those that it did not take among them.
    pub fn received(&self) -> Vec<Value> {
        self.requests()
            .iter()
            .flat_map(|request| spans(&request.body))
            .collect()
    }

    /// Waits for so many spans, and returns all that came.
    pub fn spans(&self, count: usize) -> Vec<Value> {
        let mut requests = 1;
        loop {
            let came = self.server.wait(requests);
            let spans: Vec<Value> = came.iter().flat_map(|request| spans(&request.body)).collect();
            if spans.len() >= count {
                return spans;
            }
            requests = came.len() + 1;
        }
    }
}

/// The spans of an export request. What is not there is empty or 0, as protobuf has it.
pub fn spans(request: &[u8]) -> Vec<Value> {
    let mut spans = Vec::new();
    for of_resource in Message::read(request).messages(1) {
        let sender: Value = of_resource.messages(1).map(|resource| says(&resource, 1)).collect();
        for of_scope in of_resource.messages(2) {
            let scope: Vec<String> = of_scope.messages(1).map(|scope| scope.text(1)).collect();
            for span in of_scope.messages(2) {
                let known = [1, 2, 4, 5, 6, 7, 8, 9, 15, 16];
                assert!(span.fields().iter().all(|field| known.contains(field)));
                spans.push(json!({
                    "sender": sender[0], "scope": scope[0],
                    "trace": HEXLOWER.encode(span.bytes(1)), "id": HEXLOWER.encode(span.bytes(2)),
                    "parent": HEXLOWER.encode(span.bytes(4)), "flags": span.number(16),
                    "name": span.text(5), "kind": span.number(6), "start": span.number(7), "end": span.number(8),
                    "says": says(&span, 9),
                    "status": span.messages(15).map(|status| status.number(3)).sum::<u64>(),
                }));
            }
        }
    }
    spans
}

/// The attributes in a field. None is there twice.
fn says(message: &Message<'_>, field: u64) -> Value {
    let mut said = Map::new();
    for attribute in message.messages(field) {
        let value = attribute.messages(2).next().unwrap();
        let value = match value.fields()[..] {
            [1] => json!(value.text(1)),
            [2] => json!(value.number(2) == 1),
            [3] => json!(value.number(3).cast_signed()),
            [4] => json!(f64::from_bits(value.number(4))),
            ref other => panic!("a value with fields {other:?}"),
        };
        let key = attribute.text(1);
        assert_eq!(said.insert(key.clone(), value), None, "{key} is there twice");
    }
    Value::Object(said)
}

/// What a page of metrics says of spans, by what became of them.
pub fn counted(metrics: &str, outcome: &str) -> u64 {
    let name = format!("kiket_trace_spans_total{{outcome=\"{outcome}\"}} ");
    let line = metrics.lines().find_map(|line| line.strip_prefix(&name));
    line.expect("every outcome is counted from the start").parse().unwrap()
}
