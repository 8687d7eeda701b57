//! What the process promises about memory and disk, and which of it is in force.
//!
//! [`apply`] asks the kernel for every guard, then tries what is forbidden; a guard is `active` where the attempt
//! failed, whatever was asked for before. It runs once, in a process of its own (`kiket serve`, `kiket demo`), after
//! listeners are bound and keys are read and before any other thread exists: two of the guards bind only the calling
//! thread and those that it starts. None of them can be taken back.
//!
//! | guard | promise | how it is observed |
//! |---|---|---|
//! | `zero_on_free` | what is freed is wiped | a pattern is freed and looked for |
//! | `landlock` | no file changes but in the store's directory; no program is run | writing, creating, truncating and running are tried |
//! | `seccomp` | no call that an intruder needs and the product does not | six of them are tried, among them execution, `ptrace` and `process_vm_readv` |
//! | `no_core_dumps` | a crash leaves no core | the limit is read back, and `core_pattern` |
//! | `not_dumpable` | other processes of this user cannot read the memory | read back |
//! | `locked_keys` | key material is neither swapped nor dumped | the flags of every key's page are read |
//!
//! Where the kernel lacks one it reads `unsupported`: Landlock needs Linux 5.13, and 6.2 to refuse truncation as well.
//! `locked_keys` needs about 4 KiB of lockable memory a key (`ulimit -l`). Beside them [`swap`] says whether values in
//! use can reach a disk by way of swap; `CAP_IPC_LOCK` or `LimitMEMLOCK=infinity` lets the process lock all of its memory.

mod landlock;
mod limits;
mod memory;
mod seccomp;
mod selftest;

use std::ops::Range;
use std::path::PathBuf;
use std::sync::OnceLock;

pub use self::memory::Swap;

/// A promise about memory and disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Guard {
    /// Freed memory is wiped by the global allocator.
    ZeroOnFree,
    /// The kernel refuses writes outside the store's directory.
    Landlock,
    /// The kernel refuses system calls that are not needed.
    Seccomp,
    /// A crash leaves no core dump.
    NoCoreDumps,
    /// Other processes of the same user cannot read the memory.
    NotDumpable,
    /// Key material stays out of swap.
    LockedKeys,
}

impl Guard {
    /// Every guard, in the order they are shown.
    pub const ALL: [Self; 6] = [
        Self::ZeroOnFree,
        Self::Landlock,
        Self::Seccomp,
        Self::NoCoreDumps,
        Self::NotDumpable,
        Self::LockedKeys,
    ];

    /// The word in readiness answers, the demo and the metric's label.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ZeroOnFree => "zero_on_free",
            Self::Landlock => "landlock",
            Self::Seccomp => "seccomp",
            Self::NoCoreDumps => "no_core_dumps",
            Self::NotDumpable => "not_dumpable",
            Self::LockedKeys => "locked_keys",
        }
    }
}

/// Whether a promise is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum GuardStatus {
    /// In force.
    Active,
    /// Not in force.
    Off,
    /// Wanted, and the kernel has no such thing.
    Unsupported,
}

impl GuardStatus {
    /// The word in readiness answers and the demo.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Off => "off",
            Self::Unsupported => "unsupported",
        }
    }

    /// Whether the promise is kept.
    #[must_use]
    pub const fn is_active(self) -> bool {
        matches!(self, Self::Active)
    }

    const fn of(holds: bool) -> Self {
        if holds { Self::Active } else { Self::Off }
    }
}

/// Every guard with its status, in the order they are shown.
pub type Report = [(Guard, GuardStatus); 6];

/// Guards that were required and are not in force.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("require_guards = true, but these guards are not active: {}", names(.0))]
pub struct GuardsMissing(pub Vec<(Guard, GuardStatus)>);

/// What the guards have to know of the process.
#[derive(Debug)]
pub struct Plan {
    /// The directories in which files change: the store's, or none.
    pub writable: Vec<PathBuf>,
    /// Directories in which an empty directory may be removed.
    pub emptied: Vec<PathBuf>,
    /// Where keys lie.
    pub keys: Vec<Range<usize>>,
    /// Whether to hide from other processes of this user. What hides finds `/proc/self/io` closed to itself as well,
    /// unless it is root.
    pub hide: bool,
}

/// What was observed, once and for all.
struct Observed {
    report: Report,
    swap: Swap,
}

static OBSERVED: OnceLock<Observed> = OnceLock::new();

/// What became of a wish to the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wish {
    Granted,
    /// The kernel has no such thing, or too little of it.
    Unsupported,
    Refused,
}

impl Wish {
    /// A wish that was granted counts once it was seen to hold.
    fn seen(self, holds: impl FnOnce() -> bool) -> GuardStatus {
        match self {
            Self::Granted => GuardStatus::of(holds()),
            Self::Unsupported => GuardStatus::Unsupported,
            Self::Refused => GuardStatus::Off,
        }
    }
}

/// Puts the guards in force, looks whether they are, and remembers it for [`report`]. For the one thread of a process
/// that is about to serve; cannot be undone.
pub fn apply(plan: &Plan) {
    OBSERVED.get_or_init(|| {
        // Looks into its own memory, which it hides next.
        let wipes = memory::freed_memory_is_wiped().unwrap_or(false);
        // Whether these were granted is read back below.
        let _ = limits::leave_no_core();
        if plan.hide {
            let _ = limits::be_undumpable();
        }
        memory::lock_all_if_unbounded();
        let outside = selftest::Outside::before(&plan.writable);
        let confined = landlock::confine(&plan.writable, &plan.emptied);
        // Before the filter, which would refuse some of it for another reason.
        let confined = confined.seen(|| outside.is_out_of_reach());
        let filtered = seccomp::refuse().seen(selftest::calls_are_refused);
        let status = |guard| match guard {
            Guard::ZeroOnFree => GuardStatus::of(wipes),
            Guard::Landlock => confined,
            Guard::Seccomp => filtered,
            Guard::NoCoreDumps => GuardStatus::of(limits::leaves_no_core()),
            Guard::NotDumpable => GuardStatus::of(limits::is_undumpable()),
            Guard::LockedKeys => GuardStatus::of(memory::keys_are_locked(&plan.keys)),
        };
        Observed {
            report: Guard::ALL.map(|guard| (guard, status(guard))),
            swap: memory::swap(),
        }
    });
}

/// Every guard as it was observed. All are off in a process that did not [`apply`] them.
#[must_use]
pub fn report() -> Report {
    let none = || Guard::ALL.map(|guard| (guard, GuardStatus::Off));
    OBSERVED.get().map_or_else(none, |observed| observed.report)
}

/// Whether memory of this process can be written to swap, as it was when the guards were applied.
#[must_use]
pub fn swap() -> Swap {
    OBSERVED.get().map_or_else(memory::swap, |observed| observed.swap)
}

/// Whether every guard is in force.
///
/// # Errors
/// [`GuardsMissing`] naming those that are not.
pub fn require_all() -> Result<(), GuardsMissing> {
    require(&report())
}

fn require(report: &Report) -> Result<(), GuardsMissing> {
    let missing: Vec<_> = report
        .iter()
        .filter(|(_, status)| !status.is_active())
        .copied()
        .collect();
    if missing.is_empty() {
        Ok(())
    } else {
        Err(GuardsMissing(missing))
    }
}

fn names(missing: &[(Guard, GuardStatus)]) -> String {
    let named = missing
        .iter()
        .map(|(guard, status)| format!("{} ({})", guard.name(), status.name()));
    named.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn required_guards_that_are_not_active_are_named_and_a_lack_of_the_kernel_counts() {
        let with = |odd: Guard, status| {
            Guard::ALL.map(|guard| (guard, if guard == odd { status } else { GuardStatus::Active }))
        };
        for odd in Guard::ALL {
            assert_eq!(require(&with(odd, GuardStatus::Active)), Ok(()));
            for status in [GuardStatus::Off, GuardStatus::Unsupported] {
                let missing = require(&with(odd, status)).unwrap_err();
                assert_eq!(missing.0, [(odd, status)]);
                let named = format!("not active: {} ({})", odd.name(), status.name());
                assert!(missing.to_string().ends_with(&named), "{missing}");
            }
        }
    }

    #[test]
    fn a_granted_wish_counts_once_it_was_seen_to_hold() {
        assert_eq!(Wish::Granted.seen(|| true), GuardStatus::Active);
        assert_eq!(Wish::Granted.seen(|| false), GuardStatus::Off);
        assert_eq!(Wish::Unsupported.seen(|| true), GuardStatus::Unsupported);
        assert_eq!(Wish::Refused.seen(|| true), GuardStatus::Off);
    }

    #[test]
    fn a_process_that_applied_nothing_reports_nothing_as_active() {
        assert!(report().iter().all(|(_, status)| *status == GuardStatus::Off));
        assert!(require_all().is_err());
    }
}
