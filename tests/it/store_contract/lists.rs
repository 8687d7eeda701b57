//! What a tenancy sees in a list, and how a list is walked.

use kiket_sidecar::domain::id::ScopeId;
use kiket_sidecar::domain::key::SecretKey;
use kiket_sidecar::domain::scope::{Scope, Slot};
use kiket_sidecar::domain::secret::SecretKind;
use kiket_sidecar::store::{Listed, Page, SecretQuery, SecretRow, SharedStore, Tenancy, Write};

use super::rows::{
    bare, change, installation, organization, put_extension, put_installation, put_secret, secret, slot,
};
use super::{Harness, chain_key};

const ALL: Page = Page {
    after: None,
    limit: 1_000,
};

fn tenancy(of: &str) -> Tenancy {
    Tenancy::Organization(organization(of))
}

async fn slots_seen(store: &SharedStore, tenancy: &Tenancy, query: &SecretQuery) -> Vec<Slot> {
    let listed = store.secrets(tenancy, query, &ALL).await.unwrap();
    assert_eq!(listed.next, None);
    listed.rows.into_iter().map(|row| row.meta.slot).collect()
}

pub async fn an_organization_lists_its_own_secrets_only_and_never_a_partners(harness: &impl Harness) {
    let store = harness.open(chain_key()).await;
    let a = [
        slot("org_a", Scope::Extension, "com.example.a", "KEY"),
        slot("org_a", Scope::Project, "org_b", "KEY"), // named like the other, owned by A
    ];
    let b = [slot("org_b", Scope::Extension, "com.example.a", "KEY")];
    let partner = [slot("", Scope::Extension, "com.example.a", "KEY")];
    let all: Vec<Slot> = [a.as_slice(), &b, &partner].concat();
    store.commit(change(all.iter().cloned().map(put_secret))).await.unwrap();
    let everything = SecretQuery::default();
    assert_eq!(slots_seen(&store, &tenancy("org_a"), &everything).await, a);
    assert_eq!(slots_seen(&store, &tenancy("org_b"), &everything).await, b);
    assert_eq!(slots_seen(&store, &tenancy("org"), &everything).await, []);
    assert_eq!(slots_seen(&store, &Tenancy::Platform, &everything).await, all);
    let listed = store.secrets(&tenancy("org_b"), &everything, &ALL).await.unwrap();
    let without_value = SecretRow {
        sealed: Vec::new(),
        predecessor: None,
        ..secret(b[0].clone(), 1)
    };
    assert_eq!(listed.rows, [without_value]);
}

pub async fn an_organization_lists_its_own_installations_only(harness: &impl Harness) {
    let store = harness.open(chain_key()).await;
    let writes = [
        put_extension("com.example.a"),
        put_installation("one", "org_a"),
        put_installation("two", "org_b"),
        put_installation("three", "org_a"),
    ];
    store.commit(change(writes)).await.unwrap();
    let seen = async |tenancy: Tenancy| store.installations(&tenancy, &ALL).await.unwrap();
    let rows = |ids: &[(&str, &str)]| Listed {
        rows: ids.iter().map(|(id, of)| installation(id, of, 1)).collect(),
        next: None,
    };
    assert_eq!(
        seen(tenancy("org_a")).await,
        rows(&[("one", "org_a"), ("three", "org_a")])
    );
    assert_eq!(seen(tenancy("org_b")).await, rows(&[("two", "org_b")]));
    assert_eq!(seen(tenancy("org")).await, rows(&[]));
    assert_eq!(seen(Tenancy::Platform).await.rows.len(), 3);
}

pub async fn a_query_narrows_by_scope_id_and_key_together(harness: &impl Harness) {
    let store = harness.open(chain_key()).await;
    let all = [
        slot("org", Scope::Project, "x", "A"),
        slot("org", Scope::Project, "x", "B"),
        slot("org", Scope::Project, "y", "A"),
        slot("org", Scope::ProductInstallation, "x", "A"),
        slot("other", Scope::Project, "x", "A"),
    ];
    store.commit(change(all.clone().map(put_secret))).await.unwrap();
    let query = |scope: Option<Scope>, id: Option<&str>, key: Option<&str>| SecretQuery {
        scope,
        scope_id: id.map(|id| ScopeId::parse(id).unwrap()),
        key: key.map(|key| SecretKey::parse(key).unwrap()),
    };
    let project = Some(Scope::Project);
    for (query, expected) in [
        (query(None, None, None), vec![0, 1, 2, 3]),
        (query(project, None, None), vec![0, 1, 2]),
        (query(None, Some("x"), None), vec![0, 1, 3]),
        (query(None, None, Some("A")), vec![0, 2, 3]),
        (query(project, Some("x"), None), vec![0, 1]),
        (query(project, Some("x"), Some("A")), vec![0]),
        (query(Some(Scope::Organization), None, None), vec![]),
        (query(project, Some("x"), Some("C")), vec![]),
    ] {
        let expected: Vec<Slot> = expected.into_iter().map(|n: usize| all[n].clone()).collect();
        assert_eq!(slots_seen(&store, &tenancy("org"), &query).await, expected, "{query:?}");
    }
}

pub async fn tombstones_are_never_listed(harness: &impl Harness) {
    let store = harness.open(chain_key()).await;
    let kinds = [
        SecretKind::Value,
        SecretKind::Reference,
        SecretKind::Placeholder,
        SecretKind::Tombstone,
    ];
    let writes = kinds.map(|kind| Write::Secret {
        row: bare(
            slot("org", Scope::Project, "proj", &kind.name().to_uppercase()),
            kind,
            1,
        ),
        expected: None,
    });
    store.commit(change(writes)).await.unwrap();
    for tenancy in [tenancy("org"), Tenancy::Platform] {
        let listed = store.secrets(&tenancy, &SecretQuery::default(), &ALL).await.unwrap();
        let seen: Vec<SecretKind> = listed.rows.iter().map(|row| row.meta.kind).collect();
        assert_eq!(seen, kinds[..3]);
    }
}

/// The keys of an organization's secrets, walked page by page, and how many pages that took.
async fn walk(store: &SharedStore, limit: u32) -> (Vec<String>, usize) {
    let (mut keys, mut pages, mut after) = (Vec::new(), 0, None);
    loop {
        let page = Page { after, limit };
        let listed = store
            .secrets(&tenancy("org"), &SecretQuery::default(), &page)
            .await
            .unwrap();
        assert!(listed.rows.len() <= limit as usize);
        keys.extend(listed.rows.iter().map(|row| row.meta.slot.key.to_string()));
        pages += 1;
        after = listed.next;
        if after.is_none() {
            return (keys, pages);
        }
        assert_eq!(listed.rows.len(), limit as usize, "a page in the middle is full");
    }
}

pub async fn pages_meet_without_gap_or_overlap_at_every_limit(harness: &impl Harness) {
    let store = harness.open(chain_key()).await;
    assert_eq!(walk(&store, 1).await, (vec![], 1));
    for n in 0..6 {
        let own = put_secret(slot("org", Scope::Project, "proj", &format!("K{n}")));
        let foreign = put_secret(slot("other", Scope::Project, "proj", &format!("K{n}"))); // stands between
        store.commit(change([own, foreign])).await.unwrap();
    }
    let all: Vec<String> = (0..6).map(|n| format!("K{n}")).collect();
    for (limit, pages) in [(1, 6), (2, 3), (4, 2), (5, 2), (6, 1), (7, 1), (u32::MAX, 1)] {
        assert_eq!(walk(&store, limit).await, (all.clone(), pages), "limit {limit}");
    }
    let beyond = Page {
        after: Some(u64::MAX >> 1),
        limit: 5,
    };
    let listed = store
        .secrets(&tenancy("org"), &SecretQuery::default(), &beyond)
        .await
        .unwrap();
    assert_eq!((listed.rows.len(), listed.next), (0, None));
}

pub async fn pages_stay_stable_while_rows_are_written(harness: &impl Harness) {
    let store = harness.open(chain_key()).await;
    let place = |n: u32| slot("org", Scope::Project, "proj", &format!("K{n}"));
    store
        .commit(change((10..16).map(|n| put_secret(place(n)))))
        .await
        .unwrap();
    let (mut seen, mut after) = (Vec::new(), None);
    for round in 0_u32.. {
        let page = Page { after, limit: 2 };
        let listed = store
            .secrets(&tenancy("org"), &SecretQuery::default(), &page)
            .await
            .unwrap();
        seen.extend(listed.rows.into_iter().map(|row| row.meta.slot.key.to_string()));
        after = listed.next;
        if after.is_none() {
            break;
        }
        if round < 3 {
            // Sorts before everything by key; replaces a row already seen; removes nothing.
            let replaced = Write::Secret {
                row: secret(place(10), u64::from(round) + 2),
                expected: Some(u64::from(round) + 1),
            };
            store
                .commit(change([put_secret(place(round)), replaced]))
                .await
                .unwrap();
        }
    }
    let mut once = seen.clone();
    once.sort();
    once.dedup();
    assert_eq!(once.len(), seen.len(), "a row came twice: {seen:?}");
    for n in 10..16 {
        assert!(seen.contains(&format!("K{n}")), "K{n} was missed: {seen:?}");
    }
}
