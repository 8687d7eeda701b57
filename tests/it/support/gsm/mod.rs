//! Google Secret Manager, in process: its REST API v1 over stored versions, with Google's way of saying no.
//!
//! `gsm_fake` holds it against Google's own client.

pub mod account;
pub mod metadata;
mod stored;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Method, Response, StatusCode};
use kiket_sidecar::clock::Clock;
use serde_json::{Value, json};

use super::backend::{Asked, Backend, Told};
use super::pki::Identity;
use account::{Account, Known};
pub use stored::State;
use stored::{Failure, Stored};

/// Who may do everything, to set the stage with.
const OWNER: &[&str] = &["secrets.create", "versions.add", "versions.manage"];

/// What `roles/secretmanager.secretAccessor` allows.
pub const ACCESSOR: &[&str] = &["versions.access"];

/// What `roles/secretmanager.viewer` adds.
pub const VIEWER: &[&str] = &["secrets.get", "versions.get", "versions.list"];

/// What happens to a request instead of, or after, the right answer.
#[derive(Clone)]
pub enum Fault {
    /// This instead.
    Answer(StatusCode, &'static [(&'static str, &'static str)], Bytes),
    /// The right answer, changed.
    Changed(fn(&mut Value)),
    /// Never answers.
    Stall,
    /// Closes the connection.
    Break,
}

impl Fault {
    /// As Google says no.
    pub fn google(code: u16, status: &str) -> Self {
        Self::google_with(code, status, &[])
    }

    pub fn google_with(code: u16, status: &str, headers: &'static [(&'static str, &'static str)]) -> Self {
        let body = Failure::new(code, status, "The request failed.").body();
        Self::Answer(StatusCode::from_u16(code).unwrap(), headers, body)
    }
}

#[derive(Default)]
struct Shop {
    stored: Stored,
    accounts: Vec<Known>,
    /// Opaque tokens, and whose they are.
    tokens: BTreeMap<String, String>,
    /// By e-mail address and project, what is allowed.
    grants: BTreeMap<(String, String), Vec<&'static str>>,
    faults: VecDeque<Fault>,
}

/// A running Secret Manager.
pub struct FakeGsm {
    backend: Backend,
    shop: Arc<Mutex<Shop>>,
}

impl FakeGsm {
    /// Over TLS where there is an identity. Tokens are judged by `clock`.
    pub fn start(identity: Option<&Identity>, clock: Arc<dyn Clock>) -> Self {
        let shop = Arc::new(Mutex::new(Shop::default()));
        let kept = Arc::clone(&shop);
        let backend = Backend::start(identity, move |asked| {
            let mut shop = kept.lock().unwrap();
            let now = clock.now().0 / 1_000;
            shop.tell(asked, now)
        });
        Self { backend, shop }
    }

    /// Without a path.
    pub fn url(&self) -> String {
        self.backend.url()
    }

    /// The paths that were asked for, with their methods and queries.
    pub fn paths(&self) -> Vec<String> {
        let line = |asked: &Asked| format!("{} {}", asked.method, asked.path);
        self.backend.asked().iter().map(line).collect()
    }

    /// The tokens that came, one per request.
    pub fn bearers(&self) -> Vec<String> {
        let token = |asked: &Asked| bearer(asked).unwrap_or_default().to_owned();
        self.backend.asked().iter().map(token).collect()
    }

    /// How many connections came, those without a question included.
    pub fn connections(&self) -> usize {
        self.backend.connections()
    }

    /// Makes an account known, and allows it this much in a project.
    pub fn admit(&self, account: &Account, project: &str, permissions: &[&[&'static str]]) {
        let mut shop = self.shop.lock().unwrap();
        if !shop.accounts.iter().any(|known| known.email == account.email()) {
            shop.accounts.push(account.known());
        }
        let granted = (account.email().to_owned(), project.to_owned());
        shop.grants.insert(granted, permissions.concat());
    }

    /// Makes an account known that may do everything in a project.
    pub fn admit_owner(&self, account: &Account, project: &str) {
        self.admit(account, project, &[ACCESSOR, VIEWER, OWNER]);
    }

    /// Takes an opaque token, as the metadata server hands them out, for a machine that may access a project.
    pub fn admit_token(&self, token: &str, project: &str) {
        let mut shop = self.shop.lock().unwrap();
        shop.tokens.insert(token.to_owned(), String::from("machine"));
        shop.grants
            .insert((String::from("machine"), project.to_owned()), ACCESSOR.to_vec());
    }

    /// Takes this token no longer.
    pub fn revoke_token(&self, token: &str) {
        self.shop.lock().unwrap().tokens.remove(token);
    }

    /// Adds a version to a secret, which it makes where there is none. Its number.
    pub fn add(&self, project: &str, secret: &str, value: &[u8]) -> usize {
        let mut shop = self.shop.lock().unwrap();
        shop.stored.add(project, secret, value)
    }

    /// Disables, enables or destroys a version.
    pub fn turn(&self, project: &str, secret: &str, version: usize, state: State) {
        self.shop.lock().unwrap().stored.turn(project, secret, version, state);
    }

    /// What happens to the next requests, one each.
    pub fn next(&self, faults: impl IntoIterator<Item = Fault>) {
        self.shop.lock().unwrap().faults.extend(faults);
    }
}

fn bearer(asked: &Asked) -> Option<&str> {
    asked.header("authorization")?.strip_prefix("Bearer ")
}

impl Shop {
    fn tell(&mut self, asked: &Asked, now: u64) -> Told {
        let fault = self.faults.pop_front();
        match fault {
            Some(Fault::Stall) => Told::Stall,
            Some(Fault::Break) => Told::Break,
            Some(Fault::Answer(status, headers, body)) => {
                let mut answer = Response::builder().status(status);
                for (name, value) in headers {
                    answer = answer.header(*name, *value);
                }
                Told::Whole(answer.body(body).unwrap())
            }
            Some(Fault::Changed(change)) => {
                let mut right = self.serve(asked, now).expect("a right answer is changed");
                change(&mut right);
                told(StatusCode::OK, &right)
            }
            None => match self.serve(asked, now) {
                Ok(right) => told(StatusCode::OK, &right),
                Err(failure) => told(failure.status(), &failure.json()),
            },
        }
    }

    fn serve(&mut self, asked: &Asked, now: u64) -> Result<Value, Failure> {
        let caller = self.caller(asked, now)?;
        let call = Call::read(asked)?;
        let granted = self.grants.get(&(caller, call.project.clone()));
        let granted: &[&str] = granted.map_or(&[], Vec::as_slice);
        if call.verb == "testIamPermissions" {
            // No right is needed, and a secret that there is not has none to give.
            let asked_for: Value = serde_json::from_slice(&asked.body).map_err(|_| Failure::argument("body"))?;
            let names = asked_for["permissions"].as_array().cloned().unwrap_or_default();
            let holds = |name: &Value| {
                let name = name.as_str().unwrap_or_default();
                let name = name.strip_prefix("secretmanager.").unwrap_or_default();
                granted.contains(&name) && self.stored.has(&call.project, &call.secret)
            };
            let held: Vec<_> = names.into_iter().filter(holds).collect();
            return Ok(if held.is_empty() {
                json!({})
            } else {
                json!({"permissions": held})
            });
        }
        let needed = call.permission()?;
        if !granted.contains(&needed) {
            let message = format!("Permission 'secretmanager.{needed}' denied on resource (or it may not exist).");
            return Err(Failure::new(403, "PERMISSION_DENIED", &message));
        }
        self.stored.answer(&call, &asked.body)
    }

    /// Whom a token speaks for.
    fn caller(&self, asked: &Asked, now: u64) -> Result<String, Failure> {
        let unknown = || {
            let message = "Request had invalid authentication credentials.";
            Failure::new(401, "UNAUTHENTICATED", message)
        };
        let token = bearer(asked).ok_or_else(unknown)?;
        if let Some(email) = self.tokens.get(token) {
            return Ok(email.clone());
        }
        let signed = |known: &&Known| known.signed(token, now).is_ok();
        let known = self.accounts.iter().find(signed).ok_or_else(unknown)?;
        Ok(known.email.clone())
    }
}

fn told(status: StatusCode, body: &Value) -> Told {
    let answer = Response::builder().status(status);
    let answer = answer.header("content-type", "application/json; charset=UTF-8");
    Told::Whole(answer.body(Bytes::from(body.to_string())).unwrap())
}

/// A method of the API, and what it is called on.
struct Call {
    method: Method,
    project: String,
    /// Empty where the collection is meant.
    secret: String,
    /// `None` where no version is named, empty where the collection is.
    version: Option<String>,
    /// What stands behind the colon.
    verb: String,
    query: BTreeMap<String, String>,
}

impl Call {
    fn read(asked: &Asked) -> Result<Self, Failure> {
        let url = url::Url::parse(&format!("http://google{}", asked.path)).unwrap();
        let (name, verb) = url.path().split_once(':').unwrap_or((url.path(), ""));
        let parts: Vec<_> = name.split('/').collect();
        let (project, secret, version) = match parts.as_slice() {
            ["", "v1", "projects", project, "secrets"] => (project, "", None),
            ["", "v1", "projects", project, "secrets", secret] => (project, *secret, None),
            ["", "v1", "projects", project, "secrets", secret, "versions"] => (project, *secret, Some("")),
            ["", "v1", "projects", project, "secrets", secret, "versions", version] => {
                (project, *secret, Some(*version))
            }
            _ => return Err(Failure::new(404, "NOT_FOUND", "Method not found.")),
        };
        Ok(Self {
            method: asked.method.clone(),
            project: (*project).to_owned(),
            secret: secret.to_owned(),
            version: version.map(str::to_owned),
            verb: verb.to_owned(),
            query: url.query_pairs().into_owned().collect(),
        })
    }

    /// What it takes, without the service's name.
    fn permission(&self) -> Result<&'static str, Failure> {
        let version = self.version.as_deref();
        Ok(match (&self.method, version, self.verb.as_str()) {
            (&Method::POST, None, "") => "secrets.create",
            (&Method::GET, None, "") => "secrets.get",
            (&Method::POST, None, "addVersion") => "versions.add",
            (&Method::GET, Some(""), "") => "versions.list",
            (&Method::GET, Some(_), "") => "versions.get",
            (&Method::GET, Some(_), "access") => "versions.access",
            (&Method::POST, Some(_), "enable" | "disable" | "destroy") => "versions.manage",
            _ => return Err(Failure::new(404, "NOT_FOUND", "Method not found.")),
        })
    }
}
