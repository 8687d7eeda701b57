//! What is told of an endpoint whose TLS cannot be trusted, and that it gets not a byte of a payload.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::thread::{self, JoinHandle};

use rustls::version::{TLS12, TLS13};
use serde_json::json;

use super::support::endpoint::Endpoint;
use super::support::instance::Instance;
use super::support::pki::{Authority, EXPIRED, Identity, NOT_YET};
use super::support::problem::{CANARY, assert_problem};
use super::support::tenant::trusting;
use super::support::tls_endpoint::{H1, H2, Setup, TlsEndpoint};

const EXTENSION: &str = "com.example.tls";

/// Points the installation `ins` at an endpoint; installs it first where it is not there.
fn install(instance: &Instance, url: &str) {
    instance.register(
        EXTENSION,
        json!({"url": url, "timeout": 20_000}),
        json!({"KEY": {"secret": true}}),
    );
    instance.install("ins", EXTENSION);
    instance.enable("ins");
    instance.set("organization", "org", "KEY", CANARY);
}

/// The next delivery of this instance, to a good endpoint, is as good as any.
fn assert_unharmed(instance: &Instance, authority: &Authority, what: &str) {
    let good = Setup::new(authority, H2).start();
    let callback = json!({"callback_url": good.url()});
    instance.must("PATCH", "/marketplace/installations/ins", &callback);
    instance.must("POST", "/marketplace/installations/ins/confirm-destination", &json!({}));
    assert_eq!(instance.deliver("ins", b"{}").status, 200, "{what}");
    assert_eq!(good.last().json()["secrets"]["KEY"], json!(CANARY), "{what}");
}

#[test]
fn an_endpoint_whose_certificate_cannot_be_trusted_gets_nothing() {
    let (authority, stranger) = (Authority::new("dev CA"), Authority::new("unknown CA"));
    let here = ["127.0.0.1"];
    for (what, identity) in [
        ("expired", authority.server_valid(&here, EXPIRED)),
        ("not yet valid", authority.server_valid(&here, NOT_YET)),
        ("another address", authority.server(&["127.0.0.2"])),
        ("a name instead of an address", authority.server(&["localhost"])),
        ("self-signed", Identity::self_signed(&here)),
        ("an unknown CA", stranger.server(&here)),
        ("a client's certificate", authority.client("dev server")),
    ] {
        let instance = trusting(&authority, &[]);
        let endpoint = TlsEndpoint::start(Setup {
            identity,
            ..Setup::new(&authority, H1)
        });
        install(&instance, &endpoint.url());
        let refused = instance.deliver("ins", b"{}");
        assert_problem(&refused, 502, "endpoint-tls-failed", true, what);
        // A certificate does not get better within milliseconds.
        assert_eq!(refused.header("x-kiket-attempts"), Some("1"), "{what}");
        endpoint.wait("the end of the handshake", |sessions, _| sessions[0].closed);
        let sessions = endpoint.sessions();
        assert!(!sessions[0].greeted && sessions.len() == 1, "{what}: {sessions:?}");
        assert_eq!(endpoint.seen().len(), 0, "{what}");
        assert_unharmed(&instance, &authority, what);
    }
}

#[test]
fn an_endpoint_that_demands_a_certificate_there_is_none_of_gets_no_request() {
    for (alpn, version) in [(H1, &TLS13), (H1, &TLS12), (H2, &TLS13), (H2, &TLS12)] {
        let authority = Authority::new("dev CA");
        let instance = trusting(&authority, &[]);
        let endpoint = TlsEndpoint::start(Setup {
            versions: vec![version],
            ..Setup::mutual(&authority, alpn)
        });
        install(&instance, &endpoint.url());
        let what = format!("{alpn:?} {:?}", version.version);
        let refused = instance.deliver("ins", b"{}");
        assert_problem(&refused, 502, "endpoint-tls-failed", true, &what);
        endpoint.wait("the end of the handshake", |sessions, _| {
            sessions.iter().all(|session| session.closed)
        });
        assert!(endpoint.sessions().iter().all(|session| !session.greeted), "{what}");
        assert_eq!(endpoint.seen().len(), 0, "{what}");
        assert_unharmed(&instance, &authority, &what);
    }
}

#[test]
fn an_endpoint_that_does_not_speak_tls_is_not_spoken_to_in_the_clear() {
    let authority = Authority::new("dev CA");
    let instance = trusting(&authority, &[]);
    let plain = Endpoint::start();
    install(&instance, &plain.url().replace("http://", "https://"));
    let refused = instance.deliver("ins", b"{}");
    assert_eq!(refused.problem(), "endpoint-tls-failed");
    assert_eq!(plain.received().len(), 0);
    assert_unharmed(&instance, &authority, "plain");
}

#[test]
fn an_endpoint_that_closes_during_the_handshake_is_tried_three_times_and_gets_no_payload() {
    let authority = Authority::new("dev CA");
    let instance = trusting(&authority, &[]);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    install(&instance, &format!("https://{}", listener.local_addr().unwrap()));
    let closing = thread::spawn(move || {
        (0..3)
            .map(|_| {
                let (mut stream, _) = listener.accept().unwrap();
                let mut hello = [0; 5];
                stream.read_exact(&mut hello).unwrap();
                hello
            })
            .collect::<Vec<_>>()
    });
    let refused = instance.deliver("ins", b"{}");
    assert_problem(&refused, 502, "endpoint-tls-failed", true, "closing");
    assert_eq!(refused.header("x-kiket-attempts"), Some("3"));
    // Each began with a handshake record.
    assert!(closing.join().unwrap().iter().all(|hello| hello[..2] == [22, 3]));
    assert_unharmed(&instance, &authority, "closing");
}

#[test]
fn an_endpoint_that_knows_only_tls_1_1_is_refused() {
    let authority = Authority::new("dev CA");
    let instance = trusting(&authority, &[]);
    let identity = authority.server(&["127.0.0.1"]);
    for (version, works) in [("-tls1_2", true), ("-tls1_1", false)] {
        let (mut server, output, port) = openssl(&instance, &identity, version);
        let id = format!("ins{version}");
        let extension = format!("com.example.{}", version.trim_start_matches('-'));
        instance.register(
            &extension,
            json!({"url": format!("https://127.0.0.1:{port}")}),
            json!({}),
        );
        instance.install(&id, &extension);
        instance.enable(&id);
        let answer = instance.deliver(&id, b"{}");
        server.kill().unwrap();
        server.wait().unwrap();
        let received = output.join().unwrap();
        assert_eq!(received.contains("POST /webhooks"), works, "{version}: {received}");
        if works {
            assert_eq!(answer.status, 204);
        } else {
            assert_problem(&answer, 502, "endpoint-tls-failed", true, version);
            assert_eq!(answer.header("x-kiket-attempts"), Some("1"));
        }
    }
}

/// A server of this version of TLS alone, which rustls does not have, that answers the first request; what it
/// printed, requests included; its port.
fn openssl(instance: &Instance, identity: &Identity, version: &str) -> (Child, JoinHandle<String>, u16) {
    let [certificate, key] = ["crt", "key"].map(|name| instance.dir.path().join(name));
    std::fs::write(&certificate, identity.certificate_pem()).unwrap();
    std::fs::write(&key, identity.key_pem()).unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut server = Command::new("openssl")
        .args(["s_server", version, "-cipher", "ALL:@SECLEVEL=0"])
        .args(["-accept", &format!("127.0.0.1:{port}"), "-naccept", "1"])
        .args(["-cert", certificate.to_str().unwrap(), "-key", key.to_str().unwrap()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let (mut input, mut output) = (server.stdin.take().unwrap(), server.stdout.take().unwrap());
    let mut printed = read_until(&mut output, "ACCEPT");
    let reading = thread::spawn(move || {
        printed.push_str(&read_until(&mut output, "POST /webhooks"));
        let _ = input.write_all(b"HTTP/1.1 204 No Content\r\n\r\n"); // gone, where there was no handshake
        let _ = output.read_to_string(&mut printed);
        printed
    });
    (server, reading, port)
}

/// Reads until a text appears, or to the end.
fn read_until(from: &mut impl Read, text: &str) -> String {
    let mut read = String::new();
    let mut some = [0; 4096];
    while !read.contains(text) {
        match from.read(&mut some).unwrap() {
            0 => break,
            n => read.push_str(&String::from_utf8_lossy(&some[..n])),
        }
    }
    read
}
