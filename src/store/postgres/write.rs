//! What is written: a change with its audit entries and its feed entries in one transaction, or nothing.
//!
//! A caller that goes away changes nothing about what it asked for. Entries of one chain that wait together go into one
//! transaction: its writers wait for each other anyway.

use std::collections::HashMap;
use std::mem;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use aws_lc_rs::rand;
use tokio::sync::{Semaphore, oneshot, watch};
use tokio::time::{sleep, timeout};

use super::super::row::chain_of;
use super::super::{Change, OutboxRow, StoreError, Write};
use super::{Pool, SILENT_MAX, WAIT_MAX, change, dialect, failed, feed, hints, order};
use crate::crypto::chain::ChainKey;
use crate::domain::audit::AuditEntry;
use crate::domain::change::Changed;
use crate::domain::time::Timestamp;

/// The most writes that wait; more are refused.
const WAITING_MAX: usize = 1024;

/// The most waiting entries that are written together.
const TOGETHER_MAX: usize = 1024;

/// How often a transaction is tried that did not come to its end.
const ATTEMPTS_MAX: u32 = 4;

/// The longest that a transaction takes, and one that removes many rows.
const TRANSACTION_MAX: (Duration, Duration) = (SILENT_MAX, Duration::from_secs(70));

/// So many changes are told between two looks at what is too old in the feed.
const TRIM_EVERY: u64 = 1_000;

const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE";

/// The way to the database for all that writes.
pub(super) struct Writer(Arc<Shared>);

struct Shared {
    pool: Pool,
    chain: ChainKey,
    wake: watch::Sender<u64>,
    places: Semaphore,
    /// Entries that wait, by their chain; there is a key while somebody writes entries of that chain.
    waiting: Mutex<HashMap<String, Vec<Waiting>>>,
    told: AtomicU64,
}

type Done = oneshot::Sender<Result<(), StoreError>>;

struct Waiting {
    entries: Vec<AuditEntry>,
    done: Done,
}

impl Writer {
    pub(super) fn new(pool: Pool, chain: ChainKey, wake: watch::Sender<u64>) -> Self {
        Self(Arc::new(Shared {
            pool,
            chain,
            wake,
            places: Semaphore::new(WAITING_MAX),
            waiting: Mutex::default(),
            told: AtomicU64::new(0),
        }))
    }

    pub(super) async fn commit(&self, change: Change) -> Result<(), StoreError> {
        if change.writes.is_empty() {
            return self.record(change.entries).await;
        }
        let _place = self.0.places.try_acquire().map_err(|_| StoreError::Unavailable)?;
        let shared = Arc::clone(&self.0);
        let written = tokio::spawn(async move { shared.write(change).await });
        written.await.unwrap_or(Err(StoreError::Unavailable))
    }

    pub(super) async fn record(&self, entries: Vec<AuditEntry>) -> Result<(), StoreError> {
        let Some(first) = entries.first() else { return Ok(()) };
        let chain = chain_of(first.organization.as_ref()).to_owned();
        let _place = self.0.places.try_acquire().map_err(|_| StoreError::Unavailable)?;
        let (done, answer) = oneshot::channel();
        let shared = Arc::clone(&self.0);
        if entries
            .iter()
            .all(|entry| chain_of(entry.organization.as_ref()) == chain)
        {
            if self.0.wait(&chain, Waiting { entries, done }) {
                tokio::spawn(async move { shared.write_waiting(&chain).await });
            }
        } else {
            // Of several chains: held up by none of those who write one.
            tokio::spawn(async move {
                let _ = done.send(shared.write_entries(entries).await); // nobody waits any more
            });
        }
        answer.await.unwrap_or(Err(StoreError::Unavailable))
    }

    /// A notice that is taken and told to nobody is due again later.
    pub(super) async fn lease(
        &self,
        now: Timestamp,
        until: Timestamp,
        limit: u32,
    ) -> Result<Vec<OutboxRow>, StoreError> {
        let leased = timeout(TRANSACTION_MAX.0, async {
            let mut connection = self.0.pool.acquire().await.map_err(failed)?;
            dialect::lease(&mut connection, now, until, limit).await
        });
        leased.await.unwrap_or(Err(StoreError::Unavailable))
    }
}

impl Shared {
    /// Whether nobody writes entries of this chain yet, so that whoever asks has to.
    fn wait(&self, chain: &str, entries: Waiting) -> bool {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        match waiting.get_mut(chain) {
            Some(others) => {
                others.push(entries);
                false
            }
            None => {
                waiting.insert(chain.to_owned(), vec![entries]);
                true
            }
        }
    }

    /// What waits, at most so many entries; nobody writes this chain any more where nothing does.
    fn take(&self, chain: &str) -> Vec<Waiting> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(all) = waiting.get_mut(chain) else {
            return Vec::new();
        };
        let mut count = 0;
        let fits = |one: &&Waiting| {
            count += one.entries.len();
            count <= TOGETHER_MAX
        };
        let fitting = all.iter().take_while(fits).count().max(1).min(all.len());
        let rest = all.split_off(fitting);
        let taken = mem::replace(all, rest);
        if taken.is_empty() {
            waiting.remove(chain);
        }
        taken
    }

    /// Writes what waits and what comes meanwhile, until nothing waits.
    async fn write_waiting(&self, chain: &str) {
        loop {
            let taken = self.take(chain);
            if taken.is_empty() {
                return;
            }
            let (entries, done): (Vec<_>, Vec<Done>) = taken.into_iter().map(|one| (one.entries, one.done)).unzip();
            let result = self.write_entries(entries.into_iter().flatten().collect()).await;
            for done in done {
                let _ = done.send(result); // nobody waits any more
            }
        }
    }

    async fn write_entries(&self, entries: Vec<AuditEntry>) -> Result<(), StoreError> {
        let writes = Vec::new();
        self.write(Change { writes, entries }).await
    }

    async fn write(&self, mut change: Change) -> Result<(), StoreError> {
        let changed = change::changed(&change);
        order::sort(&mut change.writes);
        self.transact(change, &changed).await?;
        if changed.is_empty() {
            return Ok(());
        }
        hints::hint(&self.wake);
        let count = u64::try_from(changed.len()).unwrap_or(u64::MAX);
        let told = self.told.fetch_add(count, Ordering::Relaxed);
        if told / TRIM_EVERY != told.wrapping_add(count) / TRIM_EVERY {
            let pool = self.pool.clone();
            tokio::spawn(async move {
                let _ = feed::trim(&pool).await; // it is looked at again
            });
        }
        Ok(())
    }

    /// One transaction. What fails before the end was asked for has not happened: it is tried again, where trying
    /// again can help (writers that waited for each other crosswise, a connection that was gone). When the answer to
    /// the end itself is lost, nobody can say what happened, and nothing is tried again.
    async fn transact(&self, change: Change, changed: &[Changed]) -> Result<(), StoreError> {
        let is_long = change
            .writes
            .iter()
            .any(|write| matches!(write, Write::AuditPruned { .. }));
        let (usual, long) = TRANSACTION_MAX;
        let transaction_max = if is_long { long } else { usual };
        let began = Instant::now();
        let mut attempt = 1;
        loop {
            let attempted = timeout(transaction_max, self.attempt(change.clone(), changed)).await;
            match attempted.unwrap_or(Err(Failure::Final(StoreError::Unavailable))) {
                Ok(()) => return Ok(()),
                Err(Failure::Passing) if attempt < ATTEMPTS_MAX && began.elapsed() < WAIT_MAX => {
                    sleep(jittered(attempt)).await;
                    attempt = attempt.saturating_add(1);
                }
                Err(Failure::Passing) => return Err(StoreError::Unavailable),
                Err(Failure::Final(error)) => return Err(error),
            }
        }
    }

    async fn attempt(&self, change: Change, changed: &[Changed]) -> Result<(), Failure> {
        let began = self.pool.begin_with(BEGIN).await;
        let mut transaction = began.map_err(|error| Failure::of(failed(error)))?;
        if let Err(error) = change::apply(&mut transaction, &self.chain, change, changed).await {
            let _ = transaction.rollback().await; // the server does it too, when the connection is gone
            return Err(Failure::of(error));
        }
        let done = transaction.commit().await;
        done.map_err(|error| Failure::Final(failed(error)))
    }
}

/// Why a transaction did not happen, or may not have.
enum Failure {
    /// It did not, and may when it is tried again.
    Passing,
    /// Trying again does not help, or must not be.
    Final(StoreError),
}

impl Failure {
    /// Before the end was asked for.
    fn of(error: StoreError) -> Self {
        match error {
            StoreError::Unavailable => Self::Passing,
            StoreError::Conflict | StoreError::Full | StoreError::Damaged => Self::Final(error),
        }
    }
}

/// The pause before another attempt: 5 to 10 ms after the first, twice as long after each.
fn jittered(attempt: u32) -> Duration {
    let mut random = [0];
    let random = rand::fill(&mut random).map_or(0, |()| u64::from(random[0]));
    let base = 5_000_u64.saturating_mul(1 << (attempt.min(ATTEMPTS_MAX) - 1));
    Duration::from_micros(base.saturating_add(base.saturating_mul(random) / 256))
}
