//! What an organization wants to be told, how long things may last, and what holds where it does not say.

use std::time::Duration;

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

/// How a value's age stands against the policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Age {
    /// Whole days since the value was written.
    pub days: u64,
    /// Whether the policy wants it rotated by now.
    pub is_overdue: bool,
}

impl Policy {
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
}
