//! Whether the kernel really refuses what was forbidden: tried, not believed.
//!
//! Every attempt is harmless where it succeeds, is one that succeeds (or fails for another reason) in a process without
//! the guard, and is undone.

use std::fs::{self, File, OpenOptions};
use std::io::{self, IoSliceMut};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::sys::ptrace;
use nix::sys::uio::{RemoteIoVec, process_vm_readv};
use nix::unistd::{Pid, truncate};
use rustix::io::Errno;
use rustix::process::{
    DumpableBehavior, PidfdFlags, PidfdGetfdFlags, Resource, getpid, getrlimit, pidfd_getfd, pidfd_open,
    set_dumpable_behavior, setrlimit,
};

/// What could be changed before the process was confined, to be tried again.
pub(super) struct Outside {
    /// Folders that are not the store's.
    folders: Vec<PathBuf>,
    /// A file without a name in one of them.
    file: Option<File>,
}

impl Outside {
    /// Looks around; nothing with a name is left behind.
    pub(super) fn before(writable: &[PathBuf]) -> Self {
        let inside = |folder: &Path| {
            let real = fs::canonicalize(folder).unwrap_or_default();
            let within = |granted: &PathBuf| fs::canonicalize(granted).is_ok_and(|granted| real.starts_with(granted));
            writable.iter().any(within)
        };
        let temporary = std::env::temp_dir();
        let wanted = [&temporary, Path::new("."), Path::new("/dev/shm"), Path::new("/var/tmp")];
        let folders: Vec<PathBuf> = wanted
            .into_iter()
            .filter(|folder| !inside(folder))
            .map(Path::to_path_buf)
            .collect();
        let file = folders.iter().find_map(|folder| tempfile::tempfile_in(folder).ok());
        Self { folders, file }
    }

    /// Whether the kernel refuses to change anything, and to run a program.
    pub(super) fn is_out_of_reach(&self) -> bool {
        // Whoever is not confined may write to it.
        let null = OpenOptions::new().write(true).open("/dev/null");
        is_refused(&null, Errno::ACCESS)
            && self.file.as_ref().is_none_or(is_unchangeable)
            && !self.folders.iter().any(|folder| takes_a_file(folder))
            && is_refused(&run_itself(), Errno::ACCESS)
    }
}

/// By its own name in `/proc`, the one that a file without another has.
fn is_unchangeable(file: &File) -> bool {
    let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
    let opened = OpenOptions::new().write(true).open(&path);
    is_refused(&opened, Errno::ACCESS) && truncate(&path, 0) == Err(nix::Error::EACCES)
}

fn takes_a_file(folder: &Path) -> bool {
    let path = folder.join(format!(".kiket-guard-{}", std::process::id()));
    let created = OpenOptions::new().write(true).create_new(true).open(&path).is_ok();
    if created {
        let _ = fs::remove_file(path); // not confined, it can
    }
    created
}

/// Whether the kernel refuses what no part of the product calls.
pub(super) fn calls_are_refused() -> bool {
    let reads_another = |mut copy: [u8; 1], original: &[u8; 1]| {
        let remote = RemoteIoVec {
            base: original.as_ptr().addr(),
            len: 1,
        };
        process_vm_readv(Pid::this(), &mut [IoSliceMut::new(&mut copy)], &[remote])
    };
    let takes_a_descriptor = || {
        let this = pidfd_open(getpid(), PidfdFlags::empty())?;
        pidfd_getfd(this, 0, PidfdGetfdFlags::empty())
    };
    is_refused(&run_itself(), Errno::PERM)
        && ptrace::cont(Pid::this(), None) == Err(nix::Error::EPERM) // it is not traced: ESRCH
        && reads_another([0], &[1]) == Err(nix::Error::EPERM)
        && takes_a_descriptor().is_err_and(|error| error == Errno::PERM)
        && setrlimit(Resource::Core, getrlimit(Resource::Core)) == Err(Errno::PERM)
        && set_dumpable_behavior(DumpableBehavior::NotDumpable) == Err(Errno::PERM)
}

/// Starts this program once more, to say its version to nobody.
fn run_itself() -> io::Result<()> {
    let mut command = Command::new("/proc/self/exe");
    command.arg("--version").env_clear();
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn()?;
    let _ = child.kill();
    child.wait().map(drop)
}

/// Whether it failed, and for this reason and no other.
fn is_refused<T>(attempt: &io::Result<T>, reason: Errno) -> bool {
    attempt
        .as_ref()
        .is_err_and(|error| error.raw_os_error() == Some(reason.raw_os_error()))
}
