//! Whether the ends of chains, their signed heads, and what was removed before one are kept as they were told.

use kiket_sidecar::crypto::checkpoint::Checkpoint;
use kiket_sidecar::domain::time::Timestamp;
use kiket_sidecar::store::{AuditQuery, Change, CheckpointRow, Page, SharedStore, StoreError, Tenancy, Write};

use super::rows::{bare_entry, change, entry, organization};
use super::{Harness, chain_key};

/// A checkpoint of a chain at one of its entries.
async fn checkpoint(store: &SharedStore, of: Option<&str>, sequence: u64, at: u64) -> CheckpointRow {
    let organization = of.map(organization);
    let chain = store.chain(organization.as_ref(), sequence, 1).await.unwrap();
    CheckpointRow {
        checkpoint: Checkpoint {
            organization,
            sequence,
            hash: chain[0].link.hash,
            at: Timestamp(at),
        },
        signature: vec![7; 64],
    }
}

pub async fn every_chain_is_named_and_ends_where_its_head_says(harness: &impl Harness) {
    let store = harness.open(chain_key()).await;
    assert_eq!(store.chains().await.unwrap(), []);
    assert_eq!(store.chain_head(None).await.unwrap(), None);
    let entries = vec![entry(Some("org_b"), 1), entry(None, 2), entry(Some("org_b"), 3)];
    store.record(entries).await.unwrap();
    let b = organization("org_b");
    assert_eq!(store.chains().await.unwrap(), [None, Some(b.clone())]);
    let heads = store.chain_heads().await.unwrap();
    for (head, (of, sequence)) in heads.iter().zip([(None, 1), (Some(&b), 2)]) {
        assert_eq!((head.organization.as_ref(), head.sequence), (of, sequence));
        assert_eq!(store.chain_head(of).await.unwrap().as_ref(), Some(head));
        let last = store.chain(of, sequence, 1).await.unwrap();
        assert_eq!(last[0].link.hash, head.hash);
    }
    assert_eq!(store.chain_head(Some(&organization("org"))).await.unwrap(), None);
    // What somebody left over of a chain names it still.
    harness.damage("DELETE FROM chain_heads WHERE chain = 'org_b'").await;
    assert_eq!(store.chains().await.unwrap(), [None, Some(b)]);
}

pub async fn checkpoints_are_read_from_any_position_and_the_last_before_a_moment(harness: &impl Harness) {
    let store = harness.open(chain_key()).await;
    let entries = (1..=6).map(|at| entry(Some("org"), at)).chain([entry(None, 9)]);
    store.record(entries.collect()).await.unwrap();
    let org = organization("org");
    let mut rows = Vec::new();
    for (sequence, at) in [(2, 100), (4, 200), (6, 300)] {
        rows.push(checkpoint(&store, Some("org"), sequence, at).await);
    }
    store
        .commit(change(rows.iter().cloned().map(Write::Checkpoint)))
        .await
        .unwrap();
    // One that is there already stays as it is.
    let again = CheckpointRow {
        signature: vec![8],
        ..rows[0].clone()
    };
    store.commit(change([Write::Checkpoint(again)])).await.unwrap();
    let part = async |from, limit| store.checkpoints(Some(&org), from, limit).await.unwrap();
    assert_eq!(part(0, 9).await, rows);
    assert_eq!(part(2, 1).await, rows[..1]);
    assert_eq!(part(3, 2).await, rows[1..]);
    assert_eq!(part(7, 9).await, []);
    assert_eq!(store.checkpoints(None, 0, 9).await.unwrap(), []);
    let last = async |before| store.last_checkpoint(Some(&org), Timestamp(before)).await.unwrap();
    for (before, expected) in [
        (100, None),
        (101, Some(0)),
        (300, Some(1)),
        (301, Some(2)),
        (u64::MAX, Some(2)),
    ] {
        assert_eq!(
            last(before).await.as_ref(),
            expected.map(|n: usize| &rows[n]),
            "before {before}"
        );
    }
    assert_eq!(store.last_checkpoint(None, Timestamp(u64::MAX)).await.unwrap(), None);
}

pub async fn a_chain_is_removed_up_to_a_checkpoint_only_and_goes_on_from_there(harness: &impl Harness) {
    let key = chain_key();
    let store = harness.open(key.clone()).await;
    let org = organization("org");
    let entries = (1..=5).map(|at| entry(Some("org"), at)).chain([bare_entry(None, 6)]);
    store.record(entries.collect()).await.unwrap();
    let row = checkpoint(&store, Some("org"), 3, 10).await;
    store.commit(change([Write::Checkpoint(row.clone())])).await.unwrap();
    let prune = |of: Option<&str>, up_to| Change {
        writes: vec![Write::AuditPruned {
            organization: of.map(organization),
            up_to,
        }],
        entries: vec![bare_entry(of, 11)],
    };
    for (of, up_to) in [(Some("org"), 2), (Some("org"), 4), (None, 1), (Some("org_b"), 3)] {
        let refused = store.commit(prune(of, up_to)).await;
        assert_eq!(refused, Err(StoreError::Conflict), "{of:?} {up_to}");
    }
    assert_eq!(store.chain(Some(&org), 0, 9).await.unwrap().len(), 5, "nothing is gone");
    store.commit(prune(Some("org"), 3)).await.unwrap();
    let left = store.chain(Some(&org), 0, 9).await.unwrap();
    assert_eq!(left.iter().map(|linked| linked.sequence).collect::<Vec<_>>(), [4, 5, 6]);
    assert!(left.is_sorted_by_key(|linked| linked.position));
    let part: Vec<_> = left.iter().map(|row| (row.sequence, &row.entry, row.link)).collect();
    assert!(key.verify(&row.checkpoint.hash, 3, &part).is_ok());
    assert_eq!(store.chain(None, 0, 9).await.unwrap().len(), 1);
    let page = Page { after: None, limit: 9 };
    let listed = store
        .audit(&Tenancy::Organization(org), &AuditQuery::default(), &page)
        .await
        .unwrap();
    let newest_first: Vec<u64> = listed.rows.iter().map(|linked| linked.sequence).collect();
    assert_eq!(newest_first, [6, 5, 4]);
}
