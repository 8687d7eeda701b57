//! The bare proxy of the bench: hyper's server and hyper-util's pooled client, nothing between them.

use std::error::Error;
use std::net::SocketAddr;

use hyper::body::Incoming;
use hyper::header::HOST;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;

/// Serves until killed.
pub async fn run(address: SocketAddr, to: SocketAddr) -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind(address).await?;
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let client: Client<HttpConnector, Incoming> = Client::builder(TokioExecutor::new())
        .retry_canceled_requests(false)
        .build(connector);
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let client = client.clone();
        tokio::task::spawn_local(async move {
            let service = service_fn(move |request| client.request(redirected(request, to)));
            let _ = http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

fn redirected(mut request: Request<Incoming>, to: SocketAddr) -> Request<Incoming> {
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    if let Ok(uri) = format!("http://{to}{path}").parse::<Uri>() {
        *request.uri_mut() = uri;
    }
    request.headers_mut().remove(HOST);
    request
}
