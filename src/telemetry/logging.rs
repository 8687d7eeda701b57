//! Where log lines go, in which form, and how much of them: set up once, before the first thread.

use std::io::{self, Write};
use std::panic::PanicHookInfo;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tracing::{Level, Metadata};
use tracing_subscriber::filter::{FilterFn, LevelFilter, Targets, filter_fn};
use tracing_subscriber::fmt::{self, MakeWriter};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{Layer, Registry};

use super::delivery_line::DeliveryLine;
use super::line_buffer::{BUFFERED_BYTES_MAX, Drops, LineBuffer};

/// How long a flush waits for the log's reader.
const FLUSH_PATIENCE: Duration = Duration::from_secs(2);

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// One JSON object a line.
    #[default]
    Json,
    /// For people.
    Text,
}

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The filter is none. Carries nothing of it.
    #[error("the log filter is not of the form `info` or `info,kiket_sidecar=debug`")]
    Filter,
    /// The writer thread cannot be started.
    #[error("the log's writer thread cannot be started")]
    Thread,
}

/// The log. Clones share it; the last one to go writes what is left.
#[derive(Clone)]
pub struct LogHandle {
    shared: Arc<Shared>,
}

struct Shared {
    buffer: Arc<LineBuffer>,
    format: LogFormat,
    writer: Mutex<Option<JoinHandle<()>>>,
}

/// Sends all of this process's log to stderr. The first call also takes the events of every crate; a later one (a
/// second instance in one process) has delivery lines of its own only.
///
/// # Errors
/// [`LogError`] where the filter is none or the thread does not start.
pub fn init(format: LogFormat, filter: &str) -> Result<LogHandle, LogError> {
    let targets: Targets = filter.parse().map_err(|_| LogError::Filter)?;
    let log = LogHandle::new(format, Box::new(io::stderr()))?;
    let lines = Lines(Arc::clone(&log.shared.buffer));
    let layer = fmt::layer().with_writer(lines).with_ansi(false);
    let layer: Box<dyn Layer<Registry> + Send + Sync> = match format {
        LogFormat::Json => layer
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(false)
            .boxed(),
        LogFormat::Text => layer.boxed(),
    };
    let subscriber = tracing_subscriber::registry().with(layer.with_filter(targets).with_filter(level_cap()));
    drop(tracing::subscriber::set_global_default(subscriber));
    Ok(log)
}

/// Replaces the panic hook by one that logs where, and nothing else: a panic's text can quote what it stumbled over.
pub fn install_panic_hook() {
    std::panic::set_hook(Box::new(|panic: &PanicHookInfo<'_>| {
        let (file, line) = panic
            .location()
            .map_or(("unknown", 0), |place| (place.file(), place.line()));
        tracing::error!(file, line, "panic");
    }));
}

impl LogHandle {
    /// A log of its own into `sink`, for delivery lines only.
    ///
    /// # Errors
    /// [`LogError::Thread`].
    pub fn new(format: LogFormat, sink: Box<dyn Write + Send>) -> Result<Self, LogError> {
        let (buffer, writer) = LineBuffer::start(BUFFERED_BYTES_MAX, sink).map_err(|_| LogError::Thread)?;
        Ok(Self {
            shared: Arc::new(Shared {
                buffer,
                format,
                writer: Mutex::new(Some(writer)),
            }),
        })
    }

    /// Writes the one line of a delivery: no system call and, on a thread that wrote one before, no allocation.
    pub fn delivery(&self, line: &DeliveryLine<'_>) {
        line.render(self.shared.format, |text| self.shared.buffer.put(text.as_bytes()));
    }

    /// How many lines were dropped because nobody read them in time.
    #[must_use]
    pub fn drops(&self) -> Drops {
        self.shared.buffer.drops()
    }

    /// Waits, at most two seconds, until all lines so far are written.
    pub fn flush(&self) {
        self.shared.buffer.flush(FLUSH_PATIENCE);
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // A reader that does not read must not keep the process from ending.
        if self.buffer.close(FLUSH_PATIENCE)
            && let Some(writer) = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take()
        {
            drop(writer.join());
        }
    }
}

/// Other crates never log below `info`, whatever the filter: at `debug` and `trace` they print what they carry.
fn level_cap() -> FilterFn {
    let within_cap: fn(&Metadata<'_>) -> bool = within_cap;
    filter_fn(within_cap).with_max_level_hint(LevelFilter::TRACE)
}

fn within_cap(event: &Metadata<'_>) -> bool {
    let target = event.target();
    let ours = target == "kiket" || target == "kiket_sidecar" || target.starts_with("kiket_sidecar::");
    ours || *event.level() <= Level::INFO
}

/// Gives tracing's formatter the buffer to write into: one write per event.
struct Lines(Arc<LineBuffer>);

/// One event's way into the buffer.
struct LineWriter<'a>(&'a LineBuffer);

impl<'a> MakeWriter<'a> for Lines {
    type Writer = LineWriter<'a>;

    fn make_writer(&'a self) -> Self::Writer {
        LineWriter(&self.0)
    }
}

impl Write for LineWriter<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.put(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
