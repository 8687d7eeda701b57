//! An extension's endpoint over TLS, HTTP/1.1 and HTTP/2: does what it is told, and keeps what it saw of whom.

use std::convert::Infallible;
use std::future::{Future, pending};
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::{Arc, Condvar, Mutex};
use std::task::{Context, Poll};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, HeaderMap, HeaderValue};
use http::{Method, Request, Response, Version};
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::server::WebPkiClientVerifier;
use rustls::version::{TLS12, TLS13};
use rustls::{HandshakeKind, RootCertStore, ServerConfig, SupportedProtocolVersion};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::leaks;
use super::pki::{Authority, Identity, fingerprint};

/// Longer than anything takes; a test that hangs fails.
const PATIENCE: Duration = Duration::from_secs(30);

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Which connection brought it, from 0.
    pub connection: usize,
    pub method: Method,
    pub path: String,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Seen {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// What the endpoint saw of one connection.
#[derive(Debug, Clone, Default)]
pub struct Session {
    /// Whether the handshake was completed from the endpoint's side.
    pub greeted: bool,
    /// SHA-256 of the client's certificate.
    pub certificate: Option<[u8; 32]>,
    /// Whether the handshake was an abbreviated one.
    pub resumed: bool,
    pub h2: bool,
    /// Bytes of requests that were read, where it counts them.
    pub bytes: usize,
    pub closed: bool,
}

/// A part of an answer's body, or where it breaks off.
pub type Piece = Result<Frame<Bytes>, h2::Error>;

/// What to do with a request.
pub enum Reply {
    Whole(Response<Bytes>),
    /// A head at once, the rest as the test sends it. Its end of the channel closes when the answer is cut off.
    Streamed(Response<mpsc::Receiver<Piece>>),
    /// Answers, then says goodbye: `Connection: close`, or GOAWAY.
    Last(Response<Bytes>),
    /// Breaks off: `RST_STREAM` with this reason, or the end of the connection.
    Reset(h2::Reason),
    /// Never answers.
    Stall,
}

/// What to do with a connection after its handshake.
#[derive(Debug, Clone, Copy)]
pub enum Opening {
    Serve,
    /// Reads so many bytes of requests, then closes.
    CloseAfter(usize),
    /// Lets a client's first HTTP/2 stream begin and says goodbye: without having looked at it, or, where it was
    /// processed, once it is whole.
    GoAway {
        processed: bool,
        reason: h2::Reason,
    },
}

pub type Script = Arc<dyn Fn(&Seen) -> Reply + Send + Sync>;
pub type Openings = Arc<dyn Fn(usize) -> Opening + Send + Sync>;

/// How an endpoint is set up.
pub struct Setup {
    pub identity: Identity,
    /// Whose clients are let in, where a certificate is demanded.
    pub clients: Option<Vec<rustls::pki_types::CertificateDer<'static>>>,
    pub alpn: &'static [&'static str],
    pub versions: Vec<&'static SupportedProtocolVersion>,
    pub script: Script,
    pub openings: Openings,
}

pub const H1: &[&str] = &["http/1.1"];
pub const H2: &[&str] = &["h2", "http/1.1"];

impl Setup {
    /// Answers 200 to everybody who trusts `authority`, at 127.0.0.1.
    pub fn new(authority: &Authority, alpn: &'static [&'static str]) -> Self {
        Self {
            identity: authority.server(&["127.0.0.1"]),
            clients: None,
            alpn,
            versions: vec![&TLS13, &TLS12],
            script: Arc::new(|_| ok()),
            openings: Arc::new(|_| Opening::Serve),
        }
    }

    /// The same, to clients of `authority` only.
    pub fn mutual(authority: &Authority, alpn: &'static [&'static str]) -> Self {
        Self {
            clients: Some(vec![authority.der()]),
            ..Self::new(authority, alpn)
        }
    }

    pub fn script(self, script: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        let script: Script = Arc::new(script);
        Self { script, ..self }
    }

    pub fn openings(self, openings: impl Fn(usize) -> Opening + Send + Sync + 'static) -> Self {
        let openings: Openings = Arc::new(openings);
        Self { openings, ..self }
    }

    pub fn start(self) -> TlsEndpoint {
        TlsEndpoint::start(self)
    }
}

/// A plain success.
pub fn ok() -> Reply {
    Reply::Whole(Response::new(Bytes::from_static(b"{\"ok\":true}")))
}

/// What an endpoint saw.
#[derive(Default)]
struct Ledger {
    port: u16,
    sessions: Mutex<(Vec<Session>, Vec<Seen>)>,
    leaks: Mutex<Vec<String>>,
    changed: Condvar,
}

impl Ledger {
    fn note<T>(&self, what: impl FnOnce(&mut (Vec<Session>, Vec<Seen>)) -> T) -> T {
        let noted = what(&mut self.sessions.lock().unwrap());
        self.changed.notify_all();
        noted
    }

    fn session(&self, number: usize, what: impl FnOnce(&mut Session)) {
        self.note(|(sessions, _)| what(&mut sessions[number]));
    }
}

/// A running endpoint; ends when dropped. Whatever it receives holds no secret outside of its slot, or the test fails.
pub struct TlsEndpoint {
    address: SocketAddr,
    ledger: Arc<Ledger>,
    _stop: oneshot::Sender<Infallible>,
}

impl TlsEndpoint {
    pub fn start(setup: Setup) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let ledger = Arc::new(Ledger {
            port: address.port(),
            ..Ledger::default()
        });
        let (stop, stopped) = oneshot::channel();
        let kept = Arc::clone(&ledger);
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async move {
                tokio::select! {
                    () = accept(listener, setup, kept) => {}
                    _ = stopped => {}
                }
            });
        });
        Self {
            address,
            ledger,
            _stop: stop,
        }
    }

    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// Everything received so far, in order.
    pub fn seen(&self) -> Vec<Seen> {
        self.ledger.sessions.lock().unwrap().1.clone()
    }

    /// The last request received.
    pub fn last(&self) -> Seen {
        self.seen().pop().expect("a delivery")
    }

    /// Every connection accepted so far, in order.
    pub fn sessions(&self) -> Vec<Session> {
        self.ledger.sessions.lock().unwrap().0.clone()
    }

    /// The session that a request came over.
    pub fn session_of(&self, seen: &Seen) -> Session {
        self.sessions()[seen.connection].clone()
    }

    /// Waits until what was seen of the connections is as it should be.
    pub fn wait(&self, what: &str, until: impl Fn(&[Session], &[Seen]) -> bool) {
        let ledger = self.ledger.sessions.lock().unwrap();
        let (ledger, waited) = self
            .ledger
            .changed
            .wait_timeout_while(ledger, PATIENCE, |(sessions, seen)| !until(sessions, seen))
            .unwrap();
        assert!(!waited.timed_out(), "{what} hangs: {:?}", ledger.0);
    }
}

impl Drop for TlsEndpoint {
    fn drop(&mut self) {
        let leaks = self.ledger.leaks.lock().unwrap();
        assert!(thread::panicking() || leaks.is_empty(), "{leaks:?}");
    }
}

fn server_config(setup: &Setup) -> Arc<ServerConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&setup.versions)
        .unwrap();
    let builder = match &setup.clients {
        None => builder.with_no_client_auth(),
        Some(authorities) => {
            let mut roots = RootCertStore::empty();
            for authority in authorities {
                roots.add(authority.clone()).unwrap();
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(verifier.build().unwrap())
        }
    };
    let mut config = builder
        .with_single_cert(setup.identity.chain(), setup.identity.private_key())
        .unwrap();
    config.alpn_protocols = setup.alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    Arc::new(config)
}

async fn accept(listener: std::net::TcpListener, setup: Setup, ledger: Arc<Ledger>) {
    let listener = TcpListener::from_std(listener).unwrap();
    let acceptor = TlsAcceptor::from(server_config(&setup));
    while let Ok((stream, _)) = listener.accept().await {
        stream.set_nodelay(true).unwrap();
        let number = ledger.note(|(sessions, _)| {
            sessions.push(Session::default());
            sessions.len() - 1
        });
        let (acceptor, script) = (acceptor.clone(), Arc::clone(&setup.script));
        let (ledger, opening) = (Arc::clone(&ledger), (setup.openings)(number));
        tokio::spawn(async move {
            serve(stream, acceptor, script, opening, &ledger, number).await;
            ledger.session(number, |session| session.closed = true);
        });
    }
}

async fn serve(
    stream: TcpStream,
    acceptor: TlsAcceptor,
    script: Script,
    opening: Opening,
    ledger: &Arc<Ledger>,
    number: usize,
) {
    let mut stream = match acceptor.accept(stream).into_fallible().await {
        Ok(stream) => stream,
        Err((_, mut stream)) => {
            // Reads on, so that the alert is not overtaken by a reset.
            let _ = stream.shutdown().await;
            let _ = stream.read_to_end(&mut Vec::new()).await;
            return;
        }
    };
    let state = stream.get_ref().1;
    let h2 = state.alpn_protocol() == Some(b"h2");
    let certificate = state.peer_certificates().and_then(<[_]>::first).map(fingerprint);
    let resumed = state.handshake_kind() == Some(HandshakeKind::Resumed);
    ledger.session(number, |session| {
        (session.greeted, session.certificate, session.resumed, session.h2) = (true, certificate, resumed, h2);
    });
    match opening {
        Opening::Serve if h2 => serve_h2(stream, script, ledger, number).await,
        Opening::Serve => serve_h1(stream, script, ledger, number).await,
        Opening::CloseAfter(bytes) => {
            let mut taken = vec![0; bytes];
            let read = stream.read_exact(&mut taken).await;
            ledger.session(number, |session| session.bytes = read.unwrap_or(0));
        }
        Opening::GoAway { processed, reason } => go_away(&mut stream, processed, reason).await,
    }
}

async fn serve_h1(stream: TlsStream<TcpStream>, script: Script, ledger: &Arc<Ledger>, number: usize) {
    let goodbye = Arc::new(Notify::new());
    let service = service_fn(|request| answer(request, number, &script, ledger, &goodbye));
    let mut connection = pin!(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    loop {
        tokio::select! {
            _ = connection.as_mut() => return,
            () = goodbye.notified() => connection.as_mut().graceful_shutdown(),
        }
    }
}

async fn serve_h2(stream: TlsStream<TcpStream>, script: Script, ledger: &Arc<Ledger>, number: usize) {
    let goodbye = Arc::new(Notify::new());
    let service = service_fn(|request| {
        let (script, ledger, goodbye) = (Arc::clone(&script), Arc::clone(ledger), Arc::clone(&goodbye));
        async move { answer(request, number, &script, &ledger, &goodbye).await }
    });
    // Small windows: flow control has something to do.
    let mut connection = pin!(
        http2::Builder::new(TokioExecutor::new())
            .initial_stream_window_size(16 * 1024)
            .initial_connection_window_size(64 * 1024)
            .serve_connection(TokioIo::new(stream), service)
    );
    loop {
        tokio::select! {
            _ = connection.as_mut() => return,
            () = goodbye.notified() => connection.as_mut().graceful_shutdown(),
        }
    }
}

/// Reads a request whole, keeps it, and does what the script says.
async fn answer(
    request: Request<Incoming>,
    connection: usize,
    script: &Script,
    ledger: &Ledger,
    goodbye: &Notify,
) -> Result<Response<Answer>, h2::Error> {
    let (head, body) = request.into_parts();
    let Ok(body) = body.collect().await else {
        return pending().await; // broke off: not a request
    };
    let seen = Seen {
        connection,
        method: head.method,
        path: head.uri.path_and_query().unwrap().to_string(),
        headers: head.headers,
        body: body.to_bytes().to_vec(),
    };
    let headers = seen
        .headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_bytes()));
    let leak = leaks::found(ledger.port, &seen.path, headers, &seen.body);
    ledger.leaks.lock().unwrap().extend(leak);
    ledger.note(|(_, all)| all.push(seen.clone()));
    match script(&seen) {
        Reply::Whole(response) => Ok(response.map(Answer::whole)),
        Reply::Streamed(response) => Ok(response.map(Answer::Streamed)),
        Reply::Last(mut response) => {
            if head.version == Version::HTTP_11 {
                response
                    .headers_mut()
                    .insert(CONNECTION, HeaderValue::from_static("close"));
            }
            goodbye.notify_one();
            Ok(response.map(Answer::whole))
        }
        Reply::Reset(reason) => Err(reason.into()),
        Reply::Stall => pending().await,
    }
}

/// Plays an HTTP/2 connection as far as a client's first request, and lets go of it: GOAWAY with the stream as the
/// last one that was processed, or with none (RFC 9113, section 6.8).
async fn go_away(stream: &mut TlsStream<TcpStream>, processed: bool, reason: h2::Reason) {
    const PREFACE_LEN: usize = 24;
    const DATA: u8 = 0;
    const HEADERS: u8 = 1;
    const END_STREAM: u8 = 1;
    const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    const GO_AWAY: [u8; 9] = [0, 0, 8, 7, 0, 0, 0, 0, 0];
    let mut preface = [0; PREFACE_LEN];
    let _ = stream.read_exact(&mut preface).await;
    let _ = stream.write_all(&SETTINGS).await;
    let mut head = [0; 9];
    while stream.read_exact(&mut head).await.is_ok() {
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let mut payload = vec![0; length];
        let _ = stream.read_exact(&mut payload).await;
        let is_time = match processed {
            false => head[3] == HEADERS,
            true => head[3] == DATA && head[4] & END_STREAM != 0,
        };
        if is_time {
            let last_stream = u32::from(processed).to_be_bytes();
            let goodbye = [&GO_AWAY[..], &last_stream, &u32::from(reason).to_be_bytes()].concat();
            let _ = stream.write_all(&goodbye).await;
            let _ = stream.flush().await;
            let _ = stream.shutdown().await;
            let _ = stream.read_to_end(&mut Vec::new()).await;
            return;
        }
    }
}

/// The body of an answer.
enum Answer {
    Whole(Option<Bytes>),
    Streamed(mpsc::Receiver<Piece>),
}

impl Answer {
    fn whole(bytes: Bytes) -> Self {
        Self::Whole(Some(bytes).filter(|bytes| !bytes.is_empty()))
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = h2::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Piece>> {
        match &mut *self {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Streamed(pieces) => pieces.poll_recv(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(None))
    }

    fn size_hint(&self) -> http_body::SizeHint {
        match self {
            Self::Whole(bytes) => http_body::SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
            Self::Streamed(_) => http_body::SizeHint::default(),
        }
    }
}

/// Runs a future to its end on the test's own thread; one that hangs fails.
pub fn finished<T>(what: &str, future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let within = async { tokio::time::timeout(PATIENCE, future).await };
    runtime.block_on(within).unwrap_or_else(|_| panic!("{what} hangs"))
}
