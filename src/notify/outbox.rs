//! How the outbox is worked off: leased, tried, tried again ever later, at last given up. At least once, each time under
//! the same id.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::mail::Mailer;
use super::post::Post;
use super::{LOOK_EVERY, Sources};
use crate::bundles::Bundles;
use crate::crypto::signature::SignaturePrefix;
use crate::delivery::identity::TlsClient;
use crate::domain::policy::DAY_MILLIS;
use crate::domain::time::Timestamp;
use crate::secrets::resolve::SecretResolver;
use crate::store::{Change, Notice, OutboxRow, Sightings, StoreError, Write};
use crate::telemetry::{Metrics, NoticeKind, NoticeOutcome};

/// Notices under way at a time.
const UNDER_WAY_MAX: usize = 64;

/// How long a notice is this instance's: longer than any attempt takes. If the instance dies, another one, or this one
/// after its restart, tries again after that.
pub const LEASE_MILLIS: u64 = 60 * 1_000;

/// The wait after the first failure; it doubles with each.
pub const RETRY_MILLIS: u64 = 5 * 1_000;

/// The longest wait between two attempts.
const RETRY_MILLIS_MAX: u64 = 60 * 60 * 1_000;

/// How often a notice is tried.
pub const ATTEMPTS_MAX: u32 = 20;

/// How old a notice becomes.
const AGE_MILLIS_MAX: u64 = DAY_MILLIS;

/// How often the store is asked although nothing is known to be due: other instances may have left something.
const ASK_EVERY_MILLIS: u64 = 10 * 1_000;

/// The moments at which something is known to become due that are kept in mind; the store knows the others.
const DUE_TIMES_MAX: usize = 10_000;

/// What notices are delivered with.
pub struct Outbox {
    /// Where they are kept, and whom they concern.
    pub sources: Sources,
    /// The identities and signatures of installations.
    pub bundles: Bundles,
    /// Opens the secrets that sign alerts.
    pub secrets: SecretResolver,
    /// The handshake for webhooks of organizations: the system's roots, no certificate.
    pub plain: TlsClient,
    /// How Kiket's signature is written.
    pub prefix: SignaturePrefix,
    /// Whether webhooks may be plain HTTP.
    pub allow_http: bool,
    /// Posts.
    pub post: Post,
    /// Mails, where there is a mail server.
    pub mailer: Option<Mailer>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The notice was taken.
    Delivered,
    /// Nobody wants it any more.
    Dropped,
    /// It was found out who has to be told: these, each by a notice of its own.
    Expanded(Vec<OutboxRow>),
    /// It was not taken, and why.
    Failed(String),
}

impl Outbox {
    /// Delivers what is due, until `stop`; then what is due at that moment, and what is under way.
    pub async fn run(self: Arc<Self>, sightings: Arc<Sightings>, stop: CancellationToken) {
        let mut under_way = JoinSet::new();
        let mut due = BTreeSet::from([Timestamp(0)]);
        loop {
            let now = self.sources.clock.now();
            let is_due = due.first().is_some_and(|first| *first <= now);
            if is_due && under_way.len() < UNDER_WAY_MAX {
                due.retain(|at| *at > now);
                due.insert(self.take(&mut under_way, now).await);
            }
            let next = tokio::select! {
                () = stop.cancelled() => break,
                () = sightings.next_notice() => Some(now),
                // One that panicked is leased again later.
                Some(next) = under_way.join_next(), if !under_way.is_empty() => next.ok().flatten(),
                () = tokio::time::sleep(LOOK_EVERY) => None,
            };
            if due.len() < DUE_TIMES_MAX {
                due.extend(next);
            }
        }
        let now = self.sources.clock.now();
        self.take(&mut under_way, now).await;
        while under_way.join_next().await.is_some() {}
    }

    /// Takes what is due; says when to ask again, whatever happens.
    async fn take(self: &Arc<Self>, under_way: &mut JoinSet<Option<Timestamp>>, now: Timestamp) -> Timestamp {
        let limit = UNDER_WAY_MAX.saturating_sub(under_way.len());
        let rows = match self.lease(now, limit).await {
            Ok(rows) => rows,
            Err(error) => {
                tracing::warn!(%error, "the outbox cannot be read");
                return now.plus_millis(RETRY_MILLIS);
            }
        };
        let is_full = rows.len() == limit;
        for row in rows {
            let outbox = Arc::clone(self);
            under_way.spawn(async move { outbox.deliver(row).await });
        }
        if is_full {
            now
        } else {
            now.plus_millis(ASK_EVERY_MILLIS)
        }
    }

    async fn lease(&self, now: Timestamp, limit: usize) -> Result<Vec<OutboxRow>, StoreError> {
        let depth = self.sources.store.outbox_depth().await?;
        self.metrics
            .outbox_waiting
            .set(i64::try_from(depth.waiting).unwrap_or(i64::MAX));
        if depth.waiting == 0 {
            return Ok(Vec::new()); // a lease of nothing would still be a write
        }
        let until = now.plus_millis(LEASE_MILLIS);
        let limit = u32::try_from(limit).unwrap_or(u32::MAX);
        self.sources.store.lease_outbox(now, until, limit).await
    }

    /// Tries one notice and notes how it ended; says when something is due because of it.
    async fn deliver(&self, row: OutboxRow) -> Option<Timestamp> {
        let notice = Notice::read(&row);
        let kind = notice.as_ref().and_then(kind);
        let verdict = match &notice {
            None => Verdict::Failed(String::from("this version cannot read it")),
            Some(notice) => self.attempt(&row, notice).await,
        };
        let now = self.sources.clock.now();
        let (outcome, change, next) = settle(&row, verdict, now);
        if outcome == NoticeOutcome::GivenUp {
            tracing::error!(
                notice = row.id,
                kind = row.kind,
                attempts = row.attempts,
                "a notice is given up"
            );
        }
        if let Some(counters) = kind.and_then(|kind| self.metrics.notices.get(kind)) {
            counters.inc(outcome);
        }
        if let Err(error) = self.sources.store.commit(change).await {
            // Its lease ends, and it is tried again.
            tracing::warn!(notice = row.id, %error, "how a notice ended could not be noted");
            return Some(now.plus_millis(LEASE_MILLIS));
        }
        next
    }

    async fn attempt(&self, row: &OutboxRow, notice: &Notice) -> Verdict {
        match notice {
            Notice::Rotated(rotated) => self.expand_rotation(rotated).await,
            Notice::Alert { alert } => self.expand_alert(alert).await,
            Notice::RotationWebhook { installation, rotated } => {
                self.tell_installation(&row.id, installation, rotated).await
            }
            Notice::AlertWebhook { alert, url } => self.post_alert(&row.id, alert, url).await,
            Notice::AlertMail { alert, address } => self.mail_alert(&row.id, alert, address).await,
        }
    }
}

/// What is written of a notice after an attempt, and when it, or what came of it, is due.
fn settle(row: &OutboxRow, verdict: Verdict, now: Timestamp) -> (NoticeOutcome, Change, Option<Timestamp>) {
    let done = || Write::OutboxDone { id: row.id.clone() };
    let (outcome, writes, next) = match verdict {
        Verdict::Delivered => (NoticeOutcome::Delivered, vec![done()], None),
        Verdict::Dropped => (NoticeOutcome::Dropped, vec![done()], None),
        Verdict::Expanded(rows) => {
            let writes = rows.into_iter().map(Write::Outbox).chain([done()]).collect();
            (NoticeOutcome::Delivered, writes, Some(now))
        }
        Verdict::Failed(reason) => {
            let is_too_old = now.0.saturating_sub(row.created_at.0) >= AGE_MILLIS_MAX;
            if row.attempts >= ATTEMPTS_MAX || is_too_old {
                (NoticeOutcome::GivenUp, vec![done()], None)
            } else {
                let due_at = now.plus_millis(wait_millis(&row.id, row.attempts));
                tracing::warn!(
                    notice = row.id,
                    kind = row.kind,
                    attempts = row.attempts,
                    reason,
                    "a notice failed"
                );
                let id = row.id.clone();
                (
                    NoticeOutcome::Failed,
                    vec![Write::OutboxLater { id, due_at }],
                    Some(due_at),
                )
            }
        }
    };
    let change = Change {
        writes,
        entries: Vec::new(),
    };
    (outcome, change, next)
}

/// The wait after so many attempts: doubled each time, and up to a fifth longer, by the notice's id, so that those that
/// failed together do not come back together.
#[must_use]
pub fn wait_millis(id: &str, attempts: u32) -> u64 {
    let doublings = attempts.saturating_sub(1).min(32);
    let wait = RETRY_MILLIS.saturating_mul(1 << doublings).min(RETRY_MILLIS_MAX);
    let spread = id.bytes().fold(u64::from(attempts), |sum, byte| {
        sum.wrapping_mul(31).wrapping_add(u64::from(byte))
    });
    wait + wait / 5 * (spread % 100) / 100
}

const fn kind(notice: &Notice) -> Option<NoticeKind> {
    match notice {
        Notice::Rotated(_) | Notice::Alert { .. } => None,
        Notice::RotationWebhook { .. } => Some(NoticeKind::RotationWebhook),
        Notice::AlertWebhook { .. } => Some(NoticeKind::AlertWebhook),
        Notice::AlertMail { .. } => Some(NoticeKind::AlertMail),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
mod tests {
    use super::*;

    fn row(attempts: u32) -> OutboxRow {
        let notice = Notice::Alert { alert: "alr_1".into() };
        OutboxRow {
            attempts,
            ..notice.row(None, Timestamp(1_000))
        }
    }

    fn failed(attempts: u32, now: Timestamp) -> NoticeOutcome {
        settle(&row(attempts), Verdict::Failed("x".into()), now).0
    }

    #[test]
    fn the_wait_doubles_up_to_an_hour_and_differs_between_notices() {
        for (attempts, least) in [
            (1, 5_000),
            (2, 10_000),
            (3, 20_000),
            (10, 2_560_000),
            (11, 3_600_000),
            (20, 3_600_000),
        ] {
            let wait = wait_millis("rot_1", attempts);
            assert!((least..=least + least / 5).contains(&wait), "{attempts}: {wait}");
        }
        let waits: std::collections::HashSet<u64> = (0..50).map(|n| wait_millis(&format!("rot_{n}"), 3)).collect();
        assert!(waits.len() > 25, "{waits:?}");
    }

    #[test]
    fn a_notice_is_given_up_after_its_last_attempt_or_day() {
        let soon = Timestamp(2_000);
        assert_eq!(failed(ATTEMPTS_MAX - 1, soon), NoticeOutcome::Failed);
        assert_eq!(failed(ATTEMPTS_MAX, soon), NoticeOutcome::GivenUp);
        assert_eq!(failed(1, Timestamp(999 + DAY_MILLIS)), NoticeOutcome::Failed);
        assert_eq!(failed(1, Timestamp(1_000 + DAY_MILLIS)), NoticeOutcome::GivenUp);
    }

    #[test]
    fn what_was_found_out_is_written_in_one_change_with_its_end() {
        let (_, change, next) = settle(&row(1), Verdict::Expanded(vec![row(0), row(0)]), Timestamp(5_000));
        let kinds: Vec<bool> = change
            .writes
            .iter()
            .map(|write| matches!(write, Write::OutboxDone { .. }))
            .collect();
        assert_eq!(kinds, [false, false, true]);
        assert_eq!(next, Some(Timestamp(5_000)));
    }
}
