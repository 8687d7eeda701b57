//! How the process keeps its memory out of core dumps and away from other processes of its user.

use std::fs;
use std::io;

use rustix::process::{
    DumpableBehavior, Resource, Rlimit, dumpable_behavior, getrlimit, set_dumpable_behavior, setrlimit,
};

/// No core dump, and no way back to one for a process without privileges.
const NO_CORE: Rlimit = Rlimit {
    current: Some(0),
    maximum: Some(0),
};

/// From now on a crash leaves no core file.
pub(super) fn leave_no_core() -> io::Result<()> {
    Ok(setrlimit(Resource::Core, NO_CORE)?)
}

/// From now on `/proc/<pid>` belongs to root, nobody without privileges may attach a debugger, and no core is dumped,
/// not even to a program (`core_pattern` with a pipe asks no limit).
pub(super) fn be_undumpable() -> io::Result<()> {
    Ok(set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
}

/// Whether the kernel says that other processes of this user cannot read the memory.
pub(super) fn is_undumpable() -> bool {
    matches!(dumpable_behavior(), Ok(DumpableBehavior::NotDumpable))
}

/// Whether the kernel says that a crash leaves no core, neither as a file nor to a program.
pub(super) fn leaves_no_core() -> bool {
    getrlimit(Resource::Core) == NO_CORE && (is_undumpable() || !cores_go_to_a_program())
}

fn cores_go_to_a_program() -> bool {
    fs::read("/proc/sys/kernel/core_pattern").is_ok_and(|pattern| pattern.first() == Some(&b'|'))
}
