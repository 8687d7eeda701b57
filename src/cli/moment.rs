//! How moments and spans are read and shown on a command line.

use std::time::Duration;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::domain::time::Timestamp;

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;
/// Beyond it a date says more than a count of days.
const RELATIVE_MAX: u64 = 60 * DAY;

/// The moment that an RFC 3339 text means.
pub(super) fn parse(text: &str) -> Option<Timestamp> {
    let at = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    u64::try_from(at.unix_timestamp_nanos() / 1_000_000).ok().map(Timestamp)
}

/// A moment as people read it, in UTC; what is none stays as it came.
pub(super) fn absolute(text: &str) -> String {
    match parse(text) {
        Some(at) => {
            let seconds = Timestamp(at.as_secs().saturating_mul(1_000)).to_rfc3339();
            seconds.replace('T', " ")
        }
        None => super::table::printable(text),
    }
}

/// How long ago a moment was, or how long it is still to come; the date where it is far away.
pub(super) fn relative(text: &str, now: Timestamp) -> String {
    let Some(at) = parse(text) else {
        return super::table::printable(text);
    };
    let seconds = now.0.abs_diff(at.0) / 1_000;
    if seconds >= RELATIVE_MAX {
        return absolute(text).split(' ').next().unwrap_or_default().to_owned();
    }
    let span = span(seconds);
    match (seconds, at.0 > now.0) {
        (0..5, _) => String::from("just now"),
        (_, true) => format!("in {span}"),
        (_, false) => format!("{span} ago"),
    }
}

/// A span in its largest whole unit.
pub(super) fn span(seconds: u64) -> String {
    let (count, unit) = match seconds {
        DAY.. => (seconds / DAY, "day"),
        HOUR.. => (seconds / HOUR, "hour"),
        MINUTE.. => (seconds / MINUTE, "minute"),
        _ => (seconds, "second"),
    };
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {unit}{plural}")
}

/// Reads a span: a count and `s`, `m`, `h`, `d` or `w`.
pub(super) fn parse_span(text: &str) -> Result<Duration, String> {
    let wrong = || String::from("a span is a count and a unit of s, m, h, d or w, for example 15m or 90d");
    let unit = text.chars().next_back().ok_or_else(wrong)?;
    let count: u64 = text
        .strip_suffix(unit)
        .and_then(|count| count.parse().ok())
        .ok_or_else(wrong)?;
    let seconds = match unit {
        's' => 1,
        'm' => MINUTE,
        'h' => HOUR,
        'd' => DAY,
        'w' => 7 * DAY,
        _ => return Err(wrong()),
    };
    count.checked_mul(seconds).map(Duration::from_secs).ok_or_else(wrong)
}

/// Reads a moment: RFC 3339, a date, or a span before now. Gives it in RFC 3339.
pub(super) fn parse_past(text: &str, now: Timestamp) -> Result<String, String> {
    if let Ok(span) = parse_span(text) {
        let millis = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        return Ok(Timestamp(now.0.saturating_sub(millis)).to_rfc3339());
    }
    let at = parse(text).or_else(|| parse(&format!("{text}T00:00:00Z")));
    let wrong = "a moment is RFC 3339, a date, or a span before now: 2026-11-25T09:00:00Z, 2026-11-25, 24h";
    at.map(Timestamp::to_rfc3339).ok_or_else(|| wrong.to_owned())
}

/// Reads a moment to come: RFC 3339, a date, or a span from now. Gives it in RFC 3339.
pub(super) fn parse_future(text: &str, now: Timestamp) -> Result<String, String> {
    if let Ok(span) = parse_span(text) {
        return Ok(now
            .plus_millis(u64::try_from(span.as_millis()).unwrap_or(u64::MAX))
            .to_rfc3339());
    }
    let at = parse(text).or_else(|| parse(&format!("{text}T00:00:00Z")));
    let wrong = "a moment is RFC 3339, a date, or a span from now: 2027-01-01T00:00:00Z, 2027-01-01, 90d";
    at.map(Timestamp::to_rfc3339).ok_or_else(|| wrong.to_owned())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    const NOW: &str = "2026-11-25T12:00:00.5Z";

    #[test]
    fn moments_nearby_are_told_by_their_distance_and_others_by_their_date() {
        let now = parse(NOW).unwrap();
        for (at, shown) in [
            ("2026-11-25T12:00:00Z", "just now"),
            ("2026-11-25T11:59:55Z", "5 seconds ago"),
            ("2026-11-25T11:59:00Z", "1 minute ago"),
            ("2026-11-25T10:00:01Z", "1 hour ago"),
            ("2026-11-25T10:00:00Z", "2 hours ago"),
            ("2026-11-24T12:00:00Z", "1 day ago"),
            ("2026-09-27T00:00:00Z", "59 days ago"),
            ("2026-09-26T12:00:00Z", "2026-09-26"),
            ("2026-11-28T12:00:01Z", "in 3 days"),
            ("2030-01-01T00:00:00Z", "2030-01-01"),
            ("nonsense", "nonsense"),
        ] {
            assert_eq!(relative(at, now), shown, "{at}");
        }
        assert_eq!(absolute(NOW), "2026-11-25 12:00:00Z");
    }

    #[test]
    fn spans_and_moments_are_read_in_the_forms_people_write() {
        let now = parse(NOW).unwrap();
        assert_eq!(parse_span("15m"), Ok(Duration::from_secs(900)));
        assert_eq!(parse_span("2w"), Ok(Duration::from_secs(14 * 86_400)));
        for bad in [
            "",
            "m",
            "15",
            "1.5h",
            "-1h",
            "3y",
            "99999999999999999999d",
            "18446744073709551615w",
            "1\u{fc}",
        ] {
            assert!(parse_span(bad).is_err(), "{bad}");
        }
        assert_eq!(parse_past("24h", now).unwrap(), "2026-11-24T12:00:00.5Z");
        assert_eq!(parse_past("2026-11-01", now).unwrap(), "2026-11-01T00:00:00Z");
        assert_eq!(parse_future("1d", now).unwrap(), "2026-11-26T12:00:00.5Z");
        assert!(parse_past("yesterday", now).is_err() && parse_future("soon", now).is_err());
    }
}
