//! How an export of the audit log is read back and verified offline: with a public key, without server, store or keys.
//!
//! `kiket secrets audit verify --export FILE --public-key KEY` is a call of [`verify`]. The file is read twice, line by
//! line: checkpoints first, then entries, of which one a chain is held.

use std::io::{BufRead, Seek};

use data_encoding::{BASE64, HEXLOWER};
use serde::Deserialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::audit::ChainReport;
use crate::audit::export::{ExportVerifier, ExportedEntry};
use crate::crypto::checkpoint::Checkpoint;
use crate::domain::audit::{Action, Actor, AuditEntry, Delivered, Outcome, Source};
use crate::domain::id::{OrganizationId, ScopeId};
use crate::domain::key::SecretKey;
use crate::domain::scope::Scope;
use crate::domain::time::Timestamp;
use crate::store::CheckpointRow;

/// Why an export could not be looked at. Carries nothing of it.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// A line is neither an entry nor a checkpoint: the export was altered, or is none.
    #[error("line {0} is no line of an export")]
    Line(usize),
    /// The file cannot be read.
    #[error("the export cannot be read: {0}")]
    Read(std::io::ErrorKind),
    /// No Ed25519 key.
    #[error("a public key is 32 bytes in base64, as `GET /api/v1/secrets/audit/verify` says")]
    PublicKey,
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Line {
    Checkpoint(CheckpointLine),
    Entry(Box<EntryLine>),
}

/// Also what the server's log has of a checkpoint, among other fields.
#[derive(Deserialize)]
struct CheckpointLine {
    organization_id: Option<String>,
    sequence: u64,
    hash: String,
    at: String,
    signature: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EntryLine {
    at: String,
    organization_id: Option<String>,
    sequence: u64,
    actor_id: String,
    actor_name: String,
    action: String,
    source: String,
    outcome: String,
    scope: Option<String>,
    scope_id: Option<String>,
    key: Option<String>,
    version: Option<u64>,
    external: bool,
    destination: Option<String>,
    count: Option<u64>,
    hash: String,
}

/// Reads a public key as the server prints it.
///
/// # Errors
/// [`ExportError::PublicKey`].
pub fn public_key(text: &str) -> Result<Vec<u8>, ExportError> {
    let key = BASE64.decode(text.trim().as_bytes()).ok();
    key.filter(|key| key.len() == 32).ok_or(ExportError::PublicKey)
}

/// Holds an export against its checkpoints and those kept `beside` it: one report per chain that it names.
///
/// # Errors
/// [`ExportError`].
pub fn verify(
    mut export: impl BufRead + Seek,
    public_key: &[u8],
    beside: Vec<CheckpointRow>,
) -> Result<Vec<ChainReport>, ExportError> {
    let mut checkpoints = beside;
    each_line(&mut export, |line| {
        if let Line::Checkpoint(line) = line {
            checkpoints.push(line.row()?);
        }
        Some(())
    })?;
    export.rewind().map_err(|error| ExportError::Read(error.kind()))?;
    let mut verifier = ExportVerifier::new(public_key, checkpoints);
    each_line(&mut export, |line| {
        if let Line::Entry(line) = line {
            verifier.entry(line.entry()?);
        }
        Some(())
    })?;
    Ok(verifier.finish())
}

/// The checkpoints that a server's JSON log, or another export, remembers. Other lines are passed over.
///
/// # Errors
/// [`ExportError::Read`].
pub fn checkpoints(log: impl BufRead) -> Result<Vec<CheckpointRow>, ExportError> {
    let mut rows = Vec::new();
    for line in log.lines() {
        let line = line.map_err(|error| ExportError::Read(error.kind()))?;
        let parsed = serde_json::from_str::<CheckpointLine>(&line).ok();
        rows.extend(parsed.and_then(CheckpointLine::row));
    }
    Ok(rows)
}

fn each_line(export: impl BufRead, mut take: impl FnMut(Line) -> Option<()>) -> Result<(), ExportError> {
    for (n, line) in export.lines().enumerate() {
        let line = line.map_err(|error| ExportError::Read(error.kind()))?;
        let parsed = serde_json::from_str(&line).ok();
        parsed
            .and_then(&mut take)
            .ok_or(ExportError::Line(n.saturating_add(1)))?;
    }
    Ok(())
}

impl CheckpointLine {
    fn row(self) -> Option<CheckpointRow> {
        Some(CheckpointRow {
            checkpoint: Checkpoint {
                organization: optional(self.organization_id, |id| OrganizationId::parse(id).ok())?,
                sequence: self.sequence,
                hash: hash(&self.hash)?,
                at: moment(&self.at)?,
            },
            signature: BASE64.decode(self.signature.as_bytes()).ok()?,
        })
    }
}

impl EntryLine {
    fn entry(self) -> Option<ExportedEntry> {
        let delivered = match (self.destination, self.count) {
            (Some(destination), Some(count)) => Some(Delivered { destination, count }),
            (None, None) => None,
            _ => return None,
        };
        let entry = AuditEntry {
            organization: optional(self.organization_id, |id| OrganizationId::parse(id).ok())?,
            at: moment(&self.at)?,
            actor: Actor {
                id: self.actor_id,
                name: self.actor_name,
            },
            action: Action::parse(&self.action)?,
            source: Source::parse(&self.source)?,
            outcome: Outcome::parse(&self.outcome)?,
            scope: optional(self.scope, |name| {
                Scope::parse(name).filter(|scope| scope.name() == name)
            })?,
            subject: optional(self.scope_id, |id| ScopeId::parse(id).ok())?,
            key: optional(self.key, |key| SecretKey::parse(key).ok())?,
            version: self.version,
            external: self.external,
            delivered,
        };
        Some(ExportedEntry {
            sequence: self.sequence,
            entry,
            hash: hash(&self.hash)?,
        })
    }
}

/// What is there has to parse.
#[expect(clippy::option_option, reason = "absent is not the same as unreadable")]
fn optional<T>(text: Option<String>, parse: impl Fn(&str) -> Option<T>) -> Option<Option<T>> {
    match text {
        None => Some(None),
        Some(text) => parse(&text).map(Some),
    }
}

fn hash(text: &str) -> Option<[u8; 32]> {
    HEXLOWER.decode(text.as_bytes()).ok()?.try_into().ok()
}

/// A moment as the server writes it, and no other way.
fn moment(text: &str) -> Option<Timestamp> {
    let at = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    let at = Timestamp(u64::try_from(at.unix_timestamp_nanos() / 1_000_000).ok()?);
    (at.to_rfc3339() == text).then_some(at)
}
