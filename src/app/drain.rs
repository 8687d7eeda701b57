//! How the process ends without failing a delivery: serve on while a dispatcher still sends, then finish.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::health::{Health, Phase};
use crate::server::{Closing, Load};
use crate::shutdown::Shutdown;

/// A dispatcher that sent nothing for this long has taken the hint.
const IDLE: Duration = Duration::from_secs(1);

/// How often that is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Waits for the soft stop, then drains: health says so, requests are served until none comes or the grace is over,
/// then new ones are refused and connections end with the request they are serving. Ends everything that is left when
/// no connection is, after another grace, or at the hard stop.
pub(super) async fn watch(health: Arc<Health>, grace: Duration, shutdown: Shutdown, closing: Closing) {
    shutdown.soft().cancelled().await;
    health.enter(Phase::Draining);
    tokio::select! {
        () = shutdown.hard().cancelled() => {}
        () = drain(&health.load, grace, &closing) => {}
    }
    closing.graceful.cancel();
    shutdown.stop_now();
}

async fn drain(load: &Load, grace: Duration, closing: &Closing) {
    let end = Instant::now() + grace;
    let (mut seen, mut since) = (load.admitted(), Instant::now());
    while Instant::now() < end && since.elapsed() < IDLE {
        if load.in_flight() > 0 || load.admitted() != seen {
            (seen, since) = (load.admitted(), Instant::now());
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    load.refuse_new();
    closing.graceful.cancel();
    let last = Instant::now() + grace;
    while load.connections() > 0 && Instant::now() < last {
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
