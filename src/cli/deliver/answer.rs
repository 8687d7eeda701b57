//! What came back from a delivery, how it is shown, and what it means for the exit code.

use http::{HeaderMap, StatusCode};
use serde_json::{Map, Value, json};

use crate::cli::client::{ClientError, Problem, refusal};
use crate::cli::table::printable;
use crate::cli::{Exit, Outcome};

/// So much of a body is shown.
pub(super) const SHOWN_BYTES_MAX: usize = 64 * 1024;

/// What stands in the name of the sidecar in `Proxy-Status`.
const OWN: &str = "kiket";

/// An answer, its body as far as it is shown.
pub(super) struct Answer {
    pub(super) status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    length: usize,
}

impl Answer {
    pub(super) fn of(status: StatusCode, headers: &HeaderMap, body: Vec<u8>, length: usize) -> Self {
        let headers = headers.iter().map(|(name, value)| {
            let value = String::from_utf8_lossy(value.as_bytes());
            (name.as_str().to_owned(), printable(&value))
        });
        Self {
            status: status.as_u16(),
            headers: headers.collect(),
            body,
            length,
        }
    }

    fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(other, _)| other == name);
        found.map(|(_, value)| value.as_str())
    }

    fn proxy_status(&self) -> &str {
        self.header("proxy-status").unwrap_or_default()
    }

    /// Whether a sidecar answered: it alone says so in `Proxy-Status`, an endpoint's own one does not pass.
    pub(super) fn is_kikets(&self) -> bool {
        self.proxy_status()
            .split(';')
            .next()
            .is_some_and(|name| name.trim() == OWN)
    }

    /// What the sidecar says itself, where the endpoint did not answer.
    fn problem(&self) -> Option<Box<Problem>> {
        let is_own = self
            .proxy_status()
            .split(';')
            .any(|part| part.trim().starts_with("error="));
        let status = StatusCode::from_u16(self.status).ok().filter(|_| is_own)?;
        match refusal(status, &self.body, "the sidecar") {
            ClientError::Refused(problem) => Some(problem),
            ClientError::Setting(_) | ClientError::Away(_) => None,
        }
    }

    pub(super) fn outcome(&self) -> Outcome {
        match self.problem() {
            Some(problem) => super::refused(&problem),
            None if (200..300).contains(&self.status) => Ok(Exit::Fine),
            None => Ok(Exit::Finding),
        }
    }

    /// Status, header fields and body, for people. What the sidecar says itself is told by how the command ends.
    pub(super) fn told(&self) -> String {
        let whose = match self.problem() {
            Some(_) => "the sidecar's own answer",
            None => "the endpoint's answer",
        };
        let facts = [("delivery", "x-kiket-delivery-id"), ("attempts", "x-kiket-attempts")];
        let facts = facts
            .iter()
            .filter_map(|(fact, name)| Some(format!(", {fact} {}", self.header(name)?)));
        let mut told = format!(
            "{} {whose}{}\nProxy-Status: {}\n",
            self.status,
            facts.collect::<String>(),
            self.proxy_status()
        );
        if self.problem().is_some() {
            return told;
        }
        told.push('\n');
        let own = |name: &str| name == "proxy-status" || name.starts_with("x-kiket-");
        for (name, value) in self.headers.iter().filter(|(name, _)| !own(name)) {
            told.push_str(&format!("{name}: {value}\n"));
        }
        if !self.body.is_empty() {
            told.push_str(&format!("\n{}\n", self.text().trim_end_matches('\n')));
        }
        if self.length > self.body.len() {
            told.push_str(&format!("… the first {} of {} bytes\n", self.body.len(), self.length));
        }
        told
    }

    /// The same as an object.
    pub(super) fn document(&self) -> Value {
        let headers = self
            .headers
            .iter()
            .map(|(name, value)| (name.clone(), value.clone().into()));
        json!({
            "status": self.status,
            "headers": headers.collect::<Map<String, Value>>(),
            "body": String::from_utf8_lossy(&self.body),
            "body_bytes": self.length,
            "problem": self.problem().map(|problem| problem.name().to_owned()),
        })
    }

    /// The body as text that no terminal obeys.
    fn text(&self) -> String {
        let text = String::from_utf8_lossy(&self.body);
        text.split('\n')
            .map(|line| printable(&line.replace('\t', "    ")))
            .collect::<Vec<_>>()
            .join("\n")
    }
}
