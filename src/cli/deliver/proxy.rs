//! How a sidecar's listener for deliveries is reached: over this host's network or a Unix socket, with the
//! dispatcher's token where it asks for one.

use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONNECTION, CONTENT_TYPE, HOST, HeaderValue, USER_AGENT};
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use secrecy::{ExposeSecret, SecretString};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use url::Url;

use super::answer::{Answer, SHOWN_BYTES_MAX};
use crate::cli::{Exit, Failure};
use crate::config::secret_file;

/// For the connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// For the answer and for each piece of it: a manifest may give a whole delivery a minute.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(75);
/// The longest answer that is waited for to its end.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Where deliveries are taken, and with whose word.
pub(super) struct Proxy {
    place: Place,
    shown: String,
    token: Option<SecretString>,
}

enum Place {
    Tcp { host: String, port: u16 },
    Unix(PathBuf),
}

impl Proxy {
    pub(super) fn parse(url: &str, token_file: Option<&Path>) -> Result<Self, Failure> {
        let named = |error| Failure::usage(format!("--dispatcher-token-file: {error}"));
        let token = token_file.map(secret_file).transpose().map_err(named)?;
        let (place, shown) = match url.strip_prefix("unix:").filter(|path| path.starts_with('/')) {
            Some(path) => (Place::Unix(PathBuf::from(path)), format!("unix:{path}")),
            None => tcp(url, token.is_some())?,
        };
        Ok(Self { place, shown, token })
    }

    /// Sends an invocation, once, and reads its answer to the end.
    pub(super) fn deliver(&self, path: &str, installation: &str, body: Bytes) -> Result<Answer, Failure> {
        let request = self.request(path, installation, body)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| self.away(&format!("no runtime: {}", error.kind())))?;
        let exchanged = runtime.block_on(async {
            match &self.place {
                Place::Tcp { host, port } => {
                    let stream = connected(TcpStream::connect((host.as_str(), *port))).await?;
                    exchange(TokioIo::new(stream), request).await
                }
                Place::Unix(path) => {
                    let stream = connected(UnixStream::connect(path)).await?;
                    exchange(TokioIo::new(stream), request).await
                }
            }
        });
        let answer = exchanged.map_err(|reason| self.away(&reason))?;
        if answer.is_kikets() {
            Ok(answer)
        } else {
            let status = answer.status;
            Err(self.away(&format!("answered {status} in a way that the sidecar does not")))
        }
    }

    fn request(&self, path: &str, installation: &str, body: Bytes) -> Result<Request<Full<Bytes>>, Failure> {
        let host = match &self.place {
            Place::Tcp { .. } => self.shown.trim_start_matches("http://"),
            Place::Unix(_) => "localhost",
        };
        let mut builder = Request::builder()
            .method(Method::POST)
            .uri(path)
            .header(HOST, host)
            .header(USER_AGENT, concat!("kiket/", env!("CARGO_PKG_VERSION")))
            .header(CONNECTION, "close")
            .header(CONTENT_TYPE, "application/json")
            .header("x-kiket-installation-id", installation);
        if let Some(token) = &self.token {
            let bearer = HeaderValue::try_from(format!("Bearer {}", token.expose_secret()));
            let mut bearer =
                bearer.map_err(|_| Failure::usage("--dispatcher-token-file: it holds characters that no token has"))?;
            bearer.set_sensitive(true);
            builder = builder.header(AUTHORIZATION, bearer);
        }
        let request = builder.body(Full::new(body));
        request.map_err(|_| Failure::usage("the request cannot be written"))
    }

    fn away(&self, reason: &str) -> Failure {
        Failure {
            exit: Exit::Unavailable,
            reason: format!(
                "{}: {reason}\n  is the sidecar running? --proxy or KIKET_PROXY_URL says where it takes deliveries",
                self.shown
            ),
        }
    }
}

/// A listener on the network. The token travels readable there: to this host only.
fn tcp(url: &str, has_token: bool) -> Result<(Place, String), Failure> {
    let wrong = |reason: &str| Failure::usage(format!("--proxy or KIKET_PROXY_URL {reason}"));
    let parsed = Url::parse(url).map_err(|_| wrong("is http://HOST:PORT or unix:/PATH"))?;
    let is_bare = parsed.username().is_empty()
        && parsed.password().is_none()
        && parsed.query().is_none()
        && parsed.fragment().is_none()
        && matches!(parsed.path(), "" | "/");
    let (host, port) = match (parsed.scheme(), parsed.host_str(), parsed.port_or_known_default()) {
        ("http", Some(host), Some(port)) if is_bare => (host, port),
        _ => return Err(wrong("is http://HOST:PORT or unix:/PATH, and nothing more")),
    };
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let is_local = bare == "localhost" || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    if has_token && !is_local {
        return Err(wrong(
            "is http to another host: the dispatcher's token would travel readable; run this beside the sidecar",
        ));
    }
    let place = Place::Tcp {
        host: bare.to_owned(),
        port,
    };
    Ok((place, format!("http://{host}:{port}")))
}

async fn connected<T>(connecting: impl Future<Output = io::Result<T>>) -> Result<T, String> {
    let connected = timely(CONNECT_TIMEOUT, connecting).await?;
    connected.map_err(|error| format!("cannot be reached: {}", error.kind()))
}

async fn exchange<S>(stream: S, request: Request<Full<Bytes>>) -> Result<Answer, String>
where
    S: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    let broke = |_| String::from("the connection broke");
    let (mut sender, connection) = http1::handshake(stream).await.map_err(broke)?;
    tokio::spawn(async {
        let _ = connection.await; // what goes wrong is told by the request
    });
    let answered = timely(ANSWER_TIMEOUT, sender.send_request(request)).await?;
    let (head, mut body) = answered.map_err(broke)?.into_parts();
    let (mut shown, mut length) = (Vec::new(), 0_usize);
    // Read to its end: who hangs up early is noted as a dispatcher that did.
    while let Some(frame) = timely(ANSWER_TIMEOUT, body.frame()).await? {
        let frame = frame.map_err(|_| String::from("the answer broke off"))?;
        let Ok(data) = frame.into_data() else { continue };
        length = length.saturating_add(data.len());
        let room = SHOWN_BYTES_MAX.saturating_sub(shown.len()).min(data.len());
        shown.extend_from_slice(data.get(..room).unwrap_or_default());
        if length > ANSWER_BYTES_MAX {
            return Err(String::from("the answer does not end"));
        }
    }
    Ok(Answer::of(head.status, &head.headers, shown, length))
}

async fn timely<T>(limit: Duration, future: impl Future<Output = T>) -> Result<T, String> {
    let late = |_| format!("no answer within {} seconds", limit.as_secs());
    timeout(limit, future).await.map_err(late)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_goes_to_this_host_only() {
        for (url, has_token, is_taken) in [
            ("http://127.0.0.1:8080", true, true),
            ("http://localhost:8080/", true, true),
            ("http://[::1]:8080", true, true),
            ("http://10.0.0.1:8080", true, false),
            ("http://10.0.0.1:8080", false, true),
            ("http://kiket.example", false, true),
            ("http://localhost.example:1", true, false),
            ("https://127.0.0.1:8080", false, false),
            ("http://user@127.0.0.1:8080", false, false),
            ("http://127.0.0.1:8080/path", false, false),
            ("http://127.0.0.1:8080?a=b", false, false),
            ("127.0.0.1:8080", false, false),
            ("unix:relative", false, false),
        ] {
            assert_eq!(tcp(url, has_token).is_ok(), is_taken, "{url} {has_token}");
        }
        assert!(Proxy::parse("unix:/run/kiket/proxy.sock", None).is_ok());
    }
}
