//! What a row that somebody edited answers.

use kiket_sidecar::domain::scope::Scope;
use kiket_sidecar::store::{Page, Role, SecretQuery, SharedStore, StoreError, Tenancy, Write};

use super::rows::{change, entry, extension, installation, put_extension, put_installation, put_secret, slot, token};
use super::{Harness, chain_key};

/// Each kind of read, by the table it reads.
async fn read(store: &SharedStore, what: &str) -> Result<(), StoreError> {
    let page = Page { after: None, limit: 9 };
    let place = slot("org", Scope::Project, "proj", "KEY");
    match what {
        "slots" => store.slots(&[place]).await.map(drop),
        "secrets" => store
            .secrets(&Tenancy::Platform, &SecretQuery::default(), &page)
            .await
            .map(drop),
        "installation" => store
            .installation(&installation("ins", "org", 1).installation.id)
            .await
            .map(drop),
        "installations" => store.installations(&Tenancy::Platform, &page).await.map(drop),
        "extension" => store.extension(&extension("com.example.a", 1).id).await.map(drop),
        "token" => store.token(&[1; 32]).await.map(drop),
        _ => store.chain(None, 1, 9).await.map(drop),
    }
}

pub async fn an_edited_row_is_damaged_and_says_nothing_of_itself(harness: &impl Harness) {
    let store = harness.open(chain_key()).await;
    let writes = [
        put_extension("com.example.a"),
        put_installation("ins", "org"),
        put_secret(slot("org", Scope::Project, "proj", "KEY")),
        Write::Token(token("tok", 1, Role::Auditor, Some("org"))),
    ];
    store.commit(change(writes)).await.unwrap();
    store.record(vec![entry(None, 1)]).await.unwrap();
    let edits = [
        // What people may call a scope is not its name.
        ("UPDATE secrets SET scope = 'product'", ["secrets", "secrets"]),
        (
            "UPDATE secrets SET scope = 'project', kind = 'kiket-canary'",
            ["slots", "secrets"],
        ),
        ("UPDATE secrets SET kind = 'value', version = -1", ["slots", "secrets"]),
        (
            "UPDATE secrets SET version = 1, predecessor_version = NULL",
            ["slots", "slots"],
        ),
        (
            "UPDATE installations SET state = 'kiket-canary'",
            ["installation", "installations"],
        ),
        (
            "UPDATE installations SET state = 'enabled', project = ''",
            ["installation", "installations"],
        ),
        ("UPDATE installations SET project = 'proj'", ["", ""]),
        ("UPDATE extensions SET version = -1", ["extension", "installation"]),
        ("UPDATE tokens SET role = 'kiket-canary'", ["token", "token"]),
        (
            "UPDATE tokens SET role = 'auditor', organization = 'kiket canary'",
            ["token", "token"],
        ),
        ("UPDATE audit SET action = 'kiket-canary'", ["chain", "chain"]),
        (
            "UPDATE audit SET action = 'secret.get', external = 2",
            ["chain", "chain"],
        ),
        ("UPDATE audit SET external = 1, count = NULL", ["chain", "chain"]),
    ];
    for (sql, reads) in edits {
        harness.damage(sql).await;
        for what in reads.into_iter().filter(|what| !what.is_empty()) {
            let refused = read(&store, what).await.expect_err(sql);
            assert_eq!(refused, StoreError::Damaged, "{sql}: {what}");
            assert!(!format!("{refused:?} {refused}").contains("canary"));
        }
    }
    assert_eq!(store.health().await, Ok(()), "one damaged row is not the store's end");
}
