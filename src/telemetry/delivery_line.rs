//! What the log says of a delivery: one line with everything an operator may know of it, and no value.

use std::cell::RefCell;
use std::fmt::Write;
use std::time::Duration;

use super::labels::Outcome;
use super::logging::LogFormat;
use crate::domain::problem::Problem;
use crate::domain::runtime_token::TokenVerdict;
use crate::domain::scope::ScopeHits;
use crate::domain::time::Timestamp;

/// A delivery's canonical line (contract, section 8). What is not known (yet) is left out of the line.
#[derive(Debug, Clone)]
pub struct DeliveryLine<'a> {
    /// When it ended.
    pub at: Timestamp,
    /// What the answer's `X-Kiket-Delivery-Id` says.
    pub delivery_id: &'a str,
    /// The installation it was addressed to.
    pub installation_id: Option<&'a str>,
    /// Whose installation.
    pub organization_id: Option<&'a str>,
    /// Of which extension.
    pub extension_id: Option<&'a str>,
    /// The endpoint's host.
    pub host: Option<&'a str>,
    /// How it ended.
    pub outcome: Outcome,
    /// What the dispatcher was told instead of the endpoint's answer.
    pub error: Option<Problem>,
    /// How the check of its runtime token ended, where one is asked for.
    pub token_check: Option<TokenVerdict>,
    /// The status that the dispatcher was given.
    pub status: Option<u16>,
    /// How many keys were injected.
    pub keys_injected: u32,
    /// How many were missing.
    pub keys_missing: u32,
    /// Which scopes the values came from.
    pub scope_hits: ScopeHits,
    /// Whether a client certificate was presented.
    pub mtls: bool,
    /// How often the endpoint was tried.
    pub attempts: u32,
    /// How long it took to have the bundle.
    pub resolve: Option<Duration>,
    /// How long the endpoint took, from the dial to the answer's head.
    pub upstream: Option<Duration>,
    /// The invocation's body.
    pub bytes_in: u64,
    /// The answer's body.
    pub bytes_out: u64,
    /// The trace it belongs to.
    pub trace_id: Option<&'a str>,
}

thread_local! {
    static LINE: RefCell<String> = RefCell::new(String::with_capacity(1024));
}

impl DeliveryLine<'_> {
    /// Renders the line, with its newline, and hands it to `put`.
    pub(super) fn render(&self, format: LogFormat, put: impl FnOnce(&str)) {
        LINE.with_borrow_mut(|line| {
            line.clear();
            let mut fields = Fields { line, format };
            fields.open(self.at);
            self.write(&mut fields);
            fields.close();
            put(line);
        });
    }

    fn write(&self, fields: &mut Fields<'_>) {
        fields.text("delivery_id", self.delivery_id);
        let ids = [
            ("installation_id", self.installation_id),
            ("organization_id", self.organization_id),
            ("extension_id", self.extension_id),
            ("host", self.host),
        ];
        for (name, id) in ids {
            fields.text_if(name, id);
        }
        fields.text("outcome", self.outcome.name());
        fields.text_if("error", self.error.map(Problem::name));
        fields.text_if("token_check", self.token_check.map(TokenVerdict::name));
        if let Some(status) = self.status {
            fields.number("status", u64::from(status));
        }
        fields.number("keys_injected", u64::from(self.keys_injected));
        fields.number("keys_missing", u64::from(self.keys_missing));
        fields.hits("scope_hits", self.scope_hits);
        fields.flag("mtls", self.mtls);
        fields.number("attempts", u64::from(self.attempts));
        fields.millis_if("resolve_ms", self.resolve);
        fields.millis_if("upstream_ms", self.upstream);
        fields.number("bytes_in", self.bytes_in);
        fields.number("bytes_out", self.bytes_out);
        fields.text_if("trace_id", self.trace_id);
    }
}

/// The pen: knows both forms. Writing into a `String` cannot fail, so results are dropped.
struct Fields<'a> {
    line: &'a mut String,
    format: LogFormat,
}

impl Fields<'_> {
    fn open(&mut self, at: Timestamp) {
        match self.format {
            LogFormat::Json => {
                self.line.push_str("{\"timestamp\":\"");
                push_rfc3339(self.line, at);
                self.line.push_str("\",\"level\":\"INFO\",\"message\":\"delivery\"");
            }
            LogFormat::Text => {
                push_rfc3339(self.line, at);
                self.line.push_str("  INFO delivery");
            }
        }
    }

    fn close(&mut self) {
        self.line.push_str(match self.format {
            LogFormat::Json => "}\n",
            LogFormat::Text => "\n",
        });
    }

    /// Names are ours and need no escape.
    fn name(&mut self, name: &str) {
        match self.format {
            LogFormat::Json => {
                self.line.push_str(",\"");
                self.line.push_str(name);
                self.line.push_str("\":");
            }
            LogFormat::Text => {
                self.line.push(' ');
                self.line.push_str(name);
                self.line.push('=');
            }
        }
    }

    fn text(&mut self, name: &str, text: &str) {
        self.name(name);
        let plain = |b: u8| b.is_ascii_graphic() && !matches!(b, b'"' | b'=' | b'\\');
        if self.format == LogFormat::Text && !text.is_empty() && text.bytes().all(plain) {
            self.line.push_str(text);
        } else {
            push_json_string(self.line, text);
        }
    }

    fn text_if(&mut self, name: &str, text: Option<&str>) {
        if let Some(text) = text {
            self.text(name, text);
        }
    }

    fn number(&mut self, name: &str, number: u64) {
        self.name(name);
        let _ = write!(self.line, "{number}");
    }

    fn flag(&mut self, name: &str, flag: bool) {
        self.name(name);
        self.line.push_str(if flag { "true" } else { "false" });
    }

    fn millis_if(&mut self, name: &str, duration: Option<Duration>) {
        if let Some(duration) = duration {
            self.name(name);
            let _ = write!(
                self.line,
                "{}.{:03}",
                duration.as_millis(),
                duration.subsec_micros() % 1_000
            );
        }
    }

    fn hits(&mut self, name: &str, hits: ScopeHits) {
        self.name(name);
        let (open, close, quote) = match self.format {
            LogFormat::Json => ("{", "}", "\""),
            LogFormat::Text => ("[", "]", ""),
        };
        self.line.push_str(open);
        for (position, (scope, count)) in hits.iter().enumerate() {
            let comma = if position == 0 { "" } else { "," };
            let _ = write!(self.line, "{comma}{quote}{}{quote}:{count}", scope.name());
        }
        self.line.push_str(close);
    }
}

/// Writes a JSON string: quotes, backslashes and control characters (C1 too, terminals obey them) escaped.
fn push_json_string(line: &mut String, text: &str) {
    line.push('"');
    for c in text.chars() {
        match c {
            '"' => line.push_str("\\\""),
            '\\' => line.push_str("\\\\"),
            '\n' => line.push_str("\\n"),
            c if c.is_control() => {
                let _ = write!(line, "\\u{:04x}", u32::from(c));
            }
            c => line.push(c),
        }
    }
    line.push('"');
}

/// Writes `2026-11-24T16:25:00.000Z` without an allocation (days to a civil date by 400-year eras).
fn push_rfc3339(line: &mut String, at: Timestamp) {
    let secs = at.as_secs();
    let (days, of_day) = (secs / 86_400, secs % 86_400);
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second, milli) = (of_day / 3_600, of_day / 60 % 60, of_day % 60, at.0 % 1_000);
    let _ = write!(
        line,
        "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z"
    );
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use proptest::prelude::*;
    use time::OffsetDateTime;
    use time::format_description::well_known::Rfc3339;

    use super::*;
    use crate::domain::scope::Scope;

    fn line() -> DeliveryLine<'static> {
        let mut scope_hits = ScopeHits::default();
        scope_hits.count(Scope::Project);
        scope_hits.count(Scope::Organization);
        DeliveryLine {
            at: Timestamp(1_795_537_500_042),
            delivery_id: "dlv_1",
            installation_id: Some("a b\"\u{1b}"),
            organization_id: None,
            extension_id: Some("com.example.crm"),
            host: Some("ext.example.com"),
            outcome: Outcome::Failed,
            error: Some(Problem::EndpointTimeout),
            token_check: Some(TokenVerdict::Valid),
            status: Some(504),
            keys_injected: 2,
            keys_missing: 1,
            scope_hits,
            mtls: true,
            attempts: 1,
            resolve: Some(Duration::from_micros(1_070)),
            upstream: None,
            bytes_in: 1024,
            bytes_out: 0,
            trace_id: None,
        }
    }

    fn rendered(line: &DeliveryLine<'_>, format: LogFormat) -> String {
        let mut text = String::new();
        line.render(format, |rendered| text.push_str(rendered));
        text
    }

    #[test]
    fn the_json_line_is_one_object_with_the_fields_that_are_known() {
        let text = rendered(&line(), LogFormat::Json);
        assert_eq!(text.matches('\n').count(), 1);
        let object: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(object["installation_id"], "a b\"\u{1b}");
        assert_eq!(object["error"], "endpoint-timeout");
        assert_eq!(object["token_check"], "valid");
        assert_eq!(object["scope_hits"]["project"], 1);
        assert_eq!(object["resolve_ms"], 1.07);
        assert_eq!(object["mtls"], true);
        assert!(object.get("organization_id").is_none() && object.get("upstream_ms").is_none());
    }

    #[test]
    fn the_text_line_quotes_what_is_not_plain() {
        let text = rendered(&line(), LogFormat::Text);
        assert!(text.contains(" installation_id=\"a b\\\"\\u001b\" "), "{text}");
        assert!(
            text.contains(" scope_hits=[project:1,organization:1] mtls=true "),
            "{text}"
        );
    }

    proptest! {
        #[test]
        fn any_text_makes_a_line_that_reads_back(text in any::<String>()) {
            let line = DeliveryLine { host: Some(&text), ..line() };
            let object: serde_json::Value = serde_json::from_str(&rendered(&line, LogFormat::Json)).unwrap();
            prop_assert_eq!(object["host"].as_str(), Some(text.as_str()));
            prop_assert_eq!(rendered(&line, LogFormat::Text).matches('\n').count(), 1);
        }

        #[test]
        fn the_moment_is_what_the_calendar_says(millis in 0_u64..253_402_300_800_000) {
            let mut text = String::new();
            push_rfc3339(&mut text, Timestamp(millis));
            let moment = OffsetDateTime::from_unix_timestamp_nanos(i128::from(millis) * 1_000_000).unwrap();
            prop_assert_eq!(OffsetDateTime::parse(&text, &Rfc3339).unwrap(), moment);
        }
    }
}
