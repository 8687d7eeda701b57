//! That no variable of the environment opens TLS or sends a delivery another way (threat L7).

use std::io::ErrorKind;
use std::net::TcpListener;
use std::process::Command;

use tempfile::TempDir;

/// Deliveries over TLS and over plain HTTP.
const DELIVERIES: [&str; 2] = [
    "mutual_tls::a_delivery_over_mutual_tls_shows_the_certificate_and_carries_only_the_payload_keys",
    "first_delivery::an_invocation_arrives_with_its_secrets_before_the_last_brace",
];

#[test]
fn proxies_and_key_logs_named_by_the_environment_are_never_used() {
    let folder = TempDir::new().unwrap();
    let keys = folder.path().join("keys.log");
    let tripwire = TcpListener::bind("127.0.0.1:0").unwrap();
    tripwire.set_nonblocking(true).unwrap();
    let proxy = format!("http://{}", tripwire.local_addr().unwrap());
    for delivery in DELIVERIES {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["--exact", delivery])
            .env("SSLKEYLOGFILE", &keys)
            .env_remove("NO_PROXY");
        for name in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"] {
            command.env(name, &proxy).env(name.to_lowercase(), &proxy);
        }
        let output = command.output().unwrap();
        let printed = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && printed.contains("1 passed"), "{printed}");
    }
    assert!(!keys.exists(), "session keys were written");
    assert_eq!(tripwire.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
}
