//! How lines get from many threads to one file without making any of them wait: a bounded buffer and its writer thread.
//!
//! A line is copied into memory under a short lock. The writer looks every few milliseconds while there was something to write
//! lately, so that a line under load costs no system call; it blocks only after an idle spell, and only then a line
//! wakes it. When the buffer is full, because whoever reads the log does not, lines are dropped and counted.

use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// The most bytes that wait for the writer.
pub const BUFFERED_BYTES_MAX: usize = 4 * 1024 * 1024;

/// How often the writer looks while lines come.
const POLL: Duration = Duration::from_millis(10);

/// After so many looks in vain the writer blocks.
const IDLE_LOOKS: u32 = 20;

/// What the buffer starts with.
const INITIAL_BYTES: usize = 64 * 1024;

/// How many lines were dropped since the start. Clones share the count.
#[derive(Debug, Clone, Default)]
pub struct Drops(Arc<AtomicU64>);

impl Drops {
    /// The count.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Where lines are put. Shared by everyone who logs.
pub(super) struct LineBuffer {
    state: Mutex<State>,
    work: Condvar,
    flushed: Condvar,
    bytes_max: usize,
    drops: Drops,
}

struct State {
    lines: Vec<u8>,
    /// The writer blocks until told: the next line wakes it.
    parked: bool,
    /// Lines that were taken and are being written.
    writing: bool,
    /// Nothing more is taken.
    closed: bool,
    /// The writer has written all it will.
    ended: bool,
}

impl LineBuffer {
    /// A buffer of at most `bytes_max` and the thread that empties it into `sink`.
    pub(super) fn start(bytes_max: usize, sink: Box<dyn Write + Send>) -> std::io::Result<(Arc<Self>, JoinHandle<()>)> {
        let state = State {
            lines: Vec::with_capacity(INITIAL_BYTES),
            parked: false,
            writing: false,
            closed: false,
            ended: false,
        };
        let buffer = Arc::new(Self {
            state: Mutex::new(state),
            work: Condvar::new(),
            flushed: Condvar::new(),
            bytes_max,
            drops: Drops::default(),
        });
        let shared = Arc::clone(&buffer);
        let writer = thread::Builder::new()
            .name(String::from("kiket-log"))
            .spawn(move || shared.run(sink))?;
        Ok((buffer, writer))
    }

    /// Puts one whole line, or drops and counts it. Never blocks on the reader of the log.
    pub(super) fn put(&self, line: &[u8]) {
        let mut state = self.lock();
        if state.closed || state.lines.len().saturating_add(line.len()) > self.bytes_max {
            drop(state);
            self.drops.0.fetch_add(1, Ordering::Relaxed);
            return;
        }
        state.lines.extend_from_slice(line);
        let wake = std::mem::take(&mut state.parked);
        drop(state);
        if wake {
            self.work.notify_one();
        }
    }

    /// Waits until everything that was put before is written, at most `patience`.
    pub(super) fn flush(&self, patience: Duration) {
        let mut state = self.lock();
        state.parked = false;
        self.work.notify_one();
        let pending = |state: &mut State| !state.ended && (state.writing || !state.lines.is_empty());
        drop(
            self.flushed
                .wait_timeout_while(state, patience, pending)
                .unwrap_or_else(PoisonError::into_inner),
        );
    }

    /// Lets the writer write what is there and end; waits for it at most `patience` and says whether it did.
    pub(super) fn close(&self, patience: Duration) -> bool {
        let mut state = self.lock();
        state.closed = true;
        self.work.notify_one();
        let running = |state: &mut State| !state.ended;
        let waited = self.flushed.wait_timeout_while(state, patience, running);
        waited.unwrap_or_else(PoisonError::into_inner).0.ended
    }

    /// The count of dropped lines.
    pub(super) fn drops(&self) -> Drops {
        self.drops.clone()
    }

    /// The writer's life: an error of the sink (the reader went away) loses the lines, not the process.
    fn run(&self, mut sink: Box<dyn Write + Send>) {
        let mut taken = Vec::with_capacity(INITIAL_BYTES);
        let mut idle_looks = 0_u32;
        let mut reported = 0;
        loop {
            let closed = self.take(&mut taken, idle_looks >= IDLE_LOOKS);
            idle_looks = if taken.is_empty() {
                idle_looks.saturating_add(1)
            } else {
                0
            };
            if !taken.is_empty() {
                drop(sink.write_all(&taken).and_then(|()| sink.flush()));
                taken.clear();
            }
            let mut state = self.lock();
            state.writing = false;
            state.ended = closed;
            drop(state);
            self.flushed.notify_all();
            if closed {
                return;
            }
            let dropped = self.drops.count();
            if dropped > reported {
                tracing::warn!(lines = dropped.saturating_sub(reported), "log lines were dropped");
                reported = dropped;
            }
            self.pause();
        }
    }

    /// Swaps the waiting lines into `taken`; with `park`, blocks until there are any. Says whether this was the last.
    fn take(&self, taken: &mut Vec<u8>, park: bool) -> bool {
        let mut state = self.lock();
        if park {
            state.parked = true;
            let idle = |state: &mut State| state.lines.is_empty() && state.parked && !state.closed;
            state = self
                .work
                .wait_while(state, idle)
                .unwrap_or_else(PoisonError::into_inner);
        }
        state.parked = false;
        std::mem::swap(&mut state.lines, taken);
        state.writing = !taken.is_empty();
        state.closed
    }

    /// The writer's pause between looks; a flush or the end cuts it short.
    fn pause(&self) {
        let state = self.lock();
        if !state.closed {
            drop(
                self.work
                    .wait_timeout(state, POLL)
                    .unwrap_or_else(PoisonError::into_inner),
            );
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use std::io;
    use std::sync::mpsc;

    use super::*;

    struct Sink {
        written: mpsc::Sender<Vec<u8>>,
        /// The sink does not return before this is released.
        stuck: Option<mpsc::Receiver<()>>,
    }

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.written.send(bytes.to_vec()).unwrap();
            if let Some(stuck) = self.stuck.take() {
                let _ = stuck.recv();
            }
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_arrive_whole_and_in_order_and_a_close_writes_the_rest() {
        let (written, arrived) = mpsc::channel();
        let (buffer, writer) = LineBuffer::start(1024, Box::new(Sink { written, stuck: None })).unwrap();
        buffer.put(b"one\n");
        buffer.put(b"two\n");
        assert!(buffer.close(Duration::from_secs(600)));
        writer.join().unwrap();
        assert_eq!(arrived.iter().flatten().collect::<Vec<u8>>(), b"one\ntwo\n");
        assert_eq!(buffer.drops().count(), 0);
    }

    #[test]
    fn a_parked_writer_is_woken_by_the_next_line() {
        let (written, arrived) = mpsc::channel();
        let (buffer, writer) = LineBuffer::start(1024, Box::new(Sink { written, stuck: None })).unwrap();
        while !buffer.lock().parked {
            thread::yield_now();
        }
        buffer.put(b"late\n");
        assert_eq!(arrived.recv().unwrap(), b"late\n");
        assert!(buffer.close(Duration::from_secs(600)));
        writer.join().unwrap();
    }

    #[test]
    fn a_stuck_reader_costs_lines_never_time() {
        let (written, arrived) = mpsc::channel();
        let (release, stuck) = mpsc::channel();
        let (buffer, writer) = LineBuffer::start(
            8,
            Box::new(Sink {
                written,
                stuck: Some(stuck),
            }),
        )
        .unwrap();
        buffer.put(b"first\n");
        assert_eq!(arrived.recv().unwrap(), b"first\n");
        buffer.put(b"12345678");
        buffer.put(b"9");
        assert_eq!(buffer.drops().count(), 1);
        release.send(()).unwrap();
        buffer.flush(Duration::from_secs(600));
        assert_eq!(arrived.recv().unwrap(), b"12345678");
        assert!(buffer.close(Duration::from_secs(600)));
        writer.join().unwrap();
        buffer.put(b"after the end");
        assert_eq!(buffer.drops().count(), 2);
    }
}
