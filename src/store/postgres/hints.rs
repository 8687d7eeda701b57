//! How an instance hears that the feed may have grown: a connection that listens, and comes back by itself.
//!
//! Only hints: the feed is read on from where its reader stands, whatever was heard. A listener that was away has
//! therefore nothing to make good but one hint more; nobody has to drop anything for it.

use std::time::Duration;

use sqlx::Connection as _;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgListener, PgPoolOptions};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::{WAIT_MAX, feed, schema};

/// A listener that heard nothing for so long asks whether the server is still there.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// Before the first new try, and the longest between two.
const BACK_AFTER: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// The task that listens. It ends with this value.
pub(super) struct Hints {
    wake: watch::Sender<u64>,
    listener: JoinHandle<()>,
}

impl Hints {
    /// Starts listening; whoever subscribes is also told of what was missed before the first connection stood.
    /// `held` is closed once the listener has the database, too.
    pub(super) fn start(options: PgConnectOptions, held: Option<PgConnection>) -> Self {
        let (wake, _) = watch::channel(0);
        let listener = tokio::spawn(listen(options, held, wake.clone()));
        Self { wake, listener }
    }

    /// Hints of nothing, and takes no connection.
    pub(super) fn none() -> Self {
        let (wake, _) = watch::channel(0);
        let listener = tokio::spawn(async {});
        Self { wake, listener }
    }

    /// For those who hint of what they did themselves.
    pub(super) fn sender(&self) -> watch::Sender<u64> {
        self.wake.clone()
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<u64> {
        self.wake.subscribe()
    }
}

impl Drop for Hints {
    fn drop(&mut self) {
        self.listener.abort();
    }
}

pub(super) fn hint(wake: &watch::Sender<u64>) {
    wake.send_modify(|count| *count = count.wrapping_add(1));
}

async fn listen(options: PgConnectOptions, mut held: Option<PgConnection>, wake: watch::Sender<u64>) {
    let (first, longest) = BACK_AFTER;
    let mut pause = first;
    loop {
        if let Ok(mut listener) = connect(options.clone()).await {
            pause = first;
            if let Some(held) = held.take() {
                let _ = held.close().await; // the server notices an end without a word, too
            }
            hint(&wake); // of what came while nobody listened
            hear(&mut listener, &wake).await;
        }
        sleep(pause).await;
        pause = pause.saturating_mul(2).min(longest);
    }
}

/// A connection of its own: one of the pool's would be missing there. For as long as it stands, it is what a copy sees of
/// this instance.
async fn connect(options: PgConnectOptions) -> Result<PgListener, sqlx::Error> {
    let pool = PgPoolOptions::new()
        .max_connections(1)
        .acquire_timeout(WAIT_MAX)
        .max_lifetime(None)
        .idle_timeout(None)
        .after_connect(|connection, _| Box::pin(async move { schema::share(connection).await.map(drop) }))
        .connect_lazy_with(options);
    let mut listener = PgListener::connect_with(&pool).await?;
    listener.listen(feed::CHANNEL).await?;
    Ok(listener)
}

/// Passes hints on until the connection is lost.
async fn hear(listener: &mut PgListener, wake: &watch::Sender<u64>) {
    loop {
        match timeout(SILENCE_MAX, listener.try_recv()).await {
            // `None`: the connection was lost, and stands again already.
            Ok(Ok(_)) => hint(wake),
            Ok(Err(_)) => return,
            Err(_) => {
                let asked = timeout(WAIT_MAX, sqlx::query("SELECT 1").execute(&mut *listener)).await;
                if !matches!(asked, Ok(Ok(_))) {
                    return;
                }
            }
        }
    }
}
