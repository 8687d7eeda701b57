//! How the REST API is called: one request per connection, with a token, over TLS or to this host only.
//!
//! No redirect is followed and no proxy asked: the token goes to the host that was named, or nowhere. Tests use this
//! client as well.

mod address;
mod body;
mod problem;

use std::future::Future;
use std::path::Path;
use std::time::Duration;

use http::header::{ACCEPT, AUTHORIZATION, CONNECTION, CONTENT_TYPE, HOST, HeaderValue, IF_MATCH, USER_AGENT};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;

use address::{Address, Stream};
pub use body::{Place, SecretBody};
pub(in crate::cli) use problem::refusal;
pub use problem::{ClientError, Problem};

/// For the connection and its handshake.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// For the head of an answer, and for each piece of it.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// The longest answer that is read whole.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Says to the server that a person or a script at a command line asks; the audit log records it.
pub const SOURCE_HEADER: &str = "x-kiket-source";

/// A client of one server with one token.
pub struct Client {
    address: Address,
    token: SecretString,
    runtime: Runtime,
}

/// What is asked.
#[derive(Debug)]
pub struct Call<'a> {
    method: Method,
    path: Vec<&'a str>,
    query: Vec<(&'static str, String)>,
    body: Option<(&'static str, Bytes)>,
    if_match: Option<u64>,
    accept: &'static str,
}

/// What was answered, read whole.
#[derive(Debug)]
pub struct Answer {
    /// The status: below 300.
    pub status: StatusCode,
    /// The document; `null` where there is none.
    pub body: Value,
}

impl<'a> Call<'a> {
    /// A request below `/api/v1`: the segments of its path, not escaped yet.
    #[must_use]
    pub fn new(method: Method, path: &[&'a str]) -> Self {
        Self {
            method,
            path: path.to_vec(),
            query: Vec::new(),
            body: None,
            if_match: None,
            accept: "application/json",
        }
    }

    /// A read.
    #[must_use]
    pub fn get(path: &[&'a str]) -> Self {
        Self::new(Method::GET, path)
    }

    /// A parameter, where it has a value.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: Option<impl ToString>) -> Self {
        self.query.extend(value.map(|value| (name, value.to_string())));
        self
    }

    /// A document that holds no secret.
    #[must_use]
    pub fn json(self, document: &Value) -> Self {
        self.document("application/json", document.to_string().into())
    }

    /// A document that holds values.
    #[must_use]
    pub fn secret(self, body: SecretBody) -> Self {
        self.document("application/json", body.into_bytes())
    }

    /// A document of this type.
    #[must_use]
    pub fn document(mut self, media_type: &'static str, document: Bytes) -> Self {
        self.body = Some((media_type, document));
        self
    }

    /// Only where it is at this version.
    #[must_use]
    pub fn at_version(mut self, version: Option<u64>) -> Self {
        self.if_match = version;
        self
    }

    /// An answer of another type than JSON.
    #[must_use]
    pub fn accepting(mut self, media_type: &'static str) -> Self {
        self.accept = media_type;
        self
    }
}

impl Client {
    /// A client of the server at `url`, checked against the system's certificate authorities and those in `ca_file`.
    ///
    /// # Errors
    /// [`ClientError::Setting`]: the URL or the file has to be changed.
    pub fn new(url: &str, token: SecretString, ca_file: Option<&Path>) -> Result<Self, ClientError> {
        let address = Address::parse(url, ca_file)?;
        let runtime = Builder::new_current_thread().enable_all().build();
        Ok(Self {
            address,
            token,
            runtime: runtime.map_err(|error| ClientError::Away(error.kind().to_string()))?,
        })
    }

    /// Asks, and reads the answer whole.
    ///
    /// # Errors
    /// [`ClientError`]: the server is away, or refused.
    pub fn call(&self, call: Call<'_>) -> Result<Answer, ClientError> {
        self.runtime.block_on(async {
            let response = self.send(call).await?;
            let status = response.status();
            let bytes = whole(response.into_body()).await?;
            if !status.is_success() {
                return Err(problem::refusal(status, &bytes, &self.address.origin));
            }
            let body = match bytes.as_slice() {
                [] => Value::Null,
                bytes => serde_json::from_slice(bytes).map_err(|_| self.address.not_kiket(status))?,
            };
            Ok(Answer { status, body })
        })
    }

    /// All pages of a list: the objects under `data`.
    ///
    /// # Errors
    /// As for [`Self::call`].
    pub fn pages(&self, mut call: impl FnMut() -> Call<'static>) -> Result<Vec<Value>, ClientError> {
        let mut rows = Vec::new();
        let mut cursor: Option<String> = None;
        loop {
            let page = self.call(call().with("cursor", cursor))?;
            let data = page.body.get("data").and_then(Value::as_array);
            rows.extend(data.ok_or_else(|| self.address.not_kiket(page.status))?.iter().cloned());
            match page.body.get("next_cursor").and_then(Value::as_str) {
                Some(next) => cursor = Some(next.to_owned()),
                None => return Ok(rows),
            }
        }
    }

    /// Asks, and hands on the answer as it comes. `take` says whether it wants more.
    ///
    /// # Errors
    /// As for [`Self::call`]; what was handed on before is not whole then.
    pub fn stream(&self, call: Call<'_>, mut take: impl FnMut(&[u8]) -> bool) -> Result<(), ClientError> {
        self.runtime.block_on(async {
            let response = self.send(call).await?;
            let status = response.status();
            if !status.is_success() {
                let bytes = whole(response.into_body()).await?;
                return Err(problem::refusal(status, &bytes, &self.address.origin));
            }
            let mut body = response.into_body();
            while let Some(piece) = next(&mut body).await? {
                if !take(&piece) {
                    break;
                }
            }
            Ok(())
        })
    }

    /// Waits before asking again.
    pub fn pause(&self, time: Duration) {
        self.runtime.block_on(async { tokio::time::sleep(time).await });
    }

    async fn send(&self, call: Call<'_>) -> Result<Response<Incoming>, ClientError> {
        let request = self.request(call)?;
        let away = |reason: String| ClientError::Away(format!("{}: {reason}", self.address.origin));
        let stream = timely(CONNECT_TIMEOUT, self.address.connect()).await?;
        let stream = stream.map_err(away)?;
        match stream {
            Stream::Plain(stream) => exchange(TokioIo::new(stream), request).await,
            Stream::Tls(stream) => exchange(TokioIo::new(stream), request).await,
        }
        .map_err(|error| match error {
            ClientError::Away(reason) => away(reason),
            other => other,
        })
    }

    fn request(&self, call: Call<'_>) -> Result<Request<Full<Bytes>>, ClientError> {
        let mut bearer = HeaderValue::try_from(format!("Bearer {}", self.token.expose_secret()))
            .map_err(|_| ClientError::Setting(String::from("the token holds characters that no token has")))?;
        bearer.set_sensitive(true);
        let mut builder = Request::builder()
            .method(call.method)
            .uri(self.address.target(&call.path, &call.query))
            .header(HOST, &self.address.authority)
            .header(USER_AGENT, concat!("kiket/", env!("CARGO_PKG_VERSION")))
            .header(SOURCE_HEADER, "cli")
            .header(CONNECTION, "close")
            .header(ACCEPT, call.accept)
            .header(AUTHORIZATION, bearer);
        if let Some(version) = call.if_match {
            builder = builder.header(IF_MATCH, format!("\"{version}\""));
        }
        let bytes = match call.body {
            Some((media_type, bytes)) => {
                builder = builder.header(CONTENT_TYPE, media_type);
                bytes
            }
            None => Bytes::new(),
        };
        builder
            .body(Full::new(bytes))
            .map_err(|_| ClientError::Setting(String::from("the request cannot be written")))
    }
}

/// One request and the head of its answer, over a connection that then ends.
async fn exchange<S>(stream: S, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, ClientError>
where
    S: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    let away = |_| ClientError::Away(String::from("the connection broke"));
    let (mut sender, connection) = http1::handshake(stream).await.map_err(away)?;
    tokio::spawn(async {
        let _ = connection.await; // what goes wrong is told by the request
    });
    timely(ANSWER_TIMEOUT, sender.send_request(request))
        .await?
        .map_err(away)
}

async fn next(body: &mut Incoming) -> Result<Option<Bytes>, ClientError> {
    loop {
        let Some(frame) = timely(ANSWER_TIMEOUT, body.frame()).await? else {
            return Ok(None);
        };
        let frame = frame.map_err(|_| ClientError::Away(String::from("the answer broke off")))?;
        if let Ok(data) = frame.into_data() {
            return Ok(Some(data));
        }
    }
}

async fn whole(mut body: Incoming) -> Result<Vec<u8>, ClientError> {
    let mut bytes = Vec::new();
    while let Some(piece) = next(&mut body).await? {
        bytes.extend_from_slice(&piece);
        if bytes.len() > ANSWER_BYTES_MAX {
            return Err(ClientError::Away(String::from("the answer does not end")));
        }
    }
    Ok(bytes)
}

async fn timely<T>(limit: Duration, future: impl Future<Output = T>) -> Result<T, ClientError> {
    let late = |_| ClientError::Away(format!("no answer within {} seconds", limit.as_secs()));
    timeout(limit, future).await.map_err(late)
}
