//! What went wrong with a request, and what its author can do about it.

use std::fmt;

use http::StatusCode;
use serde::Deserialize;

use crate::domain::problem;

/// Why there is no answer that helps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientError {
    /// A setting has to be changed; names it.
    Setting(String),
    /// The server is away: again later.
    Away(String),
    /// The server answered with a problem.
    Refused(Box<Problem>),
}

/// A problem document of the server.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Problem {
    /// `urn:kiket:problem:<name>`
    r#type: String,
    title: String,
    /// The status.
    pub status: u16,
    detail: Option<String>,
    field: Option<String>,
    #[serde(default)]
    missing: Vec<String>,
}

impl Problem {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.r#type.strip_prefix("urn:kiket:problem:").unwrap_or(&self.r#type)
    }

    /// What the data plane would say of a delivery.
    pub(in crate::cli) fn of(problem: problem::Problem) -> Self {
        Self {
            r#type: problem.urn().to_owned(),
            title: problem.title().to_owned(),
            status: problem.status(),
            detail: Some(problem.detail().to_owned()),
            field: None,
            missing: Vec::new(),
        }
    }

    /// The same, with the keys that it is about.
    pub(in crate::cli) fn about(self, missing: Vec<String>) -> Self {
        Self { missing, ..self }
    }

    /// What to do next.
    fn advice(&self) -> Option<&'static str> {
        Some(match (self.name(), self.field.as_deref()) {
            ("unauthenticated", _) => "check the token of --token-file or KIKET_TOKEN: unknown, expired or removed",
            ("forbidden", _) => "ask for a token of another role; `kiket tokens create --help` lists the roles",
            ("not-found", _) => "ids and keys are case-sensitive; what belongs to another organization looks absent",
            ("method-not-allowed", _) => "this server is older than this command",
            (_, Some("organization_id")) => "name it with --organization or KIKET_ORGANIZATION",
            ("required-secrets-missing" | "signing-key-missing" | "mtls-identity-missing", _) => {
                "set them with `kiket extensions secrets set`; `kiket marketplace status ID` shows where each is looked for"
            }
            ("destination-unconfirmed", _) => {
                "an admin of the organization confirms it: `kiket marketplace confirm ID`"
            }
            ("key-not-loaded", _) => {
                "give each of them the keyring file that has the key, restart it, and look at `kiket keys status`"
            }
            ("key-in-use", _) => "again when `kiket keys status` shows no row under it",
            ("version-mismatch" | "conflict", _) => "somebody else was faster, or it exists already: look again",
            ("installation-unknown", _) => {
                "`kiket marketplace status` lists the installations; one that was just made is known to other instances \
                 within a second"
            }
            ("installation-not-enabled", _) => "`kiket marketplace enable ID` lets deliveries reach it",
            ("scope-mismatch", _) => {
                "the ids in the invocation, --installation and `kiket marketplace status ID` have to say the same"
            }
            ("dispatcher-unauthenticated", _) => "name the dispatcher's token with --dispatcher-token-file",
            ("runtime-token-invalid", _) => {
                "a recorded token has ended long ago: record the invocation anew, or try it where runtime_token_jwks_url \
                 is not set"
            }
            ("reserved-member", _) => "send it as it was before the sidecar: without `secrets` and `secret_status`",
            ("payload-too-large", _) => "payload_bytes_max is the limit",
            ("endpoint-unreachable" | "endpoint-tls-failed" | "endpoint-timeout" | "endpoint-circuit-open", _) => {
                "look at the endpoint; `kiket doctor` says what this host makes of its name and address"
            }
            ("destination-refused", _) => {
                "where it is your own network, name it in egress_allow_cidrs; `kiket doctor` lists what is refused"
            }
            ("mtls-identity-invalid", _) => {
                "`kiket doctor` says when its certificate ends; set certificate and key anew"
            }
            ("secret-source-unavailable", _) => {
                "`kiket extensions secrets explain --installation ID` says which key, `kiket organizations providers check` \
                 whether its source answers"
            }
            ("rate-limited" | "store-unavailable" | "overloaded" | "draining", _) => "again in a few seconds",
            ("store-full", _) => "the server's disk is full",
            _ => return None,
        })
    }
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Setting(reason) => f.write_str(reason),
            Self::Away(reason) => write!(f, "{reason}\n  is it running? --url or KIKET_URL says where"),
            Self::Refused(problem) => problem.fmt(f),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.title)?;
        if let Some(detail) = self.detail.as_ref().filter(|detail| **detail != self.title) {
            write!(f, ": {detail}")?;
        }
        if let Some(field) = &self.field {
            write!(f, " (field `{field}`)")?;
        }
        if !self.missing.is_empty() {
            write!(f, ": {}", self.missing.join(", "))?;
        }
        match self.advice() {
            Some(advice) => write!(f, "\n  {advice}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for ClientError {}

/// An answer that says no.
pub(in crate::cli) fn refusal(status: StatusCode, body: &[u8], origin: &str) -> ClientError {
    match serde_json::from_slice::<Problem>(body) {
        Ok(problem) if problem.r#type.starts_with("urn:kiket:problem:") => ClientError::Refused(Box::new(problem)),
        _ => not_kiket(status, origin),
    }
}

pub(super) fn not_kiket(status: StatusCode, origin: &str) -> ClientError {
    let status = status.as_u16();
    ClientError::Away(format!(
        "{origin} answered {status} in a way that the Kiket API does not"
    ))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_problem_reads_as_title_detail_field_and_what_to_do() {
        let body = br#"{"type":"urn:kiket:problem:invalid-field","title":"A field","status":422,
            "detail":"organization_id is missing","field":"organization_id"}"#;
        let refused = refusal(StatusCode::UNPROCESSABLE_ENTITY, body, "http://h");
        let text = "A field: organization_id is missing (field `organization_id`)\n  \
            name it with --organization or KIKET_ORGANIZATION";
        assert_eq!(refused.to_string(), text);
    }

    #[test]
    fn what_is_no_problem_of_kiket_comes_from_something_else() {
        for body in [
            &b"<html>"[..],
            b"",
            br#"{"type":"about:blank","title":"x","status":404}"#,
        ] {
            let refused = refusal(StatusCode::NOT_FOUND, body, "http://h");
            assert!(matches!(refused, ClientError::Away(_)), "{refused:?}");
        }
    }
}
