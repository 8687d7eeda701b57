//! A store that counts what is asked of it, holds an answer back until it is released, and fails when told to.

use std::collections::HashMap;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use kiket_sidecar::crypto::keyring::Keyring;
use kiket_sidecar::domain::alert::Alert;
use kiket_sidecar::domain::audit::AuditEntry;
use kiket_sidecar::domain::change::Changed;
use kiket_sidecar::domain::id::{ExtensionId, InstallationId, OrganizationId, ScopeId};
use kiket_sidecar::domain::scope::{Scope, Slot};
use kiket_sidecar::domain::time::Timestamp;
use kiket_sidecar::store::{
    self, AuditQuery, ChainHead, Change, CheckpointRow, ExtensionRow, FeedPosition, InstallationRow,
    InstallationSnapshot, InstanceRow, KekRow, KeyWrite, LinkedEntry, Listed, OutboxDepth, OutboxRow, Page, PolicyRow,
    ProviderRow, RequestRow, SecretQuery, SecretRow, SharedStore, Store, StoreError, Tenancy, TokenRow, UseCount,
    UseQuery, Write,
};
use tempfile::TempDir;
use tokio::runtime::{Handle, Runtime};
use tokio::sync::oneshot;

use super::database::Database;
use super::instance::{Instance, Options};

/// Longer than anything takes; a test that hangs fails.
const PATIENCE: Duration = Duration::from_secs(30);

/// A store behind gates, and an own copy of the keys that its instance has.
pub struct Gated {
    pub store: Arc<GatedStore>,
    pub keyring: Arc<Keyring>,
    runtime: Option<Runtime>,
    database: Database,
    _dir: TempDir,
}

pub struct GatedStore {
    inner: SharedStore,
    runtime: Handle,
    gates: Mutex<Gates>,
}

/// A call on the runtime that the store was opened on, whoever asks: an instance's ends with it.
struct On<'a, F> {
    runtime: &'a Handle,
    call: Pin<&'a mut F>,
}

impl<F: Future> Future for On<'_, F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let _within = self.runtime.enter();
        self.call.as_mut().poll(context)
    }
}

#[derive(Default)]
struct Gates {
    calls: HashMap<&'static str, u64>,
    held: HashMap<&'static str, Holding>,
    failing: HashMap<&'static str, StoreError>,
}

struct Holding {
    arrived: mpsc::Sender<()>,
    released: oneshot::Receiver<Result<(), StoreError>>,
}

/// One call whose answer is held back. Dropped, it is released.
pub struct Held {
    method: &'static str,
    arrived: mpsc::Receiver<()>,
    release: oneshot::Sender<Result<(), StoreError>>,
}

impl Held {
    /// Waits until the call has its answer, from here on an old one, and stands at the gate.
    pub fn wait(&self) {
        let arrived = self.arrived.recv_timeout(PATIENCE);
        arrived.unwrap_or_else(|_| panic!("nobody calls {}", self.method));
    }

    /// Lets the answer through.
    pub fn release(self) {
        let _ = self.release.send(Ok(()));
    }

    /// Fails the call instead.
    pub fn fail(self, error: StoreError) {
        let _ = self.release.send(Err(error));
    }
}

impl Gated {
    pub fn open() -> Self {
        Self::over(Keyring::generate(Timestamp(1_700_000_000_000)).unwrap())
    }

    /// The same with these keys.
    pub fn over(keyring: Keyring) -> Self {
        let dir = TempDir::new().unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let database = Database::fresh(dir.path());
        let inner = runtime
            .block_on(store::open(&database.url(), keyring.chain_key()))
            .unwrap();
        Self {
            store: Arc::new(GatedStore {
                inner,
                runtime: runtime.handle().clone(),
                gates: Mutex::default(),
            }),
            keyring: Arc::new(keyring),
            runtime: Some(runtime),
            database,
            _dir: dir,
        }
    }

    /// Runs SQL as somebody who has got at the database; so many rows are touched.
    pub fn damage(&self, sql: &str) -> u64 {
        self.database.damage(sql)
    }

    /// An instance over it.
    pub fn start(&self, settings: &[(&str, &str)]) -> Instance {
        Instance::with(Options {
            settings,
            store: Some(Arc::clone(&self.store) as SharedStore),
            keyring: Some(Keyring::parse(&self.keyring.to_toml()).unwrap()),
            ..Options::default()
        })
    }

    /// An instance whose change feed stands still until it is released: what it drops, it drops for its own writes.
    pub fn start_without_feed(&self, settings: &[(&str, &str)]) -> (Instance, Held) {
        let instance = self.start(settings);
        let feed = self.store.hold("changes");
        feed.wait();
        (instance, feed)
    }

    pub fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.as_ref().unwrap().block_on(future)
    }
}

/// Whether it only says that an instance is there, which happens at any moment.
fn is_beat(change: &Change) -> bool {
    let is_seen = |write: &Write| matches!(write, Write::Keys(keys) if matches!(**keys, KeyWrite::InstanceSeen { .. }));
    change.writes.iter().all(is_seen) && !change.writes.is_empty()
}

impl Drop for Gated {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl GatedStore {
    /// How often a method was called.
    pub fn calls(&self, method: &str) -> u64 {
        self.gates.lock().unwrap().calls.get(method).copied().unwrap_or(0)
    }

    /// How often any method was called.
    pub fn all_calls(&self) -> u64 {
        self.gates.lock().unwrap().calls.values().sum()
    }

    /// Holds back the answer of the next call of a method; calls after it pass.
    pub fn hold(&self, method: &'static str) -> Held {
        let (arrived_at, arrived) = mpsc::channel();
        let (release, released) = oneshot::channel();
        let holding = Holding {
            arrived: arrived_at,
            released,
        };
        self.gates.lock().unwrap().held.insert(method, holding);
        Held {
            method,
            arrived,
            release,
        }
    }

    /// From now on a method does nothing but fail.
    pub fn fail(&self, method: &'static str, error: StoreError) {
        self.gates.lock().unwrap().failing.insert(method, error);
    }

    /// From now on nothing fails.
    pub fn mend(&self) {
        self.gates.lock().unwrap().failing.clear();
    }

    async fn pass<T>(
        &self,
        method: &'static str,
        call: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let held = {
            let mut gates = self.gates.lock().unwrap();
            *gates.calls.entry(method).or_default() += 1;
            if let Some(error) = gates.failing.get(method) {
                return Err(*error);
            }
            gates.held.remove(method)
        };
        let answer = On {
            runtime: &self.runtime,
            call: pin!(call),
        }
        .await;
        if let Some(Holding { arrived, released }) = held {
            let _ = arrived.send(());
            released.await.unwrap_or(Ok(()))?;
        }
        answer
    }
}

#[async_trait]
impl Store for GatedStore {
    async fn health(&self) -> Result<(), StoreError> {
        self.pass("health", self.inner.health()).await
    }

    async fn installation(&self, id: &InstallationId) -> Result<Option<InstallationSnapshot>, StoreError> {
        self.pass("installation", self.inner.installation(id)).await
    }

    async fn extension(&self, id: &ExtensionId) -> Result<Option<ExtensionRow>, StoreError> {
        self.pass("extension", self.inner.extension(id)).await
    }

    async fn installations(&self, tenancy: &Tenancy, page: &Page) -> Result<Listed<InstallationRow>, StoreError> {
        self.pass("installations", self.inner.installations(tenancy, page))
            .await
    }

    async fn slots(&self, slots: &[Slot]) -> Result<Vec<SecretRow>, StoreError> {
        self.pass("slots", self.inner.slots(slots)).await
    }

    async fn secrets(
        &self,
        tenancy: &Tenancy,
        query: &SecretQuery,
        page: &Page,
    ) -> Result<Listed<SecretRow>, StoreError> {
        self.pass("secrets", self.inner.secrets(tenancy, query, page)).await
    }

    async fn scope_known(&self, organization: &OrganizationId, scope: Scope, id: &ScopeId) -> Result<bool, StoreError> {
        self.pass("scope_known", self.inner.scope_known(organization, scope, id))
            .await
    }

    async fn token(&self, hash: &[u8; 32]) -> Result<Option<TokenRow>, StoreError> {
        self.pass("token", self.inner.token(hash)).await
    }

    async fn token_by_id(&self, id: &str) -> Result<Option<TokenRow>, StoreError> {
        self.pass("token_by_id", self.inner.token_by_id(id)).await
    }

    async fn has_operator_token(&self) -> Result<bool, StoreError> {
        self.pass("has_operator_token", self.inner.has_operator_token()).await
    }

    async fn commit(&self, change: Change) -> Result<(), StoreError> {
        let method = if is_beat(&change) { "commit of a beat" } else { "commit" };
        self.pass(method, self.inner.commit(change)).await
    }

    async fn record(&self, entries: Vec<AuditEntry>) -> Result<(), StoreError> {
        self.pass("record", self.inner.record(entries)).await
    }

    async fn chain(
        &self,
        organization: Option<&OrganizationId>,
        from: u64,
        limit: u32,
    ) -> Result<Vec<LinkedEntry>, StoreError> {
        self.pass("chain", self.inner.chain(organization, from, limit)).await
    }

    async fn extensions(&self, page: &Page) -> Result<Listed<ExtensionRow>, StoreError> {
        self.pass("extensions", self.inner.extensions(page)).await
    }

    async fn tokens(&self, tenancy: &Tenancy, page: &Page) -> Result<Listed<TokenRow>, StoreError> {
        self.pass("tokens", self.inner.tokens(tenancy, page)).await
    }

    async fn organizations(&self) -> Result<Vec<OrganizationId>, StoreError> {
        self.pass("organizations", self.inner.organizations()).await
    }

    async fn policy(&self, organization: &OrganizationId) -> Result<Option<PolicyRow>, StoreError> {
        self.pass("policy", self.inner.policy(organization)).await
    }

    async fn providers(&self, organization: &OrganizationId) -> Result<Vec<ProviderRow>, StoreError> {
        self.pass("providers", self.inner.providers(organization)).await
    }

    async fn alerts(&self, tenancy: &Tenancy, open_only: bool, page: &Page) -> Result<Listed<Alert>, StoreError> {
        self.pass("alerts", self.inner.alerts(tenancy, open_only, page)).await
    }

    async fn alert(&self, id: &str) -> Result<Option<Alert>, StoreError> {
        self.pass("alert", self.inner.alert(id)).await
    }

    async fn request(&self, id: &[u8; 32], now: Timestamp) -> Result<Option<RequestRow>, StoreError> {
        self.pass("request", self.inner.request(id, now)).await
    }

    async fn lease_outbox(&self, now: Timestamp, until: Timestamp, limit: u32) -> Result<Vec<OutboxRow>, StoreError> {
        self.pass("lease_outbox", self.inner.lease_outbox(now, until, limit))
            .await
    }

    async fn outbox_depth(&self) -> Result<OutboxDepth, StoreError> {
        self.pass("outbox_depth", self.inner.outbox_depth()).await
    }

    async fn audit(
        &self,
        tenancy: &Tenancy,
        query: &AuditQuery,
        page: &Page,
    ) -> Result<Listed<LinkedEntry>, StoreError> {
        self.pass("audit", self.inner.audit(tenancy, query, page)).await
    }

    async fn uses(&self, query: &UseQuery) -> Result<UseCount, StoreError> {
        self.pass("uses", self.inner.uses(query)).await
    }

    async fn chain_heads(&self) -> Result<Vec<ChainHead>, StoreError> {
        self.pass("chain_heads", self.inner.chain_heads()).await
    }

    async fn chain_head(&self, organization: Option<&OrganizationId>) -> Result<Option<ChainHead>, StoreError> {
        self.pass("chain_head", self.inner.chain_head(organization)).await
    }

    async fn chains(&self) -> Result<Vec<Option<OrganizationId>>, StoreError> {
        self.pass("chains", self.inner.chains()).await
    }

    async fn checkpoints(
        &self,
        organization: Option<&OrganizationId>,
        from: u64,
        limit: u32,
    ) -> Result<Vec<CheckpointRow>, StoreError> {
        self.pass("checkpoints", self.inner.checkpoints(organization, from, limit))
            .await
    }

    async fn last_checkpoint(
        &self,
        organization: Option<&OrganizationId>,
        before: Timestamp,
    ) -> Result<Option<CheckpointRow>, StoreError> {
        self.pass("last_checkpoint", self.inner.last_checkpoint(organization, before))
            .await
    }

    async fn keks(&self) -> Result<Vec<KekRow>, StoreError> {
        self.pass("keks", self.inner.keks()).await
    }

    async fn instances(&self) -> Result<Vec<InstanceRow>, StoreError> {
        self.pass("instances", self.inner.instances()).await
    }

    async fn wrapped(&self, head: &[u8], page: &Page) -> Result<Listed<SecretRow>, StoreError> {
        self.pass("wrapped", self.inner.wrapped(head, page)).await
    }

    async fn wrapped_count(&self, head: &[u8]) -> Result<u64, StoreError> {
        self.pass("wrapped_count", self.inner.wrapped_count(head)).await
    }

    async fn lease(&self, name: &str, holder: &str, now: Timestamp, until: Timestamp) -> Result<bool, StoreError> {
        self.pass("lease", self.inner.lease(name, holder, now, until)).await
    }

    fn is_shared(&self) -> bool {
        self.inner.is_shared()
    }

    async fn changes(&self, after: FeedPosition) -> Result<(Vec<Changed>, FeedPosition), StoreError> {
        self.pass("changes", self.inner.changes(after)).await
    }

    fn wake(&self) -> tokio::sync::watch::Receiver<u64> {
        self.inner.wake()
    }
}
