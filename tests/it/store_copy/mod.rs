//! `kiket store copy`: every row arrives as it was, or nobody serves from what did.

mod faithful;
mod interrupted;
mod refusals;
mod rows;
mod sizes;

use std::process::{Command, Stdio};
use std::sync::Arc;

use kiket_sidecar::crypto::keyring::Keyring;
use serde_json::{Value, json};

use super::support::captured::Captured;
use super::support::endpoint::Endpoint;
use super::support::http::request;
use super::support::instance::{Instance, Options};
use super::support::process::{Ended, Home, kiket, run};

/// What keeps a half-done copy from being served.
const UNFINISHED: &str = "a copy into this database did not finish";

/// A folder with keys and files, where databases are copied.
struct Desk {
    home: Arc<Home>,
}

impl Desk {
    fn new() -> Self {
        Self {
            home: Arc::new(Home::new()),
        }
    }

    /// The URL of a file in it.
    fn file(&self, name: &str) -> String {
        format!("sqlite:{}/{name}", self.home.path().display())
    }

    /// The keys that everything here is sealed with.
    fn keyring(&self) -> Keyring {
        let text = std::fs::read_to_string(self.home.path().join("master.key")).unwrap();
        Keyring::parse(&text).unwrap()
    }

    /// An instance over a database.
    fn serve(&self, url: &str) -> Instance {
        Instance::with(Options {
            settings: &[("database_url", url)],
            keyring: Some(self.keyring()),
            ..Options::default()
        })
    }

    fn copy_command(&self, from: &str, to: &str) -> Command {
        let mut command = kiket(&["store", "copy", "--from", from, "--to", to]);
        command.current_dir(self.home.path());
        command.env("KIKET_MASTER_KEY_FILE", self.home.path().join("master.key"));
        command
    }

    fn copy(&self, from: &str, to: &str) -> Ended {
        run(self.copy_command(from, to))
    }

    /// A copy that goes well: what it prints.
    fn must_copy(&self, from: &str, to: &str) -> String {
        let ended = self.copy(from, to);
        assert_eq!(ended.code, Some(0), "{from} → {to}: {}{}", ended.stdout, ended.stderr);
        ended.stdout
    }

    /// A copy that ends with this code, saying all of this.
    fn refused(&self, code: i32, said: &[&str], from: &str, to: &str) -> Ended {
        let ended = self.copy(from, to);
        assert_ended(&ended, code, said);
        ended
    }

    /// What `kiket serve` says that does not start, in any role that could.
    fn not_served(&self, url: &str, said: &str) {
        let roles: &[&str] = if url.starts_with("sqlite:") {
            &["all"]
        } else {
            &["all", "proxy"]
        };
        for role in roles {
            let ended = run(self.home.serve(&[("database_url", url), ("role", role)]));
            assert_ended(&ended, 2, &["database_url: ", said]);
        }
    }
}

fn assert_ended(ended: &Ended, code: i32, said: &[&str]) {
    assert_eq!(ended.code, Some(code), "{}{}", ended.stdout, ended.stderr);
    for words in said {
        assert!(ended.stderr.contains(words), "no `{words}` in: {}", ended.stderr);
    }
}

/// Ends an instance; its database is free when this returns.
fn stop(instance: Instance) {
    let Instance { running, .. } = instance;
    running.stop_now();
    running.wait();
}

/// A command that runs on, and what it says on stderr.
fn started(mut command: Command) -> (std::process::Child, Captured) {
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let said = Captured::start(child.stderr.take().unwrap());
    (child, said)
}

/// The request that a client names, so that it is done once.
fn named_request(instance: &Instance) -> Value {
    let authorization = format!("Bearer {}", instance.bootstrap_token());
    named_request_as(instance, &authorization)
}

fn named_request_as(instance: &Instance, authorization: &str) -> Value {
    let headers = [
        ("Authorization", authorization),
        ("Content-Type", "application/json"),
        ("Idempotency-Key", "once"),
    ];
    let body = json!({"scope": "project", "id": "proj", "key": "NAMED", "value": "a value", "organization_id": "org"});
    let bytes = request(
        "POST",
        "/api/v1/extensions/secrets",
        &headers,
        body.to_string().as_bytes(),
    );
    let answer = super::support::http::once(instance.running.admin().unwrap(), &bytes);
    assert!(answer.status < 300, "{}", String::from_utf8_lossy(&answer.body));
    answer.json()
}

/// The text of an operator's token.
fn operator(instance: &Instance) -> String {
    let token = json!({"name": "platform", "role": "platform_operator"});
    let made = instance.must("POST", "/tokens", &token);
    made["token"].as_str().unwrap().to_owned()
}

/// Rows of every kind, made as a platform and two organizations make them.
fn populate(instance: &Instance, endpoint: &Endpoint) {
    instance.register(
        "com.example.simple",
        json!({"url": endpoint.url(), "rotation_webhook": true}),
        json!({"KEY": {"secret": true}, "SHARED": {"secret": true}, "LATER": {"secret": true}}),
    );
    instance.must(
        "POST",
        "/marketplace/installations",
        &json!({"id": "ins", "extension_id": "com.example.simple", "organization_id": "org", "project_id": "proj",
                "scaffold": true}),
    );
    instance.must(
        "POST",
        "/marketplace/installations",
        &json!({"id": "other", "extension_id": "com.example.simple", "organization_id": "acme", "project_id": "web",
                "product_installation_id": "prod", "callback_url": endpoint.url()}),
    );
    instance.set("project", "proj", "KEY", "the first value");
    instance.set("extension_installation", "ins", "KEY", "value of KEY");
    let place =
        json!({"scope": "extension_installation", "id": "ins", "organization_id": "org", "value": "rotated KEY"});
    instance.must("POST", "/extensions/secrets/KEY/rotate", &place);
    instance.must(
        "POST",
        "/extensions/secrets",
        &json!({"scope": "extension", "id": "com.example.simple", "key": "SHARED", "value": "for all",
                "partner_default": true}),
    );
    instance.must(
        "POST",
        "/extensions/secrets",
        &json!({"scope": "organization", "id": "acme", "key": "CRM", "external_secret_name": "vault:kv/acme/crm#token"}),
    );
    instance.set("organization", "org", "SIGNING", "whsec_c2lnbmVkIHdpdGggdGhpcw==");
    instance.set("organization", "org", "GONE", "a value");
    instance.must(
        "DELETE",
        "/extensions/secrets/GONE?scope=organization&id=org",
        &Value::Null,
    );
    instance.must(
        "PUT",
        "/organizations/org/policy",
        &json!({"rotation_max_age_days": 30, "webhook_url": "https://127.0.0.1:9/alerts",
                "webhook_signing_key": "SIGNING"}),
    );
    instance.must(
        "PUT",
        "/organizations/acme/providers/vault",
        &json!({"kind": "vault", "address": "https://vault.example.com",
                "auth": {"method": "token", "credential_key": "VAULT_TOKEN"}}),
    );
    let keys = instance.must("GET", "/keys", &Value::Null);
    let promote = format!("/keys/{}/promote", keys["data"][0]["id"].as_str().unwrap());
    instance.must("POST", &promote, &Value::Null);
    instance.enable("ins");
    for _ in 0..26 {
        let path = "/extensions/secrets/KEY?scope=extension_installation&id=ins&organization_id=org";
        instance.must("GET", path, &Value::Null);
    }
    let begun = std::time::Instant::now();
    while instance.must("GET", "/secrets/alerts?status=all", &Value::Null)["data"] == json!([]) {
        assert!(begun.elapsed().as_secs() < 30, "never: an alert");
    }
    assert_eq!(instance.deliver("ins", b"{}").status, 200);
    named_request(instance);
}
