//! Whether a kill at any write of any change loses what was acknowledged, or leaves half of a change behind.
//!
//! Each change is made once under `strace`, which tells by which calls its bytes reach the disk and the answer the
//! client. Then it is made again and again from the same files, by a process that is killed as it enters one of them.

mod changes;
mod scene;
mod standing;

use std::io::Write as _;
use std::sync::Arc;
use std::time::Instant;

use serde_json::{Value, json};

use super::support::http::{Client, request};
use super::support::process::{Home, Process};
use changes::{SECRETS, WRITES, secret};
use scene::{Point, Scene};

/// What becomes of a start is watched as well: it records itself before it serves.
const START: &str = "start";

/// How often the process is killed and started again over many secrets.
const RESTARTS: usize = 5;

/// A figure for whoever runs the tests.
fn tell(figure: &str) {
    let mut out = std::io::stdout();
    let _ = writeln!(out, "{figure}");
}

#[test]
fn a_kill_at_any_write_of_any_change_loses_nothing_acknowledged_and_halves_nothing() {
    let is_full = std::env::var("KIKET_TEST_SCALE").is_ok_and(|scale| scale == "full");
    let only = std::env::var("KIKET_TEST_WRITE").ok(); // to look into one of them
    let scene = Scene::set();
    scene.restore();
    let before = scene.standing();
    let (mut kills, mut cut) = (0, 0);
    let starts = [(START, None)].into_iter();
    for (n, (name, write)) in starts
        .chain(WRITES.iter().map(|write| (write.0, Some(write))))
        .enumerate()
    {
        if only.as_ref().is_some_and(|only| only != name) {
            continue;
        }
        let (points, after) = scene.trace(write);
        assert!(points.len() > 2, "{name}: {points:?}");
        assert_eq!(after == before, write.is_none(), "{name} changes something: {after:?}");
        let tried: Vec<&Point> = match is_full {
            true => points.iter().collect(),
            false => points.iter().skip(n * 5 % points.len()).take(1).collect(),
        };
        let (mut stands, mut told) = (0, 0);
        for point in &tried {
            let acknowledged = scene.cut(write, point);
            let found = scene.standing();
            assert!(
                found == before || found == after,
                "{name}, killed at {point:?}: {found:#?}"
            );
            assert!(
                !acknowledged || found == after,
                "{name}, killed at {point:?}, was acknowledged"
            );
            stands += usize::from(found == after);
            told += usize::from(acknowledged);
        }
        kills += tried.len();
        cut += tried.len() - told;
        tell(&format!(
            "{name}: {} kills, {told} after the answer, {stands} stand",
            tried.len()
        ));
    }
    assert!(cut * 2 > kills, "of {kills} kills {cut} fell before an answer");
}

#[test]
fn after_a_kill_in_the_middle_of_a_write_it_is_ready_again_with_thousands_of_secrets() {
    let is_full = std::env::var("KIKET_TEST_SCALE").is_ok_and(|scale| scale == "full");
    let count = if is_full { 10_000 } else { 1_000 };
    let home = Arc::new(Home::new());
    let start = || Process::spawn_in(Arc::clone(&home), home.serve(&[]));
    let process = start();
    let keys: Vec<String> = (0..count).map(|n| format!("KEY_{n}")).collect();
    for some in keys.chunks(200) {
        let secrets: Vec<Value> = some.iter().map(|key| secret(key, "a value of some length")).collect();
        process.must("POST", SECRETS, &json!({"secrets": secrets}));
    }
    let mut took = Vec::new();
    let mut process = Some(process);
    for _ in 0..RESTARTS {
        let killed = process.take().unwrap();
        let mut writing = Client::connect(killed.admin);
        let authorization = format!("Bearer {}", killed.token);
        let headers = [
            ("Authorization", authorization.as_str()),
            ("Content-Type", "application/json"),
        ];
        let body = secret("KEY_0", "another value").to_string();
        writing.send(&request(
            "POST",
            &format!("/api/v1{SECRETS}"),
            &headers,
            body.as_bytes(),
        ));
        killed.kill();
        home.database.released();
        let began = Instant::now();
        let ready = start();
        assert_eq!(ready.health("/readyz").status, 200);
        took.push(began.elapsed());
        process = Some(ready);
    }
    let process = process.unwrap();
    let health = process
        .must("GET", "/secrets/health?organization_id=org", &Value::Null)
        .json();
    assert_eq!(health["secret_count"], count);
    tell(&format!("ready again with {count} secrets after {took:?}"));
}
