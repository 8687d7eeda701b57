//! A mail server that takes what it is handed, or refuses it first, in the clear or over TLS.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::pki::Identity;

/// Longer than anything takes; a test that hangs fails.
const PATIENCE: Duration = Duration::from_secs(30);

/// A mail as it came.
#[derive(Debug, Clone)]
pub struct Mail {
    pub from: String,
    pub to: Vec<String>,
    /// Header fields and text.
    pub data: String,
    /// What came after `AUTH PLAIN`.
    pub credentials: Option<String>,
}

impl Mail {
    /// A header field's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        let head = self.data.split("\r\n\r\n").next()?;
        head.lines()
            .filter_map(|line| line.split_once(": "))
            .find(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    }
}

#[derive(Default)]
struct Ledger {
    mails: Mutex<Vec<Mail>>,
    grown: Condvar,
}

/// A running mail server.
pub struct Mailbox {
    address: SocketAddr,
    scheme: &'static str,
    ledger: Arc<Ledger>,
}

/// How many mails are refused before one is taken.
type Refusals = Arc<Mutex<usize>>;

impl Mailbox {
    /// One on this host that speaks in the clear, and refuses so many mails at first.
    pub fn start(refused: usize) -> Self {
        Self::serve("smtp", refused, |stream| Box::new(stream))
    }

    /// One that speaks TLS from the first byte.
    pub fn start_tls(identity: &Identity) -> Self {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(identity.chain(), identity.private_key())
            .unwrap();
        let config = Arc::new(config);
        Self::serve("smtps", 0, move |stream| {
            let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
            Box::new(StreamOwned::new(connection, stream))
        })
    }

    fn serve(
        scheme: &'static str,
        refused: usize,
        greet: impl Fn(TcpStream) -> Box<dyn Stream> + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let ledger = Arc::new(Ledger::default());
        let (kept, refusals) = (Arc::clone(&ledger), Arc::new(Mutex::new(refused)));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (kept, refusals, stream) = (Arc::clone(&kept), Arc::clone(&refusals), greet(stream.unwrap()));
                thread::spawn(move || talk(stream, &kept, &refusals));
            }
        });
        Self {
            address,
            scheme,
            ledger,
        }
    }

    /// What `smtp_url` says.
    pub fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.address)
    }

    /// All mails that were taken so far.
    pub fn mails(&self) -> Vec<Mail> {
        self.ledger.mails.lock().unwrap().clone()
    }

    /// Waits until so many mails were taken, and returns all that were.
    pub fn wait(&self, count: usize) -> Vec<Mail> {
        let mails = self.ledger.mails.lock().unwrap();
        let too_few = |mails: &mut Vec<Mail>| mails.len() < count;
        let (mails, waited) = self.ledger.grown.wait_timeout_while(mails, PATIENCE, too_few).unwrap();
        assert!(!waited.timed_out(), "hangs at {} of {count} mails", mails.len());
        mails.clone()
    }
}

trait Stream: Read + Write + Send {}
impl<S: Read + Write + Send> Stream for S {}

/// One conversation (RFC 5321), to its end.
fn talk(stream: Box<dyn Stream>, ledger: &Ledger, refusals: &Refusals) -> Option<()> {
    let mut stream = BufReader::new(stream);
    say(&mut stream, "220 mailbox")?;
    let mut credentials = None;
    let mut mail = empty();
    loop {
        let line = hear(&mut stream)?;
        let verb = line.split([' ', ':']).next()?.to_ascii_uppercase();
        let answer = match verb.as_str() {
            "EHLO" => "250-mailbox\r\n250 AUTH PLAIN",
            "AUTH" => {
                credentials = line.split(' ').nth(2).map(str::to_owned);
                "235 welcome"
            }
            "MAIL" => {
                mail = empty();
                mail.from = address(&line);
                "250 ok"
            }
            "RCPT" => {
                mail.to.push(address(&line));
                "250 ok"
            }
            "DATA" => {
                say(&mut stream, "354 go on")?;
                mail.data = data(&mut stream)?;
                mail.credentials.clone_from(&credentials);
                let mut left = refusals.lock().unwrap();
                if *left > 0 {
                    *left -= 1;
                    "451 not now"
                } else {
                    ledger.mails.lock().unwrap().push(mail.clone());
                    ledger.grown.notify_all();
                    "250 taken"
                }
            }
            "QUIT" => {
                say(&mut stream, "221 bye")?;
                return Some(());
            }
            _ => "250 ok",
        };
        say(&mut stream, answer)?;
    }
}

fn empty() -> Mail {
    Mail {
        from: String::new(),
        to: Vec::new(),
        data: String::new(),
        credentials: None,
    }
}

fn address(line: &str) -> String {
    let from = line.find('<').map_or(0, |at| at + 1);
    line[from..line.find('>').unwrap()].to_owned()
}

fn data(stream: &mut BufReader<Box<dyn Stream>>) -> Option<String> {
    let mut data = String::new();
    loop {
        let line = hear(stream)?;
        if line == "." {
            return Some(data);
        }
        data.push_str(&line);
        data.push_str("\r\n");
    }
}

fn hear(stream: &mut BufReader<Box<dyn Stream>>) -> Option<String> {
    let mut line = String::new();
    stream.read_line(&mut line).ok().filter(|n| *n > 0)?;
    Some(line.trim_end_matches(['\r', '\n']).to_owned())
}

fn say(stream: &mut BufReader<Box<dyn Stream>>, line: &str) -> Option<()> {
    let stream = stream.get_mut();
    stream.write_all(format!("{line}\r\n").as_bytes()).ok()?;
    stream.flush().ok()
}
