//! How the process ends without failing a delivery: serve on while a dispatcher still sends, then finish.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout};
use tokio_util::task::TaskTracker;

use super::Supervisor;
use super::health::{Health, Phase};
use crate::server::{Closing, Load};
use crate::shutdown::Shutdown;

/// A dispatcher that sent nothing for this long has taken the hint.
const IDLE: Duration = Duration::from_secs(1);

/// Those who connected before the grace was over are served for so long after it.
const LAST_CALL: Duration = Duration::from_secs(1);

/// How often that is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// How the serving ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// In its own time; what took longer than that was given up.
    Drained,
    /// A second signal came.
    AtOnce,
}

/// Waits for the soft stop, then drains. At a hard stop everything ends at once.
///
/// | step | until | what is sent |
/// |---|---|---|
/// | 1 | nobody sent for a second, or the grace is over | is served; each answer is its connection's last, and says so |
/// | 2 | every connection ended, or the grace and a second are over | nobody connects any more; who is in the queue is served, who is quiet is closed |
/// | 3 | every connection ended, or another grace is over | what was begun is finished, the rest is answered `503 draining` |
///
/// A write to the REST API is waited for like a delivery.
pub(super) async fn watch(
    health: Arc<Health>,
    grace: Duration,
    shutdown: Shutdown,
    closing: Closing,
    supervisor: Supervisor,
) -> End {
    shutdown.soft().cancelled().await;
    health.enter(Phase::Draining);
    closing.begin();
    supervisor.stopping(health.load.in_flight(), grace);
    let end = tokio::select! {
        biased;
        () = shutdown.hard().cancelled() => End::AtOnce,
        () = drain(&health.load, grace, &closing, shutdown.tasks()) => End::Drained,
    };
    closing.graceful.cancel();
    shutdown.stop_now();
    end
}

async fn drain(load: &Load, grace: Duration, closing: &Closing, serving: &TaskTracker) {
    let asked = Instant::now();
    let (mut seen, mut since) = (load.admitted(), asked);
    while asked.elapsed() < grace && since.elapsed() < IDLE {
        if load.in_flight() > 0 || load.admitted() != seen {
            (seen, since) = (load.admitted(), Instant::now());
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    closing.graceful.cancel();
    let ended = async {
        serving.close();
        serving.wait().await; // nobody connects any more, and the REST API has answered
        while load.connections() > 0 {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    tokio::pin!(ended);
    let left = grace.saturating_sub(asked.elapsed()).max(LAST_CALL);
    if timeout(left, &mut ended).await.is_err() {
        load.refuse_new();
        let _ = timeout(grace, ended).await; // what takes longer is given up
    }
}
