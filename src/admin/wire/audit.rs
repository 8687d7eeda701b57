//! What the audit log looks like on the wire: the one object that JSON, NDJSON and CSV are written from.

use data_encoding::{BASE64, HEXLOWER};
use serde::Serialize;
use utoipa::ToSchema;

use super::alerts::AlertObject;
use crate::audit::{ChainReport, Finding};
use crate::store::{CheckpointRow, LinkedEntry};

/// One entry. Every field that its hash covers is here: with the entry before, it can be recomputed.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::admin) struct AuditObject {
    /// RFC 3339, to the millisecond.
    at: String,
    /// Whose chain; `null` for the platform's.
    organization_id: Option<String>,
    /// Position in its chain, from 1, without gaps.
    sequence: u64,
    /// A token's id, `sidecar:<instance>`, or `unauthenticated`.
    actor_id: String,
    actor_name: String,
    action: &'static str,
    source: &'static str,
    /// `ok`, `refused` or `failed`.
    outcome: &'static str,
    scope: Option<&'static str>,
    /// What it is bound to, or the id of the extension or installation concerned.
    scope_id: Option<String>,
    key: Option<String>,
    /// The secret's version; for `audit.prune` the position of the last entry that was removed.
    version: Option<u64>,
    /// Whether the value stands in an external backend.
    external: bool,
    /// Where deliveries went that were counted for a minute.
    destination: Option<String>,
    /// How many.
    count: Option<u64>,
    /// SHA-256 over the hash before, the position and every field, in hex.
    hash: String,
}

impl From<&LinkedEntry> for AuditObject {
    fn from(linked: &LinkedEntry) -> Self {
        let entry = &linked.entry;
        Self {
            at: entry.at.to_rfc3339(),
            organization_id: entry.organization.as_ref().map(ToString::to_string),
            sequence: linked.sequence,
            actor_id: entry.actor.id.clone(),
            actor_name: entry.actor.name.clone(),
            action: entry.action.name(),
            source: entry.source.name(),
            outcome: entry.outcome.name(),
            scope: entry.scope.map(|scope| scope.name()),
            scope_id: entry.subject.as_ref().map(ToString::to_string),
            key: entry.key.as_ref().map(ToString::to_string),
            version: entry.version,
            external: entry.external,
            destination: entry.delivered.as_ref().map(|delivered| delivered.destination.clone()),
            count: entry.delivered.as_ref().map(|delivered| delivered.count),
            hash: HEXLOWER.encode(&linked.link.hash),
        }
    }
}

impl AuditObject {
    /// The names of a CSV's columns.
    pub(in crate::admin) const CSV_HEAD: &'static str = "at,organization_id,sequence,actor_id,actor_name,action,source,\
        outcome,scope,scope_id,key,version,external,destination,count,hash\r\n";

    /// A CSV's line (RFC 4180).
    pub(in crate::admin) fn csv_line(&self) -> String {
        let number = |number: Option<u64>| number.map(|number| number.to_string());
        let cells = [
            Some(self.at.clone()),
            self.organization_id.clone(),
            Some(self.sequence.to_string()),
            Some(self.actor_id.clone()),
            Some(self.actor_name.clone()),
            Some(self.action.into()),
            Some(self.source.into()),
            Some(self.outcome.into()),
            self.scope.map(Into::into),
            self.scope_id.clone(),
            self.key.clone(),
            number(self.version),
            Some(self.external.to_string()),
            self.destination.clone(),
            number(self.count),
            Some(self.hash.clone()),
        ];
        let cells = cells.map(|cell| csv_cell(&cell.unwrap_or_default()));
        format!("{}\r\n", cells.join(","))
    }
}

/// A cell that no spreadsheet takes for a formula, in quotes where it has to be.
fn csv_cell(text: &str) -> String {
    let is_formula = text.starts_with(['=', '+', '-', '@', '\t', '\r']);
    let text = if is_formula {
        format!("'{text}")
    } else {
        text.to_owned()
    };
    if text.contains([',', '"', '\r', '\n']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text
    }
}

/// A line of an NDJSON export.
#[derive(Debug, Serialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(in crate::admin) enum ExportLine {
    /// A signed head. Those come first, oldest first, and only where all of a chain is exported.
    Checkpoint(CheckpointObject),
    /// An entry, newest first.
    Entry(AuditObject),
}

/// The signed head of a chain at a moment.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::admin) struct CheckpointObject {
    organization_id: Option<String>,
    sequence: u64,
    /// The hash of the entry at that position, in hex.
    hash: String,
    at: String,
    /// Ed25519, in base64.
    signature: String,
}

impl From<&CheckpointRow> for CheckpointObject {
    fn from(row: &CheckpointRow) -> Self {
        Self {
            organization_id: row.checkpoint.organization.as_ref().map(ToString::to_string),
            sequence: row.checkpoint.sequence,
            hash: HEXLOWER.encode(&row.checkpoint.hash),
            at: row.checkpoint.at.to_rfc3339(),
            signature: BASE64.encode(&row.signature),
        }
    }
}

/// A page of the log.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::admin) struct AuditPage {
    pub(in crate::admin) data: Vec<AuditObject>,
    /// What `cursor` of the next page is.
    pub(in crate::admin) next_cursor: Option<String>,
    /// Alerts that nobody acknowledged, newest first, so that automation polls one route.
    pub(in crate::admin) alerts: Vec<AlertObject>,
}

/// Whether the log is as it was written.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::admin) struct VerifiedObject {
    /// `intact` or `broken`.
    status: &'static str,
    /// Ed25519, in base64: keep it to verify exports with.
    public_key: String,
    chains: Vec<ChainObject>,
}

/// What was found of one chain.
#[derive(Debug, Serialize, ToSchema)]
struct ChainObject {
    /// `null` for the platform's.
    organization_id: Option<String>,
    /// `intact` or `broken`.
    status: &'static str,
    /// The first entry there is.
    first: Option<u64>,
    /// The last entry that holds.
    last: Option<u64>,
    /// How many entries hold.
    entries: u64,
    /// How many checkpoints hold.
    checkpoints: u64,
    /// Up to which entry the chain is signed.
    signed_up_to: Option<u64>,
    /// What is wrong: `missing-entry`, `altered-entry`, `unreadable-entry`, `cut`, `altered-head`,
    /// `forged-checkpoint`, `contradicted-checkpoint`, `removed-start` or `nameless-chain`.
    finding: Option<&'static str>,
    /// The position that it is about.
    sequence: Option<u64>,
    /// The same in one sentence.
    detail: Option<String>,
}

const fn status(is_intact: bool) -> &'static str {
    if is_intact { "intact" } else { "broken" }
}

impl VerifiedObject {
    pub(in crate::admin) fn new(reports: &[ChainReport], public_key: &[u8]) -> Self {
        Self {
            status: status(reports.iter().all(|report| report.finding.is_none())),
            public_key: BASE64.encode(public_key),
            chains: reports.iter().map(ChainObject::from).collect(),
        }
    }
}

impl From<&ChainReport> for ChainObject {
    fn from(report: &ChainReport) -> Self {
        Self {
            organization_id: report.organization.as_ref().map(ToString::to_string),
            status: status(report.finding.is_none()),
            first: report.first,
            last: report.last,
            entries: report.entries,
            checkpoints: report.checkpoints,
            signed_up_to: report.signed_up_to,
            finding: report.finding.map(Finding::name),
            sequence: report.finding.and_then(Finding::sequence),
            detail: report.finding.map(|finding| finding.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::csv_cell;

    #[test]
    fn a_cell_is_never_a_formula_and_is_quoted_where_it_must_be() {
        for (text, cell) in [
            ("", ""),
            ("plain", "plain"),
            ("=1+1", "'=1+1"),
            ("+1", "'+1"),
            ("-1", "'-1"),
            ("@SUM(A1)", "'@SUM(A1)"),
            ("\tx", "'\tx"),
            ("\rx", "\"'\rx\""),
            ("a=b", "a=b"),
            ("a,b", "\"a,b\""),
            ("say \"hi\"", "\"say \"\"hi\"\"\""),
            ("=\"a\",1", "\"'=\"\"a\"\",1\""),
            ("two\nlines", "\"two\nlines\""),
        ] {
            assert_eq!(csv_cell(text), cell, "{text:?}");
        }
    }
}
