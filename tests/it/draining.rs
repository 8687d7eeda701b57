//! Whether the end of the process fails anyone: under way, in the queue, about to send, or writing to the REST API.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;

use kiket_sidecar::egress::Resolver;
use rustix::process::Signal;
use serde_json::{Value, json};

use super::support::captured::PATIENCE;
use super::support::http::{Answer, Client, request};
use super::support::instance::{Instance, Options, invocation};
use super::support::process::{Home, Process};
use super::support::under_way::{UnderWay, drain};

/// How often the process is told to end, and where long runs are asked for.
const ROUNDS: usize = 3;
const ROUNDS_FULL: usize = 100;

/// Deliveries under way each time, beside those of dispatchers that go on sending.
const IN_FLIGHT: usize = 500;
const SENDING: usize = 4;

/// A connection that was used and is quiet: it is closed when the listeners are.
fn quiet(process: &Process) -> Client {
    let mut quiet = process.connect();
    assert!(quiet.exchange(&invocation("nobody", b"{}")).status > 400);
    quiet
}

#[test]
fn whoever_waits_in_the_queue_when_the_listener_closes_is_answered() {
    let settings = [("connections_max", "2"), ("drain_grace", "1s")];
    let (process, holding) = (Process::with(&settings), UnderWay::start());
    process.simple(&holding.endpoint.url(), "value");
    let (mut held, mut quiet) = (holding.hold(&process), quiet(&process));
    // The kernel has taken them; the process has room for two.
    let mut queued: Vec<Client> = (0..5).map(|_| process.connect()).collect();
    for dispatcher in &mut queued {
        dispatcher.send(&invocation("ins", b"{}"));
    }
    process.signal(Signal::TERM);
    assert!(quiet.is_closed());
    holding.let_go();
    assert_eq!(held.answer().status, 200);
    for dispatcher in &mut queued {
        let answer = dispatcher.try_answer().expect("not reset");
        // The grace is over. Those who are served late are told to come again.
        assert!(
            answer.status == 200 || answer.problem() == "draining" && answer.header("retry-after").is_some(),
            "{answer:?}"
        );
        assert_eq!(answer.header("connection"), Some("close"));
    }
    assert_eq!(process.wait().code, Some(0));
}

#[test]
fn a_write_to_the_rest_api_that_is_under_way_is_answered_before_the_end() {
    let process = Process::start();
    process.simple("http://127.0.0.1:9", "value");
    let authorization = format!("Bearer {}", process.token);
    let headers = [
        ("Authorization", authorization.as_str()),
        ("Content-Type", "application/json"),
    ];
    let secret = json!({"scope": "project", "id": "proj", "organization_id": "org", "key": "LATE", "value": "late"});
    let bytes = request(
        "POST",
        "/api/v1/extensions/secrets",
        &headers,
        secret.to_string().as_bytes(),
    );
    let (most, rest) = bytes.split_at(bytes.len() - 5);
    let (mut writer, mut quiet) = (Client::connect(process.admin), quiet(&process));
    writer.send(most);
    process.must("GET", "/extensions", &Value::Null); // by now it was read
    process.signal(Signal::TERM);
    assert!(quiet.is_closed());
    for _ in 0..500 {
        assert_eq!(process.health("/livez").status, 200); // it stays for as long as the writer takes
    }
    writer.send(rest);
    assert_eq!(writer.answer().status, 201);
    let home = Arc::clone(&process.home);
    assert_eq!(process.wait().code, Some(0));
    let command = home.serve(&[]);
    let again = Process::spawn_in(home, command);
    let secrets = "/extensions/secrets/LATE?scope=project&id=proj&organization_id=org";
    assert_eq!(again.must("GET", secrets, &Value::Null).json()["version"], 1);
}

/// Looks nothing up, and keeps a thread for it.
struct Hanging {
    asked: mpsc::SyncSender<()>,
    until: Arc<Mutex<mpsc::Receiver<()>>>,
}

#[async_trait::async_trait]
impl Resolver for Hanging {
    async fn lookup(&self, _: &str) -> std::io::Result<Vec<IpAddr>> {
        let (asked, until) = (self.asked.clone(), Arc::clone(&self.until));
        let looked_up = tokio::task::spawn_blocking(move || {
            let _ = asked.send(());
            let _ = until.lock().unwrap().recv();
        });
        looked_up.await.unwrap();
        Err(std::io::ErrorKind::NotFound.into())
    }
}

#[test]
fn the_end_does_not_wait_for_a_name_that_is_being_looked_up() {
    let (asked, is_asked) = mpsc::sync_channel(8);
    let (found, until) = mpsc::channel();
    let instance = Instance::with(Options {
        resolver: Some(Arc::new(Hanging {
            asked,
            until: Arc::new(Mutex::new(until)),
        })),
        ..Options::default()
    });
    // A provider is asked on the runtime that everything else ends with.
    instance.set("organization", "org", "VAULT_TOKEN", "a token");
    let auth = json!({"method": "token", "credential_key": "VAULT_TOKEN"});
    let provider = json!({"kind": "vault", "address": "https://vault.example.com", "auth": auth});
    instance.must("PUT", "/organizations/org/providers/main", &provider);
    let path = "/api/v1/organizations/org/providers/main/check";
    let authorization = format!("Bearer {}", instance.bootstrap_token());
    let headers = [("Authorization", authorization.as_str())];
    let mut checking = Client::connect(instance.running.admin().unwrap());
    checking.send(&request("POST", path, &headers, b""));
    is_asked.recv_timeout(PATIENCE).unwrap();
    instance.running.stop_now();
    let (ended, has_ended) = mpsc::channel();
    let running = instance.running;
    thread::spawn(move || {
        running.wait();
        let _ = ended.send(());
    });
    assert!(has_ended.recv_timeout(PATIENCE).is_ok(), "it waits for the lookup");
    drop(found);
}

/// Sends one delivery after another until told to stop, over another connection where the last answer asks for that;
/// gives how many were answered 200. Panics at any that was not.
fn send_on(process: &Process, stop: &AtomicBool) -> usize {
    let mut sent = 0;
    let mut kept: Option<Client> = None;
    while !stop.load(Ordering::SeqCst) {
        let mut dispatcher = kept.take().unwrap_or_else(|| process.connect());
        let answer = dispatcher.exchange(&invocation("ins", b"{}"));
        assert_eq!(answer.status, 200, "{answer:?}");
        sent += 1;
        if answer.header("connection") != Some("close") {
            kept = Some(dispatcher);
        }
    }
    sent
}

/// Delivers once. What is cold waits for the audit log, for 250 ms: where that takes longer, on a busy disk, whoever
/// delivers is told to come back, and here does.
fn warm(process: &Process) {
    let is_delivered = |answer: Answer| {
        let is_told_to_come_back = answer.status == 503 && answer.problem() == "store-unavailable";
        assert!(answer.status == 200 || is_told_to_come_back, "{answer:?}");
        answer.status == 200
    };
    let delivered = (0..100).any(|_| is_delivered(process.deliver("ins", b"{}")));
    assert!(delivered, "it stays cold");
}

#[test]
fn no_delivery_fails_however_often_the_process_is_told_to_end() {
    let is_full = std::env::var("KIKET_TEST_SCALE").is_ok_and(|scale| scale == "full");
    let holding = UnderWay::start();
    let home = Arc::new(Home::new());
    let (served, sent_on) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let rounds = if is_full { ROUNDS_FULL } else { ROUNDS };
    for round in 0..rounds {
        let command = home.serve(&[]);
        let process = Process::spawn_in(Arc::clone(&home), command);
        if round == 0 {
            process.simple(&holding.endpoint.url(), "value");
        }
        warm(&process);
        holding.shut();
        let mut under_way = holding.hold_many(&process, IN_FLIGHT);
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            for _ in 0..SENDING {
                scope.spawn(|| sent_on.fetch_add(send_on(&process, &stop), Ordering::SeqCst));
            }
            drain(&process);
            holding.let_go();
            for dispatcher in &mut under_way {
                assert_eq!(dispatcher.answer().status, 200, "round {round}");
                served.fetch_add(1, Ordering::SeqCst);
            }
            stop.store(true, Ordering::SeqCst);
        });
        let ended = process.wait();
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        assert!(
            !ended.stderr.contains("\"outcome\":\"dispatcher-gone\""),
            "{}",
            ended.stderr
        );
    }
    assert_eq!(served.into_inner(), rounds * IN_FLIGHT);
    assert!(sent_on.into_inner() >= rounds * SENDING, "each sent at least once");
}
