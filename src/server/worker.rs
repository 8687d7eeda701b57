//! What a worker is: a thread with a current-thread runtime, a service of its own and the connections it was handed.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::runtime::{LocalOptions, LocalRuntime};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::accept::Accepted;
use super::connection::{self, Connection};
use super::{Limits, Service};

/// How often a worker's service is asked to let go of what it no longer needs.
const SWEEP_EVERY: Duration = Duration::from_millis(500);

/// How connections end, step by step.
#[derive(Debug, Clone, Default)]
pub struct Closing {
    /// Answers say that they are the connection's last: see [`Self::begin`].
    last_answers: Arc<AtomicBool>,
    /// No connection is taken any more; connections end after the request they are serving; the worker ends with its last one.
    pub graceful: CancellationToken,
    /// Everything ends at once.
    pub immediate: CancellationToken,
}

impl Closing {
    /// One whose last step is `immediate`.
    #[must_use]
    pub fn ending_with(immediate: CancellationToken) -> Self {
        Self {
            immediate,
            ..Self::default()
        }
    }

    /// From now on every answer is the last of its connection, and says so: whoever still sends comes back over
    /// another one, and those who are quiet keep theirs until `graceful`.
    pub fn begin(&self) {
        self.last_answers.store(true, Ordering::Relaxed);
    }

    /// Whether an answer is to be its connection's last.
    pub(super) fn has_begun(&self) -> bool {
        self.last_answers.load(Ordering::Relaxed)
    }
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
    pulse: mpsc::Sender<oneshot::Sender<()>>,
}

/// How to see whether workers get anything done.
#[derive(Debug, Clone)]
pub struct Pulse(Arc<[mpsc::Sender<oneshot::Sender<()>>]>);

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
            let (pulse, asked) = mpsc::channel(1);
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
                        runtime.block_on(room.run(Rc::new(make()), accepted, asked));
                    }
                    Err(error) => drop(built.send(Err(error.kind()))),
                })
                .map_err(|error| WorkerError(error.kind()))?;
            let gone = Err(io::ErrorKind::BrokenPipe);
            is_built.recv().unwrap_or(gone).map_err(WorkerError)?;
            workers.push(Worker {
                inbox,
                connections,
                pulse,
            });
            threads.push(thread);
        }
        Ok((Self(workers.into()), threads))
    }

    /// Where each can be asked for a sign of life.
    #[must_use]
    pub fn pulse(&self) -> Pulse {
        Pulse(self.0.iter().map(|worker| worker.pulse.clone()).collect())
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

impl Pulse {
    /// Of no worker: always felt.
    #[must_use]
    pub fn of_none() -> Self {
        Self(Arc::new([]))
    }

    /// Waits until every worker that still runs has taken a turn at what it has to do; forever where one is stuck.
    /// Cancel safe.
    pub async fn felt(&self) {
        for worker in self.0.iter() {
            let (answer, answered) = oneshot::channel();
            // A worker that has ended is not stuck, and drops the question.
            if worker.send(answer).await.is_ok() {
                let _ = answered.await;
            }
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
    async fn run<S: Service>(
        self,
        service: Rc<S>,
        mut accepted: mpsc::UnboundedReceiver<Accepted>,
        mut asked: mpsc::Receiver<oneshot::Sender<()>>,
    ) {
        let mut sweep = interval(SWEEP_EVERY);
        sweep.set_missed_tick_behavior(MissedTickBehavior::Skip);
        // As long as there is an acceptor, a connection may be on its way.
        let mut expecting = true;
        while expecting || self.connections.load(Ordering::Relaxed) > 0 {
            tokio::select! {
                () = self.closing.immediate.cancelled() => return,
                _ = sweep.tick() => service.sweep(),
                Some(answer) = asked.recv() => drop(answer.send(())), // who asked may have given up
                next = accepted.recv(), if expecting => match next {
                    Some(next) => self.serve(&service, next),
                    None => expecting = false,
                },
            }
        }
    }

    fn serve<S: Service>(&self, service: &Rc<S>, accepted: Accepted) {
        let open = Open(Arc::clone(&self.connections));
        let Ok(connection) = Connection::new(accepted.socket) else {
            return;
        };
        let (service, limits, closing) = (Rc::clone(service), self.limits, self.closing.clone());
        tokio::task::spawn_local(async move {
            connection::serve(connection, service, limits, closing).await;
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

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::io::Write;
    use std::sync::Mutex;

    use bytes::Bytes;
    use http::{Request, Response};
    use hyper::body::Incoming;

    use super::super::accept::Socket;
    use super::super::load::Load;
    use super::*;

    /// Keeps its thread until it is let go.
    #[derive(Clone)]
    struct Stuck(Arc<Mutex<std::sync::mpsc::Receiver<()>>>, std::sync::mpsc::Sender<()>);

    impl Service for Stuck {
        type Body = http_body_util::Full<Bytes>;

        async fn call(&self, _: Request<Incoming>) -> Response<Self::Body> {
            self.1.send(()).unwrap();
            self.0.lock().unwrap().recv().unwrap();
            Response::new(Bytes::new().into())
        }
    }

    #[test]
    fn a_worker_that_is_stuck_gives_no_sign_of_life_and_one_that_goes_on_or_has_ended_does() {
        let (let_go, gate) = std::sync::mpsc::channel();
        let (begun, has_begun) = std::sync::mpsc::channel();
        let service = Stuck(Arc::new(Mutex::new(gate)), begun);
        let limits = Limits {
            connections_max: 1,
            in_flight_max: 1,
            buffered_bytes_max: 1,
            body_bytes_max: 1,
            header_read_timeout: Duration::from_secs(60),
            body_read_timeout: Duration::from_secs(60),
        };
        let closing = Closing::default();
        let (workers, threads) = Workers::start(1, limits, &closing, move || service.clone()).unwrap();
        let pulse = workers.pulse();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let felt = |within| runtime.block_on(async { tokio::time::timeout(within, pulse.felt()).await });
        assert!(felt(Duration::from_secs(30)).is_ok());

        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let socket = listener.accept().unwrap().0;
        socket.set_nonblocking(true).unwrap();
        let permit = runtime.block_on(Load::new(limits).connection()).unwrap();
        workers.hand_over(Accepted {
            socket: Socket::Tcp(socket),
            permit,
        });
        client.write_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
        has_begun.recv().unwrap();
        assert!(felt(Duration::from_millis(300)).is_err());
        let_go.send(()).unwrap();
        assert!(felt(Duration::from_secs(30)).is_ok());

        drop(client);
        drop(workers);
        for thread in threads {
            thread.join().unwrap();
        }
        assert!(felt(Duration::from_secs(30)).is_ok());
    }
}
