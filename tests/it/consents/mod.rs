//! Whether an update of a manifest, or a callback of an installation's own, gets anything that nobody agreed to.

mod bound;
mod destinations;
mod keys;
mod stored;
mod told;

use serde_json::{Value, json};

use super::support::endpoint::Endpoint;
use super::support::instance::Instance;

const EXTENSION: &str = "com.example.simple";
const INSTALLATION: &str = "/marketplace/installations/ins";
const CONFIRM: &str = "/marketplace/installations/ins/confirm-destination";
const ACCEPT: &str = "/marketplace/installations/ins/accept-keys";
const CANARY: &str = "cnry-consent-4711";

/// An instance with an enabled installation `ins` that delivers `KEY`, and where it delivers it to.
fn started() -> (Instance, Endpoint) {
    let (instance, endpoint) = (Instance::start(), Endpoint::start());
    instance.simple(&endpoint.url());
    instance.set("organization", "org", "KEY", CANARY);
    assert_eq!(instance.deliver("ins", b"{}").status, 200);
    (instance, endpoint)
}

/// What waits for a consent.
fn awaiting(instance: &Instance) -> Value {
    instance.must("GET", INSTALLATION, &Value::Null)["awaiting_consent"].clone()
}

/// Registers the extension of [`started`] anew.
fn update(instance: &Instance, callback: Value, configuration: Value) {
    instance.register(EXTENSION, callback, configuration);
}

fn with_key() -> Value {
    json!({"KEY": {"secret": true}})
}
