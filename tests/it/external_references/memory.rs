//! Whether a fetched value leaves the process when its reference does, although nobody delivers any more.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::super::support::endpoint::Endpoint;
use super::super::support::memory::occurrences;
use super::super::support::process::Process;
use super::super::support::referred::{Backend, PATH, VaultBackend};
use super::{MAIN, SECRETS};

/// How long a value may stay (contract, section 6), and what looking for it takes.
const SOON: Duration = Duration::from_secs(2);

/// A value that only the Vault is told, so that the sidecar has it only if it was fetched.
fn needle(name: &str) -> String {
    format!("needle-{name}-5f1d0c37b2e94a68")
}

struct Running {
    process: Process,
    endpoint: Endpoint,
    backend: VaultBackend,
}

impl Running {
    /// An instance in a process of its own that delivered the value of a reference.
    fn start(settings: &[(&str, &str)], value: &str) -> Self {
        let running = Self {
            process: Process::with(settings),
            endpoint: Endpoint::start(),
            backend: VaultBackend::start(),
        };
        let process = &running.process;
        running.backend.put(value);
        for (key, value) in running.backend.credentials() {
            let secret = json!({"scope": "organization", "id": "org", "key": key, "value": value});
            process.must("POST", SECRETS, &secret);
        }
        let mut document = running.backend.document();
        document["ttl"] = json!(1);
        process.must("PUT", MAIN, &document);
        process.must(
            "POST",
            &format!("{SECRETS}/KEY/link"),
            &super::link(running.backend.reference()),
        );
        let (callback, configuration) = (json!({"url": running.endpoint.url()}), json!({"KEY": {"secret": true}}));
        process.install("ins", "com.example.simple", &callback, &configuration);
        process.enable("ins");
        running.deliver(Some(value));
        running
    }

    fn deliver(&self, value: Option<&str>) {
        assert_eq!(self.process.deliver("ins", b"{}").status, 200);
        assert_eq!(self.endpoint.last().secret("KEY").as_deref(), value);
    }

    fn held(&self, value: &str) -> usize {
        occurrences(self.process.pid(), value.as_bytes())
    }

    /// Nobody delivers; the value is gone in time.
    fn must_forget(&self, value: &str, why: &str) {
        self.must_forget_within(SOON, value, why);
    }

    fn must_forget_within(&self, time: Duration, value: &str, why: &str) {
        let begun = Instant::now();
        loop {
            let looked_at = begun.elapsed();
            let held = self.held(value);
            if held == 0 {
                return;
            }
            assert!(looked_at < time, "{why}: still {held} times");
            thread::yield_now();
        }
    }
}

#[test]
fn a_fetched_value_leaves_memory_with_what_it_was_fetched_for() {
    type End = fn(&Running);
    let ends: [(&str, End); 5] = [
        ("deleted", |running| {
            let place = format!("{SECRETS}/KEY?scope=project&id=proj&organization_id=org");
            running.process.must("DELETE", &place, &Value::Null);
        }),
        ("linked", |running| {
            let put =
                |root: &mut super::super::support::vault::Namespace| root.put("kv", PATH, json!({"value": "other"}));
            running.backend.vault.root(put);
            let link = super::link("vault:kv/kiket/org/crm#value");
            running.process.must("POST", &format!("{SECRETS}/KEY/link"), &link);
        }),
        ("provider", |running| {
            drop(running.process.must("DELETE", MAIN, &Value::Null))
        }),
        ("credential", |running| {
            let place = format!("{SECRETS}/VAULT_TOKEN?scope=organization&organization_id=org");
            running.process.must("DELETE", &place, &Value::Null);
        }),
        ("rotated", |running| {
            running.backend.put("another value");
            running
                .process
                .must("POST", &format!("{SECRETS}/KEY/refresh"), &super::place());
        }),
    ];
    for (name, end) in ends {
        let value = needle(name);
        let running = Running::start(&[], &value);
        assert!(running.held(&value) > 0, "{name}: what is in use is found");
        end(&running);
        running.must_forget(&value, name);
    }
}

#[test]
fn a_fetched_value_leaves_memory_when_it_is_too_old_to_stand_in() {
    let value = needle("old");
    let running = Running::start(&[("max_stale", "3s")], &value);
    assert!(running.held(&value) > 0, "what is in use is found");
    running.must_forget_within(Duration::from_secs(3) + SOON, &value, "old");
}
