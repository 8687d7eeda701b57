//! How traces are put together, and how the last spans get out before the end.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::StartError;
use super::ground::Ground;
use crate::config::Config;
use crate::egress::{Resolver, Trust};
use crate::traces::{Exporter, FLUSH_WITHIN, Traces, TracesSettings};

/// What the exporter has beside its own bound, to say what it lost.
const LAST_WORD: Duration = Duration::from_millis(500);

/// What deliveries leave behind for an exporter, where they are traced. Nothing is exported yet.
pub(super) fn build(
    config: &Config,
    ground: &Ground,
    resolver: Arc<dyn Resolver>,
) -> Result<Option<(Arc<Traces>, Exporter)>, StartError> {
    let Some(collector) = config.otlp_traces_url.clone().filter(|_| config.role.delivers()) else {
        return Ok(None);
    };
    let settings = TracesSettings {
        collector,
        one_in: config.otlp_traces_one_in,
        instance: ground.actor.name.clone(),
        connect_timeout: config.connect_timeout,
    };
    let trust = Trust::new(Arc::clone(&ground.roots));
    let built = Traces::new(&settings, resolver, &trust, Arc::clone(&ground.metrics));
    let (traces, exporter) = built.map_err(StartError::Traces)?;
    Ok(Some((Arc::new(traces), exporter)))
}

/// A running exporter.
pub(super) struct Export {
    end: CancellationToken,
    task: JoinHandle<()>,
}

impl Export {
    pub(super) fn run(exporter: Exporter, control: &Handle) -> Self {
        let end = CancellationToken::new();
        let task = control.spawn(exporter.run(end.clone()));
        Self { end, task }
    }

    /// Exports what is left, for a bounded time: no delivery is under way any more. Where all has to end at once, it has
    /// no longer than that.
    pub(super) async fn finish(self, at_once: Option<Duration>) {
        self.end.cancel();
        let within = at_once.unwrap_or(FLUSH_WITHIN + LAST_WORD);
        if timeout(within, self.task).await.is_err() {
            tracing::warn!("spans could not all be exported before the end");
        }
    }
}
