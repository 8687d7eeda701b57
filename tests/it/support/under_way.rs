//! Deliveries that stay under way for as long as a test wants, and a process that is told to end meanwhile.

use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Condvar, Mutex};

use rustix::process::Signal;
use serde_json::json;

use super::captured::PATIENCE;
use super::endpoint::{Endpoint, Received, answer};
use super::http::{Answer, Client};
use super::instance::invocation;
use super::process::Process;

/// An endpoint that keeps whoever says `hold` waiting until it is let go.
pub struct UnderWay {
    pub endpoint: Endpoint,
    held: Receiver<()>,
    gate: Arc<(Mutex<bool>, Condvar)>,
}

const HOLD: &[u8] = b"{\"id\":\"hold\"}";

impl UnderWay {
    pub fn start() -> Self {
        let (arrived, held) = channel();
        let gate: Arc<(Mutex<bool>, Condvar)> = Arc::default();
        let waiting = Arc::clone(&gate);
        let script = move |received: &Received| {
            if received.json()["id"] == "hold" {
                let _ = arrived.send(());
                let (open, changed) = &*waiting;
                let wait = changed.wait_timeout_while(open.lock().unwrap(), PATIENCE, |open| !*open);
                drop(wait.unwrap());
            }
            Some(answer(200, "", b"{\"ok\":true}"))
        };
        Self {
            endpoint: Endpoint::scripted(Arc::new(script)),
            held,
            gate,
        }
    }

    /// A delivery that is under way at the endpoint when this returns.
    pub fn hold(&self, process: &Process) -> Client {
        let mut dispatcher = process.connect();
        dispatcher.send(&invocation("ins", HOLD));
        self.held.recv_timeout(PATIENCE).unwrap();
        dispatcher
    }

    /// Deliveries that are all under way at the endpoint when this returns.
    pub fn hold_many(&self, process: &Process, count: usize) -> Vec<Client> {
        let mut dispatchers: Vec<Client> = (0..count).map(|_| process.connect()).collect();
        for dispatcher in &mut dispatchers {
            dispatcher.send(&invocation("ins", HOLD));
        }
        for n in 0..count {
            let held = self.held.recv_timeout(PATIENCE);
            held.unwrap_or_else(|_| panic!("hangs at {n} of {count} deliveries"));
        }
        dispatchers
    }

    /// Keeps waiting whoever comes from now on.
    pub fn shut(&self) {
        *self.gate.0.lock().unwrap() = false;
    }

    pub fn let_go(&self) {
        *self.gate.0.lock().unwrap() = true;
        self.gate.1.notify_all();
    }
}

/// Asks for the end and waits until the instance says that it drains.
pub fn drain(process: &Process) {
    process.signal(Signal::TERM);
    let draining = |answer: &Answer| answer.status == 503 && answer.json()["status"] == json!("draining");
    let asked = (0..10_000).find(|_| draining(&process.health("/readyz")));
    assert!(asked.is_some(), "it does not drain");
}
