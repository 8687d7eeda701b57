//! What spans say: ids and parents, times, what is told of a delivery, and how a failure looks.

use std::sync::Arc;

use data_encoding::BASE64;
use kiket_sidecar::clock::Clock;
use serde_json::{Value, json};

use super::super::support::collector::Collector;
use super::super::support::endpoint::{Endpoint, Received, answer};
use super::super::support::holding::Holding;
use super::super::support::http::{Client, once, request};
use super::super::support::instance::invocation as plain_invocation;
use super::super::support::python;
use super::{SPAN, Scene, TRACE, traceparent};

/// The attributes without one that is different every time, which is a number that is not negative.
fn without_duration(says: &Value, name: &str) -> Value {
    let mut says = says.clone();
    let duration = says.as_object_mut().unwrap().remove(name).unwrap();
    assert!(duration.as_f64().unwrap() >= 0.0, "{duration}");
    says
}

#[test]
fn a_traced_delivery_is_two_spans_in_the_dispatchers_trace() {
    let scene = Scene::start();
    let said = traceparent("01");
    let headers = [
        ("traceparent", said.as_str()),
        ("tracestate", "vendor=opaque,other=1"),
        ("baggage", "user=1"),
    ];
    let answer = scene.deliver(&headers);
    assert_eq!(answer.status, 200);
    let (spans, received) = (scene.collector.spans(2), scene.endpoint.last());
    let [server, client] = &spans[..] else {
        panic!("{spans:?}");
    };

    assert_eq!((&server["trace"], &client["trace"]), (&json!(TRACE), &json!(TRACE)));
    assert_eq!((&server["parent"], &client["parent"]), (&json!(SPAN), &server["id"]));
    let of_client = format!("00-{TRACE}-{}-01", client["id"].as_str().unwrap());
    assert_eq!(received.header("traceparent"), Some(of_client.as_str()));
    assert_eq!(received.header("tracestate"), Some("vendor=opaque,other=1"));
    assert_eq!(received.header("baggage"), None);
    // Sampled; whether the parent is another process's is known, and only the delivery's is.
    assert_eq!((&server["flags"], &client["flags"]), (&json!(0x301), &json!(0x101)));
    assert_eq!((&server["kind"], &client["kind"]), (&json!(2), &json!(3)));
    assert_eq!((&server["name"], &client["name"]), (&json!("POST"), &json!("POST")));
    assert_eq!((&server["status"], &client["status"]), (&json!(0), &json!(0)));

    let moments = [&server["start"], &client["start"], &client["end"], &server["end"]];
    let moments = moments.map(|moment| moment.as_u64().unwrap());
    assert!(moments.is_sorted(), "{moments:?}");
    let ended = scene.instance.await_line("the delivery", |_| true);
    assert_eq!(ended["trace_id"], TRACE);
    let now = scene.instance.clock.now().0;
    assert_eq!(moments[3], now * 1_000_000, "the clock stands");

    let says = json!({
        "http.request.method": "POST", "url.scheme": "http", "http.response.status_code": 200,
        "http.request.body.size": 14, "http.response.body.size": 11,
        "kiket.delivery.id": answer.header("x-kiket-delivery-id").unwrap(), "kiket.installation.id": "ins",
        "kiket.organization.id": "org", "kiket.extension.id": "com.example.simple", "kiket.outcome": "delivered",
        "kiket.keys.injected": 1, "kiket.keys.missing": 0, "kiket.scope_hits.organization": 1, "kiket.attempts": 1,
    });
    assert_eq!(without_duration(&server["says"], "kiket.resolve.duration"), says);
    let says = json!({
        "http.request.method": "POST", "url.scheme": "http", "server.address": "127.0.0.1",
        "server.port": scene.endpoint.address().port(), "http.response.status_code": 200, "kiket.mtls": false,
    });
    assert_eq!(client["says"], says);
    let sender = &server["sender"];
    assert_eq!(sender["service.name"], "kiket-sidecar");
    assert_eq!(sender["service.version"], env!("CARGO_PKG_VERSION"));
    let instance = sender["service.instance.id"].as_str().unwrap();
    assert!(instance.ends_with(&format!("-{}", std::process::id())), "{instance}");
}

/// A delivery to an endpoint that does this: its two spans.
fn spans_to(script: impl Fn(&Received) -> Option<Vec<u8>> + Send + Sync + 'static) -> (u16, Value, Value) {
    let collector = Collector::start();
    let (instance, endpoint) = (collector.instance(&[]), Endpoint::scripted(Arc::new(script)));
    instance.simple(&endpoint.url());
    let status = instance.deliver("ins", b"{}").status;
    let mut spans = collector.spans(2);
    let client = spans.pop().unwrap();
    (status, spans.pop().unwrap(), client)
}

#[test]
fn a_status_is_an_error_of_whose_fault_it_is() {
    for (status, of_server, of_client) in [
        (201, Value::Null, Value::Null),
        (404, Value::Null, json!("404")),
        (500, json!("500"), json!("500")),
    ] {
        let (answered, server, client) = spans_to(move |_| Some(answer(status, "", b"")));
        assert_eq!(answered, status);
        for (span, error) in [(server, of_server), (client, of_client)] {
            assert_eq!(span["says"]["http.response.status_code"], status, "{span}");
            assert_eq!(span["says"]["error.type"], error, "{span}");
            assert_eq!(span["status"], if error.is_null() { 0 } else { 2 }, "{span}");
            assert_eq!(span["says"]["kiket.error"], Value::Null, "{span}");
        }
    }
}

#[test]
fn an_endpoint_that_cannot_be_delivered_to_is_an_error_of_both_spans() {
    let collector = Collector::start();
    let instance = collector.instance(&[]);
    instance.simple("http://127.0.0.1:9");
    assert_eq!(instance.deliver("ins", b"{}").status, 502);
    let away = collector.spans(2);
    let (status, server, client) = spans_to(|_| Some(answer(302, "Location: http://127.0.0.1/x\r\n", b"")));
    assert_eq!(status, 502);
    for (problem, resent, server, client) in [
        ("endpoint-unreachable", json!(2), &away[0], &away[1]),
        ("endpoint-redirected", Value::Null, &server, &client),
    ] {
        assert_eq!(server["says"]["kiket.error"], problem);
        assert_eq!(server["says"]["http.response.status_code"], 502, "{server}");
        assert_eq!(client["says"]["http.response.status_code"], Value::Null, "{client}");
        assert_eq!(client["says"]["http.request.resend_count"], resent, "{client}");
        for span in [server, client] {
            assert_eq!(
                (&span["says"]["error.type"], &span["status"]),
                (&json!(problem), &json!(2))
            );
        }
    }
}

#[test]
fn what_is_refused_is_one_span_and_no_error_of_this_server() {
    let scene = Scene::start();
    let send = |method: &str, path: &str, installation: &str| {
        let headers = [
            ("Content-Type", "application/json"),
            ("X-Kiket-Installation-Id", installation),
        ];
        once(scene.instance.proxy(), &request(method, path, &headers, b"{}")).status
    };
    let mut count = 0;
    for (method, path, installation, status, problem, name, word) in [
        ("POST", "/x", "nobody", 404, "installation-unknown", "POST", "POST"),
        ("PUT", "/x", "ins", 405, "method-not-allowed", "PUT", "PUT"),
        ("CNRY", "/x", "ins", 405, "method-not-allowed", "HTTP", "_OTHER"),
        ("POST", "/../x", "ins", 400, "invalid-path", "POST", "POST"),
    ] {
        assert_eq!(send(method, path, installation), status);
        count += 1;
        let spans = scene.collector.spans(count);
        assert_eq!(spans.len(), count, "{problem}");
        let (span, says) = (&spans[count - 1], &spans[count - 1]["says"]);
        assert_eq!(
            (&span["name"], &says["http.request.method"]),
            (&json!(name), &json!(word))
        );
        assert_eq!(says["http.response.status_code"], status, "{problem}");
        assert_eq!(
            (&says["kiket.error"], &says["kiket.outcome"]),
            (&json!(problem), &json!("refused"))
        );
        assert_eq!(
            (&says["error.type"], &span["status"]),
            (&Value::Null, &json!(0)),
            "{problem}"
        );
    }
}

#[test]
fn a_dispatcher_that_hangs_up_leaves_both_spans() {
    let collector = Collector::start();
    let (instance, holding) = (collector.instance(&[]), Holding::start());
    instance.simple(&holding.url());
    let mut dispatcher = Client::connect(instance.proxy());
    dispatcher.send(&plain_invocation("ins", b"{}"));
    holding.await_arrival();
    drop(dispatcher);
    for span in collector.spans(2) {
        assert_eq!(span["says"]["error.type"], "dispatcher-gone", "{span}");
        assert_eq!(span["says"]["http.response.status_code"], Value::Null, "{span}");
        assert_eq!(span["status"], 2);
    }
}

/// Reads export requests with the classes that the project publishes, and prints their spans as the fake reads them.
const OPENTELEMETRY: &str = r#"
import base64, json, sys
from google.protobuf.unknown_fields import UnknownFieldSet
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

def says(attributes):
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in attributes}

spans = []
for body in json.load(sys.stdin):
    request = ExportTraceServiceRequest.FromString(base64.b64decode(body))
    for of_resource in request.resource_spans:
        for of_scope in of_resource.scope_spans:
            for span in of_scope.spans:
                for message in (request, of_resource, of_resource.resource, of_scope, of_scope.scope, span, span.status):
                    assert len(UnknownFieldSet(message)) == 0, message
                spans.append({
                    "sender": says(of_resource.resource.attributes), "scope": of_scope.scope.name,
                    "trace": span.trace_id.hex(), "id": span.span_id.hex(), "parent": span.parent_span_id.hex(),
                    "flags": span.flags, "name": span.name, "kind": span.kind,
                    "start": span.start_time_unix_nano, "end": span.end_time_unix_nano,
                    "says": says(span.attributes), "status": span.status.code,
                })
print(json.dumps(spans))
"#;

#[test]
fn opentelemetrys_own_classes_read_the_same() {
    let scene = Scene::start();
    let said = traceparent("01");
    assert_eq!(scene.deliver(&[("traceparent", said.as_str())]).status, 200);
    assert_eq!(scene.deliver(&[]).status, 200);
    let spans = scene.collector.spans(4);
    let requests = scene.collector.requests();
    let bodies: Vec<String> = requests.iter().map(|request| BASE64.encode(&request.body)).collect();
    assert_eq!(python::ask(OPENTELEMETRY, &json!(bodies)), json!(spans));
    for request in requests {
        assert_eq!(
            (request.method.as_str(), request.target.as_str()),
            ("POST", "/v1/traces")
        );
        assert_eq!(request.header("content-type"), Some("application/x-protobuf"));
    }
}
