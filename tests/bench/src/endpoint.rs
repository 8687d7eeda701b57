//! The endpoint behind every proxy of the bench: answers 200, counts deliveries, body bytes and connections.

use std::cell::Cell;
use std::convert::Infallible;
use std::error::Error;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

#[derive(Default)]
struct Counts {
    requests: Cell<u64>,
    bytes: Cell<u64>,
    connections: Cell<u64>,
}

/// An answer of about so many bytes, as APIs write them.
pub fn json(bytes: usize) -> Bytes {
    let row =
        br#",{"id":4217,"title":"moved to \"done\"","url":"https://api.example.com/v2/issues/4217","at":"2026-11-24"}"#;
    let mut text = b"{\"ok\":true".to_vec();
    if bytes > row.len() {
        text.extend_from_slice(b",\"rows\":[0");
        while text.len() + row.len() < bytes {
            text.extend_from_slice(row);
        }
        text.push(b']');
    }
    text.push(b'}');
    text.into()
}

/// What posts are answered with.
#[derive(Clone)]
pub struct Answer {
    pub body: Bytes,
    /// How long an answer takes.
    pub after: Duration,
}

/// Serves until killed. `GET /counts` answers `requests bytes connections`, whatever is posted gets `answer`.
pub async fn run(address: SocketAddr, tls: Option<TlsAcceptor>, answer: Answer) -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind(address).await?;
    let counts = Rc::new(Counts::default());
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let (counts, tls, answer) = (Rc::clone(&counts), tls.clone(), answer.clone());
        tokio::task::spawn_local(async move {
            match tls {
                None => serve(stream, counts, answer).await,
                Some(tls) => {
                    if let Ok(stream) = tls.accept(stream).await {
                        serve(stream, counts, answer).await;
                    }
                }
            }
        });
    }
}

/// A TLS acceptor that demands a client certificate of `client_ca`, where one is given.
pub fn tls(certificate: &str, key: &str, client_ca: Option<&str>) -> Result<TlsAcceptor, Box<dyn Error>> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder =
        rustls::ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions()?;
    let chain = CertificateDer::pem_file_iter(certificate)?.collect::<Result<Vec<_>, _>>()?;
    let key = PrivateKeyDer::from_pem_file(key)?;
    let builder = match client_ca {
        None => builder.with_no_client_auth(),
        Some(ca) => {
            let mut roots = RootCertStore::empty();
            for root in CertificateDer::pem_file_iter(ca)? {
                roots.add(root?)?;
            }
            builder.with_client_cert_verifier(
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build()?,
            )
        }
    };
    Ok(TlsAcceptor::from(Arc::new(builder.with_single_cert(chain, key)?)))
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin + 'static, counts: Rc<Counts>, with: Answer) {
    counts.connections.set(counts.connections.get() + 1);
    let service = service_fn(move |request| answer(request, Rc::clone(&counts), with.clone()));
    let _ = http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

async fn answer(
    request: Request<Incoming>,
    counts: Rc<Counts>,
    with: Answer,
) -> Result<Response<Full<Bytes>>, Infallible> {
    if request.method() == Method::GET {
        let text = format!(
            "{} {} {}",
            counts.requests.get(),
            counts.bytes.get(),
            counts.connections.get()
        );
        return Ok(Response::new(Full::from(text)));
    }
    let mut body = request.into_body();
    while let Some(Ok(frame)) = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        counts
            .bytes
            .set(counts.bytes.get() + frame.data_ref().map_or(0, |data| data.len() as u64));
    }
    counts.requests.set(counts.requests.get() + 1);
    if !with.after.is_zero() {
        tokio::time::sleep(with.after).await;
    }
    Ok(Response::new(Full::new(with.body)))
}
