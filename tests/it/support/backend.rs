//! Another company's API, in process: over TLS or in the clear, answered by a function, with a book of what was asked.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::thread;

use bytes::Bytes;
use http::{HeaderMap, Method, Response};
use http_body_util::{BodyExt, Full};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;

use super::pki::Identity;

/// A question as it came.
#[derive(Debug, Clone)]
pub struct Asked {
    pub method: Method,
    /// Byte for byte, with the query.
    pub path: String,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Asked {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

/// What to do with a question.
pub enum Told {
    Whole(Response<Bytes>),
    /// Never answers.
    Stall,
    /// Closes the connection.
    Break,
}

type Teller = Arc<dyn Fn(&Asked) -> Told + Send + Sync>;

#[derive(Default)]
struct Book {
    connections: usize,
    asked: Vec<Asked>,
}

/// A running API; ends when dropped.
pub struct Backend {
    address: SocketAddr,
    scheme: &'static str,
    book: Arc<Mutex<Book>>,
    _stop: oneshot::Sender<Infallible>,
}

impl Backend {
    /// Over TLS where there is an identity.
    pub fn start(identity: Option<&Identity>, tell: impl Fn(&Asked) -> Told + Send + Sync + 'static) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let (tls, tell): (_, Teller) = (identity.map(acceptor), Arc::new(tell));
        let scheme = if tls.is_some() { "https" } else { "http" };
        let book = Arc::new(Mutex::new(Book::default()));
        let (kept, (stop, stopped)) = (Arc::clone(&book), oneshot::channel());
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async move {
                tokio::select! {
                    () = accept(listener, tls, tell, kept) => {}
                    _ = stopped => {}
                }
            });
        });
        Self {
            address,
            scheme,
            book,
            _stop: stop,
        }
    }

    /// Without a path.
    pub fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.address)
    }

    /// Everything that was asked so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.book.lock().unwrap().asked.clone()
    }

    /// How many connections came, those without a question or a handshake included.
    pub fn connections(&self) -> usize {
        self.book.lock().unwrap().connections
    }
}

fn acceptor(identity: &Identity) -> TlsAcceptor {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(identity.chain(), identity.private_key())
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

async fn accept(listener: std::net::TcpListener, tls: Option<TlsAcceptor>, tell: Teller, book: Arc<Mutex<Book>>) {
    let listener = TcpListener::from_std(listener).unwrap();
    loop {
        let (tcp, _) = listener.accept().await.unwrap();
        book.lock().unwrap().connections += 1;
        tokio::spawn(greet(tcp, tls.clone(), Arc::clone(&tell), Arc::clone(&book)));
    }
}

async fn greet(tcp: TcpStream, tls: Option<TlsAcceptor>, tell: Teller, book: Arc<Mutex<Book>>) {
    match tls {
        None => converse(tcp, tell, book).await,
        Some(tls) => {
            // Whoever does not trust this authority ends it here.
            if let Ok(stream) = tls.accept(tcp).await {
                converse(stream, tell, book).await;
            }
        }
    }
}

async fn converse<S>(stream: S, tell: Teller, book: Arc<Mutex<Book>>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request: http::Request<hyper::body::Incoming>| {
        let (tell, book) = (Arc::clone(&tell), Arc::clone(&book));
        async move {
            let (head, body) = request.into_parts();
            let asked = Asked {
                method: head.method,
                path: head.uri.to_string(),
                headers: head.headers,
                body: body.collect().await.map_err(|_| Broken)?.to_bytes(),
            };
            book.lock().unwrap().asked.push(asked.clone());
            match tell(&asked) {
                Told::Whole(answer) => Ok(answer.map(Full::new)),
                Told::Stall => std::future::pending().await,
                Told::Break => Err(Broken),
            }
        }
    });
    // An error is how a connection ends that a test breaks.
    let _ = http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

#[derive(Debug, thiserror::Error)]
#[error("broken off")]
struct Broken;
