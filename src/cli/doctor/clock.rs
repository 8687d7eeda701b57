//! Is the clock right, as far as the store can tell?

use super::check::Check;
use crate::cli::moment::span;
use crate::clock::{Clock, SystemClock};
use crate::domain::time::Timestamp;
use crate::store::{AuditQuery, Holder, Look, Page, SharedStore, Tenancy};

const NAME: &str = "clock";

/// Two hosts' clocks may be so far apart, in milliseconds.
const APART_MAX: u64 = 2_000;

const ADVICE: &str = "set the clock (chrony, systemd-timesyncd): signatures, tokens and certificates are judged by it";

/// Newest entries that are asked for their time: those written at once need not stand in order.
const NEWEST: u32 = 20;

pub(super) async fn look(seen: Option<&Look>) -> Check {
    let Some(look) = seen else {
        return Check::not_applicable(NAME, "there is nothing to hold it against");
    };
    if let Holder::Server(facts) = &look.holder {
        return beside(SystemClock.now(), facts.now);
    }
    let newest = match &look.rows {
        Some(rows) => newest(rows).await,
        None => None,
    };
    match newest {
        Some(newest) => after(SystemClock.now(), newest),
        None => Check::not_applicable(NAME, "there is nothing to hold it against"),
    }
}

/// The latest moment that the log knows.
async fn newest(rows: &SharedStore) -> Option<Timestamp> {
    let page = Page {
        after: None,
        limit: NEWEST,
    };
    let listed = rows
        .audit(&Tenancy::Platform, &AuditQuery::default(), &page)
        .await
        .ok()?;
    listed.rows.iter().map(|linked| linked.entry.at).max()
}

fn beside(now: Timestamp, server: Timestamp) -> Check {
    let apart = now.0.abs_diff(server.0);
    if apart <= APART_MAX {
        return Check::ok(NAME, "as the database server's");
    }
    let which = if now < server { "behind" } else { "ahead of" };
    let seen = format!("{} {which} the database server's", span(apart / 1_000));
    Check::failed(NAME, seen, ADVICE)
}

fn after(now: Timestamp, newest: Timestamp) -> Check {
    let behind = newest.0.saturating_sub(now.0);
    if behind <= APART_MAX {
        return Check::ok(NAME, "not behind the newest entry of the audit log");
    }
    let seen = format!("{} behind the newest entry of the audit log", span(behind / 1_000));
    Check::failed(NAME, seen, ADVICE)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_800_000_000_000);

    #[test]
    fn a_clock_that_is_apart_is_a_finding_on_both_sides_of_the_limit() {
        for (millis, is_finding) in [(0, false), (APART_MAX, false), (APART_MAX + 1, true)] {
            let later = NOW.plus_millis(millis);
            assert_eq!(beside(NOW, later).is_finding(), is_finding, "{millis}");
            assert_eq!(beside(later, NOW).is_finding(), is_finding, "{millis}");
            assert_eq!(after(NOW, later).is_finding(), is_finding, "{millis}");
            assert!(!after(later, NOW).is_finding(), "an old entry says nothing");
        }
    }
}
