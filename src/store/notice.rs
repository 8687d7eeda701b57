//! What waits in the outbox, how it is written down, and how an alert is raised with its notice and entry.

use aws_lc_rs::digest::{SHA256, digest};
use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};

use super::{OutboxRow, Write};
use crate::crypto::encoding::Encoder;
use crate::domain::alert::{Alert, AlertKind};
use crate::domain::audit::{Action, Actor, AuditEntry, Source};
use crate::domain::id::{InstallationId, OrganizationId, ScopeId};
use crate::domain::key::SecretKey;
use crate::domain::scope::{Owner, Scope, Slot};
use crate::domain::secret::SecretMeta;
use crate::domain::time::Timestamp;

/// A value that was replaced by another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rotated {
    /// Where.
    pub slot: Slot,
    /// The version that is in force now.
    pub version: u64,
    /// When.
    pub at: Timestamp,
}

/// What an outbox row says. The first two are for the outbox itself: who has to be told is found out when it is
/// looked at, and each of them gets a notice of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// A value was replaced.
    Rotated(Rotated),
    /// An alert was raised.
    Alert {
        /// Which.
        alert: String,
    },
    /// An installation has to hear of a rotation.
    RotationWebhook {
        /// Which installation.
        installation: InstallationId,
        /// What it hears.
        rotated: Rotated,
    },
    /// An organization's webhook has to hear of an alert.
    AlertWebhook {
        /// Which alert.
        alert: String,
        /// Where the policy said, then.
        url: String,
    },
    /// Somebody has to get mail of an alert.
    AlertMail {
        /// Which alert.
        alert: String,
        /// Whom the policy named, then.
        address: String,
    },
}

/// A notice as the outbox keeps it.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Payload {
    #[serde(skip_serializing_if = "Option::is_none")]
    rotated: Option<RotatedPayload>,
    #[serde(skip_serializing_if = "Option::is_none")]
    installation: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    alert: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct RotatedPayload {
    owner: String,
    scope: String,
    scope_id: String,
    key: String,
    version: u64,
    at: u64,
}

impl From<&Rotated> for RotatedPayload {
    fn from(rotated: &Rotated) -> Self {
        Self {
            owner: rotated.slot.owner.as_str().to_owned(),
            scope: rotated.slot.scope.name().to_owned(),
            scope_id: rotated.slot.scope_id.to_string(),
            key: rotated.slot.key.to_string(),
            version: rotated.version,
            at: rotated.at.0,
        }
    }
}

impl RotatedPayload {
    fn read(self) -> Option<Rotated> {
        let owner = if self.owner.is_empty() {
            Owner::Partner
        } else {
            Owner::Organization(OrganizationId::parse(&self.owner).ok()?)
        };
        let slot = Slot {
            owner,
            scope: Scope::parse(&self.scope)?,
            scope_id: ScopeId::parse(&self.scope_id).ok()?,
            key: SecretKey::parse(&self.key).ok()?,
        };
        Some(Rotated {
            slot,
            version: self.version,
            at: Timestamp(self.at),
        })
    }
}

impl Notice {
    const fn kind(&self) -> &'static str {
        match self {
            Self::Rotated(_) => "rotated",
            Self::Alert { .. } => "alert",
            Self::RotationWebhook { .. } => "rotation-webhook",
            Self::AlertWebhook { .. } => "alert-webhook",
            Self::AlertMail { .. } => "alert-mail",
        }
    }

    fn payload(&self) -> Payload {
        let none = Payload::default();
        match self {
            Self::Rotated(rotated) => Payload {
                rotated: Some(rotated.into()),
                ..none
            },
            Self::Alert { alert } => Payload {
                alert: Some(alert.clone()),
                ..none
            },
            Self::RotationWebhook { installation, rotated } => Payload {
                rotated: Some(rotated.into()),
                installation: Some(installation.to_string()),
                ..none
            },
            Self::AlertWebhook { alert, url: target } | Self::AlertMail { alert, address: target } => Payload {
                alert: Some(alert.clone()),
                target: Some(target.clone()),
                ..none
            },
        }
    }

    /// The same for the same notice, so that one that is written twice is there once, and known to its receiver.
    fn id(&self) -> String {
        let tag = Encoder::new("kiket.notice.v1").text(self.kind());
        match self {
            Self::Rotated(rotated) => hashed("rot_", about(tag, &rotated.slot).number(rotated.version)),
            Self::RotationWebhook { installation, rotated } => {
                let tag = about(tag, &rotated.slot).number(rotated.version);
                hashed("rot_", tag.text(installation.as_str()))
            }
            Self::Alert { alert } => hashed("ntf_", tag.text(alert)),
            Self::AlertWebhook { alert, url: target } | Self::AlertMail { alert, address: target } => {
                hashed("ntf_", tag.text(alert).text(target))
            }
        }
    }

    /// The row, due at once.
    #[must_use]
    pub fn row(&self, organization: Option<OrganizationId>, now: Timestamp) -> OutboxRow {
        OutboxRow {
            id: self.id(),
            kind: self.kind().to_owned(),
            organization,
            payload: serde_json::to_string(&self.payload()).unwrap_or_default(), // texts and numbers always serialize
            created_at: now,
            due_at: now,
            attempts: 0,
        }
    }

    /// What a row says; `None` for one that this version did not write.
    #[must_use]
    pub fn read(row: &OutboxRow) -> Option<Self> {
        let payload: Payload = serde_json::from_str(&row.payload).ok()?;
        let rotated = payload.rotated.and_then(RotatedPayload::read);
        Some(match row.kind.as_str() {
            "rotated" => Self::Rotated(rotated?),
            "alert" => Self::Alert { alert: payload.alert? },
            "rotation-webhook" => Self::RotationWebhook {
                installation: InstallationId::parse(&payload.installation?).ok()?,
                rotated: rotated?,
            },
            "alert-webhook" => Self::AlertWebhook {
                alert: payload.alert?,
                url: payload.target?,
            },
            "alert-mail" => Self::AlertMail {
                alert: payload.alert?,
                address: payload.target?,
            },
            _ => return None,
        })
    }
}

/// The notice that belongs into the very change that replaces a value: `meta` is the secret as it stands then.
#[must_use]
pub fn rotated(meta: &SecretMeta) -> Write {
    let organization = match &meta.slot.owner {
        Owner::Organization(organization) => Some(organization.clone()),
        Owner::Partner => None,
    };
    let notice = Notice::Rotated(Rotated {
        slot: meta.slot.clone(),
        version: meta.version,
        at: meta.updated_at,
    });
    Write::Outbox(notice.row(organization, meta.updated_at))
}

/// Something that admins have to be alerted to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What.
    pub kind: AlertKind,
    /// Whose admins; the platform's operators where `None`.
    pub organization: Option<OrganizationId>,
    /// At which scope, where it concerns a secret.
    pub scope: Option<Scope>,
    /// Bound to what, or which record.
    pub subject: Option<ScopeId>,
    /// Which key.
    pub key: Option<SecretKey>,
    /// One sentence, never a value.
    pub detail: String,
    /// What tells this finding from the next one about the same key: a version, a stage. Empty where only time does.
    pub occasion: String,
}

impl Finding {
    /// One about a secret. A partner's concerns the platform's operators.
    #[must_use]
    pub fn about(kind: AlertKind, slot: &Slot, detail: String, occasion: String) -> Self {
        let organization = match &slot.owner {
            Owner::Organization(organization) => Some(organization.clone()),
            Owner::Partner => None,
        };
        Self {
            kind,
            organization,
            scope: Some(slot.scope),
            subject: Some(slot.scope_id.clone()),
            key: Some(slot.key.clone()),
            detail,
            occasion,
        }
    }

    /// The write that raises an alert, with its notice and its audit entry, unless one that says the same was raised
    /// after `quiet_since`.
    #[must_use]
    pub fn raise(self, quiet_since: Timestamp, actor: &Actor, now: Timestamp) -> Write {
        let place = Encoder::new("kiket.alert.v1")
            .text(self.kind.name())
            .optional(self.scope, Encoder::scope)
            .optional(self.subject.as_ref(), |encoder, id| encoder.text(id.as_str()))
            .optional(self.key.as_ref(), |encoder, key| encoder.text(key.as_str()))
            .text(&self.occasion);
        let dedup = hashed("", place);
        let id = Encoder::new("kiket.alert-id.v1")
            .optional(self.organization.as_ref(), |encoder, id| encoder.text(id.as_str()))
            .text(&dedup)
            .number(now.0);
        let id = hashed("alr_", id);
        let entry = AuditEntry {
            scope: self.scope,
            subject: self.subject.clone(),
            key: self.key.clone(),
            ..AuditEntry::of(
                self.organization.clone(),
                now,
                actor.clone(),
                Action::AlertRaise,
                Source::Refresh,
            )
        };
        let notice = Notice::Alert { alert: id.clone() };
        let notices = vec![notice.row(self.organization.clone(), now)];
        let alert = Alert {
            id,
            organization: self.organization,
            kind: self.kind,
            scope: self.scope,
            subject: self.subject,
            key: self.key,
            detail: self.detail,
            dedup,
            raised_at: now,
            acknowledged_at: None,
            acknowledged_by: None,
        };
        Write::Alert {
            alert,
            quiet_since,
            notices,
            entry,
        }
    }
}

fn about(tag: Encoder, slot: &Slot) -> Encoder {
    tag.text(slot.owner.as_str())
        .scope(slot.scope)
        .text(slot.scope_id.as_str())
        .text(slot.key.as_str())
}

/// A prefix and 128 bits of the fields' hash.
fn hashed(prefix: &str, fields: Encoder) -> String {
    let hash = digest(&SHA256, &fields.finish());
    let (half, _) = hash.as_ref().split_at(hash.as_ref().len() / 2);
    format!("{prefix}{}", HEXLOWER.encode(half))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn rotation(version: u64) -> Rotated {
        Rotated {
            slot: Slot {
                owner: Owner::Organization(OrganizationId::parse("acme").unwrap()),
                scope: Scope::Project,
                scope_id: ScopeId::parse("p1").unwrap(),
                key: SecretKey::parse("K").unwrap(),
            },
            version,
            at: Timestamp(5),
        }
    }

    fn notices() -> Vec<Notice> {
        let partner = Rotated {
            slot: Slot {
                owner: Owner::Partner,
                ..rotation(1).slot
            },
            ..rotation(1)
        };
        let installation = |id| InstallationId::parse(id).unwrap();
        vec![
            Notice::Rotated(rotation(1)),
            Notice::Rotated(rotation(2)),
            Notice::Rotated(partner),
            Notice::RotationWebhook {
                installation: installation("a"),
                rotated: rotation(1),
            },
            Notice::RotationWebhook {
                installation: installation("b"),
                rotated: rotation(1),
            },
            Notice::Alert { alert: "x".into() },
            Notice::AlertWebhook {
                alert: "x".into(),
                url: "t".into(),
            },
            Notice::AlertMail {
                alert: "x".into(),
                address: "t".into(),
            },
            Notice::AlertMail {
                alert: "x".into(),
                address: "u".into(),
            },
        ]
    }

    #[test]
    fn a_notice_reads_back_as_it_was_written_and_no_two_share_an_id() {
        let mut ids = std::collections::HashSet::new();
        for notice in notices() {
            let row = notice.row(None, Timestamp(7));
            assert_eq!(Notice::read(&row), Some(notice.clone()), "{notice:?}");
            assert_eq!(row.id, notice.row(None, Timestamp(8)).id, "the same at every attempt");
            assert!(ids.insert(row.id), "{notice:?}");
        }
    }

    #[test]
    fn a_row_that_this_version_did_not_write_says_nothing() {
        let row = notices().remove(0).row(None, Timestamp(7));
        for (kind, payload) in [
            ("other", row.payload.as_str()),
            ("rotated", "{}"),
            ("rotated", "no JSON"),
        ] {
            let strange = OutboxRow {
                kind: kind.into(),
                payload: payload.into(),
                ..row.clone()
            };
            assert_eq!(Notice::read(&strange), None, "{kind} {payload}");
        }
    }
}
