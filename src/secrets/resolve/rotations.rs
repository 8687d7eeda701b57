//! How a new version of a value that stands elsewhere becomes a rotation here: noted once by a fleet, and told.
//!
//! The row of a reference gets its next version, exactly as if somebody had rotated the secret: count, moment, audit
//! entry and notice come with it in one change, and the change is refused where somebody else's came first. Where the
//! backend names versions, the row seals the new name, so that whoever fetches it later knows that it is noted. Where
//! it does not, nothing of the value is stored: a process notes that a value changed since it last looked only if the
//! row is still as it was then. A rotation that no running process saw the version before of goes unnoted, unless the
//! row has a name from an earlier one.
//!
//! The value before it is not kept: what signs with a reference has no overlap after a rotation in its backend, and there
//! is nothing here to roll back to.

use std::sync::Arc;

use secrecy::ExposeSecret;
use tokio::time::timeout;

use super::{RECORD_WAIT, SecretResolver};
use crate::domain::audit::{Action, Source};
use crate::domain::scope::Owner;
use crate::domain::secret::{SecretKind, SecretMeta, successor};
use crate::external::ExternalVersion;
use crate::secrets::linked::Linked;
use crate::secrets::sources::{Sighting, Sources, Usable};
use crate::store::{Change, SecretRow, StoreError, Write, rotated};

/// Whether this instance writes down the rotations that it sees. One that may not write to the registry leaves that to
/// those that may: each of those looks when it delivers, when somebody asks for a reference, and when it looks all
/// secrets over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RotationDuty {
    /// It does.
    Note,
    /// It delivers new values, and others write it down.
    LeaveToOthers,
}

impl SecretResolver {
    /// Notes the rotation that a fetched value shows, if it shows one. Returns the version of the row where there is a
    /// new one. A store that does not take it in time keeps nobody from the value; it is tried again at the next look.
    pub(super) async fn look_for_rotation(
        &self,
        sources: &Arc<Sources>,
        row: &SecretRow,
        linked: &Linked,
        found: &Usable,
    ) -> Option<u64> {
        let meta = &row.meta;
        if found.stands_in_for.is_some() || found.held.fetched_at() < meta.updated_at {
            return None; // whoever wrote the row may have seen more than this value shows
        }
        let version = found.held.version();
        let seen = sources.seen(&meta.slot);
        let sighting = |row_version| Sighting {
            reference: linked.reference.clone(),
            row_version,
            version: version.clone(),
        };
        if !is_rotation(seen.as_ref(), linked, meta.version, version) || self.rotations == RotationDuty::LeaveToOthers {
            sources.saw(&meta.slot, sighting(meta.version));
            return None;
        }
        let noted = Linked {
            noted: version.name().map(String::from),
            ..linked.clone()
        };
        let next = self.next_version(row, &noted)?;
        match timeout(RECORD_WAIT, self.store.commit(self.rotation(&next, meta.version))).await {
            Ok(Ok(())) => {
                sources.confirm(&meta.slot, next.meta.version);
                sources.saw(&meta.slot, sighting(next.meta.version));
                Some(next.meta.version)
            }
            Ok(Err(StoreError::Conflict)) => {
                sources.saw(&meta.slot, sighting(meta.version)); // somebody else noted it, or wrote something else
                None
            }
            Ok(Err(_)) | Err(_) => {
                tracing::warn!("a rotation could not be noted; it is tried again");
                None
            }
        }
    }

    fn next_version(&self, row: &SecretRow, linked: &Linked) -> Option<SecretRow> {
        let (meta, now) = (&row.meta, self.clock.now());
        let meta = SecretMeta {
            version: successor(meta.version)?,
            rotation_count: successor(meta.rotation_count)?,
            last_rotated_at: Some(now),
            updated_at: now,
            written_by: self.actor.name.clone(),
            ..meta.clone()
        };
        let text = secrecy::SecretString::from(linked.text());
        let sealed = self.keyring.seal(
            &meta.slot,
            SecretKind::Reference,
            meta.version,
            text.expose_secret().as_bytes(),
        );
        Some(SecretRow {
            sealed: sealed.ok()?,
            predecessor: row.predecessor.clone(), // the value before it cannot be brought back from here
            meta,
        })
    }

    fn rotation(&self, next: &SecretRow, replaces: u64) -> Change {
        let organization = match &next.meta.slot.owner {
            Owner::Organization(organization) => Some(organization.clone()),
            Owner::Partner => None,
        };
        Change {
            writes: vec![
                rotated(&next.meta),
                Write::Secret {
                    row: next.clone(),
                    expected: Some(replaces),
                },
            ],
            entries: vec![self.entry(organization, next, Action::SecretRotate, Source::Refresh)],
        }
    }
}

/// Whether a version is another than the one that is known, of a rotation that nobody noted.
fn is_rotation(seen: Option<&Sighting>, linked: &Linked, row_version: u64, version: &ExternalVersion) -> bool {
    match (&linked.noted, version.name()) {
        (Some(noted), Some(name)) => noted != name,
        _ => seen.is_some_and(|seen| {
            seen.reference == linked.reference && seen.row_version == row_version && seen.version != *version
        }),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::domain::reference::Reference;

    fn reference(text: &str) -> Reference {
        Reference::parse(text).unwrap()
    }

    fn named(name: &str) -> ExternalVersion {
        ExternalVersion::Named(name.to_owned())
    }

    fn unnamed(mark: u8) -> ExternalVersion {
        ExternalVersion::Unnamed([mark; 32])
    }

    #[test]
    fn a_rotation_is_a_change_that_nobody_noted() {
        for (what, seen, noted, row_version, version, is_it) in [
            ("never seen", None, None, 1, named("1"), false),
            ("the same", Some((1, named("1"))), None, 1, named("1"), false),
            ("another", Some((1, named("1"))), None, 1, named("2"), true),
            (
                "another, and the row was written since",
                Some((1, named("1"))),
                None,
                2,
                named("2"),
                false,
            ),
            (
                "noted by somebody",
                Some((1, named("1"))),
                Some("2"),
                2,
                named("2"),
                false,
            ),
            (
                "noted, and another since",
                Some((1, named("1"))),
                Some("2"),
                2,
                named("3"),
                true,
            ),
            (
                "another than the row has, after a restart",
                None,
                Some("2"),
                2,
                named("3"),
                true,
            ),
            (
                "as the row has it, after a restart",
                None,
                Some("2"),
                2,
                named("2"),
                false,
            ),
            ("nameless, never seen", None, None, 1, unnamed(1), false),
            ("nameless, the same", Some((1, unnamed(1))), None, 1, unnamed(1), false),
            ("nameless, another", Some((1, unnamed(1))), None, 1, unnamed(2), true),
            (
                "nameless, and the row was written since",
                Some((1, unnamed(1))),
                None,
                2,
                unnamed(2),
                false,
            ),
        ] {
            let seen = seen.map(|(row_version, version)| Sighting {
                reference: reference("a/b"),
                row_version,
                version,
            });
            let linked = Linked {
                reference: reference("a/b"),
                noted: noted.map(String::from),
            };
            assert_eq!(
                is_rotation(seen.as_ref(), &linked, row_version, &version),
                is_it,
                "{what}"
            );
        }
        let elsewhere = Sighting {
            reference: reference("a/c"),
            row_version: 1,
            version: named("1"),
        };
        let linked = Linked::new(reference("a/b"));
        assert!(
            !is_rotation(Some(&elsewhere), &linked, 1, &named("2")),
            "another reference"
        );
    }
}
