//! A client of the REST API that checks what every answer has to keep: its form, and that no value comes back.

use kiket_sidecar::domain::audit::AuditEntry;
use kiket_sidecar::domain::id::OrganizationId;
use kiket_sidecar::domain::time::Timestamp;
use kiket_sidecar::registry::sealed_token;
use kiket_sidecar::store::{Change, Role, Store, TokenRow, Write};
use secrecy::SecretString;
use serde_json::Value;

use super::gated_store::Gated;
use super::http::{Answer, once, request};
use super::instance::Instance;
use super::problem::CANARY;

/// An instance with its store at hand, called with one token.
pub struct Api<'a> {
    pub instance: &'a Instance,
    pub token: String,
}

impl<'a> Api<'a> {
    /// As whoever has the bootstrap token.
    pub fn bootstrap(instance: &'a Instance) -> Self {
        Self {
            instance,
            token: instance.bootstrap_token().to_owned(),
        }
    }

    /// With a token of this role, stored now.
    pub fn with(instance: &'a Instance, gated: &Gated, role: Role, organization: Option<&str>) -> Self {
        let name = format!("{}-{}", role.name(), organization.unwrap_or("none"));
        Self::named(instance, gated, &name, role, organization)
    }

    /// With a token of this text, stored now; its id is `tok-` and the text.
    pub fn named(instance: &'a Instance, gated: &Gated, text: &str, role: Role, organization: Option<&str>) -> Self {
        let token = text.to_owned();
        store_token(gated, row(gated, &token, role, organization));
        Self { instance, token }
    }

    /// Sends bytes under these header fields, and the token.
    pub fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let authorization = format!("Bearer {}", self.token);
        let mut all = vec![("Authorization", authorization.as_str())];
        all.extend_from_slice(headers);
        let path = format!("/api/v1{path}");
        let answer = once(
            self.instance.running.admin().unwrap(),
            &request(method, &path, &all, body),
        );
        assert_presentable(&answer, &format!("{method} {path}"));
        answer
    }

    /// Sends JSON.
    pub fn json(&self, method: &str, path: &str, body: &Value) -> Answer {
        self.send(
            method,
            path,
            &[("Content-Type", "application/json")],
            body.to_string().as_bytes(),
        )
    }

    /// Sends JSON that replaces this version only.
    pub fn json_at(&self, version: &str, method: &str, path: &str, body: &Value) -> Answer {
        let headers = [("Content-Type", "application/json"), ("If-Match", version)];
        self.send(method, path, &headers, body.to_string().as_bytes())
    }

    pub fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[], b"")
    }

    pub fn delete(&self, path: &str) -> Answer {
        self.send("DELETE", path, &[], b"")
    }
}

/// Checks an answer for canaries, and a problem for its form.
pub fn assert_presentable(answer: &Answer, what: &str) {
    let everything = format!("{answer:?}{}", String::from_utf8_lossy(&answer.body));
    assert!(!everything.contains(CANARY), "{what}: {everything}");
    if answer.status >= 400 {
        assert_eq!(
            answer.header("content-type"),
            Some("application/problem+json"),
            "{what}: {everything}"
        );
        let document = answer.json();
        assert_eq!(document["status"], answer.status, "{what}");
        assert!(
            document["type"].as_str().unwrap().starts_with("urn:kiket:problem:"),
            "{what}"
        );
        assert!(document["title"].is_string(), "{what}");
        assert_eq!(
            answer.header("www-authenticate").is_some(),
            answer.status == 401,
            "{what}"
        );
        let says_when = matches!(answer.status, 429 | 503);
        assert_eq!(answer.header("retry-after").is_some(), says_when, "{what}");
    }
}

/// A token's row as the product would store it.
pub fn row(gated: &Gated, text: &str, role: Role, organization: Option<&str>) -> TokenRow {
    TokenRow {
        id: format!("tok-{text}"),
        hash: gated.keyring.token_hash(&SecretString::from(text)),
        name: format!("name of {text}"),
        role,
        organization: organization.map(|id| OrganizationId::parse(id).unwrap()),
        created_by: "test".into(),
        created_at: Timestamp(1),
        expires_at: None,
        last_used_at: None,
        mac: Vec::new(),
    }
}

/// Stores a row with its MAC.
pub fn store_token(gated: &Gated, row: TokenRow) {
    let change = Change {
        writes: vec![Write::Token(sealed_token(&gated.keyring, row))],
        entries: Vec::new(),
    };
    gated.block_on(gated.store.commit(change)).unwrap();
}

/// Every entry of a chain (`None`: the platform's), after it was found whole.
pub fn audit(gated: &Gated, organization: Option<&str>) -> Vec<AuditEntry> {
    let organization = organization.map(|id| OrganizationId::parse(id).unwrap());
    let linked = gated
        .block_on(gated.store.chain(organization.as_ref(), 1, 10_000))
        .unwrap();
    let part: Vec<_> = linked
        .iter()
        .map(|link| (link.sequence, &link.entry, link.link))
        .collect();
    let genesis = kiket_sidecar::crypto::chain::GENESIS;
    gated.keyring.chain_key().verify(&genesis, 0, &part).unwrap();
    linked.into_iter().map(|link| link.entry).collect()
}
