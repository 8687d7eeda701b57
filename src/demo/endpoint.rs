//! The demo's extension: an endpoint over TLS that demands a client certificate and keeps what it receives.

use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{ProtocolVersion, RootCertStore, ServerConfig, ServerConnection};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use super::pki::Pki;
use super::{DemoError, Page};
use crate::crypto::sha256::sha256;

/// The endpoint. It ends with the process.
pub(super) struct Endpoint {
    pub(super) address: SocketAddr,
    received: Mutex<Receiver<Received>>,
}

/// A request as it came.
pub(super) struct Received {
    pub(super) head: Parts,
    pub(super) body: Bytes,
    pub(super) peer: Peer,
}

/// Who the endpoint's TLS says the sender is.
#[derive(Clone)]
pub(super) struct Peer {
    pub(super) protocol: &'static str,
    pub(super) common_name: String,
    /// SHA-256 of the certificate.
    pub(super) fingerprint: [u8; 32],
}

impl Endpoint {
    pub(super) fn start(pki: &Pki) -> Result<Self, DemoError> {
        let failed = |error: io::Error| DemoError::Machine("the demo's endpoint", error.kind());
        let acceptor = acceptor(pki).ok_or(DemoError::Certificates)?;
        let listener = TcpListener::bind("127.0.0.1:0").map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(failed)?;
        let (keep, received) = channel();
        std::thread::Builder::new()
            .name("demo-endpoint".into())
            .spawn(move || runtime.block_on(serve(listener, acceptor, keep)))
            .map_err(failed)?;
        Ok(Self {
            address,
            received: Mutex::new(received),
        })
    }

    /// The oldest request that was not taken yet.
    pub(super) fn take(&self) -> Option<Received> {
        let received = self.received.lock().unwrap_or_else(PoisonError::into_inner);
        received.recv_timeout(Duration::from_secs(5)).ok()
    }

    /// From now on every request is told on the page.
    pub(super) fn announce(self, page: Page) {
        let received = self.received.into_inner().unwrap_or_else(PoisonError::into_inner);
        // Where no thread can be had, nothing is told.
        let _ = std::thread::Builder::new().name("demo-page".into()).spawn(move || {
            for request in received {
                page.line(&request.told());
            }
        });
    }
}

impl Received {
    /// One line about it, without a value.
    fn told(&self) -> String {
        let body: serde_json::Value = serde_json::from_slice(&self.body).unwrap_or_default();
        let keys = |value: Option<&serde_json::Value>| match value {
            Some(serde_json::Value::Object(members)) => members.keys().cloned().collect::<Vec<_>>().join(" "),
            Some(serde_json::Value::Array(items)) => {
                let texts = items.iter().filter_map(serde_json::Value::as_str);
                texts.collect::<Vec<_>>().join(" ")
            }
            _ => String::new(),
        };
        format!(
            "endpoint received POST {} from {:?}: secrets {}; missing {}",
            self.head.uri,
            self.peer.common_name,
            keys(body.get("secrets")),
            keys(body.pointer("/secret_status/missing")),
        )
    }
}

fn acceptor(pki: &Pki) -> Option<TlsAcceptor> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let certificate = |pem: &str| CertificateDer::from_pem_slice(pem.as_bytes()).ok();
    let mut roots = RootCertStore::empty();
    roots.add(certificate(&pki.ca)?).ok()?;
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .ok()?
        .with_client_cert_verifier(verifier.build().ok()?)
        .with_single_cert(
            vec![certificate(&pki.server.certificate)?],
            PrivateKeyDer::from_pem_slice(pki.server.key.as_bytes()).ok()?,
        )
        .ok()?;
    Some(TlsAcceptor::from(Arc::new(config)))
}

async fn serve(listener: TcpListener, acceptor: TlsAcceptor, keep: Sender<Received>) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else {
        return;
    };
    while let Ok((stream, _)) = listener.accept().await {
        let (acceptor, keep) = (acceptor.clone(), keep.clone());
        tokio::spawn(serve_one(stream, acceptor, keep));
    }
}

async fn serve_one(stream: TcpStream, acceptor: TlsAcceptor, keep: Sender<Received>) {
    let Ok(stream) = acceptor.accept(stream).await else {
        return; // no certificate, no service
    };
    let Some(peer) = peer(stream.get_ref().1) else { return };
    let service = service_fn(move |request| answer(request, peer.clone(), keep.clone()));
    let _ = http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

fn peer(connection: &ServerConnection) -> Option<Peer> {
    let certificate = connection.peer_certificates()?.first()?;
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let common_name = parsed.subject().iter_common_name().next()?.as_str().ok()?.to_owned();
    Some(Peer {
        protocol: match connection.protocol_version()? {
            ProtocolVersion::TLSv1_3 => "TLS 1.3",
            ProtocolVersion::TLSv1_2 => "TLS 1.2",
            _ => "another TLS",
        },
        common_name,
        fingerprint: sha256(certificate),
    })
}

/// SHA-256 of a certificate that is given as PEM.
pub(super) fn fingerprint(pem: &str) -> Option<[u8; 32]> {
    CertificateDer::from_pem_slice(pem.as_bytes())
        .ok()
        .map(|der| sha256(&der))
}

async fn answer(
    request: Request<Incoming>,
    peer: Peer,
    keep: Sender<Received>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    if let Ok(body) = body.collect().await {
        let body = body.to_bytes();
        let _ = keep.send(Received { head, body, peer }); // the story may be over
    }
    Ok(Response::new(Full::new(Bytes::from_static(b"{\"ok\":true}"))))
}
