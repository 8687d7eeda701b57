//! Whether entries go when the policy says so, never before, never without a signed head, and leave a chain that holds.

use kiket_sidecar::audit::Finding;
use kiket_sidecar::domain::audit::Action;
use kiket_sidecar::domain::policy::{DAY_MILLIS, Policy};
use kiket_sidecar::domain::time::Timestamp;
use kiket_sidecar::registry::sealed_policy;
use kiket_sidecar::store::{Change, PolicyRow, Store, Write};

use super::super::support::api::Api;
use super::super::support::gated_store::Gated;
use super::{entry, organization, proven, record, recorder, verified};

const DAYS: u32 = 30;
const KEPT: u64 = DAYS as u64 * DAY_MILLIS;

/// A policy's row of `org`, as the product would store it.
fn policy(gated: &Gated, retention_days: Option<u32>) -> PolicyRow {
    let row = PolicyRow {
        organization: organization("org"),
        policy: Policy {
            retention_days,
            ..Policy::default()
        },
        version: 1,
        updated_at: Timestamp(1),
        mac: Vec::new(),
    };
    sealed_policy(&gated.keyring, row)
}

fn store(gated: &Gated, row: PolicyRow, expected: Option<u64>) {
    let change = Change {
        writes: vec![Write::Policy { row, expected }],
        entries: Vec::new(),
    };
    gated.block_on(gated.store.commit(change)).unwrap();
}

fn sequences(gated: &Gated) -> Vec<u64> {
    let org = organization("org");
    let chain = gated.block_on(gated.store.chain(Some(&org), 0, 1_000)).unwrap();
    chain.iter().map(|linked| linked.sequence).collect()
}

/// Entries 1 to 8, signed at 3 (moment 1000) and 6 (moment 2000).
fn signed_twice(gated: &Gated) {
    let recorder = recorder(gated);
    for (entries, at) in [(1..=3, 1_000), (4..=6, 2_000)] {
        record(gated, entries);
        gated.block_on(recorder.checkpoint(Timestamp(at))).unwrap();
    }
    record(gated, 7..=8);
}

#[test]
fn entries_go_up_to_a_checkpoint_that_is_older_than_the_policy_keeps_and_not_a_moment_before() {
    let gated = Gated::open();
    signed_twice(&gated);
    store(&gated, policy(&gated, Some(DAYS)), None);
    let recorder = recorder(&gated);
    let prune = |now| gated.block_on(recorder.prune(Timestamp(now))).unwrap();
    prune(KEPT + 1_000);
    assert_eq!(sequences(&gated), (1..=8).collect::<Vec<_>>(), "exactly as old as kept");
    prune(KEPT + 1_001);
    assert_eq!(sequences(&gated), [4, 5, 6, 7, 8, 9]);
    prune(KEPT + 2_000);
    assert_eq!(
        sequences(&gated),
        [4, 5, 6, 7, 8, 9],
        "what is gone is not removed again"
    );
    let report = verified(&gated, Some("org"));
    assert_eq!((report.finding, report.first, report.last), (None, Some(4), Some(9)));
    prune(KEPT + 2_001);
    assert_eq!(sequences(&gated), [7, 8, 9, 10]);
    let report = verified(&gated, Some("org"));
    assert_eq!((report.finding, report.first, report.entries), (None, Some(7), 4));
    // Everything older than the last checkpoint is gone; without a later one, nothing more goes.
    prune(KEPT * 10);
    assert_eq!(sequences(&gated), [7, 8, 9, 10]);

    let chain = gated
        .block_on(gated.store.chain(Some(&organization("org")), 0, 9))
        .unwrap();
    let removed: Vec<_> = chain
        .iter()
        .filter(|linked| linked.entry.action == Action::AuditPrune)
        .collect();
    let told: Vec<_> = removed
        .iter()
        .map(|linked| (linked.entry.version, linked.entry.at.0))
        .collect();
    assert_eq!(told, [(Some(3), KEPT + 1_001), (Some(6), KEPT + 2_001)]);

    // An export of what is left proves itself.
    let instance = gated.start(&[]);
    let export = Api::bootstrap(&instance).get("/secrets/audit?format=ndjson&organization_id=org");
    let reports = proven(&gated, &export.body);
    assert_eq!((reports[0].finding, reports[0].first), (None, Some(7)));
}

#[test]
fn without_a_checkpoint_or_a_policy_that_says_so_nothing_ever_goes() {
    let forever = KEPT * 100;
    type Prepare = fn(&Gated);
    let cases: [(&str, Prepare); 5] = [
        ("no policy", |gated| signed_twice(gated)),
        ("a policy that keeps all", |gated| {
            signed_twice(gated);
            store(gated, policy(gated, None), None);
        }),
        ("no checkpoint", |gated| {
            record(gated, 1..=8);
            store(gated, policy(gated, Some(DAYS)), None);
        }),
        ("a policy that somebody wrote into the database", |gated| {
            signed_twice(gated);
            let forged = PolicyRow {
                mac: policy(gated, None).mac,
                ..policy(gated, Some(DAYS))
            };
            store(gated, forged, None);
        }),
        ("checkpoints that somebody made up", |gated| {
            signed_twice(gated);
            gated.damage("UPDATE checkpoints SET at = at - 1");
            store(gated, policy(gated, Some(DAYS)), None);
        }),
    ];
    for (what, prepare) in cases {
        let gated = Gated::open();
        prepare(&gated);
        gated.block_on(recorder(&gated).prune(Timestamp(forever))).unwrap();
        assert_eq!(sequences(&gated), (1..=8).collect::<Vec<_>>(), "{what}");
    }
    let gated = Gated::open();
    signed_twice(&gated);
    store(&gated, policy(&gated, Some(DAYS)), None);
    gated.block_on(recorder(&gated).prune(Timestamp(forever))).unwrap();
    assert_eq!(sequences(&gated), [7, 8, 9], "the same with all of it");
}

#[test]
fn retention_touches_no_chain_but_the_organizations_own() {
    let gated = Gated::open();
    signed_twice(&gated);
    let others: Vec<_> = [None, Some(organization("other"))]
        .into_iter()
        .flat_map(|of| (1..=3).map(move |at| (of.clone(), at)))
        .map(|(organization, at)| kiket_sidecar::domain::audit::AuditEntry {
            organization,
            ..entry(at)
        })
        .collect();
    gated.block_on(gated.store.record(others)).unwrap();
    let recorder = recorder(&gated);
    gated.block_on(recorder.checkpoint(Timestamp(3_000))).unwrap();
    store(&gated, policy(&gated, Some(DAYS)), None);
    gated.block_on(recorder.prune(Timestamp(KEPT * 100))).unwrap();
    assert_eq!(sequences(&gated), [9]);
    for of in [None, Some("other")] {
        let report = verified(&gated, of);
        assert_eq!((report.finding, report.entries), (None, 3), "{of:?}");
    }
}

#[test]
fn more_removed_than_retention_says_is_found() {
    let gated = Gated::open();
    signed_twice(&gated);
    store(&gated, policy(&gated, Some(DAYS)), None);
    gated.block_on(recorder(&gated).prune(Timestamp(KEPT + 1_001))).unwrap();
    gated.damage("DELETE FROM audit WHERE chain = 'org' AND sequence <= 6");
    let removed = Some(Finding::StartRemoved { first: 7 });
    assert_eq!(verified(&gated, Some("org")).finding, removed);
    let instance = gated.start(&[]);
    let export = Api::bootstrap(&instance).get("/secrets/audit?format=ndjson&organization_id=org");
    assert_eq!(proven(&gated, &export.body)[0].finding, removed);
}
