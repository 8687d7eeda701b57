//! Whether memory can reach a disk by way of swap, and whether what is freed is gone.

use std::fs::{self, File};
use std::hint::black_box;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use rustix::mm::{MlockAllFlags, mlockall};
use rustix::process::{Resource, getrlimit};
use rustix::thread::{CapabilitySet, capabilities};

/// Whether pages of this process can be written to swap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Swap {
    /// The host swaps. Keys are locked; values that are in use are not.
    Active,
    /// The host has no swap.
    None,
    /// The whole process is locked into memory.
    Locked,
}

impl Swap {
    /// The word in readiness answers and the demo.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::None => "none",
            Self::Locked => "locked",
        }
    }
}

/// Locks all memory, present and future, where nothing bounds it: an operator's word, by `CAP_IPC_LOCK` (as one gives it
/// to Vault) or `LimitMEMLOCK=infinity`. Under a bound a mapping beyond it would fail, and with it an allocation: then
/// only keys are locked, each where it lies (`crypto::locked`). Pages are locked once they are used, so that stacks and
/// arenas cost what they hold.
pub(super) fn lock_all_if_unbounded() {
    let may = capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::IPC_LOCK));
    if may || getrlimit(Resource::Memlock).current.is_none() {
        // What is refused here shows in what is observed.
        let _ = mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT);
    }
}

/// Looks whether ordinary memory is locked, else whether the host swaps.
pub(super) fn swap() -> Swap {
    let ordinary = Box::new([1_u8; 64]);
    let start = black_box(ordinary.as_ptr()).addr();
    let page = start..start.saturating_add(64);
    if pages_are(std::slice::from_ref(&page), &["lo"]) {
        return Swap::Locked;
    }
    // The first line is a heading. Who cannot tell expects the worst.
    match fs::read_to_string("/proc/swaps") {
        Ok(areas) if areas.lines().count() <= 1 => Swap::None,
        Err(error) if error.kind() == io::ErrorKind::NotFound && fs::exists("/proc/self").unwrap_or(false) => {
            Swap::None
        }
        _ => Swap::Active,
    }
}

/// Whether the kernel says of every key's pages that they are locked and left out of dumps. No keys: no.
pub(super) fn keys_are_locked(keys: &[Range<usize>]) -> bool {
    !keys.is_empty() && pages_are(keys, &["lo", "dd"])
}

/// Whether the mappings that hold these addresses have all of these flags (proc(5), `VmFlags`).
fn pages_are(ranges: &[Range<usize>], flags: &[&str]) -> bool {
    let Ok(maps) = fs::read_to_string("/proc/self/smaps") else {
        return false;
    };
    let with_flags =
        mappings(&maps).filter(|(_, words)| flags.iter().all(|flag| words.split(' ').any(|word| word == *flag)));
    let good: Vec<Range<usize>> = with_flags.map(|(range, _)| range).collect();
    ranges.iter().all(|range| {
        good.iter()
            .any(|mapping| mapping.start <= range.start && range.end <= mapping.end)
    })
}

/// The mappings that the kernel lists, each with its flags.
fn mappings(maps: &str) -> impl Iterator<Item = (Range<usize>, &str)> {
    let mut last = None;
    maps.lines().filter_map(move |line| {
        if let Some(flags) = line.strip_prefix("VmFlags:") {
            return last.take().map(|range| (range, flags));
        }
        if let Some(range) = bounds(line) {
            last = Some(range);
        }
        None
    })
}

/// The bounds at the head of `7f12…-7f34… rw-p …`.
fn bounds(line: &str) -> Option<Range<usize>> {
    let (from, to) = line.split(' ').next()?.split_once('-')?;
    let [from, to] = [from, to].map(|bound| usize::from_str_radix(bound, 16).ok());
    Some(from?..to?)
}

/// Frees memory that holds a pattern and looks through the kernel's eyes whether it is still there.
///
/// `None` where the process may not look at itself. Must run before the process is undumpable, and while no other
/// thread allocates.
pub(super) fn freed_memory_is_wiped() -> Option<bool> {
    const PATTERN: u8 = 0xa5;
    const BYTES: usize = 4096;
    let memory = File::open("/proc/self/mem").ok()?;
    let mut seen = [0_u8; BYTES];
    let block = black_box(vec![PATTERN; BYTES].into_boxed_slice());
    let at = u64::try_from(block.as_ptr().addr()).ok()?;
    memory.read_exact_at(&mut seen, at).ok()?;
    if seen != [PATTERN; BYTES] {
        return None; // it sees something else
    }
    drop(block);
    memory.read_exact_at(&mut seen, at).ok()?;
    // An allocator keeps notes in what was freed: a few of its bytes may be anything.
    Some(seen.iter().filter(|byte| **byte == PATTERN).count() < BYTES / 64)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    const MAPS: &str = "\
7f00-8f00 rw-p 00000000 00:00 0
Size:                  4 kB
VmFlags: rd wr mr mw me lo ac dd
8f00-9f00 rw-p 00000000 00:00 0    [heap]
Rss:                   4 kB
VmFlags: rd wr mr mw me ac
";

    #[test]
    fn mappings_are_read_with_their_flags() {
        let read: Vec<_> = mappings(MAPS).collect();
        let [(first, flags), (second, others)] = read.try_into().unwrap();
        assert_eq!((first, second), (0x7f00..0x8f00, 0x8f00..0x9f00));
        assert!(flags.contains(" lo ") && !others.contains(" lo"));
    }

    #[test]
    fn no_keys_are_no_locked_keys() {
        assert!(!keys_are_locked(&[]));
    }
}
