//! When to finish and when to stop: the soft and the hard token, the signals that cancel them, the tasks to wait for.

use std::future::Future;
use std::io;
use std::time::Duration;

use rustix::process::Signal;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The two steps of ending. Clones share their state.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    soft: CancellationToken,
    hard: CancellationToken,
    tasks: TaskTracker,
}

/// How the wait for tasks ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drained {
    /// Every task finished by itself.
    Clean,
    /// The grace was over, or a second signal came; what was left was told to stop.
    Forced,
}

impl Shutdown {
    /// A shutdown that nobody asked for yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Cancelled when work should be finished and no new work looked for.
    #[must_use]
    pub const fn soft(&self) -> &CancellationToken {
        &self.soft
    }

    /// Cancelled when everything should be dropped.
    #[must_use]
    pub const fn hard(&self) -> &CancellationToken {
        &self.hard
    }

    /// The tasks that a drain waits for.
    #[must_use]
    pub const fn tasks(&self) -> &TaskTracker {
        &self.tasks
    }

    /// Asks for the end: work that is under way is finished.
    pub fn drain(&self) {
        self.soft.cancel();
    }

    /// Ends at once.
    pub fn stop_now(&self) {
        self.soft.cancel();
        self.hard.cancel();
    }

    /// One more request to end: the first drains, any further one stops at once.
    pub fn request(&self) {
        if self.soft.is_cancelled() {
            self.stop_now();
        } else {
            self.drain();
        }
    }

    /// Runs a task on the current runtime that [`Self::finish`] waits for.
    pub fn spawn<F>(&self, task: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.tasks.spawn(task)
    }

    /// Waits for the tasks, at most `grace` from now; then, or at a hard stop, cancels the hard token.
    /// Cancel safe.
    pub async fn finish(&self, grace: Duration) -> Drained {
        self.tasks.close();
        let drained = tokio::select! {
            biased;
            () = self.tasks.wait() => Drained::Clean,
            () = self.hard.cancelled() => Drained::Forced,
            () = tokio::time::sleep(grace) => Drained::Forced,
        };
        self.hard.cancel();
        drained
    }

    /// Listens to SIGTERM and SIGINT from now on: the first drains, the second stops at once. Must be called within a
    /// runtime with IO; the task ends with the hard token.
    ///
    /// A file that outgrows the process's limit (`ulimit -f`) is an error of the write from then on, as a full disk is,
    /// and not the end of the process.
    ///
    /// # Errors
    /// Where the handlers cannot be installed.
    pub fn on_signals(&self) -> io::Result<JoinHandle<()>> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        drop(signal(SignalKind::from_raw(Signal::XFSZ.as_raw()))?); // once handled, it stays so
        let shutdown = self.clone();
        Ok(tokio::spawn(async move {
            loop {
                tokio::select! {
                    Some(()) = terminate.recv() => shutdown.request(),
                    Some(()) = interrupt.recv() => shutdown.request(),
                    () = shutdown.hard.cancelled() => return,
                    else => return,
                }
            }
        }))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn the_first_request_drains_and_the_second_stops() {
        let shutdown = Shutdown::new();
        shutdown.request();
        assert!(shutdown.soft().is_cancelled() && !shutdown.hard().is_cancelled());
        shutdown.request();
        assert!(shutdown.hard().is_cancelled());
    }

    #[tokio::test]
    async fn a_drain_waits_for_its_tasks() {
        let shutdown = Shutdown::new();
        let soft = shutdown.soft().clone();
        shutdown.spawn(async move { soft.cancelled().await });
        shutdown.drain();
        assert_eq!(shutdown.finish(Duration::from_secs(600)).await, Drained::Clean);
        assert!(shutdown.hard().is_cancelled());
    }

    #[tokio::test]
    async fn a_task_that_does_not_end_is_told_to_at_the_hard_stop() {
        let shutdown = Shutdown::new();
        let hard = shutdown.hard().clone();
        let task = shutdown.spawn(async move { hard.cancelled().await });
        shutdown.request();
        shutdown.request();
        assert_eq!(shutdown.finish(Duration::from_secs(600)).await, Drained::Forced);
        task.await.unwrap();
    }

    #[tokio::test]
    async fn two_signals_drain_and_then_stop() {
        let shutdown = Shutdown::new();
        let listening = shutdown.on_signals().unwrap();
        let this = rustix::process::getpid();
        rustix::process::kill_process(this, rustix::process::Signal::TERM).unwrap();
        shutdown.soft().cancelled().await;
        assert!(!shutdown.hard().is_cancelled());
        rustix::process::kill_process(this, rustix::process::Signal::TERM).unwrap();
        shutdown.hard().cancelled().await;
        listening.await.unwrap();
    }
}
