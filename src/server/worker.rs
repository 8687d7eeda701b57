//! What a worker is: a thread with a current-thread runtime, a service of its own and the connections it was handed.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::runtime::{LocalOptions, LocalRuntime};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::accept::Accepted;
use super::connection::{self, Connection};
use super::{Limits, Service};

/// How often a worker's service is asked to let go of what it no longer needs.
const SWEEP_EVERY: Duration = Duration::from_millis(500);

/// How connections end.
#[derive(Debug, Clone, Default)]
pub struct Closing {
    /// Connections end after the request they are serving; the worker ends with its last one.
    pub graceful: CancellationToken,
    /// Everything ends at once.
    pub immediate: CancellationToken,
}

/// Why the workers could not be started. The system is out of threads or descriptors.
#[derive(Debug, thiserror::Error)]
#[error("cannot start a worker: {0}")]
pub struct WorkerError(io::ErrorKind);

/// The running workers.
#[derive(Debug, Clone)]
pub struct Workers(Arc<[Worker]>);

#[derive(Debug)]
struct Worker {
    inbox: mpsc::UnboundedSender<Accepted>, // bounded by the connection permits
    connections: Arc<AtomicUsize>,
}

impl Workers {
    /// Starts `count` workers, each with the service that `make` gives it on its own thread. The threads end when
    /// `closing` says so and their connections are done.
    ///
    /// # Errors
    /// [`WorkerError`]; the workers already started end with `closing`.
    pub fn start<S: Service>(
        count: usize,
        limits: Limits,
        closing: &Closing,
        make: impl Fn() -> S + Clone + Send + 'static,
    ) -> Result<(Self, Vec<JoinHandle<()>>), WorkerError> {
        let mut workers = Vec::with_capacity(count);
        let mut threads = Vec::with_capacity(count);
        for n in 0..count {
            let (inbox, accepted) = mpsc::unbounded_channel();
            let connections = Arc::new(AtomicUsize::new(0));
            let room = Room {
                limits,
                closing: closing.clone(),
                connections: Arc::clone(&connections),
            };
            let make = make.clone();
            let (built, is_built) = std::sync::mpsc::channel();
            let thread = std::thread::Builder::new()
                .name(format!("kiket-worker-{n}"))
                .spawn(move || match runtime() {
                    Ok(runtime) => {
                        let _ = built.send(Ok(())); // it is waited for
                        runtime.block_on(room.run(Rc::new(make()), accepted));
                    }
                    Err(error) => drop(built.send(Err(error.kind()))),
                })
                .map_err(|error| WorkerError(error.kind()))?;
            let gone = Err(io::ErrorKind::BrokenPipe);
            is_built.recv().unwrap_or(gone).map_err(WorkerError)?;
            workers.push(Worker { inbox, connections });
            threads.push(thread);
        }
        Ok((Self(workers.into()), threads))
    }

    /// Hands a connection to the worker with the fewest. A worker that has ended drops it.
    pub(super) fn hand_over(&self, accepted: Accepted) {
        let fewest = self
            .0
            .iter()
            .min_by_key(|worker| worker.connections.load(Ordering::Relaxed));
        if let Some(worker) = fewest {
            worker.connections.fetch_add(1, Ordering::Relaxed);
            let _ = worker.inbox.send(accepted); // it fails only once the process is ending
        }
    }
}

/// A runtime of the current thread, for tasks that stay on it: they are scheduled without a lock.
fn runtime() -> io::Result<LocalRuntime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(LocalOptions::default())
}

/// What a worker's thread runs in.
struct Room {
    limits: Limits,
    closing: Closing,
    connections: Arc<AtomicUsize>,
}

impl Room {
    async fn run<S: Service>(self, service: Rc<S>, mut accepted: mpsc::UnboundedReceiver<Accepted>) {
        let mut sweep = interval(SWEEP_EVERY);
        sweep.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                () = self.closing.immediate.cancelled() => return,
                _ = sweep.tick() => service.sweep(),
                next = accepted.recv() => match next {
                    Some(next) => self.serve(&service, next),
                    None => break, // no acceptor is left
                },
            }
            if self.closing.graceful.is_cancelled() && self.connections.load(Ordering::Relaxed) == 0 {
                return;
            }
        }
        while self.connections.load(Ordering::Relaxed) > 0 {
            tokio::select! {
                () = self.closing.immediate.cancelled() => return,
                _ = sweep.tick() => service.sweep(),
            }
        }
    }

    fn serve<S: Service>(&self, service: &Rc<S>, accepted: Accepted) {
        let open = Open(Arc::clone(&self.connections));
        let Ok(connection) = Connection::new(accepted.socket) else {
            return;
        };
        let (service, limits, graceful) = (Rc::clone(service), self.limits, self.closing.graceful.clone());
        tokio::task::spawn_local(async move {
            connection::serve(connection, service, limits, graceful).await;
            drop((accepted.permit, open));
        });
    }
}

/// Counts a connection off when it ends, however it ends.
struct Open(Arc<AtomicUsize>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
