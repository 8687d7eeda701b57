//! What a reference comes to in a delivery: through a real backend's API, every way that can end.

mod handshake;
mod memory;
mod outcomes;
mod rotations;
mod settings;
mod sharing;
mod staleness;

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::support::endpoint::Endpoint;
use super::support::gated_store::{Gated, Held};
use super::support::http::Answer;
use super::support::instance::{Instance, Options};
use super::support::referred::{Backend, VaultBackend};

/// Longer than anything takes; a test that hangs fails.
const PATIENCE: Duration = Duration::from_secs(30);

const SECRETS: &str = "/extensions/secrets";
const MAIN: &str = "/organizations/org/providers/main";

/// What a provider's `ttl` is where it does not say, in milliseconds.
const TTL: u64 = 60_000;

/// An instance whose organization has a provider, a project whose `KEY` is a reference to it, and `KEY` at the
/// organization, too, which is never to be seen. `optional` and `required` are enabled installations that want it.
struct Stage<B: Backend + ?Sized> {
    instance: Instance,
    endpoint: Endpoint,
    backend: Box<B>,
    /// What the instance stands on, where its feed is held.
    _still: Option<(Held, Gated)>,
}

impl<B: Backend + ?Sized> Stage<B> {
    fn furnish(instance: Instance, backend: Box<B>) -> Self {
        let stage = Self {
            instance,
            endpoint: Endpoint::start(),
            backend,
            _still: None,
        };
        let instance = &stage.instance;
        for (key, value) in stage.backend.credentials() {
            instance.set("organization", "org", key, &value);
        }
        instance.must("PUT", MAIN, &stage.backend.document());
        instance.set("organization", "org", "KEY", "a wider value");
        stage.link(stage.backend.reference());
        for (installation, required) in [("required", true), ("optional", false)] {
            let extension = format!("com.example.{installation}");
            let url = json!({"url": stage.endpoint.url()});
            instance.register(&extension, url, json!({"KEY": {"secret": true, "required": required}}));
            instance.install(installation, &extension);
            instance.enable(installation);
        }
        stage
    }

    /// Delivers to an installation as time goes on, which it does not for anybody else.
    fn deliver(&self, installation: &str) -> Answer {
        self.instance.clock.advance(1);
        self.instance.deliver(installation, b"{}")
    }

    /// A delivery's status and problem, or the value that it carried.
    fn outcome(&self, installation: &str) -> String {
        let answer = self.deliver(installation);
        if answer.status == 200 {
            let body = self.endpoint.last().json();
            return match body["secrets"]["KEY"].as_str() {
                Some(value) => value.to_owned(),
                None => format!("missing {}", body["secret_status"]["missing"]),
            };
        }
        format!("{} {}", answer.status, answer.problem())
    }

    /// Links the project's key.
    fn link(&self, reference: &str) -> Value {
        self.instance
            .must("POST", "/extensions/secrets/KEY/link", &link(reference))
    }

    /// Asks for the reference now.
    fn refresh(&self) -> Answer {
        self.instance.api("POST", "/extensions/secrets/KEY/refresh", &place())
    }

    /// The project's secret, without its value.
    fn secret(&self) -> Value {
        self.instance.must(
            "GET",
            &format!("{SECRETS}/KEY?scope=project&id=proj&organization_id=org"),
            &Value::Null,
        )
    }

    /// The open alerts of a kind.
    fn alerts(&self, kind: &str) -> Vec<Value> {
        let listed = self
            .instance
            .must("GET", "/secrets/alerts?organization_id=org", &Value::Null);
        let alerts = listed["data"].as_array().unwrap().iter();
        alerts.filter(|alert| alert["kind"] == kind).cloned().collect()
    }

    /// Audit entries about the project's key with this action, newest first.
    fn entries(&self, action: &str) -> Vec<Value> {
        let path = format!("/secrets/audit?organization_id=org&key=KEY&action={action}");
        let listed = self.instance.must("GET", &path, &Value::Null);
        listed["data"].as_array().unwrap().clone()
    }

    /// A sample of the metrics; 0 where it is not there.
    fn metric(&self, sample: &str) -> u64 {
        let metrics = self.instance.metrics();
        let line = metrics.lines().find(|line| line.starts_with(&format!("{sample} ")));
        line.map_or(0, |line| line.rsplit(' ').next().unwrap().parse().unwrap())
    }

    /// Asks until it is so.
    fn until(&self, what: &str, is_so: impl Fn() -> bool) {
        let begun = Instant::now();
        while !is_so() {
            assert!(begun.elapsed() < PATIENCE, "never: {what}");
            self.instance.metrics(); // takes its time, and lets others have theirs
        }
    }
}

/// One over a Vault that has a value. Its change feed stands still: what it drops, it drops once, for its own writes, so
/// that what it asks its backend can be counted.
fn vault() -> Stage<VaultBackend> {
    let gated = Gated::open();
    let (instance, feed) = gated.start_without_feed(&[]);
    let stage = Stage::furnish(instance, Box::new(furnished()));
    Stage {
        _still: Some((feed, gated)),
        ..stage
    }
}

/// One over a Vault that has a value, with these settings.
fn vault_with(settings: &[(&str, &str)]) -> Stage<VaultBackend> {
    let options = Options {
        settings,
        ..Options::default()
    };
    Stage::furnish(Instance::with(options), Box::new(furnished()))
}

fn furnished() -> VaultBackend {
    let backend = VaultBackend::start();
    backend.put("the first value");
    backend
}

fn place() -> Value {
    json!({"scope": "project", "id": "proj", "organization_id": "org"})
}

fn link(reference: &str) -> Value {
    let mut link = place();
    link["external_secret_name"] = json!(reference);
    link
}
