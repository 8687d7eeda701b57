//! Whether the REST API is served over TLS where that is set, and then by any name, also off loopback.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use tempfile::TempDir;

use super::support::instance::{Instance, Options, set_mode};
use super::support::pki::Authority;
use super::support::process::{Home, run};

/// A certificate and key for `admin.example` in files.
struct Files {
    dir: TempDir,
    authority: Authority,
}

impl Files {
    fn new() -> Self {
        let (dir, authority) = (TempDir::new().unwrap(), Authority::new("admin authority"));
        let identity = authority.server(&["admin.example"]);
        let files = Self { dir, authority };
        files.write("cert", &identity.certificate_pem());
        files.write("key", &identity.key_pem());
        files
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
        set_mode(&self.dir.path().join(name), 0o600);
    }
}

/// What is answered over TLS to a client that trusts the authority and asks for this name.
fn get(to: SocketAddr, files: &Files, name: &'static str, fields: &str) -> Result<String, std::io::Error> {
    let mut roots = RootCertStore::empty();
    roots.add(files.authority.der()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let client = ClientConnection::new(Arc::new(config), ServerName::try_from(name).unwrap()).unwrap();
    let stream = TcpStream::connect(to)?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    let mut stream = StreamOwned::new(client, stream);
    let request = format!("GET /api/v1/extensions HTTP/1.1\r\nHost: {name}\r\n{fields}\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(String::from_utf8(answer).unwrap())
}

#[test]
fn the_api_is_served_over_tls_by_the_certificates_name() {
    let files = Files::new();
    let settings = [
        ("admin_listen", "0.0.0.0:0"),
        ("admin_tls_cert_file", &files.path("cert")),
        ("admin_tls_key_file", &files.path("key")),
    ];
    let instance = Instance::with(Options {
        settings: &settings,
        ..Default::default()
    });
    let to = SocketAddr::from(([127, 0, 0, 1], instance.running.admin().unwrap().port()));
    let bearer = format!("Authorization: Bearer {}\r\n", instance.bootstrap_token());
    let answer = get(to, &files, "admin.example", &bearer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    let without = get(to, &files, "admin.example", "").unwrap();
    assert!(without.starts_with("HTTP/1.1 401 "), "{without}");
    let from_a_page = get(
        to,
        &files,
        "admin.example",
        &format!("{bearer}Origin: https://admin.example\r\n"),
    );
    assert!(from_a_page.unwrap().starts_with("HTTP/1.1 403 "));
    assert!(
        get(to, &files, "other.example", &bearer).is_err(),
        "another name's certificate"
    );
    // Whoever speaks plain HTTP gets nothing.
    let mut plain = TcpStream::connect(to).unwrap();
    plain.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    plain
        .write_all(b"GET /api/v1/extensions HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .unwrap();
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer); // an alert, then the end or a reset
    assert!(!answer.starts_with(b"HTTP/"), "{}", String::from_utf8_lossy(&answer));
}

#[test]
fn files_that_make_no_identity_end_the_start_with_the_settings_name() {
    let (files, home) = (Files::new(), Home::new());
    let other = Files::new();
    files.write("empty", "no PEM\n");
    files.write("open", &std::fs::read_to_string(files.path("key")).unwrap());
    set_mode(&files.dir.path().join("open"), 0o604);
    for (certificate, key, named) in [
        (files.path("none"), files.path("key"), "admin_tls_cert_file"),
        (files.path("empty"), files.path("key"), "admin_tls_cert_file"),
        (files.path("cert"), files.path("none"), "admin_tls_key_file"),
        (files.path("cert"), files.path("empty"), "admin_tls_key_file"),
        (files.path("cert"), files.path("open"), "admin_tls_key_file"),
        (files.path("cert"), other.path("key"), "admin_tls_cert_file"),
        (files.path("cert"), String::new(), "admin_tls_cert_file"),
    ] {
        let settings = [
            ("admin_tls_cert_file", certificate.as_str()),
            ("admin_tls_key_file", key.as_str()),
        ];
        let ended = run(home.serve(&settings));
        assert_eq!(ended.code, Some(2), "{certificate} {key}: {}", ended.stderr);
        assert!(ended.stderr.contains(named), "{certificate} {key}: {}", ended.stderr);
    }
    assert_eq!(run(home.serve(&[("admin_listen", "0.0.0.0:0")])).code, Some(2));
}
