//! What a span says: the canonical line under the names of OpenTelemetry's semantic conventions, and nothing else.
//!
//! The conventions for HTTP ask for the path (`url.path`, `url.full`) as well. It is left out: a path can hold a token.
//! What they have no name for is called `kiket.…`.

use std::time::Duration;

use super::finished::{Finished, OTHER_METHOD, Sent};
use super::messages::{
    AnyValue, CODE_ERROR, CODE_UNSET, ExportRequest, InstrumentationScope, KIND_CLIENT, KIND_SERVER, KeyValue,
    Resource, ResourceSpans, ScopeSpans, Span, Status, Value,
};
use crate::domain::problem::Problem;
use crate::domain::runtime_token::TokenVerdict;
use crate::domain::trace_context::TraceFlags;
use crate::telemetry::Outcome;

/// What the process is called.
const SERVICE: &str = "kiket-sidecar";

/// Whose spans they are.
const SCOPE: &str = "kiket_sidecar::traces";

/// The method of every request to an endpoint.
const POST: &str = "POST";

/// It is known whether the parent is another process's (`SpanFlags`).
const HAS_IS_REMOTE: u32 = 0x100;

/// It is.
const IS_REMOTE: u32 = 0x200;

/// Who sends spans.
#[derive(Debug, Clone)]
pub(super) struct Sender(Resource);

impl Sender {
    /// This process, by its name among the others.
    pub(super) fn new(instance: &str) -> Self {
        let mut attributes = Attributes::default();
        attributes.text("service.name", SERVICE);
        attributes.text("service.version", env!("CARGO_PKG_VERSION"));
        attributes.text("service.instance.id", instance);
        Self(Resource {
            attributes: attributes.0,
        })
    }

    /// The spans of these deliveries.
    pub(super) fn request(&self, batch: &[Finished]) -> ExportRequest {
        let spans = batch.iter().flat_map(|finished| {
            let client = finished.traced.sent.map(|sent| client(finished, sent));
            std::iter::once(server(finished)).chain(client)
        });
        let scope_spans = ScopeSpans {
            scope: Some(InstrumentationScope {
                name: SCOPE.to_owned(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
            }),
            spans: spans.collect(),
        };
        ExportRequest {
            resource_spans: vec![ResourceSpans {
                resource: Some(self.0.clone()),
                scope_spans: vec![scope_spans],
            }],
        }
    }
}

/// The delivery: from the dispatcher's request to the last byte of its answer.
fn server(finished: &Finished) -> Span {
    let trace = &finished.traced.trace;
    let error = server_error(finished);
    let mut says = Attributes::default();
    says.text("http.request.method", finished.traced.method);
    says.text("url.scheme", "http"); // dispatchers are not spoken to over TLS
    says.number_if("http.response.status_code", finished.status);
    says.number("http.request.body.size", finished.bytes_in);
    says.number("http.response.body.size", finished.bytes_out);
    says.text_if("error.type", error.as_deref());
    says.text("kiket.delivery.id", &finished.delivery_id);
    says.text_if("kiket.installation.id", finished.installation_id.as_deref());
    says.text_if("kiket.organization.id", finished.organization_id.as_deref());
    says.text_if("kiket.extension.id", finished.extension_id.as_deref());
    says.text("kiket.outcome", finished.outcome.name());
    says.text_if("kiket.error", finished.error.map(Problem::name));
    says.text_if("kiket.token_check", finished.token_check.map(TokenVerdict::name));
    says.number("kiket.keys.injected", u64::from(finished.keys_injected));
    says.number("kiket.keys.missing", u64::from(finished.keys_missing));
    for (scope, hits) in finished.scope_hits.iter() {
        says.number(&format!("kiket.scope_hits.{}", scope.name()), u64::from(hits));
    }
    says.number("kiket.attempts", u64::from(finished.attempts));
    says.seconds_if("kiket.resolve.duration", finished.resolve);
    let remote = trace.parent.map_or(0, |_| IS_REMOTE);
    Span {
        span_id: trace.server.bytes().to_vec(),
        parent_span_id: trace.parent.map(|parent| parent.bytes().to_vec()).unwrap_or_default(),
        flags: flags(trace.flags) | remote,
        kind: KIND_SERVER,
        ..span(finished, finished.traced.method, says, error.is_some())
    }
    .lasting(finished, Duration::ZERO, finished.traced.took)
}

/// What was sent to the endpoint: from the dial, or from when an idle connection was looked for, to its answer's head.
fn client(finished: &Finished, sent: Sent) -> Span {
    let trace = &finished.traced.trace;
    let error = client_error(finished, sent);
    let mut says = Attributes::default();
    says.text("http.request.method", POST);
    says.text("url.scheme", sent.scheme.name());
    says.text_if("server.address", finished.host.as_deref());
    says.number("server.port", u64::from(sent.port));
    says.number_if("http.response.status_code", finished.endpoints_status());
    let resent = finished.attempts.checked_sub(1).filter(|again| *again > 0);
    says.number_if("http.request.resend_count", resent);
    says.text_if("error.type", error.as_deref());
    says.flag("kiket.mtls", finished.mtls);
    let left = finished.traced.took.saturating_sub(sent.after);
    Span {
        span_id: trace.client.bytes().to_vec(),
        parent_span_id: trace.server.bytes().to_vec(),
        flags: flags(trace.flags),
        kind: KIND_CLIENT,
        ..span(finished, POST, says, error.is_some())
    }
    .lasting(finished, sent.after, sent.took.map_or(left, |took| took.min(left)))
}

/// What both spans of a delivery have alike. A name is the method alone: there are no routes, and a path is not told.
fn span(finished: &Finished, method: &str, says: Attributes, has_failed: bool) -> Span {
    let name = if method == OTHER_METHOD { "HTTP" } else { method };
    let code = if has_failed { CODE_ERROR } else { CODE_UNSET };
    Span {
        trace_id: finished.traced.trace.trace.bytes().to_vec(),
        name: name.to_owned(),
        attributes: says.0,
        status: Some(Status { code }),
        ..Span::default()
    }
}

impl Span {
    /// Sets when it began, by how long that was after the delivery began, and how long it took. Wall time is read once,
    /// at the end.
    fn lasting(mut self, finished: &Finished, after: Duration, took: Duration) -> Self {
        let nanos = |duration: Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let ended = finished.at.0.saturating_mul(1_000_000);
        let begun = ended.saturating_sub(nanos(finished.traced.took));
        self.start_time_unix_nano = begun.saturating_add(nanos(after));
        self.end_time_unix_nano = self.start_time_unix_nano.saturating_add(nanos(took));
        self
    }
}

fn flags(flags: TraceFlags) -> u32 {
    u32::from(flags.bits()) | HAS_IS_REMOTE
}

/// Why the delivery failed, as the dispatcher sees it. What is the dispatcher's own fault (4xx) is no error of a server.
fn server_error(finished: &Finished) -> Option<String> {
    let problem = || finished.error.map(|problem| problem.name().to_owned());
    match (finished.outcome, finished.status) {
        (Outcome::Interrupted | Outcome::DispatcherGone, _) => {
            Some(problem().unwrap_or_else(|| finished.outcome.name().to_owned()))
        }
        (_, Some(status @ 500..)) => Some(problem().unwrap_or_else(|| status.to_string())),
        _ => None,
    }
}

/// Why the endpoint's part failed.
fn client_error(finished: &Finished, sent: Sent) -> Option<String> {
    if let Some(problem) = finished.error {
        return Some(problem.name().to_owned());
    }
    match finished.endpoints_status() {
        Some(status @ 400..) => Some(status.to_string()),
        None if sent.took.is_none() => Some(finished.outcome.name().to_owned()),
        Some(_) | None => None,
    }
}

/// What a span says, in the order of the conventions.
#[derive(Default)]
struct Attributes(Vec<KeyValue>);

impl Attributes {
    fn put(&mut self, key: &str, value: Value) {
        self.0.push(KeyValue {
            key: key.to_owned(),
            value: Some(AnyValue { value: Some(value) }),
        });
    }

    fn text(&mut self, key: &str, text: &str) {
        self.put(key, Value::Text(text.to_owned()));
    }

    fn text_if(&mut self, key: &str, text: Option<&str>) {
        if let Some(text) = text {
            self.text(key, text);
        }
    }

    fn number(&mut self, key: &str, number: u64) {
        self.put(key, Value::Number(i64::try_from(number).unwrap_or(i64::MAX)));
    }

    fn number_if<N: Into<u64>>(&mut self, key: &str, number: Option<N>) {
        if let Some(number) = number {
            self.number(key, number.into());
        }
    }

    fn flag(&mut self, key: &str, flag: bool) {
        self.put(key, Value::Flag(flag));
    }

    fn seconds_if(&mut self, key: &str, duration: Option<Duration>) {
        if let Some(duration) = duration {
            self.put(key, Value::Real(duration.as_secs_f64()));
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::super::finished::Traced;
    use super::super::sampler::Sampler;
    use super::*;
    use crate::domain::destination::Scheme;
    use crate::domain::scope::ScopeHits;
    use crate::domain::time::Timestamp;

    const MILLI: Duration = Duration::from_millis(1);

    fn finished(outcome: Outcome, status: Option<u16>, error: Option<Problem>, sent: bool) -> Finished {
        let sent = sent.then_some(Sent {
            after: 2 * MILLI,
            took: status.map(|_| 5 * MILLI),
            scheme: Scheme::Https,
            port: 443,
        });
        Finished {
            traced: Traced {
                trace: Sampler::new(1).sample(None).unwrap(),
                method: POST,
                took: 10 * MILLI,
                sent,
            },
            at: Timestamp(1_000),
            delivery_id: "dlv_1".into(),
            installation_id: None,
            organization_id: None,
            extension_id: None,
            host: Some("ext.example.com".into()),
            outcome,
            error,
            token_check: Some(TokenVerdict::Valid),
            status,
            keys_injected: 0,
            keys_missing: 0,
            scope_hits: ScopeHits::default(),
            mtls: true,
            attempts: 1,
            resolve: None,
            bytes_in: 0,
            bytes_out: 0,
        }
    }

    #[test]
    fn an_error_is_told_of_the_span_that_it_happened_in() {
        let protocol = Some(Problem::EndpointProtocolError);
        let unknown = Some(Problem::InstallationUnknown);
        let echoed = Some(Problem::SecretEchoed);
        for (outcome, status, error, of_server, of_client) in [
            (Outcome::Delivered, Some(200), None, None, None),
            (Outcome::Delivered, Some(404), None, None, Some("404")),
            (Outcome::Delivered, Some(503), None, Some("503"), Some("503")),
            (
                Outcome::Interrupted,
                Some(200),
                protocol,
                Some("endpoint-protocol-error"),
                Some("endpoint-protocol-error"),
            ),
            (Outcome::DispatcherGone, Some(200), None, Some("dispatcher-gone"), None),
            (
                Outcome::DispatcherGone,
                None,
                None,
                Some("dispatcher-gone"),
                Some("dispatcher-gone"),
            ),
            (
                Outcome::Failed,
                Some(502),
                echoed,
                Some("secret-echoed"),
                Some("secret-echoed"),
            ),
            (Outcome::Refused, Some(404), unknown, None, Some("installation-unknown")),
        ] {
            let finished = finished(outcome, status, error, true);
            let sent = finished.traced.sent.unwrap();
            assert_eq!(server_error(&finished).as_deref(), of_server, "{outcome:?} {status:?}");
            assert_eq!(
                client_error(&finished, sent).as_deref(),
                of_client,
                "{outcome:?} {status:?}"
            );
        }
    }

    #[test]
    fn times_are_reckoned_back_from_the_end_and_a_span_stays_within_its_parent() {
        let finished = finished(Outcome::Delivered, Some(200), None, true);
        let times = |span: &Span| (span.start_time_unix_nano, span.end_time_unix_nano);
        assert_eq!(times(&server(&finished)), (990_000_000, 1_000_000_000));
        let sent = finished.traced.sent.unwrap();
        assert_eq!(times(&client(&finished, sent)), (992_000_000, 997_000_000));
        for took in [None, Some(60 * MILLI)] {
            let sent = Sent { took, ..sent };
            assert_eq!(times(&client(&finished, sent)), (992_000_000, 1_000_000_000));
        }
    }

    #[test]
    fn a_request_that_was_not_sent_has_no_client_span() {
        let sender = Sender::new("here-1");
        let batch = [
            finished(Outcome::Refused, Some(404), Some(Problem::InstallationUnknown), false),
            finished(Outcome::Delivered, Some(200), None, true),
        ];
        let request = sender.request(&batch);
        let scopes = request.resource_spans.iter().flat_map(|spans| &spans.scope_spans);
        let kinds: Vec<i32> = scopes.flat_map(|scope| &scope.spans).map(|span| span.kind).collect();
        assert_eq!(kinds, [KIND_SERVER, KIND_SERVER, KIND_CLIENT]);
        assert_eq!(batch.iter().map(|finished| finished.traced.spans()).sum::<u64>(), 3);
    }
}
