//! What stands of a change after a kill: what the API shows and delivers, and what the audit log has.

use std::collections::BTreeMap;

use kiket_sidecar::audit::Verifier;
use kiket_sidecar::crypto::keyring::Keyring;
use kiket_sidecar::domain::id::OrganizationId;
use kiket_sidecar::store::SharedStore;
use serde_json::Value;

/// What stands after a change, or does not: what the API shows without its times, what is delivered, and how many
/// entries of each change the audit log has.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Standing {
    pub(super) shown: Value,
    pub(super) recorded: BTreeMap<String, u64>,
}

/// What the API shows less what is of no account: times, and who looked.
pub(super) fn lasting(mut shown: Value) -> Value {
    const PASSING: &[&str] = &[
        "loaded_by",
        "missing_on",
        "rows_wrapped",
        "rewrap",
        "state",
        "unreadable",
    ];
    match &mut shown {
        Value::Object(members) => {
            let is_key = members.contains_key("loaded_by");
            members.retain(|name, _| {
                !name.ends_with("_at") && !(PASSING.contains(&name.as_str()) && (is_key || name == "rewrap"))
            });
            let is_token = members.contains_key("role") && members.contains_key("created_by");
            let is_raised_here = members
                .get("kind")
                .is_some_and(|kind| kind == "destination-unconfirmed");
            if is_token || is_raised_here {
                members.remove("id"); // a new one each time
            }
            for member in members.values_mut() {
                *member = lasting(member.take());
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| *item = lasting(item.take())),
        _ => {}
    }
    shown
}

/// How many entries of each change the log has, after its chains were found whole.
pub(super) async fn recorded(store: &SharedStore, keyring: &Keyring) -> BTreeMap<String, u64> {
    const CHANGES: &[&str] = &[
        "create",
        "rotate",
        "link",
        "rollback",
        "delete",
        "scaffold",
        "put",
        "update",
        "promote",
        "retire",
        "acknowledge",
        "confirm",
        "accept",
    ];
    let reports = Verifier::new(keyring).unwrap().verify_all(store).await.unwrap();
    assert!(reports.iter().all(|report| report.finding.is_none()), "{reports:?}");
    let mut counts = BTreeMap::new();
    for organization in [None, Some(OrganizationId::parse("org").unwrap())] {
        let mut from = 1;
        loop {
            let page = store.chain(organization.as_ref(), from, 1_000).await.unwrap();
            let Some(last) = page.last() else { break };
            from = last.sequence + 1;
            for entry in page.iter().map(|linked| &linked.entry) {
                let name = entry.action.name();
                if CHANGES.contains(&name.split('.').next_back().unwrap()) {
                    *counts.entry(name.to_owned()).or_default() += 1;
                }
            }
        }
    }
    counts
}
