//! What an operator does over the REST API of an instance in a process of its own.

use std::net::SocketAddr;

use serde_json::{Value, json};

use super::http::{Answer, once, request};
use super::leaks;

/// Where the API is, and the token that may do everything.
pub struct Operator {
    pub admin: SocketAddr,
    pub token: String,
}

impl Operator {
    /// A call, and what it answered.
    pub fn call(&self, method: &str, path: &str, body: &[u8]) -> Answer {
        if let Ok(body) = serde_json::from_slice(body) {
            leaks::told(self.admin, path, &body);
        }
        let authorization = format!("Bearer {}", self.token);
        let headers = [
            ("Authorization", authorization.as_str()),
            ("Content-Type", "application/json"),
        ];
        once(self.admin, &request(method, &format!("/api/v1{path}"), &headers, body))
    }

    /// A call that has to succeed.
    pub fn must(&self, method: &str, path: &str, body: &Value) -> Answer {
        let answer = self.call(method, path, body.to_string().as_bytes());
        let said = String::from_utf8_lossy(&answer.body);
        assert!(answer.status < 300, "{method} {path}: {} {said}", answer.status);
        answer
    }

    /// Registers and installs an extension of organization `org` and project `proj`, not enabled yet.
    pub fn install(&self, installation: &str, extension: &str, callback: &Value, configuration: &Value) {
        let delivery = json!({"type": "http", "callback": callback});
        let manifest = json!({"extension": {"id": extension, "delivery": delivery, "configuration": configuration}});
        self.must("PUT", &format!("/extensions/{extension}"), &manifest);
        let place = json!({
            "id": installation, "extension_id": extension, "organization_id": "org", "project_id": "proj",
        });
        self.must("POST", "/marketplace/installations", &place);
    }

    pub fn enable(&self, installation: &str) {
        let path = format!("/marketplace/installations/{installation}");
        self.must("PATCH", &path, &json!({"state": "enabled"}));
    }

    /// Writes a secret of project `proj`.
    pub fn set(&self, key: &str, value: &str) {
        let secret = json!({"scope": "project", "id": "proj", "key": key, "value": value, "organization_id": "org"});
        self.must("POST", "/extensions/secrets", &secret);
    }

    /// An enabled installation `ins` that delivers `KEY` with this value to an endpoint.
    pub fn simple(&self, url: &str, value: &str) {
        let (callback, configuration) = (json!({"url": url}), json!({"KEY": {"secret": true}}));
        self.install("ins", "com.example.simple", &callback, &configuration);
        self.set("KEY", value);
        self.enable("ins");
    }

    /// The text of a new token of this role and organization.
    pub fn token_of(&self, role: &str, organization: &str) -> String {
        let name = format!("{role} of {organization}");
        let token = json!({"name": name, "role": role, "organization_id": organization});
        let made = self.must("POST", "/tokens", &token).json();
        made["token"].as_str().unwrap().to_owned()
    }
}
