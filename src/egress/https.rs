//! How one question is put to a host that somebody named: one bounded HTTPS exchange over a connection of its own.
//!
//! For small answers that may carry a secret: the connection is closed after the answer, since hyper reuses its buffers
//! for as long as a connection lives. What is built here is wiped on drop; what hyper and rustls copy is wiped when it
//! is freed, by the process's allocator. No redirect is followed, no proxy is used, and a body of another coding is
//! not looked at.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    ACCEPT_ENCODING, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, HOST, HeaderMap, HeaderValue, RETRY_AFTER,
};
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use secrecy::SecretString;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;
use url::Host;
use zeroize::Zeroizing;

use super::{BadAuthority, DialError, Egress, Trust};
use crate::domain::destination::{Origin, Scheme};

/// The most header fields of an answer.
const HEADERS_MAX: usize = 100;

/// The most bytes of an answer's head.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// The first buffer for an answer of unknown length, in bytes.
const CHUNKED_BYTES_FIRST: usize = 16 * 1024;

/// A body of a request or an answer, wiped on drop.
pub type SecretBytes = Zeroizing<Vec<u8>>;

/// A way to put questions to one host.
pub struct Exchanger {
    egress: Arc<Egress>,
    origin: Origin,
    host: HeaderValue,
    tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
}

/// Why a host cannot be asked at all. Somebody has to change the settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ExchangerError {
    /// It is spoken to in the clear, which the operator does not allow.
    #[error("the address is not https")]
    NotHttps,
    /// Its name cannot stand in a certificate or a request.
    #[error("the address has no usable host name")]
    Host,
    /// The authority that it is to be checked against cannot be read.
    #[error("{0}")]
    Authority(#[from] BadAuthority),
}

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ExchangeError {
    /// The address must not be reached. Nothing was sent.
    #[error("the address is refused")]
    Refused,
    /// No connection, or it broke. Retry later.
    #[error("the host was not reached")]
    Unreachable,
    /// No TLS session. Nothing of the question was sent.
    #[error("there is no TLS session with the host")]
    Tls,
    /// No answer in time. Retry later.
    #[error("the host did not answer in time")]
    Timeout,
    /// The answer points elsewhere.
    #[error("the host redirects")]
    Redirected,
    /// The answer is not HTTP, or coded as was not asked for.
    #[error("the host does not answer as HTTP asks")]
    Protocol,
    /// The answer is larger than accepted.
    #[error("the answer is too large")]
    TooLarge,
}

/// An answer, read whole. Its `Debug` would show a secret, so there is none.
pub struct Answer {
    /// Any but a redirect.
    pub status: StatusCode,
    /// As they came.
    pub headers: HeaderMap,
    /// Wiped on drop.
    pub body: SecretBytes,
}

impl Answer {
    /// The wait that it names, in seconds (RFC 9110, section 10.2.3), a day at the most; a date is passed over.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        let seconds = self.headers.get(RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
        Some(Duration::from_secs(seconds).min(Duration::from_secs(86_400)))
    }
}

impl Exchanger {
    /// A way to a host, whose certificate is checked against `authority` alone where there is one.
    ///
    /// # Errors
    /// [`ExchangerError`].
    pub fn new(
        egress: Arc<Egress>,
        trust: &Trust,
        origin: Origin,
        authority: Option<&SecretString>,
        allow_http: bool,
    ) -> Result<Self, ExchangerError> {
        let tls = match origin.scheme {
            Scheme::Http if allow_http => None,
            Scheme::Http => return Err(ExchangerError::NotHttps),
            Scheme::Https => {
                let mut config = trust.client(authority)?.with_no_client_auth();
                config.alpn_protocols = vec![b"http/1.1".to_vec()];
                Some((Arc::new(config), server_name(&origin.host)?))
            }
        };
        let host = match (origin.scheme, origin.port) {
            (Scheme::Http, 80) | (Scheme::Https, 443) => origin.host.to_string(),
            (_, port) => format!("{}:{port}", origin.host),
        };
        Ok(Self {
            egress,
            host: HeaderValue::try_from(host).map_err(|_| ExchangerError::Host)?,
            origin,
            tls,
        })
    }

    /// Sends a request, whose URI is a path with an optional query, and reads the answer whole. `Host` and whatever
    /// else says how the connection is used is set here. Cancel safe in the sense that the connection is closed; the
    /// host may have seen the request.
    ///
    /// # Errors
    /// [`ExchangeError`].
    pub async fn exchange(
        &self,
        mut request: Request<SecretBytes>,
        answer_bytes_max: usize,
        deadline: Instant,
    ) -> Result<Answer, ExchangeError> {
        let headers = request.headers_mut();
        headers.insert(HOST, self.host.clone());
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        let request = request.map(|body| Full::new(Bytes::from_owner(body)));
        timeout_at(deadline, self.ask(request, answer_bytes_max))
            .await
            .unwrap_or(Err(ExchangeError::Timeout))
    }

    async fn ask(&self, request: Request<Full<Bytes>>, answer_bytes_max: usize) -> Result<Answer, ExchangeError> {
        let tcp = self.egress.dial(&self.origin.host, self.origin.port).await?;
        let Some((config, name)) = &self.tls else {
            return converse(tcp, request, answer_bytes_max).await;
        };
        let connector = TlsConnector::from(Arc::clone(config));
        let tls = connector.connect(name.clone(), tcp).await;
        converse(tls.map_err(|_| ExchangeError::Tls)?, request, answer_bytes_max).await
    }
}

fn server_name(host: &Host<String>) -> Result<ServerName<'static>, ExchangerError> {
    match host {
        Host::Domain(name) => ServerName::try_from(name.clone()).map_err(|_| ExchangerError::Host),
        Host::Ipv4(address) => Ok(ServerName::IpAddress(std::net::IpAddr::V4(*address).into())),
        Host::Ipv6(address) => Ok(ServerName::IpAddress(std::net::IpAddr::V6(*address).into())),
    }
}

/// One request and its answer, with the connection driven beside them.
async fn converse<S>(stream: S, request: Request<Full<Bytes>>, max: usize) -> Result<Answer, ExchangeError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let handshake = http1::Builder::new()
        .max_headers(HEADERS_MAX)
        .max_buf_size(HEAD_BYTES_MAX)
        .handshake::<_, Full<Bytes>>(TokioIo::new(stream));
    let (mut sender, connection) = handshake.await.map_err(|_| ExchangeError::Unreachable)?;
    let mut asked = pin!(async {
        let answer = sender.send_request(request).await.map_err(broken)?;
        read(answer, max).await
    });
    tokio::select! {
        answer = &mut asked => answer,
        _ = connection => asked.await, // what it left is there, or how it ended
    }
}

async fn read(answer: http::Response<Incoming>, max: usize) -> Result<Answer, ExchangeError> {
    let (head, mut body) = answer.into_parts();
    if head.status.is_redirection() {
        return Err(ExchangeError::Redirected);
    }
    let is_coded = |coding: &HeaderValue| !coding.as_bytes().eq_ignore_ascii_case(b"identity");
    if head.headers.get(CONTENT_ENCODING).is_some_and(is_coded) {
        return Err(ExchangeError::Protocol);
    }
    let declared = head
        .headers
        .get(CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse().ok());
    if declared.is_some_and(|length: usize| length > max) {
        return Err(ExchangeError::TooLarge);
    }
    let mut whole = Zeroizing::new(Vec::with_capacity(declared.unwrap_or(CHUNKED_BYTES_FIRST.min(max))));
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(broken)?.into_data() else {
            continue; // trailers
        };
        if whole.len().saturating_add(data.len()) > max {
            return Err(ExchangeError::TooLarge);
        }
        whole.extend_from_slice(&data);
    }
    Ok(Answer {
        status: head.status,
        headers: head.headers,
        body: whole,
    })
}

fn broken(error: hyper::Error) -> ExchangeError {
    if error.is_parse() {
        ExchangeError::Protocol
    } else {
        ExchangeError::Unreachable
    }
}

impl From<DialError> for ExchangeError {
    fn from(error: DialError) -> Self {
        match error {
            DialError::Refused(_) => Self::Refused,
            DialError::Unresolvable | DialError::Unreachable => Self::Unreachable,
            DialError::Timeout => Self::Timeout,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use std::io;
    use std::net::{IpAddr, SocketAddr};

    use async_trait::async_trait;
    use rustls::RootCertStore;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::super::{AllowList, Resolver};
    use super::*;

    /// Longer than anything takes.
    const PATIENCE: Duration = Duration::from_secs(10);

    struct Nobody;

    #[async_trait]
    impl Resolver for Nobody {
        async fn lookup(&self, _: &str) -> io::Result<Vec<IpAddr>> {
            Err(io::ErrorKind::NotFound.into())
        }
    }

    fn exchanger(url: &str, allow: &str, allow_http: bool) -> Result<Exchanger, ExchangerError> {
        let allow = AllowList::new(vec![allow.parse().unwrap()]);
        let egress = Arc::new(Egress::new(allow, Arc::new(Nobody), PATIENCE));
        let trust = Trust::new(Arc::new(RootCertStore::empty()));
        let origin = crate::domain::destination::Destination::parse(url).unwrap().origin();
        Exchanger::new(egress, &trust, origin, None, allow_http)
    }

    /// What one exchange comes to where the host answers with these bytes and, unless `stays`, closes.
    async fn asked(bytes: Vec<u8>, stays: bool, within: Duration) -> (Result<(u16, usize), ExchangeError>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address: SocketAddr = listener.local_addr().unwrap();
        let host = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = vec![0; 4096];
            let length = stream.read(&mut head).await.unwrap();
            let _ = stream.write_all(&bytes).await; // gone, where the answer is too large
            if stays {
                let _ = stream.read(&mut [0]).await; // until it closes
            }
            String::from_utf8_lossy(&head[..length]).into_owned()
        };
        let exchanger = exchanger(&format!("http://{address}"), "127.0.0.0/8", true).unwrap();
        let request = Request::get("/v1/a?b=c").body(SecretBytes::default()).unwrap();
        let exchange = exchanger.exchange(request, 1_000, Instant::now() + within);
        let both = async { tokio::join!(exchange, host) };
        let (answer, head) = tokio::time::timeout(PATIENCE * 2, both)
            .await
            .expect("the exchange hangs");
        (answer.map(|answer| (answer.status.as_u16(), answer.body.len())), head)
    }

    fn sized(length: usize) -> Vec<u8> {
        let mut answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n").into_bytes();
        answer.resize(answer.len() + length, b'x');
        answer
    }

    fn chunked(length: usize) -> Vec<u8> {
        let body = "x".repeat(length);
        format!("HTTP/1.1 404 X\r\nTransfer-Encoding: chunked\r\n\r\n{length:x}\r\n{body}\r\n0\r\n\r\n").into_bytes()
    }

    #[tokio::test]
    async fn an_answer_is_read_whole_or_not_at_all() {
        let text = |text: &str| text.as_bytes().to_vec();
        for (what, bytes, outcome) in [
            ("largest", sized(1_000), Ok((200, 1_000))),
            ("declared too large", sized(1_001), Err(ExchangeError::TooLarge)),
            (
                "declared beyond memory",
                text("HTTP/1.1 200 X\r\nContent-Length: 999999999999999\r\n\r\n"),
                Err(ExchangeError::TooLarge),
            ),
            ("largest in pieces", chunked(1_000), Ok((404, 1_000))),
            ("too large in pieces", chunked(1_001), Err(ExchangeError::TooLarge)),
            ("none", text(""), Err(ExchangeError::Unreachable)),
            ("cut off", sized(900)[..500].to_vec(), Err(ExchangeError::Unreachable)),
            ("no HTTP", text("SSH-2.0-x\r\n\r\n"), Err(ExchangeError::Protocol)),
            (
                "elsewhere",
                text("HTTP/1.1 307 X\r\nLocation: http://127.0.0.1/\r\nContent-Length: 0\r\n\r\n"),
                Err(ExchangeError::Redirected),
            ),
            (
                "coded",
                text("HTTP/1.1 200 X\r\nContent-Encoding: gzip\r\nContent-Length: 1\r\n\r\nx"),
                Err(ExchangeError::Protocol),
            ),
            (
                "many fields",
                format!("HTTP/1.1 200 X\r\n{}\r\n", "a: b\r\n".repeat(HEADERS_MAX + 1)).into_bytes(),
                Err(ExchangeError::Protocol),
            ),
        ] {
            let (answer, head) = asked(bytes, false, PATIENCE).await;
            assert_eq!(answer, outcome, "{what}");
            assert!(head.starts_with("GET /v1/a?b=c HTTP/1.1\r\n"), "{head}");
            assert!(head.contains("connection: close\r\n"), "{head}");
        }
    }

    #[tokio::test]
    async fn a_host_that_does_not_go_on_is_left_when_the_time_is_over() {
        for bytes in [Vec::new(), sized(900)[..500].to_vec()] {
            let (answer, _) = asked(bytes, true, Duration::from_millis(50)).await;
            assert_eq!(answer, Err(ExchangeError::Timeout));
        }
    }

    #[tokio::test]
    async fn a_connection_ends_with_its_answer_though_the_host_would_keep_it() {
        let (answer, _) = asked(sized(10), true, PATIENCE).await;
        assert_eq!(answer, Ok((200, 10)));
    }

    #[test]
    fn a_named_wait_is_a_number_of_seconds() {
        for (text, wait) in [
            (Some("0"), Some(0)),
            (Some("120"), Some(120)),
            (Some("99999999999"), Some(86_400)),
            (Some("-1"), None),
            (Some("Wed, 25 Nov 2026 04:20:55 GMT"), None),
            (None, None),
        ] {
            let named = text.map(|text| (RETRY_AFTER, text.parse().unwrap()));
            let answer = Answer {
                status: StatusCode::SERVICE_UNAVAILABLE,
                headers: named.into_iter().collect(),
                body: SecretBytes::default(),
            };
            assert_eq!(answer.retry_after(), wait.map(Duration::from_secs), "{text:?}");
        }
    }

    #[tokio::test]
    async fn what_must_not_be_reached_is_not() {
        let closed = exchanger("http://127.0.0.1:1", "10.0.0.0/8", true).unwrap();
        let request = Request::get("/").body(SecretBytes::default()).unwrap();
        let answer = closed.exchange(request, 1_000, Instant::now() + PATIENCE).await;
        assert_eq!(answer.map(drop), Err(ExchangeError::Refused));
        let plain = exchanger("http://vault.example", "127.0.0.0/8", false);
        assert_eq!(plain.map(drop).unwrap_err(), ExchangerError::NotHttps);
        assert!(exchanger("https://vault.example", "127.0.0.0/8", false).is_ok());
    }
}
