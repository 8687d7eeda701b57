//! An extension's endpoint over plain HTTP that answers what it is told and keeps what it receives.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use serde_json::Value;

use super::leaks;

/// Longer than anything takes; a test that hangs fails.
const PATIENCE: Duration = Duration::from_secs(30);

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Received {
    pub method: String,
    pub target: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Received {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// The value injected under a key.
    pub fn secret(&self, key: &str) -> Option<String> {
        self.json()["secrets"][key].as_str().map(str::to_owned)
    }
}

/// What the endpoint does with a request: the bytes to answer, after which it goes on, or closes where there are none.
pub type Script = Arc<dyn Fn(&Received) -> Option<Vec<u8>> + Send + Sync>;

/// A running endpoint. Whatever it receives holds no secret outside of its slot, or the test fails.
pub struct Endpoint {
    address: SocketAddr,
    received: Arc<Ledger>,
    is_watched: bool,
}

#[derive(Default)]
struct Ledger {
    received: Mutex<Vec<Received>>,
    leaks: Mutex<Vec<String>>,
    grown: Condvar,
}

/// Bytes of a plain answer.
pub fn answer(status: u16, headers: &str, body: &[u8]) -> Vec<u8> {
    let mut bytes = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n{headers}\r\n", body.len()).into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

impl Endpoint {
    /// One that answers 200 to everything.
    pub fn start() -> Self {
        Self::scripted(Arc::new(|_| Some(answer(200, "", b"{\"ok\":true}"))))
    }

    pub fn scripted(script: Script) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").unwrap(), script)
    }

    /// One on a listener that was bound before.
    pub fn on(listener: TcpListener, script: Script) -> Self {
        let address = listener.local_addr().unwrap();
        let received = Arc::new(Ledger::default());
        let kept = Arc::clone(&received);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (script, kept) = (Arc::clone(&script), Arc::clone(&kept));
                thread::spawn(move || serve(stream.unwrap(), address, &script, &kept));
            }
        });
        Self {
            address,
            received,
            is_watched: true,
        }
    }

    /// The same, for a test that shows what happens to a secret outside of its slot.
    pub fn unwatched(mut self) -> Self {
        self.is_watched = false;
        self
    }

    fn assert_no_leak(&self) {
        let leaks = self.received.leaks.lock().unwrap();
        assert!(!self.is_watched || leaks.is_empty(), "{leaks:?}");
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Everything received so far, in order.
    pub fn received(&self) -> Vec<Received> {
        self.assert_no_leak();
        self.received.received.lock().unwrap().clone()
    }

    /// Waits until so many requests were received, and returns all that were.
    pub fn wait(&self, count: usize) -> Vec<Received> {
        let received = self.received.received.lock().unwrap();
        let too_few = |received: &mut Vec<Received>| received.len() < count;
        let (received, waited) = self
            .received
            .grown
            .wait_timeout_while(received, PATIENCE, too_few)
            .unwrap();
        assert!(!waited.timed_out(), "hangs at {} of {count} requests", received.len());
        received.clone()
    }

    /// The last request received.
    pub fn last(&self) -> Received {
        self.received().pop().expect("a delivery")
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        if !thread::panicking() {
            self.assert_no_leak();
        }
    }
}

fn serve(stream: TcpStream, address: SocketAddr, script: &Script, kept: &Ledger) {
    stream.set_nodelay(true).unwrap();
    let mut writer = stream.try_clone().unwrap();
    let mut reader = BufReader::new(stream);
    while let Some(request) = read(&mut reader) {
        let headers = request
            .headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_bytes()));
        let leak = leaks::found(address.port(), &request.target, headers, &request.body);
        kept.leaks.lock().unwrap().extend(leak);
        let answer = script(&request);
        kept.received.lock().unwrap().push(request);
        kept.grown.notify_all();
        match answer {
            Some(bytes) if writer.write_all(&bytes).is_ok() => {}
            _ => return,
        }
    }
}

fn read(reader: &mut BufReader<TcpStream>) -> Option<Received> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|n| *n > 0)?;
    let mut words = line.split(' ').map(str::to_owned);
    let (method, target) = (words.next()?, words.next()?);
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|n| *n > 0)?;
        match line.trim_end().split_once(": ") {
            Some((name, value)) => headers.push((name.to_ascii_lowercase(), value.to_owned())),
            None => break,
        }
    }
    let length = headers
        .iter()
        .find(|(name, _)| name == "content-length")
        .map_or(0, |(_, n)| n.parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Received {
        method,
        target,
        headers,
        body,
    })
}
