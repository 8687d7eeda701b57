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
