//! Which promises about memory and disk are in force in this process, and which are not.
//!
//! Only what is really done is reported as active: a guard that this build does not bring reads `off`.

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

    /// Whether this process keeps the promise.
    #[must_use]
    pub const fn status(self) -> GuardStatus {
        match self {
            Self::ZeroOnFree if cfg!(feature = "zeroizing-alloc") => GuardStatus::Active,
            Self::ZeroOnFree
            | Self::Landlock
            | Self::Seccomp
            | Self::NoCoreDumps
            | Self::NotDumpable
            | Self::LockedKeys => GuardStatus::Off,
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
}

/// Guards that were required and are not in force.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("require_guards = true, but these guards are not active: {}", names(.0))]
pub struct GuardsMissing(pub Vec<Guard>);

/// Every guard with its status, in the order they are shown.
#[must_use]
pub fn report() -> [(Guard, GuardStatus); 6] {
    Guard::ALL.map(|guard| (guard, guard.status()))
}

/// Whether every guard is in force.
///
/// # Errors
/// [`GuardsMissing`] naming those that are not.
pub fn require_all() -> Result<(), GuardsMissing> {
    let missing: Vec<Guard> = report()
        .into_iter()
        .filter(|(_, status)| !status.is_active())
        .map(|(guard, _)| guard)
        .collect();
    if missing.is_empty() {
        Ok(())
    } else {
        Err(GuardsMissing(missing))
    }
}

fn names(guards: &[Guard]) -> String {
    guards.iter().map(|guard| guard.name()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_required_guard_that_is_off_is_named() {
        let missing = require_all().unwrap_err();
        assert!(missing.to_string().contains("landlock"), "{missing}");
        assert_eq!(
            missing.0.contains(&Guard::ZeroOnFree),
            !cfg!(feature = "zeroizing-alloc")
        );
    }
}
