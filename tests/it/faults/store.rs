//! The store at fault (threats S1 and S2): locked by another, or on a disk that is full. What is in memory is delivered,
//! nothing is released that cannot be recorded, and no change is made by half.

use std::sync::{Arc, Mutex, mpsc};
use std::thread::{self, JoinHandle};

use rustix::process::{Pid, Resource, Rlimit, prlimit};
use serde_json::{Value, json};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection};

use super::{Act, Expected, Row, Stage, until};

/// How a store fails, and is well again.
#[derive(Clone, Copy)]
enum Trouble {
    /// Another process writes, and does not come to an end.
    Locked,
    /// No file can grow any more.
    Full,
}

impl Trouble {
    const ALL: [Self; 2] = [Self::Locked, Self::Full];

    const fn name(self) -> &'static str {
        match self {
            Self::Locked => "locked",
            Self::Full => "full",
        }
    }

    fn begin(self, stage: &Stage) -> Begun {
        match self {
            Self::Locked => Begun::Locked(Lock::take(stage)),
            Self::Full => {
                limit_files(stage, Some(1));
                Begun::Full
            }
        }
    }
}

enum Begun {
    Locked(Lock),
    Full,
}

impl Begun {
    fn end(self, stage: &Stage) {
        match self {
            Self::Locked(lock) => lock.release(),
            Self::Full => limit_files(stage, None),
        }
    }
}

/// Bytes that a file of the process may have.
fn limit_files(stage: &Stage, bytes: Option<u64>) {
    let limit = Rlimit {
        current: bytes,
        maximum: None,
    };
    prlimit(Pid::from_raw(stage.process.pid()), Resource::Fsize, limit).unwrap();
}

/// The right to write to the database, taken from the process.
struct Lock {
    release: mpsc::Sender<()>,
    holder: JoinHandle<()>,
}

impl Lock {
    fn take(stage: &Stage) -> Self {
        let path = stage.process.home.path().join("kiket.db");
        let (taken, is_taken) = mpsc::channel();
        let (release, released) = mpsc::channel();
        let holder = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let options = SqliteConnectOptions::new().filename(path);
                let mut connection = options.connect().await.unwrap();
                sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut connection).await.unwrap();
                taken.send(()).unwrap();
                let _ = released.recv();
                sqlx::raw_sql("ROLLBACK").execute(&mut connection).await.unwrap();
                connection.close().await.unwrap();
            });
        });
        is_taken.recv().unwrap();
        Self { release, holder }
    }

    fn release(self) {
        drop(self.release);
        self.holder.join().unwrap();
    }
}

/// A row under a trouble. Afterwards what is cold is delivered, too.
fn under(trouble: Trouble, what: &str, installation: Option<&'static str>, expected: Expected) -> Row {
    let begun: Arc<Mutex<Option<Begun>>> = Arc::default();
    let ending = Arc::clone(&begun);
    let arrange: Act = Box::new(move |stage| *begun.lock().unwrap() = Some(trouble.begin(stage)));
    let mend: Act = Box::new(move |stage| {
        ending.lock().unwrap().take().unwrap().end(stage);
    });
    Row {
        installation,
        arrange: Some(arrange),
        mend: Some(mend),
        ..Row::new(format!("{what}-{}", trouble.name()), expected)
    }
}

pub(super) fn rows() -> Vec<Row> {
    let of = |trouble| {
        let unavailable = Expected::Problem("store-unavailable");
        [
            under(trouble, "warm", None, Expected::Passed(200)),
            under(trouble, "cold", Some("cold"), unavailable),
            under(trouble, "warm-again", None, Expected::Passed(200)),
        ]
    };
    Trouble::ALL.into_iter().flat_map(of).collect()
}

#[test]
fn a_store_that_is_locked_or_full_keeps_what_is_warm_going_and_releases_nothing_unrecorded() {
    let stage = Stage::start(&[("bundle_idle", "1h")]);
    stage.process.set("KEY", "secret-value-of-the-catalogue");
    stage.install("cold", &json!({"url": stage.endpoint.url()}));
    stage.hold(rows());
    until("what was cold is delivered", || {
        stage.process.deliver("cold", b"{}").status == 200
    });
    let verified = stage
        .process
        .must("GET", "/secrets/audit/verify?organization_id=org", &Value::Null);
    assert_eq!(verified.json()["status"], json!("intact"), "{:?}", verified.json());
}

#[test]
fn a_change_that_cannot_be_stored_or_recorded_is_refused_and_not_made() {
    let stage = Stage::start(&[]);
    let process = &stage.process;
    process.set("KEY", "the first value");
    let place = "scope=project&id=proj&organization_id=org";
    let version = || {
        let got = process.must("GET", &format!("/extensions/secrets/KEY?{place}"), &Value::Null);
        got.json()["version"].as_u64().unwrap()
    };
    let secret = json!({"scope": "project", "id": "proj", "key": "KEY", "value": "another", "organization_id": "org"});
    for trouble in Trouble::ALL {
        let before = version();
        let begun = trouble.begin(&stage);
        let refused = process.call("POST", "/extensions/secrets", secret.to_string().as_bytes());
        assert!(
            matches!(refused.status, 503 | 507),
            "{}: {}",
            trouble.name(),
            refused.status
        );
        begun.end(&stage);
        assert_eq!(version(), before, "{}", trouble.name());
        process.set("KEY", "the next value");
        assert_eq!(version(), before + 1, "{}", trouble.name());
    }
    let verified = process.must("GET", "/secrets/audit/verify?organization_id=org", &Value::Null);
    assert_eq!(verified.json()["status"], json!("intact"), "{:?}", verified.json());
}
