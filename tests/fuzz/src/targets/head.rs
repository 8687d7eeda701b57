//! Whether what a dispatcher sends is framed in one way, and its head passes on nothing but what may pass.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::LazyLock;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, Request, Response, Uri};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::runtime::{Builder, Runtime};
use url::Url;

use crate::domain::payload::Stated;
use crate::domain::problem::Problem;

#[allow(dead_code, reason = "records are not held against each other here")]
#[path = "../../../../src/proxy/headers.rs"]
mod headers;
#[allow(dead_code, reason = "records are not held against each other here")]
#[path = "../../../../src/proxy/invocation.rs"]
mod invocation;

/// The largest body that is declared here.
const BODY_BYTES_MAX: usize = 64;

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    Builder::new_current_thread()
        .build()
        .expect("a runtime without drivers")
});

/// A request as it was read, and its body if that came whole.
type Received = (Parts, Option<Bytes>);

/// Reads: what comes in over a connection.
pub fn hold(data: &[u8]) {
    let received = received(data);
    if let Some(plain) = Plain::read(data) {
        plain.is_first_of(&received);
    }
    for (head, body) in &received {
        is_framed_once(head, body.as_ref());
        is_let_in_by_the_rules(head);
        keeps_its_place(&head.uri);
        passes_on(&head.headers);
    }
}

/// Serves a connection as the product's worker does, but for its clock.
fn received(data: &[u8]) -> Vec<Received> {
    let received = RefCell::new(Vec::new());
    let service = service_fn(|request: Request<Incoming>| async {
        let (head, body) = request.into_parts();
        let whole = body.collect().await.ok().map(|whole| whole.to_bytes());
        received.borrow_mut().push((head, whole));
        Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
    });
    let incoming = Sent {
        data,
        patience: 8 + data.len() / 4,
    };
    let stream = TokioIo::new(tokio::io::join(incoming, tokio::io::sink()));
    let mut builder = http1::Builder::new();
    builder.max_headers(100).max_buf_size(64 * 1024).half_close(false);
    let _ = RUNTIME.block_on(builder.serve_connection(stream, service)); // what is wrong is the peer's fault
    received.into_inner()
}

/// What a peer sends, all at once. It hangs up a while later: a worker that sees that drops what is under way.
struct Sent<'a> {
    data: &'a [u8],
    patience: usize,
}

impl AsyncRead for Sent<'_> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.data.is_empty() && self.patience > 0 {
            self.patience -= 1;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Pin::new(&mut self.data).poll_read(cx, to)
    }
}

/// No two readers can disagree where a request ends.
fn is_framed_once(head: &Parts, body: Option<&Bytes>) {
    let lengths: Vec<_> = head.headers.get_all("content-length").iter().collect();
    let is_chunked = head.headers.contains_key("transfer-encoding");
    assert!(lengths.is_empty() || !is_chunked, "a length, and chunks");
    assert!(lengths.windows(2).all(|pair| pair[0] == pair[1]), "two lengths");
    if let (Some(length), Some(body)) = (lengths.first(), body) {
        let length: usize = length.to_str().expect("digits").parse().expect("a number");
        assert_eq!(body.len(), length);
    }
    for (name, value) in &head.headers {
        assert!(!name.as_str().contains([' ', ':', '\t']), "{name}");
        assert!(
            !value.as_bytes().iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)),
            "{name}"
        );
    }
}

fn is_let_in_by_the_rules(head: &Parts) {
    let text = |name: &str| -> Vec<String> {
        let values = head.headers.get_all(name).iter();
        values
            .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
            .collect()
    };
    let length: Option<u64> = text("content-length")
        .first()
        .map(|length| length.parse().expect("a number"));
    let types = text("content-type");
    let essence = types.first().map(|one| {
        one.split(';')
            .next()
            .unwrap_or_default()
            .trim_ascii()
            .to_ascii_lowercase()
    });
    let is_json = types.len() == 1 && essence.is_some_and(|one| one == "application/json" || one.ends_with("+json"));
    let is_plain = text("content-encoding")
        .iter()
        .all(|one| one.trim_ascii().eq_ignore_ascii_case("identity"));
    let expected = match head.method.as_str() {
        "POST" if length.is_some_and(|length| length > BODY_BYTES_MAX as u64) => Err(Problem::PayloadTooLarge),
        "POST" if is_json && is_plain => Ok(()),
        "POST" => Err(Problem::UnsupportedMediaType),
        _ => Err(Problem::MethodNotAllowed),
    };
    assert_eq!(invocation::check_head(head, length, BODY_BYTES_MAX), expected);

    let named = text("x-kiket-installation-id");
    for stated in [None, Some("ins_1")] {
        let members = Stated {
            extension_installation_id: stated.map(Into::into),
            ..Stated::default()
        };
        let id = invocation::installation_id(&head.headers, &members);
        let fits = |id: &str| {
            (1..=128).contains(&id.len()) && id.chars().all(|c| c.is_ascii_alphanumeric() || "._:-".contains(c))
        };
        let expected = match (named.as_slice(), stated) {
            ([only], None) if fits(only) => Some(only.as_str()),
            ([], stated) => stated,
            ([only], Some(stated)) if only == stated => Some(stated),
            _ => None,
        };
        assert_eq!(id.as_ref().map(|id| id.as_str()).ok(), expected);
    }
}

/// A path stays below the prefix that it is put under, also for whoever decodes and normalises it.
fn keeps_its_place(uri: &Uri) {
    let decoded = |segment: &str| {
        segment
            .to_ascii_lowercase()
            .replace("%2e", ".")
            .replace("%2f", "/")
            .replace("%5c", "\\")
    };
    let is_plain = |segment: &str| {
        let decoded = decoded(segment);
        !matches!(decoded.as_str(), "" | "." | "..") && !decoded.contains(['/', '\\'])
    };
    let is_good = uri.path() == "/" || uri.path().starts_with('/') && uri.path()[1..].split('/').all(is_plain);
    let checked = invocation::check_path(uri);
    assert_eq!(checked.is_ok(), is_good, "{}", uri.path());
    if !is_good {
        return;
    }
    for prefix in ["", "/kiket", "/a/b%20c"] {
        let target = invocation::target(uri, prefix).expect("a good path joins");
        let url = Url::parse(&format!("https://endpoint.example{target}")).expect("a URL");
        assert_eq!(url.host_str(), Some("endpoint.example"));
        let below = url.path().strip_prefix(prefix).expect("it is below the prefix");
        let is_root = uri.path() == "/";
        assert!(is_root && matches!(below, "" | "/") || below.split('/').count() == uri.path().split('/').count());
        assert_eq!(target.query(), uri.query());
    }
}

/// Fields that concern the way here, credentials, and names that the sidecar itself speaks with.
const STAYS: [&str; 22] = [
    "accept-encoding",
    "authorization",
    "baggage",
    "connection",
    "content-length",
    "cookie",
    "expect",
    "forwarded",
    "host",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "webhook-id",
    "webhook-signature",
    "webhook-timestamp",
    "x-kiket-installation-id",
    "x-kiket-signature",
];

fn passes_on(inbound: &HeaderMap) {
    let mut expected: BTreeMap<&str, Vec<&[u8]>> = BTreeMap::new();
    let connection: Vec<String> = inbound
        .get_all("connection")
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .map(|name| String::from_utf8_lossy(name.trim_ascii()).to_ascii_lowercase())
        .filter(|name| name != "close")
        .collect();
    for (name, value) in inbound {
        let name = name.as_str();
        let stays = STAYS.contains(&name) || name == "x-kiket-timestamp" || name.starts_with("x-forwarded-");
        if !stays && !connection.iter().any(|other| other == name) {
            expected.entry(name).or_default().push(value.as_bytes());
        }
    }
    expected.insert("accept-encoding", vec![b"identity"]);
    let outbound = headers::outbound(inbound.clone());
    let mut passed: BTreeMap<&str, Vec<&[u8]>> = BTreeMap::new();
    for (name, value) in &outbound {
        passed.entry(name.as_str()).or_default().push(value.as_bytes());
    }
    assert_eq!(passed, expected);
}

/// A request without anything that two readers could take for different things.
struct Plain<'a> {
    method: &'a str,
    target: &'a str,
    fields: Vec<(String, &'a str)>,
    body: &'a [u8],
}

impl<'a> Plain<'a> {
    fn read(data: &'a [u8]) -> Option<Self> {
        let end = data.windows(4).position(|four| four == b"\r\n\r\n")?;
        let (head, body) = (std::str::from_utf8(&data[..end]).ok()?, &data[end + 4..]);
        let mut lines = head.split("\r\n");
        let (method, rest) = lines.next()?.split_once(' ')?;
        let target = rest.strip_suffix(" HTTP/1.1")?;
        let is_token = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        let is_path = |text: &str| {
            text.starts_with('/')
                && text
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"/-._~%?=&".contains(&b))
        };
        if !is_token(method) || !is_path(target) || method == "CONNECT" {
            return None;
        }
        let (mut fields, mut length) = (Vec::new(), 0);
        for line in lines {
            let (name, value) = line.split_once(": ")?;
            let is_plain = value.bytes().all(|b| (b' '..=b'~').contains(&b)) && value.trim_ascii() == value;
            let name = name.to_ascii_lowercase();
            if !is_token(&name) || !is_plain || name == "transfer-encoding" || name == "upgrade" {
                return None;
            }
            if name == "content-length" {
                if length > 0 || !value.bytes().all(|b| b.is_ascii_digit()) {
                    return None;
                }
                length = value.parse().ok().filter(|length| (1..=body.len()).contains(length))?;
            }
            fields.push((name, value));
        }
        (fields.len() < 100).then(|| Self {
            method,
            target,
            fields,
            body: &body[..length],
        })
    }

    fn is_first_of(&self, received: &[Received]) {
        let (head, body) = received.first().expect("a plain request is served");
        assert_eq!(
            (head.method.as_str(), head.uri.to_string().as_str()),
            (self.method, self.target)
        );
        assert_eq!(body.as_deref(), Some(self.body));
        assert_eq!(head.headers.len(), self.fields.len());
        let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
        for (name, value) in &self.fields {
            let nth = seen.entry(name).or_default();
            let got = head
                .headers
                .get_all(name)
                .iter()
                .nth(*nth)
                .map(|value| value.as_bytes());
            assert_eq!(got, Some(value.as_bytes()), "{name}");
            *nth += 1;
        }
    }
}
