//! What delivering allocates: the test binary's allocator counts for the threads of workers, once it is asked to.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::fs::File;
use std::io::Read;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

struct Counting;

static COUNTING: AtomicBool = AtomicBool::new(false);
static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);
static LARGE: AtomicUsize = AtomicUsize::new(0);
static LARGE_FROM_BYTES: AtomicUsize = AtomicUsize::new(usize::MAX);

thread_local! {
    static KIND: Cell<Kind> = const { Cell::new(Kind::NotAsked) };
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    NotAsked,
    Worker,
    Other,
}

/// What the workers of this process allocated. Only means something in a process with one instance (`alone`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allocations {
    /// Allocations, a block made larger among them.
    pub count: usize,
    /// Those of at least the size that was asked for.
    pub large: usize,
}

/// From now on counts the workers' allocations, those of at least `large_from` bytes also by themselves.
pub fn start(large_from: usize) {
    LARGE_FROM_BYTES.store(large_from, Ordering::SeqCst);
    for counter in [&ALLOCATIONS, &LARGE] {
        counter.store(0, Ordering::SeqCst);
    }
    COUNTING.store(true, Ordering::SeqCst);
}

/// Counts no more, and says what was counted.
pub fn stop() -> Allocations {
    COUNTING.store(false, Ordering::SeqCst);
    Allocations {
        count: ALLOCATIONS.load(Ordering::SeqCst),
        large: LARGE.load(Ordering::SeqCst),
    }
}

fn count(bytes: usize) {
    if COUNTING.load(Ordering::Relaxed) && is_worker() {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        if bytes >= LARGE_FROM_BYTES.load(Ordering::Relaxed) {
            LARGE.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Whether this thread is a worker. Allocates nothing.
fn is_worker() -> bool {
    let kind = KIND.try_with(|kind| {
        if kind.get() == Kind::NotAsked {
            kind.set(Kind::Other); // for what the question itself may allocate
            kind.set(ask());
        }
        kind.get()
    });
    kind == Ok(Kind::Worker)
}

fn ask() -> Kind {
    let mut name = [0; 16];
    let read = File::open("/proc/thread-self/comm").and_then(|mut file| file.read(&mut name));
    match read {
        Ok(_) if name.starts_with(b"kiket-worker-") => Kind::Worker,
        _ => Kind::Other,
    }
}

#[expect(unsafe_code, reason = "an allocator")]
// SAFETY: all is left to the system's allocator; counting neither allocates nor unwinds.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller's promise.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size);
        // SAFETY: the caller's promise.
        unsafe { System.realloc(block, layout, size) }
    }
}
