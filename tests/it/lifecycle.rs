//! How the binary starts, refuses to start, and ends: listeners, signals, exit codes.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;

use rustix::process::Signal;
use serde_json::Value;

use super::support::captured::PATIENCE;
use super::support::endpoint::Endpoint;
use super::support::http::{Client, request};
use super::support::instance::{invocation, set_mode};
use super::support::process::{Ended, Home, Process, kiket, run};
use super::support::under_way::{UnderWay, drain};

#[test]
fn what_is_under_way_at_sigterm_is_finished_and_a_dispatcher_that_still_sends_is_served() {
    let (process, holding) = (Process::start(), UnderWay::start());
    process.simple(&holding.endpoint.url(), "value");
    assert_eq!(process.health("/readyz").json()["status"], "ready");
    let mut idle = process.connect();
    let mut under_way: Vec<Client> = (0..3).map(|_| holding.hold(&process)).collect();
    drain(&process);
    let last = idle.exchange(&invocation("ins", b"{}"));
    assert_eq!((last.status, last.header("connection")), (200, Some("close")));
    assert!(idle.is_closed());
    assert_eq!(process.deliver("ins", b"{}").status, 200);
    assert_eq!(process.health("/livez").status, 200);
    holding.let_go();
    for dispatcher in &mut under_way {
        assert_eq!(dispatcher.answer().status, 200);
    }
    let proxy = process.proxy();
    let ended = process.wait();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(ended.stderr.contains("\"message\":\"stopped\""), "{}", ended.stderr);
    assert_eq!(ended.stderr.matches("\"outcome\":\"delivered\"").count(), 5);
    assert!(std::net::TcpStream::connect(proxy).is_err());
}

#[test]
fn when_the_grace_is_over_no_new_delivery_is_taken_and_the_last_ones_are_given_up() {
    let (process, holding) = (Process::with(&[("drain_grace", "400ms")]), UnderWay::start());
    process.simple(&holding.endpoint.url(), "value");
    let mut held = holding.hold(&process);
    let mut idle = process.connect();
    assert_eq!(idle.exchange(&invocation("ins", b"{}")).status, 200);
    drain(&process);
    let mut served = 0;
    while let Some(mut dispatcher) = Client::try_connect(process.proxy()) {
        assert_eq!(dispatcher.exchange(&invocation("ins", b"{}")).status, 200);
        served += 1;
    }
    assert!(served > 0, "whoever still sent was served");
    assert!(idle.is_closed());
    assert!(held.try_answer().is_none(), "its delivery was given up");
    assert_eq!(process.wait().code, Some(0));
}

#[test]
fn a_second_signal_ends_at_once_whatever_is_under_way() {
    let (process, holding) = (Process::with(&[("drain_grace", "10h")]), UnderWay::start());
    process.simple(&holding.endpoint.url(), "value");
    let mut held = holding.hold(&process);
    drain(&process);
    process.signal(Signal::INT);
    assert!(held.try_answer().is_none());
    let ended = process.wait();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
}

/// Sends an invocation over a Unix socket and gives all that comes back until the close.
fn over_unix(path: &Path) -> String {
    let mut stream = UnixStream::connect(path).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let headers = [
        ("Content-Type", "application/json"),
        ("X-Kiket-Installation-Id", "ins"),
        ("Connection", "close"),
    ];
    stream.write_all(&request("POST", "/x", &headers, b"{}")).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn a_unix_socket_is_for_owner_and_group_replaces_a_stale_file_and_leaves_none() {
    let (home, endpoint) = (Home::new(), Endpoint::start());
    let path = home.path().join("kiket.sock");
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists(), "a stale file is left by whoever does not remove it");
    let listen = format!("unix:{},127.0.0.1:0", path.display());
    let command = home.serve(&[("proxy_listen", &listen)]);
    let process = Process::spawn(home, command);
    process.simple(&endpoint.url(), "value");
    let meta = fs::symlink_metadata(&path).unwrap();
    assert!(meta.file_type().is_socket());
    assert_eq!(meta.permissions().mode() & 0o777, 0o660);
    let answer = over_unix(&path);
    assert!(
        answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("{\"ok\":true}"),
        "{answer}"
    );
    assert_eq!(process.deliver("ins", b"{}").status, 200, "over TCP beside it");
    assert_eq!(endpoint.received().len(), 2);

    // One that is listened on is somebody's.
    let other = Home::new();
    let ended = run(other.serve(&[("proxy_listen", &listen)]));
    assert_refused(&ended, &path.display().to_string());
    assert!(over_unix(&path).starts_with("HTTP/1.1 200 "));

    let home = Arc::clone(&process.home);
    process.signal(Signal::INT);
    assert_eq!(process.wait().code, Some(0));
    assert!(!path.exists() && home.path().exists());
}

#[test]
fn a_file_that_is_no_socket_is_not_replaced_by_one() {
    let home = Home::new();
    let path = home.write("kiket.sock", "precious");
    let ended = run(home.serve(&[("proxy_listen", &format!("unix:{}", path.display()))]));
    assert_refused(&ended, "kiket.sock");
    assert_eq!(fs::read_to_string(path).unwrap(), "precious");
}

/// It did not start, and says on one line what to change.
fn assert_refused(ended: &Ended, named: &str) {
    assert_eq!(ended.code, Some(2), "{named}: {ended:?}");
    let said: Vec<&str> = ended.stderr.lines().collect();
    assert!(said.len() == 1 && said[0].starts_with("kiket: "), "{named}: {said:?}");
    assert!(said[0].contains(named), "{named}: {said:?}");
    assert!(!said[0].contains("canary"), "{named}: {said:?}");
    assert_eq!(ended.stdout, "", "{named}");
}

#[test]
fn a_second_serve_on_the_same_database_is_refused_and_the_first_goes_on() {
    let (process, endpoint) = (Process::start(), Endpoint::start());
    process.simple(&endpoint.url(), "value");
    assert_refused(&run(process.home.serve(&[])), "database_url");
    assert_eq!(process.deliver("ins", b"{}").status, 200);
    let home = Arc::clone(&process.home);
    assert_eq!(process.stop().code, Some(0));
    // It was the lock, and it is gone with its holder; the values are still there.
    let command = home.serve(&[]);
    let again = Process::spawn_in(home, command);
    assert_eq!(again.deliver("ins", b"{}").status, 200);
    assert_eq!(endpoint.last().secret("KEY").as_deref(), Some("value"));
}

#[test]
fn without_usable_keys_and_tokens_nothing_starts() {
    let home = Home::new();
    let missing = home.path().join("none").display().to_string();
    assert_refused(&run(home.serve(&[("master_key_file", "")])), "master_key_file");
    assert_refused(&run(home.serve(&[("master_key_file", &missing)])), "master_key_file");
    assert_refused(
        &run(home.serve(&[("bootstrap_token_file", &missing)])),
        "bootstrap_token_file",
    );
    for (file, setting) in [
        ("master.key", "master_key_file"),
        ("operator.token", "bootstrap_token_file"),
    ] {
        let path = home.path().join(file);
        for mode in [0o604, 0o602, 0o644] {
            set_mode(&path, mode);
            assert_refused(&run(home.serve(&[])), setting);
        }
        set_mode(&path, 0o660); // its group may
    }
    let text = fs::read_to_string(home.path().join("master.key")).unwrap();
    home.write("master.key", &text.replace("key = ", "kex = "));
    let ended = run(home.serve(&[]));
    assert_refused(&ended, "master_key_file: line ");
    home.write("master.key", &text);
    let command = home.serve(&[]);
    assert_eq!(Process::spawn(home, command).health("/readyz").status, 200);
}

#[test]
fn with_the_keys_of_another_database_nothing_starts_and_nothing_is_written() {
    let (process, endpoint) = (Process::start(), Endpoint::start());
    process.simple(&endpoint.url(), "value");
    let home = Arc::clone(&process.home);
    assert_eq!(process.stop().code, Some(0));
    let other = run(kiket(&["keys", "generate"])).stdout;
    let other = home.write("other.key", &other).display().to_string();
    assert_refused(
        &run(home.serve(&[("master_key_file", &other)])),
        "other.key (master_key_file) is another database's",
    );
    // An entry under other keys would stand in the audit log for good.
    let command = home.serve(&[]);
    let again = Process::spawn_in(home, command);
    let chains = again.must("GET", "/secrets/audit/verify", &Value::Null).json();
    assert_eq!(chains["status"], "intact", "{chains}");
    assert_eq!(again.deliver("ins", b"{}").status, 200);
}

#[test]
fn a_mistake_in_the_settings_is_named_and_never_quoted() {
    const QUOTED: &str = "canary-setting-41";
    let home = Home::new();
    let files = [
        (format!("workers = 1\nlog = \"{QUOTED}\n"), "line 2"),
        (format!("workers = 1\n\n{} = 1\n", QUOTED.replace('-', "_")), "line 3"),
        (format!("[{QUOTED}]\nworkers = 1\n"), "line 1"),
        (format!("workers = \"{QUOTED}\"\n"), "workers, set by file"),
    ];
    for (text, named) in &files {
        let file = home.write("kiket.toml", text);
        let mut command = home.serve(&[]);
        command.arg("--config").arg(file);
        assert_refused(&run(command), named);
    }
    let mut command = home.serve(&[]);
    command.arg("--config").arg(home.path().join("none.toml"));
    assert_refused(&run(command), "--config");
    for (name, value, named) in [
        ("nonesuch", QUOTED, "--set names no setting"),
        ("drain_grace", QUOTED, "drain_grace, set by flag"),
        ("database_url", QUOTED, "database_url, set by flag"),
        ("proxy_listen", "0.0.0.0:0", "dispatcher_token_file"),
        ("admin_listen", "0.0.0.0:0", "admin_listen"),
    ] {
        assert_refused(&run(home.serve(&[(name, value)])), named);
    }
    let mut command = home.serve(&[]);
    command.args(["--set", QUOTED]);
    assert_refused(&run(command), "--set must be followed by NAME=VALUE");
    let mut command = home.serve(&[]);
    command.env("KIKET_PAYLOAD_BYTES_MAX", QUOTED);
    assert_refused(&run(command), "payload_bytes_max, set by environment");
}

#[test]
fn an_address_that_is_taken_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for setting in ["proxy_listen", "admin_listen", "metrics_listen"] {
        let home = Home::new();
        assert_refused(&run(home.serve(&[(setting, &address)])), &address);
        assert!(!home.path().join("kiket.db").exists(), "nothing was begun");
    }
}
