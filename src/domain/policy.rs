//! What an organization wants to be told, how long things may last, and what holds where it does not say.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::key::SecretKey;
use super::time::Timestamp;

/// One day, in milliseconds.
pub const DAY_MILLIS: u64 = 24 * 60 * 60 * 1_000;

/// The rules of one organization (contract, section 8).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// After this many days without a rotation a value is overdue.
    pub rotation_max_age_days: u32,
    /// More counted reads of one key within the window raise an alert.
    pub read_threshold: u32,
    /// The window, in seconds.
    pub read_window_secs: u32,
    /// More deliveries of one key within the window raise an alert; off where `None`.
    pub delivery_read_threshold: Option<u32>,
    /// After this many days without a use a value is unused; off where `None`.
    pub unused_days: Option<u32>,
    /// Audit entries older than this many days may be removed, up to a checkpoint; kept forever where `None`.
    pub retention_days: Option<u32>,
    /// Where alerts are posted.
    pub webhook_url: Option<String>,
    /// The key of the organization's secret that signs those posts.
    pub webhook_signing_key: Option<String>,
    /// Whom alerts are mailed to.
    pub emails: Vec<String>,
}

impl Default for Policy {
    /// 90 days of age; 25 reads in 15 minutes (spec, "Access logs & anomaly alerts"); nothing is sent or removed.
    fn default() -> Self {
        Self {
            rotation_max_age_days: 90,
            read_threshold: 25,
            read_window_secs: 15 * 60,
            delivery_read_threshold: None,
            unused_days: Some(90),
            retention_days: None,
            webhook_url: None,
            webhook_signing_key: None,
            emails: Vec::new(),
        }
    }
}

/// The most addresses that alerts are mailed to.
pub const EMAILS_MAX: usize = 20;

/// What cannot stand in a policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{field} is {expected}")]
pub struct PolicyError {
    /// The field, as the API names it.
    pub field: &'static str,
    /// What it should be.
    pub expected: &'static str,
}

/// How a value's age stands against the policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Age {
    /// Whole days since the value was written.
    pub days: u64,
    /// Whether the policy wants it rotated by now.
    pub is_overdue: bool,
}

impl Policy {
    /// Whether every rule is one that can be kept. Where posts go is for the registry to judge.
    ///
    /// # Errors
    /// [`PolicyError`] for the first field that is not.
    pub fn check(&self) -> Result<(), PolicyError> {
        let is_within = |field, value: Option<u32>, range: RangeInclusive<u32>, expected| match value {
            Some(value) if !range.contains(&value) => Err(PolicyError { field, expected }),
            _ => Ok(()),
        };
        let days = "1 to 3650 days";
        is_within(
            "rotation_max_age_days",
            Some(self.rotation_max_age_days),
            1..=3650,
            days,
        )?;
        let reads = "1 to 1000000 reads";
        is_within("read_threshold", Some(self.read_threshold), 1..=1_000_000, reads)?;
        let seconds = "60 to 86400 seconds";
        is_within("read_window_secs", Some(self.read_window_secs), 60..=86_400, seconds)?;
        let deliveries = "1 to 1000000000 deliveries, or null";
        is_within(
            "delivery_read_threshold",
            self.delivery_read_threshold,
            1..=1_000_000_000,
            deliveries,
        )?;
        is_within("unused_days", self.unused_days, 1..=3650, "1 to 3650 days, or null")?;
        is_within(
            "retention_days",
            self.retention_days,
            1..=36_500,
            "1 to 36500 days, or null",
        )?;
        let refused = |field, expected| Err(PolicyError { field, expected });
        if self.webhook_url.is_some() && self.webhook_signing_key.is_none() {
            let expected = "the key of an organization secret: what is posted is always signed";
            return refused("webhook_signing_key", expected);
        }
        if self
            .webhook_signing_key
            .as_deref()
            .is_some_and(|key| SecretKey::parse(key).is_err())
        {
            return refused(
                "webhook_signing_key",
                "a secret's key, for example `ALERT_SIGNING_SECRET`",
            );
        }
        let all_differ = self
            .emails
            .iter()
            .enumerate()
            .all(|(n, one)| !self.emails.iter().skip(n + 1).any(|other| other == one));
        if self.emails.len() > EMAILS_MAX || !all_differ || !self.emails.iter().all(|address| is_address(address)) {
            return refused("emails", "at most 20 different mail addresses");
        }
        Ok(())
    }

    /// The window of the read anomaly.
    #[must_use]
    pub const fn read_window(&self) -> Duration {
        Duration::from_secs(self.read_window_secs as u64)
    }

    /// The age of a value that was written then. One that is exactly as old as allowed is not overdue.
    #[must_use]
    pub fn age(&self, written_at: Timestamp, now: Timestamp) -> Age {
        let millis = now.0.saturating_sub(written_at.0);
        Age {
            days: millis / DAY_MILLIS,
            is_overdue: millis > u64::from(self.rotation_max_age_days).saturating_mul(DAY_MILLIS),
        }
    }
}

/// Whether a text is a mail address of the plain form `local@domain`, within the lengths of RFC 5321.
fn is_address(text: &str) -> bool {
    let Some((local, domain)) = text.split_once('@') else {
        return false;
    };
    let in_local = |byte: u8| byte.is_ascii_alphanumeric() || b".!#$%&'*+/=?^_`{|}~-".contains(&byte);
    let in_label = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(in_label)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    (1..=64).contains(&local.len())
        && local.bytes().all(in_local)
        && local.split('.').all(|part| !part.is_empty())
        && (1..=255).contains(&domain.len())
        && domain.split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_overdue_a_moment_after_the_policys_last_day() {
        let policy = Policy::default();
        let at = |millis| policy.age(Timestamp(1_000), Timestamp(1_000 + millis));
        assert_eq!(
            at(90 * DAY_MILLIS),
            Age {
                days: 90,
                is_overdue: false
            }
        );
        assert_eq!(
            at(90 * DAY_MILLIS + 1),
            Age {
                days: 90,
                is_overdue: true
            }
        );
        assert_eq!(
            policy.age(Timestamp(9), Timestamp(1)),
            Age {
                days: 0,
                is_overdue: false
            }
        );
    }

    #[test]
    fn every_rule_holds_both_sides_of_its_limits() {
        type Set = fn(&mut Policy, u32);
        let rules: [(&str, Set, u32, u32); 6] = [
            (
                "rotation_max_age_days",
                |policy, n| policy.rotation_max_age_days = n,
                1,
                3650,
            ),
            ("read_threshold", |policy, n| policy.read_threshold = n, 1, 1_000_000),
            ("read_window_secs", |policy, n| policy.read_window_secs = n, 60, 86_400),
            (
                "delivery_read_threshold",
                |policy, n| policy.delivery_read_threshold = Some(n),
                1,
                1_000_000_000,
            ),
            ("unused_days", |policy, n| policy.unused_days = Some(n), 1, 3650),
            ("retention_days", |policy, n| policy.retention_days = Some(n), 1, 36_500),
        ];
        for (field, set, least, most) in rules {
            for (n, is_right) in [(least - 1, false), (least, true), (most, true), (most + 1, false)] {
                let mut policy = Policy::default();
                set(&mut policy, n);
                let refused = policy.check().err().map(|error| error.field);
                assert_eq!(refused, (!is_right).then_some(field), "{field} {n}");
            }
        }
    }

    #[test]
    fn mail_addresses_are_few_plain_and_different() {
        let with = |emails: &[&str]| {
            let emails = emails.iter().map(|&address| address.into()).collect();
            Policy {
                emails,
                ..Policy::default()
            }
            .check()
            .is_ok()
        };
        let longest = format!("{}@example.com", "l".repeat(64));
        for good in [
            "a@example.com",
            "first.last+tag@mail.example.com",
            "ops@localhost",
            &longest,
        ] {
            assert!(with(&[good]), "{good}");
        }
        let too_long = format!("l{longest}");
        for bad in [
            "",
            "a",
            "@example.com",
            "a@",
            "a b@example.com",
            "a@exa mple.com",
            "a@b@c",
            "a@-b.c",
            "a@b..c",
            ".a@b.c",
            "a\r\nBcc: x@y.z",
            "<a@example.com>",
            "\"a b\"@example.com",
            "\u{fc}@example.com",
            &too_long,
        ] {
            assert!(!with(&[bad]), "{bad:?}");
        }
        assert!(!with(&["a@example.com", "a@example.com"]));
        let many: Vec<String> = (0..=EMAILS_MAX).map(|n| format!("a{n}@example.com")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert!(!with(&many));
        assert!(many.split_last().is_some_and(|(_, fewer)| with(fewer)));
    }

    #[test]
    fn what_is_posted_is_signed() {
        let mut policy = Policy {
            webhook_url: Some("https://hooks.example.com".into()),
            ..Policy::default()
        };
        let refused = |policy: &Policy| policy.check().err().map(|error| error.field);
        assert_eq!(refused(&policy), Some("webhook_signing_key"));
        policy.webhook_signing_key = Some("lower".into());
        assert_eq!(refused(&policy), Some("webhook_signing_key"));
        policy.webhook_signing_key = Some("ALERTS".into());
        assert_eq!(refused(&policy), None);
    }
}
