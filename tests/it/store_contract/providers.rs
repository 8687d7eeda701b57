//! How an organization's providers are kept: its own, by name, few, and one default at most.

use kiket_sidecar::domain::change::Changed;
use kiket_sidecar::domain::id::ScopeId;
use kiket_sidecar::domain::provider::ProviderName;
use kiket_sidecar::domain::scope::Scope;
use kiket_sidecar::domain::time::Timestamp;
use kiket_sidecar::store::{FeedPosition, PROVIDERS_MAX, ProviderRow, SharedStore, StoreError, Write};

use super::rows::{change, organization};
use super::{Harness, chain_key};

pub fn provider(of: &str, name: &str, version: u64) -> ProviderRow {
    ProviderRow {
        organization: organization(of),
        name: ProviderName::parse(name).unwrap(),
        document: format!("{{\"kind\":\"vault\",\"of\":\"{of} \u{1f511} '\\\\\",\"v\":{version}}}"),
        is_default: false,
        version,
        created_at: Timestamp(12),
        updated_at: Timestamp(13),
        mac: vec![0, 255, 7],
    }
}

fn default(of: &str, name: &str, version: u64) -> ProviderRow {
    ProviderRow {
        is_default: true,
        ..provider(of, name, version)
    }
}

fn put(row: ProviderRow) -> Write {
    let expected = (row.version > 1).then(|| row.version - 1);
    Write::Provider { row, expected }
}

fn gone(of: &str, name: &str, expected: u64) -> Write {
    Write::ProviderGone {
        organization: organization(of),
        name: ProviderName::parse(name).unwrap(),
        expected,
    }
}

async fn commit(store: &SharedStore, writes: impl IntoIterator<Item = Write>) -> Result<(), StoreError> {
    store.commit(change(writes)).await
}

pub async fn an_organization_has_its_own_providers_only_and_by_name(harness: &impl Harness) {
    let store = harness.open(chain_key()).await;
    let written = [
        provider("org", "b", 1),
        default("org", "a-2", 1),
        default("other", "a", 1),
    ];
    commit(&store, written.clone().map(put)).await.unwrap();
    let [b, a, other] = written;
    assert_eq!(store.providers(&organization("org")).await, Ok(vec![a, b]));
    assert_eq!(store.providers(&organization("other")).await, Ok(vec![other]));
    for nobody in ["Org", "or", "orgs"] {
        assert_eq!(store.providers(&organization(nobody)).await, Ok(vec![]), "{nobody}");
    }
}

pub async fn a_provider_is_replaced_and_removed_at_the_version_that_stands(harness: &impl Harness) {
    let store = harness.open(chain_key()).await;
    let replace = |row: ProviderRow, expected| commit(&store, [Write::Provider { row, expected }]);
    assert_eq!(
        replace(provider("org", "a", 2), Some(1)).await,
        Err(StoreError::Conflict)
    );
    assert_eq!(replace(provider("org", "a", 1), None).await, Ok(()));
    assert_eq!(replace(provider("org", "a", 1), None).await, Err(StoreError::Conflict));
    assert_eq!(
        replace(provider("org", "a", 9), Some(2)).await,
        Err(StoreError::Conflict)
    );
    assert_eq!(replace(default("org", "a", 2), Some(1)).await, Ok(()));
    let standing = store.providers(&organization("org")).await;
    assert_eq!(standing, Ok(vec![default("org", "a", 2)]));
    for (of, name, version) in [("org", "a", 1), ("org", "a", 3), ("other", "a", 2), ("org", "b", 2)] {
        let refused = commit(&store, [gone(of, name, version)]).await;
        assert_eq!(refused, Err(StoreError::Conflict), "{of} {name} {version}");
    }
    assert_eq!(commit(&store, [gone("org", "a", 2)]).await, Ok(()));
    assert_eq!(store.providers(&organization("org")).await, Ok(vec![]));
}

pub async fn an_organization_has_one_default_provider_at_most(harness: &impl Harness) {
    let store = harness.open(chain_key()).await;
    commit(&store, [default("org", "a", 1), provider("org", "b", 1)].map(put))
        .await
        .unwrap();
    let second = commit(&store, [put(default("org", "b", 2))]).await;
    assert_eq!(second, Err(StoreError::Conflict));
    let third = commit(&store, [put(default("org", "c", 1))]).await;
    assert_eq!(third, Err(StoreError::Conflict));
    commit(&store, [put(default("other", "a", 1))]).await.unwrap();
    let moved = [provider("org", "a", 2), default("org", "b", 2)];
    assert_eq!(commit(&store, moved.clone().map(put)).await, Ok(()));
    assert_eq!(store.providers(&organization("org")).await, Ok(moved.to_vec()));
    // Also to a new one, whose name comes first.
    let moved = [provider("org", "b", 3), default("org", "a-new", 1)];
    assert_eq!(commit(&store, moved.map(put)).await, Ok(()));
    let moved = [provider("org", "a-new", 2), default("org", "a", 3)];
    assert_eq!(commit(&store, moved.map(put)).await, Ok(()));
    let standing = [
        default("org", "a", 3),
        provider("org", "a-new", 2),
        provider("org", "b", 3),
    ];
    assert_eq!(store.providers(&organization("org")).await, Ok(standing.to_vec()));
}

pub async fn an_organization_has_a_bounded_number_of_providers(harness: &impl Harness) {
    let store = harness.open(chain_key()).await;
    let most = usize::try_from(PROVIDERS_MAX).unwrap();
    for n in 0..most {
        let written = commit(&store, [put(provider("org", &format!("p{n:03}"), 1))]).await;
        assert_eq!(written, Ok(()), "{n}");
    }
    let one_more = commit(&store, [put(provider("org", "more", 1))]).await;
    assert_eq!(one_more, Err(StoreError::Conflict));
    assert_eq!(store.providers(&organization("org")).await.unwrap().len(), most);
    let elsewhere = commit(&store, [put(provider("other", "more", 1))]).await;
    assert_eq!(elsewhere, Ok(()), "each organization has its own bound");
    let replaced = commit(&store, [put(provider("org", "p000", 2))]).await;
    assert_eq!(replaced, Ok(()), "what is there can be replaced");
    commit(&store, [gone("org", "p001", 1), put(provider("org", "more", 1))])
        .await
        .unwrap();
}

pub async fn a_change_of_providers_is_told_and_names_the_organization(harness: &impl Harness) {
    let store = harness.open(chain_key()).await;
    let (org, scope_id) = (organization("org"), ScopeId::parse("org").unwrap());
    let is_known = || store.scope_known(&org, Scope::Organization, &scope_id);
    assert_eq!(is_known().await, Ok(false));
    commit(&store, [put(provider("org", "a", 1))]).await.unwrap();
    assert_eq!(is_known().await, Ok(true));
    assert_eq!(store.organizations().await, Ok(vec![organization("org")]));
    let (told, reached) = store.changes(FeedPosition::default()).await.unwrap();
    assert_eq!(told, [Changed::Providers(organization("org"))]);
    commit(&store, [gone("org", "a", 1)]).await.unwrap();
    let (told, _) = store.changes(reached).await.unwrap();
    assert!(told.contains(&Changed::Providers(organization("org"))), "{told:?}");
    assert_eq!(is_known().await, Ok(false));
}

pub async fn an_edited_provider_is_damaged(harness: &impl Harness) {
    let store = harness.open(chain_key()).await;
    commit(&store, [put(provider("org", "a", 1))]).await.unwrap();
    for sql in [
        "UPDATE providers SET name = 'kiket canary'",
        "UPDATE providers SET name = 'a', is_default = 2",
        "UPDATE providers SET is_default = 0, version = -1",
        "UPDATE providers SET version = 1, updated_at = -1",
    ] {
        harness.damage(sql).await;
        let refused = store.providers(&organization("org")).await;
        assert_eq!(refused, Err(StoreError::Damaged), "{sql}");
    }
}
