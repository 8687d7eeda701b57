//! A TCP proxy that lets bytes pass up to a place, and there does to a connection what networks and hosts do.

use std::collections::VecDeque;
use std::io::{BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::{Arc, Condvar, Mutex, mpsc};
use std::thread;
use std::time::Duration;

/// Longer than anything takes; a test that hangs fails.
const PATIENCE: Duration = Duration::from_secs(30);

/// Between two bytes of a drip.
const DRIP: Duration = Duration::from_millis(100);

/// Which bytes are counted and hit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Those on their way to the server.
    Request,
    /// Those that come back.
    Answer,
}

/// What happens.
#[derive(Debug, Clone)]
pub enum Fault {
    /// Both ends see an orderly end.
    Cut,
    /// Both ends see a reset.
    Reset,
    /// Nothing passes any more, and nobody is told.
    Stall,
    /// One byte after another, slowly.
    Drip,
    /// From here on these bytes come instead, without end.
    Flood(&'static [u8]),
    /// These bytes come back at once; the rest of the request is taken, and thrown away.
    Answer(&'static [u8]),
}

/// A fault after so many bytes of one way.
#[derive(Debug, Clone)]
pub struct Plan {
    pub way: Way,
    pub at: usize,
    pub fault: Fault,
}

#[derive(Default)]
struct State {
    /// For the next connections, in order.
    plans: VecDeque<Plan>,
    /// For all others.
    always: Option<Plan>,
    connections: usize,
    happened: usize,
}

/// A running proxy; takes no more connections once it is dropped.
pub struct FaultProxy {
    address: SocketAddr,
    state: Arc<(Mutex<State>, Condvar)>,
}

/// Both ends of a connection.
struct Pair {
    client: TcpStream,
    server: TcpStream,
}

impl FaultProxy {
    /// One in front of a server, through which everything passes.
    pub fn start(to: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state: Arc<(Mutex<State>, Condvar)> = Arc::default();
        let shared = Arc::downgrade(&state);
        thread::spawn(move || {
            for client in listener.incoming() {
                let Some(state) = shared.upgrade() else { return };
                let plan = {
                    let mut state = state.0.lock().unwrap();
                    state.connections += 1;
                    state.plans.pop_front().or_else(|| state.always.clone())
                };
                state.1.notify_all();
                thread::spawn(move || relay(client.unwrap(), to, plan, &state));
            }
        });
        Self { address, state }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What happens to the next connection that has no plan yet.
    pub fn next(&self, plan: Plan) {
        self.state.0.lock().unwrap().plans.push_back(plan);
    }

    /// What happens to every connection from now on.
    pub fn always(&self, plan: Option<Plan>) {
        self.state.0.lock().unwrap().always = plan;
    }

    /// How many connections came.
    pub fn connections(&self) -> usize {
        self.state.0.lock().unwrap().connections
    }

    /// Waits until so many faults have happened.
    pub fn wait_for_faults(&self, count: usize) {
        let state = self.state.0.lock().unwrap();
        let too_few = |state: &mut State| state.happened < count;
        let (state, waited) = self.state.1.wait_timeout_while(state, PATIENCE, too_few).unwrap();
        assert!(!waited.timed_out(), "{} of {count} faults happened", state.happened);
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        // Wakes the listener; it finds nobody who asks for it, once the connections are over, too.
        let (address, state) = (self.address, std::mem::take(&mut self.state));
        drop(state);
        let _ = TcpStream::connect(address);
    }
}

fn relay(client: TcpStream, to: SocketAddr, plan: Option<Plan>, state: &Arc<(Mutex<State>, Condvar)>) {
    let Ok(server) = TcpStream::connect(to) else { return };
    client.set_nodelay(true).unwrap();
    server.set_nodelay(true).unwrap();
    let pair = Arc::new(Pair { client, server });
    let of = |way: Way| plan.clone().filter(|plan| plan.way == way);
    let (request, answer) = (of(Way::Request), of(Way::Answer));
    let (other, happened) = (Arc::clone(&pair), Arc::clone(state));
    let back = thread::spawn(move || pump(&other, Way::Answer, answer, &happened));
    pump(&pair, Way::Request, request, state);
    let _ = back.join();
}

/// Passes bytes on until an end is there, and does what is planned.
fn pump(pair: &Pair, way: Way, plan: Option<Plan>, state: &(Mutex<State>, Condvar)) {
    let (mut from, mut to) = match way {
        Way::Request => (&pair.client, &pair.server),
        Way::Answer => (&pair.server, &pair.client),
    };
    let mut left = plan.as_ref().map_or(usize::MAX, |plan| plan.at);
    let mut bytes = [0; 16 * 1024];
    while left > 0 {
        let read = match from.read(&mut bytes) {
            Ok(read @ 1..) => read,
            _ => return pair.end(),
        };
        let passed = read.min(left);
        if to.write_all(&bytes[..passed]).is_err() {
            return pair.end();
        }
        left -= passed;
        if left == 0 && plan.is_some() {
            return happen(pair, way, plan, state, &bytes[passed..read]);
        }
    }
    // Before the first byte: when there is one.
    let read = from.read(&mut bytes).unwrap_or(0);
    happen(pair, way, plan, state, &bytes[..read]);
}

fn happen(pair: &Pair, way: Way, plan: Option<Plan>, state: &(Mutex<State>, Condvar), held: &[u8]) {
    let Some(plan) = plan else { return pair.end() };
    state.0.lock().unwrap().happened += 1;
    state.1.notify_all();
    match plan.fault {
        Fault::Cut => pair.end(),
        Fault::Reset => pair.reset(),
        Fault::Stall => pair.stall(way),
        Fault::Drip => pair.drip(way, held),
        Fault::Flood(bytes) => {
            let bytes = bytes.repeat(1 + 1_000 / bytes.len());
            while (&pair.client).write_all(&bytes).is_ok() {}
            pair.end();
        }
        Fault::Answer(bytes) => {
            let _ = (&pair.client).write_all(bytes);
            pair.stall(Way::Request);
        }
    }
}

impl Pair {
    fn end(&self) {
        for stream in [&self.client, &self.server] {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Disconnects sockets that other threads hold, too, which is told to the peers as a reset.
    fn reset(&self) {
        for stream in [&self.client, &self.server] {
            let nowhere = libc::sockaddr {
                sa_family: libc::AF_UNSPEC as libc::sa_family_t,
                sa_data: [0; 14],
            };
            let length = size_of::<libc::sockaddr>() as libc::socklen_t;
            // SAFETY: the address lives as long as the call, and its length is its own.
            unsafe { libc::connect(stream.as_raw_fd(), &raw const nowhere, length) };
        }
    }

    /// Lets nothing of one way through until the end; the other way goes on.
    fn stall(&self, way: Way) {
        if way == Way::Answer {
            return; // the other way sees the client's end, and ends both
        }
        let mut bytes = [0; 16 * 1024];
        while matches!((&self.client).read(&mut bytes), Ok(1..)) {}
        self.end();
    }

    fn drip(&self, way: Way, held: &[u8]) {
        let (from, mut to) = match way {
            Way::Request => (&self.client, &self.server),
            Way::Answer => (&self.server, &self.client),
        };
        let (_never, clock) = mpsc::channel::<()>();
        for byte in held
            .iter()
            .copied()
            .chain(BufReader::new(from).bytes().map_while(Result::ok))
        {
            let _ = clock.recv_timeout(DRIP);
            if to.write_all(&[byte]).is_err() {
                break;
            }
        }
        self.end();
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use super::*;

    /// What a client gets back of ten bytes that a server sends for the client's ten.
    fn through(plan: Option<Plan>) -> (Vec<u8>, Option<ErrorKind>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let proxy = FaultProxy::start(listener.local_addr().unwrap());
        plan.into_iter().for_each(|plan| proxy.next(plan));
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            if stream.read_exact(&mut [0; 10]).is_ok() {
                let _ = stream.write_all(b"0123456789");
                let _ = stream.read(&mut [0]);
            }
        });
        let mut client = TcpStream::connect(proxy.address()).unwrap();
        client.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        client.write_all(b"abcdefghij").unwrap();
        let (mut all, mut byte) = (Vec::new(), [0]);
        loop {
            match client.read(&mut byte) {
                Ok(0) => return (all, None),
                Ok(_) if all.len() == 100 => return (all, None),
                Ok(_) => all.push(byte[0]),
                Err(error) => return (all, Some(error.kind())),
            }
        }
    }

    #[test]
    fn each_fault_is_what_it_says_and_happens_where_it_should() {
        let stalled = Some(ErrorKind::WouldBlock);
        let reset = Some(ErrorKind::ConnectionReset);
        let plan = |way, at, fault| Some(Plan { way, at, fault });
        for (plan, text, end) in [
            (None, "0123456789", stalled),
            (plan(Way::Answer, 0, Fault::Cut), "", None),
            (plan(Way::Answer, 4, Fault::Cut), "0123", None),
            (plan(Way::Answer, 4, Fault::Stall), "0123", stalled),
            (plan(Way::Answer, 4, Fault::Drip), "0123456789", stalled),
            (plan(Way::Request, 4, Fault::Cut), "", None),
            (plan(Way::Request, 4, Fault::Reset), "", reset),
            (plan(Way::Request, 4, Fault::Stall), "", stalled),
            (plan(Way::Request, 4, Fault::Answer(b"early")), "early", stalled),
        ] {
            let what = format!("{plan:?}");
            let (got, ended) = through(plan);
            assert_eq!((String::from_utf8(got).unwrap().as_str(), ended), (text, end), "{what}");
        }
        let (got, _) = through(plan(Way::Answer, 2, Fault::Flood(b"xy")));
        assert!(got.starts_with(b"01xyxyxy") && got.len() == 100);
        assert_eq!(through(plan(Way::Answer, 4, Fault::Reset)).1, reset);
    }
}
