//! The secrets of a Google project and their versions, as the API's methods see and change them.

use std::collections::BTreeMap;

use bytes::Bytes;
use crc::{CRC_32_ISCSI, Crc};
use data_encoding::BASE64;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::Call;

const CASTAGNOLI: Crc<u32> = Crc::<u32>::new(&CRC_32_ISCSI);

/// The largest payload that Google takes, in bytes.
const PAYLOAD_BYTES_MAX: usize = 64 * 1024;

/// How many versions a page of a list has where nobody says.
const PAGE: usize = 100;

/// What a version is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Enabled,
    Disabled,
    Destroyed,
}

impl State {
    const fn name(self) -> &'static str {
        match self {
            Self::Enabled => "ENABLED",
            Self::Disabled => "DISABLED",
            Self::Destroyed => "DESTROYED",
        }
    }
}

/// How a call fails.
#[derive(Debug)]
pub struct Failure {
    code: u16,
    status: String,
    message: String,
}

impl Failure {
    pub fn new(code: u16, status: &str, message: &str) -> Self {
        Self {
            code,
            status: status.to_owned(),
            message: message.to_owned(),
        }
    }

    pub fn argument(what: &str) -> Self {
        let message = format!("The request has an invalid argument: {what}.");
        Self::new(400, "INVALID_ARGUMENT", &message)
    }

    pub fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.code).unwrap()
    }

    pub fn json(&self) -> Value {
        json!({"error": {"code": self.code, "message": self.message, "status": self.status}})
    }

    pub fn body(&self) -> Bytes {
        Bytes::from(self.json().to_string())
    }
}

struct Version {
    state: State,
    payload: Vec<u8>,
}

/// Versions count from 1.
type Versions = Vec<Version>;

/// All secrets, by project and name.
#[derive(Default)]
pub struct Stored {
    secrets: BTreeMap<(String, String), Versions>,
}

impl Stored {
    pub fn has(&self, project: &str, secret: &str) -> bool {
        self.secrets.contains_key(&(project.to_owned(), secret.to_owned()))
    }

    pub fn add(&mut self, project: &str, secret: &str, payload: &[u8]) -> usize {
        let slot = (project.to_owned(), secret.to_owned());
        let versions = self.secrets.entry(slot).or_default();
        versions.push(Version {
            state: State::Enabled,
            payload: payload.to_vec(),
        });
        versions.len()
    }

    pub fn turn(&mut self, project: &str, secret: &str, number: usize, state: State) {
        let slot = (project.to_owned(), secret.to_owned());
        let version = &mut self.secrets.get_mut(&slot).unwrap()[number - 1];
        assert_ne!(version.state, State::Destroyed, "there is no way back");
        version.state = state;
    }

    pub fn answer(&mut self, call: &Call, body: &[u8]) -> Result<Value, Failure> {
        let slot = (call.project.clone(), call.secret.clone());
        let name = format!("projects/{}/secrets/{}", number_of(&call.project), call.secret);
        match (&call.method, call.version.as_deref(), call.verb.as_str()) {
            (&Method::POST, None, "") => self.create(call),
            (&Method::GET, None, "") => match self.secrets.get(&slot) {
                Some(_) => Ok(described(&name)),
                None => Err(no_secret(&name)),
            },
            (&Method::POST, None, "addVersion") => {
                if !self.secrets.contains_key(&slot) {
                    return Err(no_secret(&name));
                }
                let payload = payload(body)?;
                let number = self.add(&call.project, &call.secret, &payload);
                Ok(version(&name, number, State::Enabled))
            }
            (_, Some(""), _) => listed(&name, self.secrets.get(&slot).ok_or_else(|| no_secret(&name))?, call),
            (_, Some(text), verb) => {
                let versions = self.secrets.get_mut(&slot).ok_or_else(|| no_secret(&name))?;
                let number = if text == "latest" {
                    versions.len()
                } else {
                    text.parse().unwrap_or(0)
                };
                let name_of = format!("{name}/versions/{text}");
                let found = number.checked_sub(1).and_then(|at| versions.get_mut(at));
                let found = found.ok_or_else(|| {
                    let message = format!("Secret Version [{name_of}] not found.");
                    Failure::new(404, "NOT_FOUND", &message)
                })?;
                served(found, &name, number, verb)
            }
            _ => Err(Failure::new(404, "NOT_FOUND", "Method not found.")),
        }
    }

    fn create(&mut self, call: &Call) -> Result<Value, Failure> {
        let secret = call
            .query
            .get("secretId")
            .ok_or_else(|| Failure::argument("secretId"))?;
        let slot = (call.project.clone(), secret.clone());
        let name = format!("projects/{}/secrets/{secret}", number_of(&call.project));
        if self.secrets.contains_key(&slot) {
            let message = format!("Secret [{name}] already exists.");
            return Err(Failure::new(409, "ALREADY_EXISTS", &message));
        }
        self.secrets.insert(slot, Versions::new());
        Ok(described(&name))
    }
}

/// In answers a project stands by its number, whatever it was asked by.
fn number_of(project: &str) -> u64 {
    let sum: u64 = project.bytes().map(u64::from).sum();
    700_000_000_000 + sum
}

fn no_secret(name: &str) -> Failure {
    let message = format!("Secret [{name}] not found or has no versions.");
    Failure::new(404, "NOT_FOUND", &message)
}

fn described(name: &str) -> Value {
    json!({"name": name, "replication": {"automatic": {}}, "createTime": "2026-01-02T03:04:05.678901Z"})
}

fn version(name: &str, number: usize, state: State) -> Value {
    let mut version = json!({
        "name": format!("{name}/versions/{number}"),
        "createTime": format!("2026-01-{:02}T03:04:05.678901Z", number % 28 + 1),
        "state": state.name(),
        "replicationStatus": {"automatic": {}},
        "etag": "\"160000000000000\"",
    });
    if state == State::Destroyed {
        version["destroyTime"] = json!("2026-02-01T00:00:00.000001Z");
    }
    version
}

/// What `addVersion` takes: a payload with its checksum, if there is one.
fn payload(body: &[u8]) -> Result<Vec<u8>, Failure> {
    let body: Value = serde_json::from_slice(body).map_err(|_| Failure::argument("body"))?;
    let data = body["payload"]["data"].as_str().unwrap_or_default();
    let data = BASE64.decode(data.as_bytes()).map_err(|_| Failure::argument("data"))?;
    if data.is_empty() || data.len() > PAYLOAD_BYTES_MAX {
        return Err(Failure::argument("payload size"));
    }
    match body["payload"].get("dataCrc32c") {
        Some(sum) if sum.as_str() != Some(CASTAGNOLI.checksum(&data).to_string().as_str()) => {
            Err(Failure::argument("the checksum does not match"))
        }
        _ => Ok(data),
    }
}

/// Newest first, in pages.
fn listed(name: &str, versions: &Versions, call: &Call) -> Result<Value, Failure> {
    let state = match call.query.get("filter").map(String::as_str) {
        None | Some("") => None,
        Some("state:ENABLED") => Some(State::Enabled),
        Some("state:DISABLED") => Some(State::Disabled),
        Some("state:DESTROYED") => Some(State::Destroyed),
        Some(_) => return Err(Failure::argument("filter")),
    };
    let number = |name: &str| call.query.get(name).and_then(|text| text.parse::<usize>().ok());
    let (size, from) = (number("pageSize").filter(|size| *size > 0), number("pageToken"));
    let (size, from) = (size.unwrap_or(PAGE), from.unwrap_or(0));
    let all: Vec<_> = versions
        .iter()
        .enumerate()
        .rev()
        .filter(|(_, version)| state.is_none_or(|state| version.state == state))
        .map(|(at, found)| version(name, at + 1, found.state))
        .collect();
    let mut answer = json!({"totalSize": all.len()});
    let page: Vec<_> = all.iter().skip(from).take(size).cloned().collect();
    if from + page.len() < all.len() {
        answer["nextPageToken"] = json!((from + page.len()).to_string());
    }
    // A field that is empty is not written.
    if !page.is_empty() {
        answer["versions"] = Value::from(page);
    }
    Ok(answer)
}

fn served(found: &mut Version, name: &str, number: usize, verb: &str) -> Result<Value, Failure> {
    let must_not_be = |states: &[State], found: &Version| {
        if !states.contains(&found.state) {
            return Ok(());
        }
        let state = found.state.name();
        let message = format!("Secret Version [{name}/versions/{number}] is in {state} state.");
        Err(Failure::new(400, "FAILED_PRECONDITION", &message))
    };
    match verb {
        "access" => {
            must_not_be(&[State::Disabled, State::Destroyed], found)?;
            Ok(json!({
                "name": format!("{name}/versions/{number}"),
                "payload": {
                    "data": BASE64.encode(&found.payload),
                    "dataCrc32c": CASTAGNOLI.checksum(&found.payload).to_string(),
                },
            }))
        }
        "" => Ok(version(name, number, found.state)),
        change => {
            must_not_be(&[State::Destroyed], found)?;
            found.state = match change {
                "enable" => State::Enabled,
                "disable" => State::Disabled,
                _ => State::Destroyed,
            };
            if found.state == State::Destroyed {
                found.payload.clear();
            }
            Ok(version(name, number, found.state))
        }
    }
}
