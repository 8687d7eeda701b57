//! An answer read piece by piece, as it arrives.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Longer than anything takes; a test that hangs fails.
const PATIENCE: Duration = Duration::from_secs(30);

/// An answer whose head was read. Dropped, it hangs up.
pub struct Reading {
    stream: BufReader<TcpStream>,
    pub status: u16,
}

/// What comes next of a chunked body.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece {
    Data(String),
    /// The end that was agreed on.
    End,
    /// The connection ended before it.
    Cut,
}

impl Reading {
    /// Sends a request over a connection of its own and reads the head of the answer.
    pub fn begin(to: SocketAddr, request: &[u8]) -> Self {
        let mut stream = send(to, request);
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.flush().unwrap();
        let mut stream = BufReader::new(stream);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert_ne!(stream.read_line(&mut head).unwrap(), 0, "no answer: {head}");
        }
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Self { stream, status }
    }

    /// The next chunk.
    pub fn next(&mut self) -> Piece {
        let mut line = String::new();
        if !matches!(self.stream.read_line(&mut line), Ok(1..)) {
            return Piece::Cut;
        }
        let size = usize::from_str_radix(line.trim_end(), 16).unwrap();
        let mut chunk = vec![0; size + 2];
        if self.stream.read_exact(&mut chunk).is_err() {
            return Piece::Cut;
        }
        match size {
            0 => Piece::End,
            _ => Piece::Data(String::from_utf8_lossy(&chunk[..size]).into_owned()),
        }
    }

    /// All chunks up to the end, and how it ended.
    pub fn rest(&mut self) -> (usize, Piece) {
        let mut read = 0;
        loop {
            match self.next() {
                Piece::Data(data) => read += data.len(),
                end => return (read, end),
            }
        }
    }

    /// So much of a body with a length.
    pub fn bytes(&mut self, length: usize) -> String {
        let mut bytes = vec![0; length];
        self.stream.read_exact(&mut bytes).unwrap();
        String::from_utf8(bytes).unwrap()
    }
}

/// Sends a request over a connection of its own. Dropped, it hangs up.
pub fn send(to: SocketAddr, request: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(to).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.write_all(request).unwrap();
    stream
}
