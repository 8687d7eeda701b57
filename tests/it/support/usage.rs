//! What a process takes of its system: open descriptors and memory.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

/// Longer than anything takes; what is held then stays.
const PATIENCE: Duration = Duration::from_secs(20);

/// How many looks tell what a process has open while nobody asks it for anything: connections are closed a moment after
/// their answer.
const LOOKS: usize = 500;

/// How many descriptors a process has open at rest.
pub fn descriptors(pid: i32) -> usize {
    (0..LOOKS).map(|_| now(pid)).min().unwrap()
}

/// How many it has open, apart from those on its database: the store opens them as it needs them, and has a bound of its
/// own.
fn now(pid: i32) -> usize {
    opened(pid)
        .iter()
        .filter(|target| !target.contains("/kiket.db"))
        .count()
}

/// What the descriptors of a process are, to tell what is left.
fn opened(pid: i32) -> Vec<String> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let targets = entries.filter_map(|entry| fs::read_link(entry.unwrap().path()).ok());
    targets.map(|target| target.display().to_string()).collect()
}

/// Resident memory of a process, in KiB.
pub fn resident_kib(pid: i32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

/// Waits until a process has no more descriptors open than it had at rest.
pub fn await_descriptors(pid: i32, count: usize, what: &str) {
    let begun = Instant::now();
    while now(pid) > count {
        assert!(
            begun.elapsed() < PATIENCE,
            "{what}: more than {count}: {:?}",
            opened(pid)
        );
        thread::yield_now();
    }
}
