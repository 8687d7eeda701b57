//! What a dispatcher asks for: which path, which installation, with which stated ids.

use std::borrow::Cow;

use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, Method, Uri};

use crate::domain::id::InstallationId;
use crate::domain::installation::Installation;
use crate::domain::payload::Stated;
use crate::domain::problem::Problem;

/// The header that names the installation where the body does not.
pub(super) const INSTALLATION_ID: &str = "x-kiket-installation-id";

/// Checks what can be refused before anything else is looked at: method, declared length and media type.
pub(super) fn check_head(head: &Parts, declared: Option<u64>, body_bytes_max: usize) -> Result<(), Problem> {
    if head.method != Method::POST {
        return Err(Problem::MethodNotAllowed);
    }
    if declared.is_some_and(|length| usize::try_from(length).map_or(true, |length| length > body_bytes_max)) {
        return Err(Problem::PayloadTooLarge);
    }
    if !is_plain_json(&head.headers) {
        return Err(Problem::UnsupportedMediaType);
    }
    Ok(())
}

/// Whether the body is declared as JSON (`application/json` or any `+json`) without a content coding.
fn is_plain_json(headers: &HeaderMap) -> bool {
    let mut types = headers.get_all(CONTENT_TYPE).iter();
    let (Some(only), None) = (types.next(), types.next()) else {
        return false;
    };
    let essence = only
        .as_bytes()
        .split(|byte| *byte == b';')
        .next()
        .unwrap_or_default()
        .trim_ascii();
    let is_json = essence.eq_ignore_ascii_case(b"application/json")
        || essence
            .get(essence.len().saturating_sub(5)..)
            .is_some_and(|end| end.eq_ignore_ascii_case(b"+json"));
    let identity = |value: &http::HeaderValue| value.as_bytes().trim_ascii().eq_ignore_ascii_case(b"identity");
    is_json && headers.get_all(CONTENT_ENCODING).iter().all(identity)
}

/// Checks that a path cannot leave the prefix that it will be put below.
///
/// # Errors
/// [`Problem::InvalidPath`] for dot, empty or encoded-slash segments, which two parsers may read differently.
pub(super) fn check_path(uri: &Uri) -> Result<(), Problem> {
    let below = uri.path().strip_prefix('/').ok_or(Problem::InvalidPath)?;
    if below.is_empty() || below.split('/').all(is_plain_segment) {
        Ok(())
    } else {
        Err(Problem::InvalidPath)
    }
}

/// Where a request goes: its own path and query below the destination's path prefix. The root stands for the prefix
/// itself.
pub(super) fn target(uri: &Uri, path_prefix: &str) -> Result<PathAndQuery, Problem> {
    if path_prefix.is_empty() {
        return uri.path_and_query().cloned().ok_or(Problem::InvalidPath);
    }
    let path = if uri.path() == "/" { "" } else { uri.path() };
    let query_len = uri.query().map_or(0, |query| query.len().saturating_add(1));
    let mut joined = String::with_capacity(path_prefix.len().saturating_add(path.len()).saturating_add(query_len));
    joined.push_str(path_prefix);
    joined.push_str(path);
    if let Some(query) = uri.query() {
        joined.push('?');
        joined.push_str(query);
    }
    PathAndQuery::from_maybe_shared(bytes::Bytes::from(joined)).map_err(|_| Problem::InvalidPath)
}

fn is_plain_segment(segment: &str) -> bool {
    if segment.is_empty() || segment.contains('\\') {
        return false;
    }
    if !segment.contains('%') {
        return segment != "." && segment != "..";
    }
    let lower = segment.to_ascii_lowercase();
    let dots = lower.replace("%2e", ".");
    dots != "." && dots != ".." && !lower.contains("%2f") && !lower.contains("%5c")
}

/// The installation that an invocation is addressed to: from the header, the body, or both if they agree.
pub(super) fn installation_id(headers: &HeaderMap, stated: &Stated<'_>) -> Result<InstallationId, Problem> {
    let header = header(headers)?;
    let text = match (header, stated.extension_installation_id.as_deref()) {
        (Some(header), Some(body)) if header != body => return Err(Problem::ScopeMismatch),
        (Some(text), _) | (None, Some(text)) => text,
        (None, None) => return Err(Problem::MalformedInvocation),
    };
    InstallationId::parse(text).map_err(|_| Problem::MalformedInvocation)
}

/// The installation that the header names, where there is one.
pub(super) fn named(headers: &HeaderMap) -> Result<Option<InstallationId>, Problem> {
    let id = header(headers)?.map(InstallationId::parse).transpose();
    id.map_err(|_| Problem::MalformedInvocation)
}

fn header(headers: &HeaderMap) -> Result<Option<&str>, Problem> {
    let mut named = headers.get_all(INSTALLATION_ID).iter();
    match (named.next(), named.next()) {
        (None, _) => Ok(None),
        (Some(only), None) => only.to_str().map(Some).map_err(|_| Problem::MalformedInvocation),
        (Some(_), Some(_)) => Err(Problem::MalformedInvocation),
    }
}

/// Holds what an invocation states against the registry's record.
///
/// # Errors
/// [`Problem::ScopeMismatch`] where any stated id is another than the record's.
pub(super) fn hold_against(stated: &Stated<'_>, installation: &Installation) -> Result<(), Problem> {
    let agrees = |stated: &Option<Cow<'_, str>>, recorded: &str| stated.as_deref().is_none_or(|id| id == recorded);
    let product = installation.product_installation.as_ref().map(|id| id.as_str());
    let all_agree = agrees(&stated.organization_id, installation.organization.as_str())
        && agrees(&stated.project_id, installation.project.as_str())
        && agrees(&stated.extension_id, installation.extension.as_str())
        && stated
            .product_installation_id
            .as_deref()
            .is_none_or(|id| Some(id) == product);
    if all_agree { Ok(()) } else { Err(Problem::ScopeMismatch) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_joined_below_the_prefix_and_keeps_its_query() {
        for (prefix, uri, joined) in [
            ("", "/webhooks/push?a=b", "/webhooks/push?a=b"),
            ("/kiket", "/webhooks/push?a=%2f..", "/kiket/webhooks/push?a=%2f.."),
            ("/kiket", "/", "/kiket"),
            ("/kiket", "/?a=b", "/kiket?a=b"),
            ("", "/", "/"),
            ("/kiket", "/v/v1/webhooks/a..b", "/kiket/v/v1/webhooks/a..b"),
            ("/kiket", "/a%20b", "/kiket/a%20b"),
        ] {
            let uri: Uri = uri.parse().unwrap();
            assert_eq!(check_path(&uri), Ok(()), "{uri}");
            assert_eq!(target(&uri, prefix).unwrap().as_str(), joined, "{prefix} {uri}");
        }
    }

    #[test]
    fn a_path_that_could_leave_the_prefix_is_refused() {
        for uri in [
            "/..",
            "/.",
            "/a/../b",
            "/a/./b",
            "/%2e%2e/b",
            "/%2E./b",
            "/.%2e",
            "/a//b",
            "//a",
            "/a/",
            "/a%2fb",
            "/a%2Fb",
            "/a%5cb",
        ] {
            assert_eq!(check_path(&uri.parse().unwrap()), Err(Problem::InvalidPath), "{uri}");
        }
    }

    #[test]
    fn only_plain_json_is_taken() {
        for (content_type, coding, taken) in [
            (Some("application/json"), None, true),
            (Some("Application/JSON; charset=utf-8"), None, true),
            (Some("application/cloudevents+json"), None, true),
            (Some("application/json"), Some("identity"), true),
            (Some("application/json"), Some("gzip"), false),
            (Some("application/jsonx"), None, false),
            (Some("text/plain"), None, false),
            (None, None, false),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(value) = content_type {
                headers.insert(CONTENT_TYPE, value.parse().unwrap());
            }
            if let Some(value) = coding {
                headers.insert(CONTENT_ENCODING, value.parse().unwrap());
            }
            assert_eq!(is_plain_json(&headers), taken, "{content_type:?} {coding:?}");
        }
    }
}
