//! An endpoint that many tenants share: does every request name only the tenant whose certificate its connection showed?
//!
//! A tenant is called `tenant-NN`: in its certificate's subject, in its invocations and in its secrets' values. On a
//! resumed session the certificate is the one of the session that was resumed, so a crossed session shows like a crossed
//! connection.

use std::cell::Cell;
use std::convert::Infallible;
use std::error::Error;
use std::net::SocketAddr;
use std::rc::Rc;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use rustls::HandshakeKind;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// What a tenant's name begins with, and how long one is.
const NAME: &[u8] = b"tenant-";
const NAME_LENGTH: usize = NAME.len() + 2;

/// What was seen so far.
#[derive(Default)]
struct Book {
    requests: Cell<u64>,
    crossed: Cell<u64>,
    without_values: Cell<u64>,
    connections: Cell<u64>,
    resumed: Cell<u64>,
}

/// Serves until killed. `GET /` on `counts`, in the clear, answers
/// `requests crossed without_values connections resumed`.
pub async fn run(address: SocketAddr, counts: SocketAddr, tls: TlsAcceptor) -> Result<(), Box<dyn Error>> {
    let (listener, told) = (TcpListener::bind(address).await?, TcpListener::bind(counts).await?);
    let book = Rc::new(Book::default());
    let shown = Rc::clone(&book);
    tokio::task::spawn_local(async move {
        while let Ok((stream, _)) = told.accept().await {
            let book = Rc::clone(&shown);
            let service = service_fn(move |_: Request<Incoming>| {
                let answer = Response::new(Full::<Bytes>::from(book.text()));
                async move { Ok::<_, Infallible>(answer) }
            });
            tokio::task::spawn_local(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    });
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let (book, tls) = (Rc::clone(&book), tls.clone());
        tokio::task::spawn_local(async move {
            let Ok(stream) = tls.accept(stream).await else { return };
            let connection = stream.get_ref().1;
            let certificate = connection.peer_certificates().and_then(<[_]>::first);
            let Some(tenant) = certificate
                .and_then(|certificate| names(certificate).next())
                .map(<[u8]>::to_vec)
            else {
                return;
            };
            add(&book.connections);
            if connection.handshake_kind() == Some(HandshakeKind::Resumed) {
                add(&book.resumed);
            }
            let tenant = Rc::new(tenant);
            let service = service_fn(move |request| take(request, Rc::clone(&book), Rc::clone(&tenant)));
            let _ = http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

impl Book {
    fn text(&self) -> String {
        let all = [
            &self.requests,
            &self.crossed,
            &self.without_values,
            &self.connections,
            &self.resumed,
        ];
        all.map(|count| count.get().to_string()).join(" ")
    }
}

fn add(count: &Cell<u64>) {
    count.set(count.get() + 1);
}

/// Every tenant's name in it.
fn names(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes.windows(NAME_LENGTH).filter(|window| window.starts_with(NAME))
}

/// Answers with the name of the tenant that the connection belongs to.
async fn take(
    request: Request<Incoming>,
    book: Rc<Book>,
    tenant: Rc<Vec<u8>>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    if request.method() == Method::POST {
        let body = request
            .into_body()
            .collect()
            .await
            .map(|body| body.to_bytes())
            .unwrap_or_default();
        add(&book.requests);
        if names(&body).any(|name| *name != **tenant) {
            add(&book.crossed);
        }
        let value = [b"value of ".as_slice(), &**tenant].concat();
        if !body.windows(value.len()).any(|window| window == value) {
            add(&book.without_values);
        }
    }
    Ok(Response::new(Full::new(Bytes::copy_from_slice(&tenant))))
}
