//! Which files the process may change: those in the store's directory, and none where the store is elsewhere.
//!
//! **What is confined.** Landlock refuses every right that changes a file system (write, truncate, create, remove,
//! rename and link across directories), `ioctl` on devices opened later, and execution. From Linux 6.12 on it also
//! refuses signals to processes outside, and connections to abstract Unix sockets that others made.
//!
//! **What is not.** Reading stays free. What has to be read is known only later or moves while the process runs: trust
//! roots and name service files with the libraries that they name, secrets and certificates that Kubernetes replaces
//! by renaming `..data`. Rules stick to inodes, so each of those would need its directory, and a directory that is
//! missing from the list would show as a name that does not resolve weeks later. What is gained is little: no path
//! comes from a request, and the guard is against values that reach a disk. File permissions say what may be read.
//! Ports are not confined either: whom deliveries reach is told by the registry and the egress guard, and a port says
//! nothing of that.
//!
//! **In the store's directory** the process may create, write, truncate and remove files, which is what SQLite does
//! with the database, its log, its index and the lock; it may not make directories, links or devices there.
//!
//! A Unix listener is bound before. Its file can be removed at the end only where it stands in the store's directory;
//! elsewhere it stays, which harms nobody: connections to it are refused, and the next start replaces it.
//!
//! Only the calling thread and those that it starts are confined: this runs while there is one thread.

use std::path::PathBuf;

use landlock::{
    ABI, Access, AccessFs, BitFlags, CompatLevel, Compatible, LandlockStatus, PathBeneath, PathFd, Ruleset,
    RulesetAttr, RulesetCreatedAttr, RulesetError, RulesetStatus, Scope,
};

use super::Wish;

/// The rights of this version are asked for (Linux 6.12); an older kernel takes those that it has. The next right,
/// over Unix sockets by path, would cut off local name services and PostgreSQL.
const ABI_ASKED: ABI = ABI::V6;

/// Before this version truncation could not be refused: a file outside can be emptied.
const ABI_MIN: ABI = ABI::V3;

/// Confines the calling thread, for good. `writable` are the store's directories; from `emptied` ones, which only the
/// demo has, directories may be removed.
pub(super) fn confine(writable: &[PathBuf], emptied: &[PathBuf]) -> Wish {
    match restrict(writable, emptied) {
        Err(_) => Wish::Refused,
        Ok((RulesetStatus::NotEnforced, _)) => Wish::Unsupported,
        Ok((_, LandlockStatus::Available { effective_abi, .. })) if effective_abi >= ABI_MIN => Wish::Granted,
        Ok(_) => Wish::Unsupported,
    }
}

fn restrict(writable: &[PathBuf], emptied: &[PathBuf]) -> Result<(RulesetStatus, LandlockStatus), RulesetError> {
    let files: BitFlags<AccessFs> = AccessFs::WriteFile | AccessFs::MakeReg | AccessFs::RemoveFile | AccessFs::Truncate;
    let grants = writable.iter().map(|folder| (folder, files));
    let grants = grants.chain(emptied.iter().map(|folder| (folder, AccessFs::RemoveDir.into())));
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_write(ABI_ASKED) | AccessFs::Execute)?
        .scope(Scope::from_all(ABI_ASKED))?
        .create()?;
    for (folder, rights) in grants {
        // A directory that is not there holds nothing to write to; the store says so when it is opened.
        if let Ok(folder) = PathFd::new(folder) {
            ruleset = ruleset.add_rule(PathBeneath::new(folder, rights))?;
        }
    }
    let status = ruleset.restrict_self()?;
    Ok((status.ruleset, status.landlock))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::fs::{self, File, OpenOptions};
    use std::io;
    use std::os::unix::fs::symlink;
    use std::path::Path;
    use std::thread;

    use super::*;

    /// In a thread of its own, with which the confinement ends: it binds no other. `None` where the kernel has none.
    fn confined<T: Send>(writable: &Path, emptied: &Path, act: impl FnOnce() -> T + Send) -> Option<T> {
        let act = || {
            let wish = confine(&[writable.to_path_buf()], &[emptied.to_path_buf()]);
            assert_ne!(wish, Wish::Refused);
            (wish == Wish::Granted).then(act)
        };
        thread::scope(|scope| scope.spawn(act).join().unwrap())
    }

    /// What SQLite does with its files.
    fn keep_rows(folder: &Path) -> io::Result<()> {
        let path = folder.join("rows");
        let file = OpenOptions::new().create_new(true).read(true).write(true).open(&path)?;
        file.set_len(10)?;
        file.sync_all()?;
        drop(File::create(&path)?); // truncates
        File::open(folder)?.sync_all()?;
        fs::remove_file(path)
    }

    type Attempt = fn(&Path) -> io::Result<()>;

    /// What needs a right that the store's directory does not give.
    const BEYOND: &[(&str, Attempt)] = &[
        ("a directory", |at| fs::create_dir(at.join("new"))),
        ("a link", |at| symlink("/etc", at.join("new"))),
        ("a socket", |at| {
            std::os::unix::net::UnixListener::bind(at.join("new")).map(drop)
        }),
    ];

    /// What needs a right that no other place gives.
    const CHANGES: &[(&str, Attempt)] = &[
        ("writing", |at| {
            OpenOptions::new().write(true).open(at.join("file")).map(drop)
        }),
        ("truncating", |at| File::create(at.join("file")).map(drop)),
        ("creating", |at| File::create_new(at.join("new")).map(drop)),
        ("removing", |at| fs::remove_file(at.join("file"))),
        ("renaming", |at| fs::rename(at.join("file"), at.join("other"))),
        ("linking", |at| fs::hard_link(at.join("file"), at.join("other"))),
    ];

    #[test]
    fn files_change_in_the_store_s_directory_and_nowhere_else() {
        let [store, elsewhere] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        fs::write(elsewhere.path().join("file"), "precious").unwrap();
        keep_rows(elsewhere.path()).unwrap(); // not confined yet
        let Some((kept, read, refused)) = confined(store.path(), elsewhere.path(), || {
            let beyond = BEYOND.iter().map(|(what, attempt)| (what, attempt(store.path())));
            let changes = CHANGES
                .iter()
                .chain(BEYOND)
                .map(|(what, attempt)| (what, attempt(elsewhere.path())));
            let read = fs::read_to_string(elsewhere.path().join("file"));
            (keep_rows(store.path()), read, beyond.chain(changes).collect::<Vec<_>>())
        }) else {
            return; // said to be unsupported, which the binary's tests hold it to
        };
        kept.unwrap();
        assert_eq!(read.unwrap(), "precious");
        for (what, attempt) in refused {
            // Linking and renaming across rights answers EXDEV where it would be refused.
            let reason = attempt.unwrap_err().kind();
            let is_refused = matches!(reason, io::ErrorKind::PermissionDenied | io::ErrorKind::CrossesDevices);
            assert!(is_refused, "{what}: {reason:?}");
        }
        assert_eq!(fs::read_dir(store.path()).unwrap().count(), 0);
        assert_eq!(fs::read_to_string(elsewhere.path().join("file")).unwrap(), "precious");
    }

    #[test]
    fn where_directories_may_be_removed_nothing_else_may() {
        let [store, parent] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        fs::create_dir(parent.path().join("empty")).unwrap();
        fs::write(parent.path().join("file"), "precious").unwrap();
        let refused = confined(store.path(), parent.path(), || {
            fs::remove_dir(parent.path().join("empty")).unwrap();
            fs::remove_file(parent.path().join("file")).is_err() && fs::create_dir(parent.path().join("new")).is_err()
        });
        assert_ne!(refused, Some(false));
    }

    #[test]
    fn a_directory_that_is_not_there_gives_no_right_and_no_error() {
        let [there, other] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let missing = there.path().join("missing");
        let refused = confined(&missing, other.path(), || {
            File::create(there.path().join("file")).is_err()
        });
        assert_ne!(refused, Some(false));
    }
}
