//! What an instance that runs elsewhere, over the same store, leaves there.

use kiket_sidecar::domain::alert::{Alert, AlertKind};
use kiket_sidecar::domain::audit::{Action, Actor, AuditEntry, Source};
use kiket_sidecar::domain::id::OrganizationId;
use kiket_sidecar::domain::time::Timestamp;
use kiket_sidecar::store::{Change, InstanceRow, KeyWrite, Store, Write, loaded};

use super::gated_store::Gated;

/// It says now that it has loaded a key of this name, and no other.
pub fn loads(gated: &Gated, now: Timestamp, kek: &str) {
    let row = InstanceRow {
        id: "elsewhere".into(),
        role: "all".into(),
        release: "1".into(),
        keks: vec![loaded(kek, &[0; 8])],
        started_at: Timestamp(1),
        seen_at: now,
    };
    let seen = KeyWrite::InstanceSeen {
        row,
        gone_before: Timestamp(0),
    };
    let change = Change {
        writes: vec![Write::Keys(Box::new(seen))],
        entries: Vec::new(),
    };
    gated.block_on(gated.store.commit(change)).unwrap();
}

/// It has raised an alert of `org`, once: `alert-victim`.
pub fn raises_alert(gated: &Gated) {
    let organization = Some(OrganizationId::parse("org").unwrap());
    let alert = Alert {
        id: "alert-victim".into(),
        organization: organization.clone(),
        kind: AlertKind::Unused,
        scope: None,
        subject: None,
        key: None,
        detail: "nobody used it".into(),
        dedup: "victim".into(),
        raised_at: Timestamp(1),
        acknowledged_at: None,
        acknowledged_by: None,
    };
    let actor = Actor {
        id: "test".into(),
        name: "test".into(),
    };
    let raised = Write::Alert {
        alert,
        quiet_since: Timestamp(0),
        notices: Vec::new(),
        entry: AuditEntry::of(organization, Timestamp(1), actor, Action::AlertRaise, Source::Api),
    };
    let change = Change {
        writes: vec![raised],
        entries: Vec::new(),
    };
    gated.block_on(gated.store.commit(change)).unwrap();
}
