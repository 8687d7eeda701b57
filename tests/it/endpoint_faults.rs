//! What a dispatcher is told when the endpoint is the one at fault, and that the next delivery is as good as before.

use std::sync::Arc;

use serde_json::json;

use super::support::endpoint::{Endpoint, answer};
use super::support::http::request;
use super::support::instance::{Instance, Options, invocation};
use super::support::problem::assert_problem;

const JSON: (&str, &str) = ("Content-Type", "application/json");
const INS: (&str, &str) = ("X-Kiket-Installation-Id", "ins");

#[test]
fn an_endpoint_that_misbehaves_is_told_by_its_fault() {
    let stalled = Arc::new(std::sync::Barrier::new(2));
    let release = Arc::clone(&stalled);
    for (what, status, problem, retryable, script) in [
        ("close", 502, "endpoint-unreachable", true, None),
        (
            "redirect",
            502,
            "endpoint-redirected",
            false,
            Some(answer(302, "Location: http://127.0.0.1:1/\r\n", b"")),
        ),
        (
            "garbage",
            502,
            "endpoint-protocol-error",
            false,
            Some(b"SSH-2.0-OpenSSH\r\n\r\n".to_vec()),
        ),
        (
            "encoded",
            502,
            "endpoint-protocol-error",
            false,
            Some(answer(200, "Content-Encoding: gzip\r\n", b"x")),
        ),
        (
            "huge",
            502,
            "response-too-large",
            false,
            Some(b"HTTP/1.1 200 OK\r\nContent-Length: 9000000\r\n\r\n".to_vec()),
        ),
        (
            "stall",
            504,
            "endpoint-timeout",
            true,
            Some(b"HTTP/1.1 200 OK\r\n".to_vec()),
        ),
    ] {
        let (instance, release) = (Instance::start(), Arc::clone(&release));
        let endpoint = Endpoint::scripted(Arc::new(move |received| {
            if received.target == "/again" {
                return Some(answer(200, "", b"{}"));
            }
            if what == "stall" {
                release.wait();
            }
            script.clone()
        }));
        instance.register(
            "com.example.bad",
            json!({"url": endpoint.url(), "timeout": 500}),
            json!({}),
        );
        instance.install("ins", "com.example.bad");
        instance.enable("ins");
        let mut client = instance.connect();
        let refused = client.exchange(&invocation("ins", b"{}"));
        assert_problem(&refused, status, problem, retryable, what);
        if what == "stall" {
            stalled.wait();
        }
        // The same connection, and a new one to the endpoint, are as good as before.
        let again = client.exchange(&request("POST", "/again", &[JSON, INS], b"{}"));
        assert_eq!(again.status, 200, "{what}");
        assert_eq!(
            endpoint.received().iter().filter(|r| r.target == "/again").count(),
            1,
            "{what}"
        );
        assert_eq!(instance.lines()[0]["outcome"], "failed", "{what}");
    }
}

#[test]
fn an_endpoint_where_nobody_listens_is_unreachable_after_retries_and_an_answer_of_any_status_is_passed_on() {
    let instance = Instance::start();
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    instance.simple(&format!("http://127.0.0.1:{port}"));
    let refused = instance.deliver("ins", b"{}");
    assert_problem(&refused, 502, "endpoint-unreachable", true, "nobody");
    assert_eq!(refused.header("x-kiket-attempts"), Some("3"));

    let endpoint = Endpoint::scripted(Arc::new(|_| {
        Some(answer(
            503,
            "Retry-After: 7\r\nX-Own: yes\r\nX-Kiket-Forged: 1\r\nProxy-Status: other\r\n",
            b"busy",
        ))
    }));
    instance.must(
        "PATCH",
        "/marketplace/installations/ins",
        &json!({"callback_url": endpoint.url()}),
    );
    instance.must("POST", "/marketplace/installations/ins/confirm-destination", &json!({}));
    let passed = instance.deliver("ins", b"{}");
    assert_eq!((passed.status, passed.body.as_slice()), (503, b"busy".as_slice()));
    assert_eq!(passed.header("retry-after"), Some("7"));
    assert_eq!(passed.header("x-own"), Some("yes"));
    assert_eq!(passed.header("x-kiket-forged"), None);
    assert_eq!(passed.header("proxy-status"), Some("kiket; received-status=503"));
    assert_eq!(passed.header("x-kiket-attempts"), Some("1"));
}

#[test]
fn a_callback_that_resolves_to_an_internal_address_is_refused_at_dial_and_a_literal_one_at_registration() {
    use std::net::IpAddr;

    struct Internal;
    #[async_trait::async_trait]
    impl kiket_sidecar::egress::Resolver for Internal {
        async fn lookup(&self, host: &str) -> std::io::Result<Vec<IpAddr>> {
            let address = host.split('.').next().unwrap().replace('-', ".").replace('_', ":");
            Ok(vec![address.parse().unwrap()])
        }
    }
    let options = Options {
        settings: &[("egress_allow_cidrs", "")],
        resolver: Some(Arc::new(Internal)),
        ..Options::default()
    };
    let instance = Instance::with(options);
    let hosts = [
        "127-0-0-1",
        "10-0-0-1",
        "192-168-1-1",
        "169-254-1-1",
        "169-254-169-254",
        "__ffff_7f00_1",
        "fd00__1",
    ];
    for (n, host) in hosts.iter().enumerate() {
        let extension = format!("com.example.n{n}");
        instance.register(&extension, json!({"url": format!("http://{host}.example")}), json!({}));
        instance.install(host, &extension);
        instance.enable(host);
        assert_problem(&instance.deliver(host, b"{}"), 502, "destination-refused", false, host);
    }
    for literal in [
        "127.0.0.1",
        "10.0.0.1",
        "2130706433",
        "0x7f.1",
        "[::1]",
        "[::ffff:10.0.0.1]",
        "169.254.169.254",
    ] {
        let manifest = json!({"id": "com.example.literal", "callback": {"url": format!("https://{literal}/x")}});
        let refused = instance.api("PUT", "/extensions/com.example.literal", &manifest);
        assert_eq!(
            (refused.status, refused.problem().as_str()),
            (422, "destination-refused"),
            "{literal}"
        );
    }
}
