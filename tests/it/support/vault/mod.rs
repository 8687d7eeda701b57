//! Another company's Vault, played in this process: over TLS or plain, with every question kept, and failing on demand.
//!
//! What it answers is held against Vault's own Python client in `vault_fake`.

mod furnished;
mod kv;
mod namespace;
mod transit;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::Response;
use serde_json::{Value, json};

pub use furnished::{fields, furnished, put};
pub use namespace::{Grant, Namespace};

use super::endpoint::{Endpoint, answer};
use super::pki::Authority;
use super::tls_endpoint::{H1, Reply, Setup, TlsEndpoint};

/// A question, as it reached the Vault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    pub method: String,
    /// Below `/v1/`, with its query.
    pub path: String,
    pub namespace: String,
    pub token: Option<String>,
    pub is_marked: bool,
}

/// What happens instead of an answer.
#[derive(Debug, Clone)]
pub enum Fault {
    /// Fails with this status, as Vault does.
    Status(u16),
    /// The same, and names a wait in seconds.
    Wait(u16, u32),
    /// Answers with these bytes.
    Bytes(u16, Vec<u8>),
    /// Points elsewhere.
    Redirect(String),
    /// Never answers (over TLS).
    Stall,
}

/// What the Vault holds.
#[derive(Default)]
pub struct State {
    namespaces: Vec<(String, Namespace)>,
    faults: Vec<(String, VecDeque<Fault>)>,
    asked: Vec<Asked>,
    sealed: bool,
    /// Seconds, moved by hand.
    now: u64,
}

enum Served {
    Tls(TlsEndpoint),
    Plain(Endpoint),
}

/// A running Vault with the engines `secret` (KV version 2), `kv` (version 1) and `transit`; ends when dropped.
pub struct FakeVault {
    state: Arc<Mutex<State>>,
    served: Served,
}

/// A status, an optional body, and the wait that is named.
pub(super) struct Said {
    status: u16,
    body: Option<Vec<u8>>,
    header: Option<(&'static str, String)>,
}

impl Said {
    pub(super) fn json(status: u16, body: &Value) -> Self {
        Self {
            status,
            body: Some(body.to_string().into_bytes()),
            header: None,
        }
    }

    pub(super) fn errors(status: u16, errors: &[&str]) -> Self {
        Self::json(status, &json!({ "errors": errors }))
    }

    pub(super) const fn nothing() -> Self {
        Self {
            status: 204,
            body: None,
            header: None,
        }
    }
}

impl FakeVault {
    /// One at `127.0.0.1` that those who trust `authority` trust.
    pub fn start(authority: &Authority) -> Self {
        let state = state();
        let kept = Arc::clone(&state);
        let setup = Setup::new(authority, H1).script(move |seen| {
            let header = |name: &str| seen.header(name).map(str::to_owned);
            match handle(&kept, seen.method.as_str(), &seen.path, &header, &seen.body) {
                None => Reply::Stall,
                Some(said) => {
                    let response = Response::builder()
                        .status(said.status)
                        .header("content-type", "application/json");
                    let response = said
                        .header
                        .into_iter()
                        .fold(response, |response, (name, value)| response.header(name, value));
                    Reply::Whole(response.body(Bytes::from(said.body.unwrap_or_default())).unwrap())
                }
            }
        });
        Self {
            state,
            served: Served::Tls(setup.start()),
        }
    }

    /// One that is spoken to in the clear.
    pub fn plain() -> Self {
        let state = state();
        let kept = Arc::clone(&state);
        let endpoint = Endpoint::scripted(Arc::new(move |received| {
            let header = |name: &str| received.header(name).map(str::to_owned);
            let said = handle(&kept, &received.method, &received.target, &header, &received.body)?;
            let header = said
                .header
                .map(|(name, value)| format!("{name}: {value}\r\n"))
                .unwrap_or_default();
            let headers = format!("Content-Type: application/json\r\n{header}");
            Some(answer(said.status, &headers, &said.body.unwrap_or_default()))
        }));
        Self {
            state,
            served: Served::Plain(endpoint),
        }
    }

    pub fn url(&self) -> String {
        match &self.served {
            Served::Tls(endpoint) => endpoint.url(),
            Served::Plain(endpoint) => endpoint.url(),
        }
    }

    /// The TLS endpoint that it is served at.
    pub fn tls(&self) -> &TlsEndpoint {
        match &self.served {
            Served::Tls(endpoint) => endpoint,
            Served::Plain(_) => panic!("it is served in the clear"),
        }
    }

    /// Changes what stands in a namespace (`""`: the root), which is made where it is not there.
    pub fn within<T>(&self, namespace: &str, change: impl FnOnce(&mut Namespace) -> T) -> T {
        let mut state = self.state.lock().unwrap();
        if !state.namespaces.iter().any(|(name, _)| name == namespace) {
            state.namespaces.push((namespace.to_owned(), Namespace::new()));
        }
        let mut namespaces = state.namespaces.iter_mut();
        change(&mut namespaces.find(|(name, _)| name == namespace).unwrap().1)
    }

    /// Changes what stands in the root namespace.
    pub fn root<T>(&self, change: impl FnOnce(&mut Namespace) -> T) -> T {
        self.within("", change)
    }

    /// The next questions below a path fail so, one after the other.
    pub fn fail(&self, below: &str, faults: &[Fault]) {
        let faults = faults.iter().cloned().collect();
        self.state.lock().unwrap().faults.push((below.to_owned(), faults));
    }

    /// No scripted failure is left.
    pub fn forget_faults(&self) {
        self.state.lock().unwrap().faults.clear();
    }

    pub fn seal(&self, sealed: bool) {
        self.state.lock().unwrap().sealed = sealed;
    }

    /// Moves the Vault's clock.
    pub fn advance(&self, secs: u64) {
        self.state.lock().unwrap().now += secs;
    }

    /// Every question so far, in order.
    pub fn asked(&self) -> Vec<Asked> {
        self.state.lock().unwrap().asked.clone()
    }

    /// Every question so far as `METHOD path`, and forgets them.
    pub fn take(&self) -> Vec<String> {
        let asked = std::mem::take(&mut self.state.lock().unwrap().asked);
        asked
            .into_iter()
            .map(|asked| format!("{} {}", asked.method, asked.path))
            .collect()
    }
}

fn state() -> Arc<Mutex<State>> {
    let state = State {
        namespaces: vec![(String::new(), Namespace::new())],
        ..State::default()
    };
    Arc::new(Mutex::new(state))
}

/// `None` where nothing is ever answered.
fn handle(
    state: &Mutex<State>,
    method: &str,
    target: &str,
    header: &dyn Fn(&str) -> Option<String>,
    body: &[u8],
) -> Option<Said> {
    let mut state = state.lock().unwrap();
    let path = target.strip_prefix("/v1/").unwrap_or(target).to_owned();
    let namespace = header("x-vault-namespace")
        .unwrap_or_default()
        .trim_matches('/')
        .to_owned();
    let token = header("x-vault-token");
    state.asked.push(Asked {
        method: method.to_owned(),
        path: path.clone(),
        namespace: namespace.clone(),
        token: token.clone(),
        is_marked: header("x-vault-request").as_deref() == Some("true"),
    });
    if let Some(fault) = next_fault(&mut state, &path) {
        return faulty(fault);
    }
    if path == "sys/seal-status" {
        let sealed = state.sealed;
        return Some(Said::json(
            200,
            &json!({"sealed": sealed, "initialized": true, "type": "shamir", "t": 1, "n": 1}),
        ));
    }
    if state.sealed {
        return Some(Said::errors(503, &["Vault is sealed"]));
    }
    let now = state.now;
    let body = serde_json::from_slice(body).unwrap_or(Value::Null);
    let (path, query) = path.split_once('?').unwrap_or((&path, ""));
    let mut namespaces = state.namespaces.iter_mut();
    Some(match namespaces.find(|(name, _)| *name == namespace) {
        Some((_, namespace)) => namespace.answer(now, method, (path, query), token.as_deref(), &body),
        None => Said::errors(404, &["no handler for route. route entry not found."]),
    })
}

fn next_fault(state: &mut State, path: &str) -> Option<Fault> {
    let mut matching = state
        .faults
        .iter_mut()
        .filter(|(below, _)| path.starts_with(below.as_str()));
    matching.find_map(|(_, faults)| faults.pop_front())
}

fn faulty(fault: Fault) -> Option<Said> {
    let plain = |status| Said::errors(status, &["scripted"]);
    Some(match fault {
        Fault::Status(status) => plain(status),
        Fault::Wait(status, secs) => Said {
            header: Some(("retry-after", secs.to_string())),
            ..plain(status)
        },
        Fault::Bytes(status, bytes) => Said {
            status,
            body: Some(bytes),
            header: None,
        },
        Fault::Redirect(url) => Said {
            header: Some(("location", url)),
            ..plain(307)
        },
        Fault::Stall => return None,
    })
}
