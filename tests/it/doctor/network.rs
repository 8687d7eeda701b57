//! What is said of names, destinations and the addresses to listen on.

use std::net::TcpListener;
use std::os::unix::net::UnixListener;

use serde_json::json;

use super::super::support::process::Process;
use super::{CANARY, Patient};

/// Registers a callback and an installation of it.
fn register(process: &Process, installation: &str, url: &str) {
    let extension = format!("com.example.{}", installation.replace('_', "-"));
    process.install(installation, &extension, &json!({"url": url}), &json!({}));
}

#[test]
fn what_the_guard_of_deliveries_refuses_is_listed_by_host() {
    let patient = Patient::new();
    let process = patient.serve(&[("egress_allow_cidrs", "127.0.0.0/8,10.0.0.0/8")]);
    register(&process, "ins_1", "http://127.0.0.1:9/");
    register(&process, "ins_2", "https://10.1.2.3/");
    let provider = json!({
        "kind": "vault", "address": "https://10.9.9.9:8200", "mounts": {"secret": 2}, "path_prefix": "acme",
        "auth": {"method": "token", "credential_key": "VAULT_TOKEN"},
    });
    process.must("PUT", "/organizations/org/providers/main", &provider);
    assert_eq!(process.stop().code, Some(0));
    let open = ("egress_allow_cidrs", "127.0.0.0/8,10.0.0.0/8");
    patient
        .look(&[open])
        .only("destinations", "ok", "3 registered hosts")
        .ends(0);
    let report = patient.look(&[]);
    report
        .only(
            "destinations",
            "failed",
            "refused: 10.1.2.3 (private), 10.9.9.9 (private)",
        )
        .ends(1);
    let report = patient.look(&[("egress_allow_cidrs", "10.0.0.0/8")]);
    report
        .only("destinations", "failed", "refused: 127.0.0.1 (loopback)")
        .ends(1);
    let report = patient.look(&[open, ("dangerous_allow_http", "false")]);
    report
        .only("destinations", "failed", "refused: 127.0.0.1 (plain HTTP)")
        .ends(1);
}

#[test]
fn a_registered_name_is_looked_up_and_judged_by_its_addresses() {
    let patient = Patient::new();
    let process = patient.serve(&[]);
    register(&process, "ins_1", "https://localhost:9/");
    // No resolver asks anybody for a name with a part of 64 letters.
    let long = format!("{}.example", "a".repeat(64));
    register(&process, "ins_2", &format!("https://{long}/"));
    assert_eq!(process.stop().code, Some(0));
    let open = ("egress_allow_cidrs", "127.0.0.0/8,::1/128");
    let report = patient.look(&[open]);
    report
        .only("names", "warning", &format!("no address for {long}"))
        .ends(1);
    report.has("destinations", "ok", "2 registered hosts");
    let report = patient.look(&[("egress_allow_cidrs", "")]);
    report
        .has("destinations", "failed", "refused: localhost (loopback)")
        .ends(1);
}

#[test]
fn an_address_that_something_else_has_is_told_and_one_of_no_host_as_well() {
    let patient = Patient::new();
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = other.local_addr().unwrap().to_string();
    for setting in ["proxy_listen", "admin_listen", "metrics_listen"] {
        let answering = other.try_clone().unwrap();
        let hangs_up = std::thread::spawn(move || {
            // Whoever comes is hung up on, until the port itself is asked.
            for _ in 0..2 {
                drop(answering.accept());
            }
        });
        let report = patient.look(&[(setting, &address)]);
        report
            .only(setting, "failed", &format!("something else listens on {address}"))
            .ends(1);
        // The listeners' checks connect once or twice.
        while !hangs_up.is_finished() {
            let _ = std::net::TcpStream::connect(&address);
        }
        hangs_up.join().unwrap();
    }
    let report = patient.look(&[("metrics_listen", "192.0.2.1:9464")]);
    report.only("metrics_listen", "failed", "192.0.2.1:9464").ends(1);
}

#[test]
fn a_socket_of_a_running_kiket_is_told_from_a_strangers_and_from_one_left_behind() {
    let patient = Patient::new();
    let path = patient.home.path().join("proxy.sock");
    let listen = format!("unix:{}", path.display());
    patient
        .look(&[("proxy_listen", &listen)])
        .only("proxy_listen", "ok", "is free")
        .ends(0);
    drop(UnixListener::bind(&path).unwrap());
    patient
        .look(&[("proxy_listen", &listen)])
        .only("proxy_listen", "ok", "is free")
        .ends(0);
    let stranger = {
        std::fs::remove_file(&path).unwrap();
        UnixListener::bind(&path).unwrap()
    };
    let hangs_up = std::thread::spawn(move || drop(stranger.accept()));
    let report = patient.look(&[("proxy_listen", &listen)]);
    report.only("proxy_listen", "failed", "something else listens").ends(1);
    hangs_up.join().unwrap();
    let process = patient.serve(&[("proxy_listen", &listen)]);
    process.set("KEY", CANARY);
    let report = patient.look(&[("proxy_listen", &listen)]);
    report.only("proxy_listen", "ok", "a running kiket listens").ends(0);
    assert_eq!(process.stop().code, Some(0));
    let nowhere = format!("unix:{}/none/proxy.sock", patient.home.path().display());
    let report = patient.look(&[("proxy_listen", &nowhere)]);
    report.only("proxy_listen", "failed", "its folder is missing").ends(1);
}
