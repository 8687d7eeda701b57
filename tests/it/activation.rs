//! How the process lives under systemd: sockets that outlive it, and what it tells of itself.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use rustix::process::Signal;

use super::support::activated::{Told, listener, serve_on};
use super::support::captured::PATIENCE;
use super::support::endpoint::Endpoint;
use super::support::http::{Client, once, request};
use super::support::instance::invocation;
use super::support::process::{Home, Process, run_inheriting};
use super::support::under_way::UnderWay;

/// Inherits these two for deliveries and for the REST API.
fn start(home: &Arc<Home>, proxy: &TcpListener, admin: &TcpListener) -> Process {
    let passed = |listener: &TcpListener| OwnedFd::from(listener.try_clone().unwrap());
    let settings = [("drain_grace", "500ms")];
    let command = serve_on(home, "proxy:admin", passed(proxy), passed(admin), &settings);
    Process::spawn_inheriting(Arc::clone(home), command)
}

fn sent(to: SocketAddr, bytes: &[u8]) -> Client {
    let mut client = Client::connect(to);
    client.send(bytes);
    client
}

#[test]
fn whoever_comes_while_no_process_runs_is_answered_by_the_next_one() {
    let (home, endpoint) = (Arc::new(Home::new()), Endpoint::start());
    let ((proxy, to_proxy), (admin, to_admin)) = (listener(), listener());
    let question = request("GET", "/api/v1/openapi.json", &[], b"");
    let mut early = sent(to_admin, &question);
    let mut process = start(&home, &proxy, &admin);
    assert_eq!((process.proxy(), process.admin), (to_proxy, to_admin));
    assert_eq!(early.answer().status, 200);
    process.simple(&endpoint.url(), "value");
    assert_eq!(process.deliver("ins", b"{}").status, 200);
    for signal in [Signal::TERM, Signal::KILL] {
        process.signal(signal);
        process.wait();
        let mut waiting: Vec<Client> = (0..3).map(|_| sent(to_proxy, &invocation("ins", b"{}"))).collect();
        let mut early = sent(to_admin, &question);
        process = start(&home, &proxy, &admin);
        for dispatcher in &mut waiting {
            assert_eq!(dispatcher.answer().status, 200, "after {signal:?}");
        }
        assert_eq!(early.answer().status, 200, "after {signal:?}");
    }
}

#[test]
fn a_restart_loses_no_connection_of_those_who_send_on_and_on() {
    let (home, endpoint) = (Arc::new(Home::new()), Endpoint::start());
    let ((proxy, to_proxy), (admin, _)) = (listener(), listener());
    let mut process = start(&home, &proxy, &admin);
    process.simple(&endpoint.url(), "value");
    let (stop, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
    let (counts, _process) = thread::scope(|scope| {
        let send_on = || {
            while !stop.load(Ordering::SeqCst) {
                assert_eq!(once(to_proxy, &invocation("ins", b"{}")).status, 200);
                answered.fetch_add(1, Ordering::SeqCst);
            }
        };
        for _ in 0..4 {
            scope.spawn(send_on);
        }
        let mut counts = Vec::new();
        for _ in 0..3 {
            process.signal(Signal::TERM);
            assert_eq!(process.wait().code, Some(0));
            counts.push(answered.load(Ordering::SeqCst));
            process = start(&home, &proxy, &admin);
        }
        stop.store(true, Ordering::SeqCst);
        (counts, process)
    });
    let total = answered.into_inner();
    assert!(
        counts[0] > 0 && counts.is_sorted_by(|one, next| one < next) && total > counts[2],
        "between any two restarts some are served: {counts:?}, {total}"
    );
}

#[test]
fn metrics_and_unix_sockets_are_inherited_too_and_a_files_owner_keeps_it() {
    let (home, endpoint) = (Arc::new(Home::new()), Endpoint::start());
    let (metrics, to_metrics) = listener();
    let path = home.path().join("dispatcher.sock");
    let proxy = UnixListener::bind(&path).unwrap();
    let passed = proxy.try_clone().unwrap().into();
    let command = serve_on(&home, "metrics:proxy", metrics.into(), passed, &[]);
    let process = Process::spawn_inheriting(Arc::clone(&home), command);
    process.simple(&endpoint.url(), "value");
    assert_eq!(once(to_metrics, &request("GET", "/readyz", &[], b"")).status, 200);
    let mut dispatcher = UnixStream::connect(&path).unwrap();
    dispatcher.set_read_timeout(Some(PATIENCE)).unwrap();
    dispatcher.write_all(&invocation("ins", b"{}")).unwrap();
    let mut head = [0; 13];
    dispatcher.read_exact(&mut head).unwrap();
    assert_eq!(&head, b"HTTP/1.1 200 ");
    drop(dispatcher);
    assert_eq!(process.stop().code, Some(0));
    assert!(UnixStream::connect(&path).is_ok(), "it waits for the next one");
}

#[test]
fn a_socket_that_cannot_be_served_as_it_is_named_keeps_the_process_from_starting() {
    let home = Home::new();
    let tcp = |address: &str| OwnedFd::from(TcpListener::bind(address).unwrap());
    let local = || tcp("127.0.0.1:0");
    let udp = || OwnedFd::from(UdpSocket::bind("127.0.0.1:0").unwrap());
    let unix = |name: &str| OwnedFd::from(UnixListener::bind(home.path().join(name)).unwrap());
    let connected = OwnedFd::from(UnixStream::pair().unwrap().0);
    for (names, first, second, named) in [
        (
            "proxy:nonesuch-canary",
            local(),
            local(),
            "LISTEN_FDNAMES: descriptor 1 ",
        ),
        ("proxy", local(), local(), "LISTEN_FDNAMES: descriptor 1 "),
        ("metrics:metrics", local(), local(), "LISTEN_FDNAMES: descriptor 1 "),
        ("proxy:admin", local(), unix("admin"), "LISTEN_FDS: descriptor 1 "),
        ("metrics:proxy", unix("metrics"), local(), "LISTEN_FDS: descriptor 0 "),
        ("proxy:admin", udp(), local(), "LISTEN_FDS: descriptor 0 "),
        ("proxy:proxy", local(), connected, "LISTEN_FDS: descriptor 1 "),
        // What holds for an address of the settings holds for theirs.
        ("proxy:admin", tcp("0.0.0.0:0"), local(), "proxy_listen: "),
        ("proxy:admin", local(), tcp("0.0.0.0:0"), "admin_listen: "),
    ] {
        let ended = run_inheriting(serve_on(&home, names, first, second, &[]));
        assert_eq!(ended.code, Some(2), "{names}: {}", ended.stderr);
        assert!(ended.stderr.contains(named), "{names}: {}", ended.stderr);
        assert!(!ended.stderr.contains("canary"), "{}", ended.stderr);
    }
    assert!(!home.path().join("kiket.db").exists(), "nothing was begun");
}

#[test]
fn sockets_for_another_process_are_not_taken() {
    let (home, endpoint) = (Arc::new(Home::new()), Endpoint::start());
    let mut command = home.serve(&[]);
    command.env("LISTEN_FDS", "2").env("LISTEN_PID", "1");
    let process = Process::spawn_in(home, command);
    process.simple(&endpoint.url(), "value");
    assert_eq!(process.deliver("ins", b"{}").status, 200);
}

#[test]
fn a_supervisor_hears_when_it_serves_that_it_lives_and_that_it_ends() {
    for is_abstract in [false, true] {
        let (home, holding) = (Home::new(), UnderWay::start());
        let (told, name) = Told::listen(&home, is_abstract);
        let mut command = home.serve(&[]);
        command.env("NOTIFY_SOCKET", name).env("WATCHDOG_USEC", "600000");
        let process = Process::spawn(home, command);
        assert_eq!(told.until("READY=1"), "READY=1\nSTATUS=ready");
        process.simple(&holding.endpoint.url(), "value");
        assert_eq!(
            told.until("WATCHDOG=1"),
            "WATCHDOG=1\nSTATUS=ready, 0 deliveries under way"
        );
        let mut held = holding.hold(&process);
        told.until("STATUS=ready, 1 deliveries under way");
        process.signal(Signal::TERM);
        let said = "STOPPING=1\nSTATUS=draining, 1 deliveries under way\nEXTEND_TIMEOUT_USEC=80000000";
        assert_eq!(told.until("STOPPING=1"), said);
        assert_eq!(told.until("WATCHDOG=1"), "WATCHDOG=1");
        holding.let_go();
        assert_eq!(held.answer().status, 200);
        assert_eq!(process.wait().code, Some(0));
    }
}

#[test]
fn a_supervisor_that_is_not_there_keeps_the_process_from_starting() {
    let home = Home::new();
    let mut command = home.serve(&[]);
    command.env("NOTIFY_SOCKET", home.path().join("nobody"));
    let ended = run_inheriting(command);
    assert_eq!(ended.code, Some(2));
    assert!(ended.stderr.starts_with("kiket: NOTIFY_SOCKET: "), "{}", ended.stderr);
}
