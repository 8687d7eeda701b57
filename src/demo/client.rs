//! How the demo's dispatcher and its administrator talk to the product: over its listeners, like everyone.

use std::net::SocketAddr;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

use super::DemoError;

/// A keep-alive connection.
pub(super) struct Connection(http1::SendRequest<Full<Bytes>>);

/// An answer, read whole.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

/// An administrator with a token.
pub(super) struct Administrator<'a> {
    pub(super) api: SocketAddr,
    pub(super) token: &'a str,
}

impl Connection {
    pub(super) async fn open(to: SocketAddr) -> Result<Self, DemoError> {
        let stream = TcpStream::connect(to)
            .await
            .map_err(|error| DemoError::Machine("a connection to the sidecar", error.kind()))?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        tokio::spawn(async move {
            let _ = connection.await; // its requests learn how it ended
        });
        Ok(Self(sender))
    }

    pub(super) async fn post(&mut self, path: &str, body: &Bytes) -> Result<Answer, DemoError> {
        self.send(Method::POST, path, None, body.clone()).await
    }

    async fn send(
        &mut self,
        method: Method,
        path: &str,
        token: Option<&str>,
        body: Bytes,
    ) -> Result<Answer, DemoError> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, "localhost")
            .header(CONTENT_TYPE, "application/json");
        if let Some(token) = token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        let request = request
            .body(Full::new(body))
            .map_err(|_| DemoError::Request("a request", path.to_owned()))?;
        let (head, body) = self.0.send_request(request).await.map_err(broken)?.into_parts();
        Ok(Answer {
            status: head.status,
            headers: head.headers,
            body: body.collect().await.map_err(broken)?.to_bytes(),
        })
    }
}

impl Administrator<'_> {
    /// A call of the REST API that has to succeed.
    pub(super) async fn call(&self, method: Method, path: &str, body: &Value) -> Result<Value, DemoError> {
        let path = format!("/api/v1{path}");
        let mut connection = Connection::open(self.api).await?;
        let answer = connection
            .send(method, &path, Some(self.token), body.to_string().into())
            .await?;
        if answer.status.is_success() {
            return Ok(serde_json::from_slice(&answer.body).unwrap_or_default());
        }
        let said = String::from_utf8_lossy(&answer.body).into_owned(); // a problem holds nothing of a value
        Err(DemoError::Request("the REST API refused a call", said))
    }
}

fn broken(_: hyper::Error) -> DemoError {
    DemoError::Request("the sidecar", "the connection broke".to_owned())
}
