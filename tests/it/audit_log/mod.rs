//! The audit log from outside: whole, signed, exported, verified, kept as long as it must be.

mod deliveries;
mod exports;
mod mutations;
mod refusals;
mod retention;
mod signed_heads;

use std::io::Cursor;

use kiket_sidecar::audit::{ChainReport, Recorder, Verifier};
use kiket_sidecar::cli::audit_export;
use kiket_sidecar::domain::audit::{Action, Actor, AuditEntry, Delivered, Outcome, Source};
use kiket_sidecar::domain::id::{OrganizationId, ScopeId};
use kiket_sidecar::domain::key::SecretKey;
use kiket_sidecar::domain::scope::Scope;
use kiket_sidecar::domain::time::Timestamp;
use kiket_sidecar::registry::policy_is_authentic;
use kiket_sidecar::store::{SharedStore, Store};
use kiket_sidecar::telemetry::Metrics;
use kiket_sidecar::telemetry::line_buffer::Drops;

use super::support::gated_store::Gated;

fn organization(id: &str) -> OrganizationId {
    OrganizationId::parse(id).unwrap()
}

/// An entry of `org` with every field, told apart by its moment.
fn entry(at: u64) -> AuditEntry {
    AuditEntry {
        organization: Some(organization("org")),
        at: Timestamp(at),
        actor: Actor {
            id: "tok_1".into(),
            name: "Ada, \"ops\" \u{1f511}".into(),
        },
        action: Action::SecretRotate,
        source: Source::Api,
        outcome: Outcome::Ok,
        scope: Some(Scope::Project),
        subject: Some(ScopeId::parse("proj").unwrap()),
        key: Some(SecretKey::parse("KEY").unwrap()),
        version: Some(at),
        external: false,
        delivered: Some(Delivered {
            destination: "https://ext.example.com:443".into(),
            count: 7,
        }),
    }
}

fn shared(gated: &Gated) -> SharedStore {
    std::sync::Arc::clone(&gated.store) as SharedStore
}

/// A recorder beside any instance.
fn recorder(gated: &Gated) -> Recorder {
    let keyring = std::sync::Arc::clone(&gated.keyring);
    let actor = Actor {
        id: "sidecar:test".into(),
        name: "test".into(),
    };
    let authentic = std::sync::Arc::new(move |row: &_| policy_is_authentic(&keyring, row));
    let metrics = Metrics::new("test", Timestamp(0), Drops::default()).unwrap();
    Recorder::new(shared(gated), &gated.keyring, actor, authentic, metrics.into()).unwrap()
}

/// Records entries of `org` at these moments, one after the other.
fn record(gated: &Gated, moments: impl IntoIterator<Item = u64>) {
    let entries = moments.into_iter().map(entry).collect();
    gated.block_on(gated.store.record(entries)).unwrap();
}

/// What is found of a chain.
fn verified(gated: &Gated, of: Option<&str>) -> ChainReport {
    let verifier = Verifier::new(&gated.keyring).unwrap();
    let of = of.map(organization);
    gated.block_on(verifier.verify(&shared(gated), of.as_ref())).unwrap()
}

fn public_key(gated: &Gated) -> Vec<u8> {
    Verifier::new(&gated.keyring).unwrap().public_key().to_vec()
}

/// What an auditor with the public key finds in an export.
fn proven(gated: &Gated, export: &[u8]) -> Vec<ChainReport> {
    audit_export::verify(Cursor::new(export), &public_key(gated), Vec::new()).unwrap()
}
