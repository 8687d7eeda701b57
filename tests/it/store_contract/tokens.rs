//! How tokens are found, and when the bootstrap token ends.

use kiket_sidecar::domain::time::Timestamp;
use kiket_sidecar::store::{Role, StoreError, Write};

use super::rows::{change, token};
use super::{Harness, chain_key};

pub async fn a_token_is_found_by_its_hash_alone(harness: &impl Harness) {
    let store = harness.open(chain_key()).await;
    let rows = [
        token("a", 1, Role::PlatformOperator, None),
        token("b", 2, Role::OrgAdmin, Some("org")),
        token("c", 3, Role::Auditor, Some("org")),
        token("d", 4, Role::Dispatcher, None),
    ];
    store.commit(change(rows.clone().map(Write::Token))).await.unwrap();
    for row in rows {
        assert_eq!(store.token(&row.hash).await, Ok(Some(row)));
    }
    let mut close = [1; 32];
    close[31] = 0;
    assert_eq!(store.token(&close).await, Ok(None));
}

pub async fn a_token_is_found_by_its_id(harness: &impl Harness) {
    let store = harness.open(chain_key()).await;
    let row = token("a", 1, Role::Auditor, Some("org"));
    store.commit(change([Write::Token(row.clone())])).await.unwrap();
    assert_eq!(store.token_by_id("a").await, Ok(Some(row)));
    for other in ["", "A", "a ", "b"] {
        assert_eq!(store.token_by_id(other).await, Ok(None), "{other:?}");
    }
}

pub async fn the_last_operator_token_without_an_end_stays(harness: &impl Harness) {
    let store = harness.open(chain_key()).await;
    let mut ending = token("ending", 1, Role::PlatformOperator, None);
    ending.expires_at = Some(Timestamp(u64::MAX >> 1));
    let rows = [
        ending,
        token("one", 2, Role::PlatformOperator, None),
        token("two", 3, Role::PlatformOperator, None),
        token("other", 4, Role::OrgAdmin, Some("org")),
    ];
    store.commit(change(rows.map(Write::Token))).await.unwrap();
    let remove = |id: &str| store.commit(change([Write::TokenGone { id: id.into() }]));
    assert_eq!(remove("one").await, Ok(()));
    assert_eq!(
        remove("two").await,
        Err(StoreError::Conflict),
        "one that ends is not enough"
    );
    assert_eq!(remove("ending").await, Ok(()));
    assert_eq!(remove("other").await, Ok(()));
    assert_eq!(remove("two").await, Err(StoreError::Conflict));
    assert!(store.token_by_id("two").await.unwrap().is_some());
}

pub async fn a_hash_is_taken_once(harness: &impl Harness) {
    let store = harness.open(chain_key()).await;
    let insert = |id: &str, hash: u8| store.commit(change([Write::Token(token(id, hash, Role::Auditor, Some("org")))]));
    assert_eq!(insert("a", 1).await, Ok(()));
    assert_eq!(insert("b", 1).await, Err(StoreError::Conflict));
    assert_eq!(insert("a", 2).await, Err(StoreError::Conflict));
    assert_eq!(insert("b", 2).await, Ok(()));
    assert_eq!(store.token(&[1; 32]).await.unwrap().unwrap().id, "a");
}

pub async fn an_operator_token_is_noticed_and_no_other(harness: &impl Harness) {
    let store = harness.open(chain_key()).await;
    assert_eq!(store.has_operator_token().await, Ok(false));
    for (hash, role) in [(1, Role::OrgAdmin), (2, Role::Auditor), (3, Role::Dispatcher)] {
        let row = token(role.name(), hash, role, Some("org"));
        store.commit(change([Write::Token(row)])).await.unwrap();
        assert_eq!(store.has_operator_token().await, Ok(false), "{role:?}");
    }
    let row = token("op", 4, Role::PlatformOperator, None);
    store.commit(change([Write::Token(row)])).await.unwrap();
    assert_eq!(store.has_operator_token().await, Ok(true));
}
