//! What stands at a place: secrets by slot, an installation with its extension, and whether a name is known at all.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use kiket_sidecar::domain::id::{InstallationId, ScopeId};
use kiket_sidecar::domain::scope::{Scope, Slot};
use kiket_sidecar::domain::secret::SecretKind;
use kiket_sidecar::store::{Role, SharedStore, Write};

use super::rows::{
    bare, change, extension, installation, organization, put_extension, put_installation, put_secret, secret, slot,
    token,
};
use super::{Harness, chain_key};

pub async fn slots_answer_what_stands_there_tombstones_included_and_nothing_else(harness: &impl Harness) {
    let store = harness.open(chain_key()).await;
    let asked = slot("org", Scope::Project, "proj", "KEY");
    let deleted = slot("org", Scope::Project, "proj", "GONE");
    // Each differs from the slot asked for in one part only.
    let others = [
        slot("", Scope::Project, "proj", "KEY"),
        slot("org2", Scope::Project, "proj", "KEY"),
        slot("org", Scope::Organization, "proj", "KEY"),
        slot("org", Scope::Project, "proj2", "KEY"),
        slot("org", Scope::Project, "Proj", "KEY"),
        slot("org", Scope::Project, "proj", "KEY2"),
    ];
    store.commit(change(others.map(put_secret))).await.unwrap();
    assert_eq!(store.slots(&[asked.clone(), deleted.clone()]).await, Ok(vec![]));
    assert_eq!(store.slots(&[]).await, Ok(vec![]));
    let tombstone = bare(deleted.clone(), SecretKind::Tombstone, 1);
    let write = Write::Secret {
        row: tombstone.clone(),
        expected: None,
    };
    store.commit(change([put_secret(asked.clone()), write])).await.unwrap();
    assert_eq!(
        store.slots(std::slice::from_ref(&asked)).await,
        Ok(vec![secret(asked, 1)])
    );
    assert_eq!(store.slots(&[deleted]).await, Ok(vec![tombstone]));
}

pub async fn slots_are_asked_many_at_a_time_and_each_row_comes_once(harness: &impl Harness) {
    let store = harness.open(chain_key()).await;
    let all: Vec<Slot> = (0..2_000)
        .map(|n| slot("org", Scope::Project, "proj", &format!("K{n}")))
        .collect();
    let every_other = all.iter().step_by(2).cloned();
    store.commit(change(every_other.map(put_secret))).await.unwrap();
    let twice: Vec<Slot> = all.iter().chain(&all).cloned().collect();
    let mut found: Vec<Slot> = store
        .slots(&twice)
        .await
        .unwrap()
        .into_iter()
        .map(|row| row.meta.slot)
        .collect();
    found.sort();
    let mut expected: Vec<Slot> = all.iter().step_by(2).cloned().collect();
    expected.sort();
    assert_eq!(found, expected);
}

pub async fn slots_of_one_question_are_read_in_one_snapshot(harness: &impl Harness) {
    let store = harness.open(chain_key()).await;
    let pair = ["CERT", "CERT_KEY"].map(|key| slot("org", Scope::Project, "proj", key));
    store.commit(change(pair.clone().map(put_secret))).await.unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let writer = {
        let (store, pair, stop) = (SharedStore::clone(&store), pair.clone(), Arc::clone(&stop));
        tokio::spawn(async move {
            for version in 1.. {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                let writes = pair.clone().map(|slot| Write::Secret {
                    row: secret(slot, version + 1),
                    expected: Some(version),
                });
                store.commit(change(writes)).await.unwrap();
            }
        })
    };
    let mut seen = 1;
    while seen < 20 {
        let rows = store.slots(&pair).await.unwrap();
        assert_eq!(rows[0].meta.version, rows[1].meta.version);
        seen = rows[0].meta.version;
    }
    stop.store(true, Ordering::Relaxed);
    writer.await.unwrap();
}

pub async fn an_installation_comes_with_its_extension_or_not_at_all(harness: &impl Harness) {
    let store = harness.open(chain_key()).await;
    let id = InstallationId::parse("ins").unwrap();
    assert_eq!(store.installation(&id).await, Ok(None));
    let writes = [put_extension("com.example.a"), put_installation("ins", "org")];
    store.commit(change(writes)).await.unwrap();
    for other in ["in", "ins2", "INS", "org"] {
        assert_eq!(
            store.installation(&InstallationId::parse(other).unwrap()).await,
            Ok(None),
            "{other}"
        );
    }
    let replaced = [
        Write::Extension {
            row: extension("com.example.a", 2),
            expected: Some(1),
        },
        Write::Installation {
            row: installation("ins", "org", 2),
            expected: Some(1),
        },
    ];
    store.commit(change(replaced)).await.unwrap();
    let snapshot = store.installation(&id).await.unwrap().unwrap();
    assert_eq!(snapshot.installation, installation("ins", "org", 2));
    assert_eq!(snapshot.extension, extension("com.example.a", 2));
}

pub async fn an_installation_and_its_extension_are_read_in_one_snapshot(harness: &impl Harness) {
    let store = harness.open(chain_key()).await;
    let id = InstallationId::parse("ins").unwrap();
    let writes = [put_extension("com.example.a"), put_installation("ins", "org")];
    store.commit(change(writes)).await.unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let writer = {
        let (store, stop) = (SharedStore::clone(&store), Arc::clone(&stop));
        tokio::spawn(async move {
            for version in 1.. {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                let writes = [
                    Write::Extension {
                        row: extension("com.example.a", version + 1),
                        expected: Some(version),
                    },
                    Write::Installation {
                        row: installation("ins", "org", version + 1),
                        expected: Some(version),
                    },
                ];
                store.commit(change(writes)).await.unwrap();
            }
        })
    };
    let mut seen = 1;
    while seen < 100 {
        let snapshot = store.installation(&id).await.unwrap().unwrap();
        seen = snapshot.extension.version;
        assert_eq!(snapshot.installation.installation.version, seen);
    }
    stop.store(true, Ordering::Relaxed);
    writer.await.unwrap();
}

pub async fn a_scope_is_known_once_anything_of_the_organization_names_it(harness: &impl Harness) {
    let store = harness.open(chain_key()).await;
    let known = async |of: &str, scope: Scope, id: &str| {
        let id = ScopeId::parse(id).unwrap();
        store.scope_known(&organization(of), scope, &id).await.unwrap()
    };
    let named_by_an_installation = [
        (Scope::ExtensionInstallation, "ins"),
        (Scope::ProductInstallation, "prod"),
        (Scope::Project, "proj"),
        (Scope::Organization, "org"),
    ];
    for (scope, id) in named_by_an_installation {
        assert!(!known("org", scope, id).await, "{scope}");
    }
    assert!(!known("org", Scope::Extension, "com.example.a").await);
    let writes = [put_extension("com.example.a"), put_installation("ins", "org")];
    store.commit(change(writes)).await.unwrap();
    for (scope, id) in named_by_an_installation {
        assert!(known("org", scope, id).await, "{scope}");
        assert!(!known("org", scope, "other").await, "{scope}");
        assert!(!known("org2", scope, id).await, "{scope}: another organization's");
    }
    assert!(
        known("org2", Scope::Extension, "com.example.a").await,
        "an extension is everyone's"
    );

    store
        .commit(change([put_secret(slot("org3", Scope::Project, "p3", "KEY"))]))
        .await
        .unwrap();
    assert!(known("org3", Scope::Project, "p3").await);
    assert!(
        !known("org3", Scope::ProductInstallation, "p3").await,
        "the same id at another scope"
    );
    assert!(known("org3", Scope::Organization, "org3").await);
    assert!(!known("org2", Scope::Project, "p3").await);

    let made = token("tok", 1, Role::OrgAdmin, Some("org4"));
    store.commit(change([Write::Token(made)])).await.unwrap();
    assert!(known("org4", Scope::Organization, "org4").await);
}
