//! An endpoint that is as slow as the test wants: it holds what it gets until it is let go.

use std::sync::{Arc, Condvar, Mutex, mpsc};
use std::time::Duration;

use super::endpoint::{Endpoint, answer};

/// Longer than anything takes; a test that hangs fails.
const PATIENCE: Duration = Duration::from_secs(30);

pub struct Holding {
    endpoint: Endpoint,
    arrived: mpsc::Receiver<()>,
    gate: Arc<Gate>,
}

/// What requests wait at.
#[derive(Default)]
pub struct Gate {
    is_open: Mutex<bool>,
    opened: Condvar,
}

impl Gate {
    pub fn wait(&self) {
        let is_open = self.is_open.lock().unwrap();
        let waited = self.opened.wait_timeout_while(is_open, PATIENCE, |is_open| !*is_open);
        drop(waited.unwrap());
    }

    pub fn open(&self) {
        *self.is_open.lock().unwrap() = true;
        self.opened.notify_all();
    }
}

impl Holding {
    pub fn start() -> Self {
        let gate = Arc::new(Gate::default());
        let (arrival, arrived) = mpsc::channel();
        let (held, arrival) = (Arc::clone(&gate), Mutex::new(arrival));
        let endpoint = Endpoint::scripted(Arc::new(move |_| {
            let _ = arrival.lock().unwrap().send(()); // the test may be over
            held.wait();
            Some(answer(200, "", b"{}"))
        }));
        Self {
            endpoint,
            arrived,
            gate,
        }
    }

    pub fn url(&self) -> String {
        self.endpoint.url()
    }

    /// Waits until one more request is held.
    pub fn await_arrival(&self) {
        self.arrived.recv_timeout(PATIENCE).expect("hangs: nothing arrives");
    }

    /// Whether anything arrived that was not waited for.
    pub fn has_more(&self) -> bool {
        self.arrived.try_recv().is_ok()
    }

    /// Answers what is held, and from now on everything at once.
    pub fn let_go(&self) {
        self.gate.open();
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        self.gate.open();
    }
}
