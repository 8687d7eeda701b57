//! Which header fields pass, in either direction.

use http::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONNECTION, CONTENT_LENGTH, COOKIE, EXPECT, FORWARDED, HOST, PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue};

/// The fields of an endpoint's request: all of the dispatcher's but framing, hop-by-hop fields, credentials, what
/// only concerns the way here, and names that the sidecar itself speaks with.
pub(super) fn outbound(inbound: HeaderMap) -> HeaderMap {
    let mut headers = forward(inbound, passes_out);
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    headers
}

/// The fields of a dispatcher's answer: all of the endpoint's but hop-by-hop fields and names that the sidecar
/// itself speaks with.
pub(super) fn answered(endpoints: HeaderMap) -> HeaderMap {
    forward(endpoints, passes_back)
}

fn forward(from: HeaderMap, passes: fn(&HeaderName) -> bool) -> HeaderMap {
    let named = Named::by(&from);
    let mut to = HeaderMap::with_capacity(from.len().saturating_add(8)); // what the sidecar adds fits as well
    let mut last = None;
    for (name, value) in from {
        if name.is_some() {
            last = name; // a repeated field comes without its name
        }
        if let Some(name) = &last
            && passes(name)
            && !named.contains(name)
        {
            to.append(name.clone(), value);
        }
    }
    to
}

fn passes_out(name: &HeaderName) -> bool {
    const DROPPED: &[HeaderName] = &[
        HOST,
        CONTENT_LENGTH,
        EXPECT,
        AUTHORIZATION,
        COOKIE,
        FORWARDED,
        ACCEPT_ENCODING,
    ];
    !is_hop_by_hop(name)
        && !DROPPED.contains(name)
        && match name.as_str().as_bytes() {
            [b'x', b'-', rest @ ..] => {
                !rest.starts_with(b"forwarded-")
                    && !matches!(rest, b"kiket-installation-id" | b"kiket-timestamp" | b"kiket-signature")
            }
            [b'w', b'e', b'b', b'h', b'o', b'o', b'k', b'-', rest @ ..] => {
                !matches!(rest, b"id" | b"timestamp" | b"signature")
            }
            other => other != b"baggage",
        }
}

fn passes_back(name: &HeaderName) -> bool {
    !is_hop_by_hop(name) && name.as_str() != "proxy-status" && !name.as_str().starts_with("x-kiket-")
}

/// Fields that concern one connection only (RFC 9110, section 7.6.1).
fn is_hop_by_hop(name: &HeaderName) -> bool {
    const HOP_BY_HOP: &[HeaderName] = &[
        CONNECTION,
        TE,
        TRAILER,
        TRANSFER_ENCODING,
        UPGRADE,
        PROXY_AUTHORIZATION,
        PROXY_AUTHENTICATE,
    ];
    HOP_BY_HOP.contains(name) || matches!(name.as_str(), "keep-alive" | "proxy-connection")
}

/// The fields that a `Connection` field names: they concern that connection only, too.
struct Named(Vec<HeaderName>);

impl Named {
    fn by(headers: &HeaderMap) -> Self {
        let named = headers
            .get_all(CONNECTION)
            .iter()
            .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
            .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
            .filter(|name| *name != "keep-alive" && *name != "close")
            .collect();
        Self(named)
    }

    fn contains(&self, name: &HeaderName) -> bool {
        self.0.contains(name)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn headers(names: &[&'static str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for name in names {
            headers.append(*name, "x".parse().unwrap());
        }
        headers
    }

    #[test]
    fn a_request_loses_what_does_not_concern_the_endpoint() {
        let dropped = [
            "host",
            "content-length",
            "expect",
            "authorization",
            "cookie",
            "forwarded",
            "x-forwarded-for",
            "x-forwarded-proto",
            "x-kiket-installation-id",
            "x-kiket-timestamp",
            "x-kiket-signature",
            "webhook-id",
            "webhook-timestamp",
            "webhook-signature",
            "te",
            "trailer",
            "transfer-encoding",
            "upgrade",
            "keep-alive",
            "proxy-connection",
            "proxy-authorization",
            "baggage",
        ];
        let left = outbound(headers(&dropped));
        assert_eq!(
            left.keys().map(HeaderName::as_str).collect::<Vec<_>>(),
            ["accept-encoding"]
        );
        assert_eq!(left.get(ACCEPT_ENCODING).unwrap(), "identity");
    }

    #[test]
    fn a_request_keeps_everything_else_and_repeated_fields() {
        let kept = [
            "content-type",
            "user-agent",
            "x-kiket-event-version",
            "traceparent",
            "tracestate",
            "webhook-x",
        ];
        let left = outbound(headers(&kept));
        for name in kept {
            assert!(left.contains_key(name), "{name}");
        }
        let repeated = outbound(headers(&["x-tag", "x-tag"]));
        assert_eq!(repeated.get_all("x-tag").iter().count(), 2);
    }

    #[test]
    fn fields_named_by_connection_do_not_pass() {
        let mut named = headers(&["x-private", "x-kept"]);
        named.insert(CONNECTION, "keep-alive, X-Private".parse().unwrap());
        let left = outbound(named);
        assert!(!left.contains_key("x-private") && !left.contains_key(CONNECTION) && left.contains_key("x-kept"));
    }

    #[test]
    fn an_answer_loses_what_the_sidecar_speaks_with() {
        let left = answered(headers(&[
            "proxy-status",
            "x-kiket-attempts",
            "x-kiket-anything",
            "connection",
            "x-own",
        ]));
        assert_eq!(left.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["x-own"]);
    }
}
