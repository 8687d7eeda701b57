//! How commands reach their server: over TLS that is checked, to nobody else, and what they make of strange answers.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::thread;

use bytes::Bytes;
use http::Response;
use serde_json::json;

use super::support::command::Shell;
use super::support::endpoint::{Endpoint, answer};
use super::support::pki::Authority;
use super::support::process::Process;
use super::support::tls_endpoint::{H1, Reply, Setup};

const LIST: &[&str] = &["extensions", "secrets", "list"];
const EMPTY: &[u8] = b"{\"data\":[],\"next_cursor\":null}";

#[test]
fn a_server_over_tls_is_asked_only_where_its_certificate_is_trusted() {
    let process = Process::start();
    let (authority, stranger) = (Authority::new("dev CA"), Authority::new("unknown CA"));
    let (trusted, unknown) = (authority.file(), stranger.file());
    let (trusted, unknown) = (trusted.path().to_str().unwrap(), unknown.path().to_str().unwrap());
    let server = Setup::new(&authority, H1)
        .script(|_| Reply::Whole(Response::new(Bytes::from_static(EMPTY))))
        .start();
    let shell = || Shell::of(&process).with("KIKET_URL", &server.url());
    for ca in [None, Some(unknown)] {
        let ca = ca.map_or_else(Vec::new, |file| vec!["--ca-file", file]);
        shell().refused(3, &["TLS failed"], &[LIST, &ca].concat());
    }
    assert!(server.seen().is_empty(), "no token went there");
    assert_eq!(shell().fine(&[LIST, &["--ca-file", trusted]].concat()), "no secrets\n");
    assert_eq!(shell().with("KIKET_CA_FILE", trusted).fine(LIST), "no secrets\n");
    let seen = server.last();
    let bearer = format!("Bearer {}", process.token);
    assert_eq!(seen.header("authorization"), Some(bearer.as_str()));
    assert_eq!(
        seen.header("user-agent"),
        Some(concat!("kiket/", env!("CARGO_PKG_VERSION")))
    );
    assert_eq!(seen.header("x-kiket-source"), Some("cli"));
}

#[test]
fn no_redirect_is_followed_and_no_proxy_is_asked() {
    let process = Process::start();
    let elsewhere = Endpoint::start();
    let location = format!("Location: {}/\r\n", elsewhere.url());
    let server = Endpoint::scripted(Arc::new(move |_| Some(answer(307, &location, b""))));
    let mut shell = Shell::of(&process).with("KIKET_URL", &server.url());
    for proxy in ["http_proxy", "HTTP_PROXY", "https_proxy", "ALL_PROXY"] {
        shell = shell.with(proxy, &elsewhere.url());
    }
    shell.refused(3, &["answered 307 in a way that the Kiket API does not"], LIST);
    assert_eq!(server.received().len(), 1);
    assert!(elsewhere.received().is_empty(), "{:?}", elsewhere.received());
}

#[test]
fn an_answer_of_something_else_or_of_a_server_in_need_is_told_as_such() {
    let process = Process::start();
    let problem = |name: &str, status: u16| {
        json!({"type": format!("urn:kiket:problem:{name}"), "title": "T", "status": status}).to_string()
    };
    for (status, body, code, said) in [
        (200, String::from("<html>"), 3, "in a way that the Kiket API does not"),
        (200, String::from("{}"), 3, "in a way that the Kiket API does not"),
        (404, String::from("not here"), 3, "in a way that the Kiket API does not"),
        (429, problem("rate-limited", 429), 3, "again in a few seconds"),
        (503, problem("store-unavailable", 503), 3, "again in a few seconds"),
        (507, problem("store-full", 507), 3, "disk is full"),
        (500, problem("internal", 500), 3, "T"),
        (409, problem("conflict", 409), 4, "look again"),
        (403, problem("forbidden", 403), 4, "another role"),
        (405, problem("method-not-allowed", 405), 4, "older than this command"),
        (400, problem("malformed-request", 400), 2, "T"),
        (413, problem("payload-too-large", 413), 2, "T"),
    ] {
        let server = Endpoint::scripted(Arc::new(move |_| Some(answer(status, "", body.as_bytes()))));
        Shell::of(&process)
            .with("KIKET_URL", &server.url())
            .refused(code, &[said], LIST);
    }
    for (bytes, said) in [
        (&b""[..], "the connection broke"),
        (b"HTTP/1.1 200 OK\r\nContent-", "the connection broke"),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"data\"",
            "the answer broke off",
        ),
        (b"SSH-2.0-x\r\n\r\n", "the connection broke"),
    ] {
        Shell::of(&process)
            .with("KIKET_URL", &hanging_up(bytes))
            .refused(3, &[said], LIST);
    }
}

/// The address of a server that answers one request with these bytes and hangs up.
fn hanging_up(bytes: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            head.extend(byte);
        }
        stream.write_all(bytes).unwrap();
    });
    url
}
