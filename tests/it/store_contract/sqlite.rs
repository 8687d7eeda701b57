//! The suite over SQLite, and what only a file can promise: its modes, its lock, its durability, its silence.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use data_encoding::{BASE64, BASE64URL_NOPAD, HEXLOWER, HEXUPPER};
use kiket_sidecar::crypto::chain::ChainKey;
use kiket_sidecar::crypto::keyring::Keyring;
use kiket_sidecar::domain::audit::{Actor, Source};
use kiket_sidecar::domain::change::Changed;
use kiket_sidecar::domain::scope::Scope;
use kiket_sidecar::domain::time::Timestamp;
use kiket_sidecar::secrets::manage::{Asker, Content, NewSecret, Overlap, SecretManager};
use kiket_sidecar::store::{self, FeedPosition, OpenError, SharedStore};
use rustix::fs::{FlockOperation, flock};
use secrecy::SecretString;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions, Connection};
use tempfile::TempDir;

use super::rows::{change, put_secret, slot};
use super::{Harness, chain_key, store_contract};
use crate::support::instance::HandClock;

store_contract!(Sqlite);

/// A file in a folder of its own.
pub(super) struct Sqlite(TempDir);

impl Sqlite {
    fn path(&self) -> PathBuf {
        self.0.path().join("kiket.db")
    }

    fn beside(&self, suffix: &str) -> PathBuf {
        self.0.path().join(format!("kiket.db{suffix}"))
    }

    async fn try_open(&self, chain: ChainKey) -> Result<SharedStore, OpenError> {
        store::open(&format!("sqlite:{}", self.path().display()), chain).await
    }

    /// Waits until no store holds the file: a dropped one lets go as soon as its last write is done.
    async fn released(&self) {
        let path = self.beside(".lock");
        let wait = move || {
            let Ok(file) = File::open(path) else { return }; // never opened
            flock(&file, FlockOperation::LockExclusive).unwrap();
        };
        tokio::task::spawn_blocking(wait).await.unwrap();
    }

    async fn raw(&self) -> SqliteConnection {
        let options = SqliteConnectOptions::new().filename(self.path()).foreign_keys(false);
        options.connect().await.unwrap()
    }
}

impl Harness for Sqlite {
    fn fresh() -> Self {
        Self(TempDir::new().unwrap())
    }

    async fn open(&self, chain: ChainKey) -> SharedStore {
        self.released().await;
        self.try_open(chain).await.unwrap()
    }

    async fn damage(&self, sql: &'static str) {
        let mut connection = self.raw().await;
        let done = sqlx::query(sql).execute(&mut connection).await.unwrap();
        assert!(done.rows_affected() > 0, "{sql}");
        connection.close().await.unwrap();
    }
}

#[tokio::test]
async fn the_file_and_all_beside_it_are_for_their_owner_alone() {
    let harness = Sqlite::fresh();
    let store = harness.open(chain_key()).await;
    store
        .commit(change([put_secret(slot("org", Scope::Project, "proj", "KEY"))]))
        .await
        .unwrap();
    let names: BTreeSet<String> = fs::read_dir(harness.0.path())
        .unwrap()
        .map(|file| {
            let file = file.unwrap();
            let mode = file.metadata().unwrap().permissions().mode() & 0o7777;
            assert_eq!(mode, 0o600, "{:?}", file.file_name());
            file.file_name().into_string().unwrap()
        })
        .collect();
    let expected = ["kiket.db", "kiket.db-shm", "kiket.db-wal", "kiket.db.lock"];
    assert_eq!(names, expected.map(String::from).into());
}

#[tokio::test]
async fn the_file_is_in_wal_mode() {
    let harness = Sqlite::fresh();
    let _store = harness.open(chain_key()).await;
    let mut connection = harness.raw().await;
    let journal: String = sqlx::query_scalar("PRAGMA journal_mode")
        .fetch_one(&mut connection)
        .await
        .unwrap();
    assert_eq!(journal, "wal");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_store_on_the_file_is_refused_until_the_first_is_gone() {
    let harness = Sqlite::fresh();
    let key = chain_key();
    let first = harness.open(key.clone()).await;
    for _ in 0..2 {
        assert_eq!(harness.try_open(key.clone()).await.err(), Some(OpenError::InUse));
    }
    first.health().await.unwrap();
    drop(first);
    harness.released().await;
    harness.try_open(key).await.unwrap().health().await.unwrap();
}

#[tokio::test]
async fn a_file_of_another_kind_is_refused_and_stays_as_it_is() {
    let harness = Sqlite::fresh();
    let text = b"this is no database, but a letter that somebody keeps; ".repeat(40);
    fs::write(harness.path(), &text).unwrap();
    assert_eq!(harness.try_open(chain_key()).await.err(), Some(OpenError::Foreign));
    assert_eq!(fs::read(harness.path()).unwrap(), text);
}

#[tokio::test]
async fn another_programs_database_is_refused_and_stays_as_it_is() {
    let harness = Sqlite::fresh();
    File::create(harness.path()).unwrap();
    let mut connection = harness.raw().await;
    let made = "CREATE TABLE contacts (name TEXT); INSERT INTO contacts VALUES ('Ada')";
    sqlx::raw_sql(made).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    let before = fs::read(harness.path()).unwrap();
    assert_eq!(harness.try_open(chain_key()).await.err(), Some(OpenError::Foreign));
    assert!(
        fs::read(harness.path()).unwrap() == before,
        "a foreign file was changed"
    );
}

#[tokio::test]
async fn a_newer_versions_file_and_one_whose_history_was_changed_are_refused() {
    let newer = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
                 VALUES (9999, 'later', TRUE, x'00', 1)";
    let changed = "UPDATE _sqlx_migrations SET checksum = x'00'";
    for sql in [newer, changed] {
        let harness = Sqlite::fresh();
        drop(harness.open(chain_key()).await);
        harness.released().await;
        harness.damage(sql).await;
        assert_eq!(
            harness.try_open(chain_key()).await.err(),
            Some(OpenError::Foreign),
            "{sql}"
        );
    }
}

#[tokio::test]
async fn a_url_of_another_kind_and_a_folder_that_is_not_there_are_told_apart() {
    for url in [
        "mysql://localhost/x",
        "kiket.db",
        "sqlite:",
        "sqlite::memory:",
        "sqlite://",
        "",
    ] {
        assert_eq!(
            store::open(url, chain_key()).await.err(),
            Some(OpenError::Scheme),
            "{url}"
        );
    }
    let missing = store::open("sqlite:/nonexistent/folder/kiket.db", chain_key())
        .await
        .err();
    assert_eq!(missing, Some(OpenError::File(std::io::ErrorKind::NotFound)));
}

#[tokio::test]
async fn a_reader_whose_position_was_trimmed_away_or_never_was_drops_everything() {
    let harness = Sqlite::fresh();
    let store = harness.open(chain_key()).await;
    let longer = Sqlite::fresh();
    let longer = longer.open(chain_key()).await;
    let place = |n: u32| slot("org", Scope::Project, "proj", &format!("K{n}"));
    let mut after = vec![FeedPosition::default()];
    for n in 1..=6 {
        longer.commit(change([put_secret(place(n))])).await.unwrap();
        if n < 6 {
            store.commit(change([put_secret(place(n))])).await.unwrap();
            after.push(store.changes(after[after.len() - 1].clone()).await.unwrap().1);
        }
    }
    let read = |position: &FeedPosition| store.changes(position.clone());
    let everything = Ok((vec![Changed::Everything], after[5].clone()));
    let nothing = Ok((vec![], after[5].clone()));
    let (_, anothers) = longer.changes(FeedPosition::default()).await.unwrap();
    assert_eq!(read(&anothers).await, everything, "another database's position");
    assert_eq!(read(&after[5]).await, nothing);
    harness.damage("DELETE FROM changes WHERE position <= 3").await;
    assert_eq!(read(&after[2]).await, everything, "3 is gone");
    let rest = vec![Changed::Secret(place(4)), Changed::Secret(place(5))];
    assert_eq!(read(&after[3]).await, Ok((rest, after[5].clone())));
    harness.damage("DELETE FROM changes").await;
    assert_eq!(read(&after[4]).await, everything, "5 is gone");
    assert_eq!(read(&after[5]).await, nothing);
}

#[tokio::test]
async fn an_installation_without_its_extension_is_damaged() {
    use super::rows::{installation, put_extension, put_installation};
    let harness = Sqlite::fresh();
    let store = harness.open(chain_key()).await;
    let writes = [put_extension("com.example.a"), put_installation("ins", "org")];
    store.commit(change(writes)).await.unwrap();
    harness.damage("DELETE FROM extensions").await;
    let found = store.installation(&installation("ins", "org", 1).installation.id).await;
    assert_eq!(found, Err(store::StoreError::Damaged));
}

pub(super) const CANARY: &str = "canary-\"7f3a\\\n\u{e4}-of-a-value-that-must-not-be-on-disk";

/// Whether any of the files holds a text in a form that could be read back; the names of forms and files that do.
pub(super) fn found(files: &[PathBuf], text: &str) -> Vec<String> {
    let mut forms = vec![
        ("raw", text.as_bytes().to_vec()),
        ("hex", HEXLOWER.encode(text.as_bytes()).into_bytes()),
        ("HEX", HEXUPPER.encode(text.as_bytes()).into_bytes()),
        (
            "json",
            serde_json::to_string(text)
                .unwrap()
                .trim_matches('"')
                .as_bytes()
                .to_vec(),
        ),
    ];
    for skipped in 0..3 {
        // Base64 of a part that starts where a group starts, without its last, shared group.
        let part = &text.as_bytes()[skipped..];
        let part = &part[..part.len() / 3 * 3];
        forms.push(("base64", BASE64.encode(part).into_bytes()));
        forms.push(("base64url", BASE64URL_NOPAD.encode(part).into_bytes()));
    }
    let mut hits = Vec::new();
    for file in files {
        let bytes = fs::read(file).unwrap_or_default();
        for (form, needle) in &forms {
            if bytes.windows(needle.len()).any(|window| window == needle) {
                hits.push(format!("{form} in {}", file.file_name().unwrap().display()));
            }
        }
    }
    hits
}

#[test]
fn the_search_finds_each_form_that_it_looks_for() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("file");
    let hidden = |bytes: &[u8], path: &Path| {
        fs::write(path, [b"before ", bytes, b" after"].concat()).unwrap();
        !found(&[path.to_path_buf()], CANARY).is_empty()
    };
    assert!(!hidden(b"nothing", &file));
    assert!(hidden(CANARY.as_bytes(), &file));
    assert!(hidden(HEXLOWER.encode(CANARY.as_bytes()).as_bytes(), &file));
    assert!(hidden(HEXUPPER.encode(CANARY.as_bytes()).as_bytes(), &file));
    assert!(hidden(serde_json::to_string(CANARY).unwrap().as_bytes(), &file));
    for prefix in ["", "x", "xx"] {
        let whole = format!("{prefix}{CANARY}yz");
        assert!(hidden(BASE64.encode(whole.as_bytes()).as_bytes(), &file), "{prefix}");
        assert!(
            hidden(BASE64URL_NOPAD.encode(whole.as_bytes()).as_bytes(), &file),
            "{prefix}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_value_is_nowhere_in_the_files_in_no_readable_form() {
    let harness = Sqlite::fresh();
    let keyring = Arc::new(Keyring::generate(Timestamp(1)).unwrap());
    let store = harness.open(keyring.chain_key()).await;
    let manager = SecretManager::new(
        SharedStore::clone(&store),
        keyring,
        Arc::new(HandClock::at(1_700_000_000_000)),
    );
    let asker = Asker {
        actor: Actor {
            id: "tok".into(),
            name: "tok".into(),
        },
        source: Source::Api,
    };
    let scope_id = "the-plain-scope-id";
    let place = slot("org", Scope::Project, scope_id, "KEY");
    let value = |text: &str| NewSecret {
        slot: place.clone(),
        content: Content::Value(SecretString::from(text)),
        expires_at: None,
        contact: None,
    };
    let files = ["", "-wal", "-shm", ".lock"].map(|suffix| harness.beside(suffix));
    manager.set(&asker, vec![value(CANARY)], None).await.unwrap();
    assert_eq!(found(&files, CANARY), [""; 0]);
    assert!(
        !found(&files, scope_id).is_empty(),
        "the search does not reach what was just written"
    );
    manager
        .rotate(&asker, value("another value"), Overlap::Keep, None)
        .await
        .unwrap();
    assert_eq!(found(&files, CANARY), [""; 0]);
    manager.delete(&asker, &place, None).await.unwrap();
    drop((manager, store));
    harness.released().await;
    assert_eq!(found(&files, CANARY), [""; 0]);
    assert!(
        !found(&files[..1], scope_id).is_empty(),
        "the file does not hold what was written"
    );
}
