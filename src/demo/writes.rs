//! What this process wrote: write calls by thread, bytes to disk, and what became of every open file.
//!
//! Linux counts `write`, `pwrite`, `writev` and the like per thread in `/proc/self/task/*/io` (proc(5)); `send` and
//! `sendmsg`, which only sockets take, are not among them. What a thread's calls wrote to is told by exclusion: bytes
//! for a disk, and changes of any file, would show.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A reading.
pub(super) struct Written {
    calls: BTreeMap<String, u64>,
    disk_bytes: u64,
    files: BTreeMap<PathBuf, File>,
}

/// What tells that a file was written to.
#[derive(Debug, Clone, PartialEq, Eq)]
struct File {
    bytes: u64,
    modified: (i64, i64),
}

/// What happened between two readings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Since {
    /// Write calls by thread, of those that made any.
    pub(super) calls: BTreeMap<String, u64>,
    /// Bytes on their way to a disk.
    pub(super) disk_bytes: u64,
    /// Regular files that are open or in the store's folder.
    pub(super) files: usize,
    /// Of those, how many were written to, appeared or went away.
    pub(super) files_changed: usize,
}

impl Written {
    /// Reads now. `folder` is the store's.
    ///
    /// # Errors
    /// Where the kernel does not count, or does not say.
    pub(super) fn now(folder: &Path) -> io::Result<Self> {
        let mut files = BTreeMap::new();
        for entry in fs::read_dir("/proc/self/fd")?.chain(fs::read_dir(folder)?) {
            let path = fs::canonicalize(entry?.path()).unwrap_or_default(); // sockets have none
            if let Ok(meta) = fs::metadata(&path)
                && meta.is_file()
            {
                let modified = (meta.mtime(), meta.mtime_nsec());
                files.insert(
                    path,
                    File {
                        bytes: meta.len(),
                        modified,
                    },
                );
            }
        }
        let mut calls = BTreeMap::new();
        for task in fs::read_dir("/proc/self/task")? {
            match calls_of(&task?.path()) {
                Ok((name, count)) => *calls.entry(name).or_default() += count,
                Err(error) if has_ended(&error) => {}
                Err(error) => return Err(error),
            }
        }
        let disk_bytes = counter(Path::new("/proc/self/io"), "write_bytes")?;
        Ok(Self {
            calls,
            disk_bytes,
            files,
        })
    }

    /// What happened since an earlier reading. Threads of the demo's own cast are left out.
    pub(super) fn since(&self, earlier: &Self) -> Since {
        let grown = |(name, now): (&String, &u64)| {
            let more = now.saturating_sub(earlier.calls.get(name).copied().unwrap_or(0));
            (more > 0).then(|| (name.clone(), more))
        };
        let all: std::collections::BTreeSet<_> = self.files.keys().chain(earlier.files.keys()).collect();
        Since {
            calls: self.calls.iter().filter_map(grown).collect(),
            disk_bytes: self.disk_bytes.saturating_sub(earlier.disk_bytes),
            files: all.len(),
            files_changed: all
                .iter()
                .filter(|path| self.files.get(**path) != earlier.files.get(**path))
                .count(),
        }
    }
}

/// A thread's name and write calls.
fn calls_of(task: &Path) -> io::Result<(String, u64)> {
    let name = fs::read_to_string(task.join("comm"))?.trim_end().to_owned();
    Ok((name, counter(&task.join("io"), "syscw")?))
}

/// Whether a thread ended while it was looked at.
fn has_ended(error: &io::Error) -> bool {
    const ESRCH: i32 = 3;
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(ESRCH)
}

fn counter(file: &Path, name: &str) -> io::Result<u64> {
    let text = fs::read_to_string(file)?;
    let value = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    value
        .and_then(|value| value.parse().ok())
        .ok_or(io::ErrorKind::InvalidData.into())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::io::Write;

    use super::*;

    /// Other tests of this process write meanwhile: only that something shows can be told.
    #[test]
    fn a_write_to_a_file_shows() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = fs::File::create(folder.path().join("a")).unwrap();
        let before = Written::now(folder.path()).unwrap();
        file.write_all(b"x").unwrap();
        fs::File::create(folder.path().join("b")).unwrap();
        let since = Written::now(folder.path()).unwrap().since(&before);
        assert!(since.files_changed >= 2, "{since:?}");
        assert!(since.calls.values().sum::<u64>() >= 1, "{since:?}");
    }
}
