//! How often a backend is asked: once for all who wait, whoever they are, and not at all for what is known.

use serde_json::{Value, json};

use super::super::support::instance::invocation;
use super::super::support::referred::{Backend, Condition};
use super::super::support::vault::Fault;
use super::{TTL, vault};

/// Deliveries of one key that begin cold.
const DELIVERIES: usize = 1_000;

const READ: &str = "GET secret/data/kiket/org/crm";

#[test]
fn a_thousand_cold_deliveries_of_one_key_cost_one_read() {
    let stage = vault();
    let installations: Vec<String> = (0..10).map(|n| format!("ins-{n}")).collect();
    for id in &installations {
        stage.instance.install(id, "com.example.required");
        stage.instance.enable(id);
    }
    let mut waiting = Vec::new();
    for n in 1..=DELIVERIES {
        waiting.push(stage.instance.connect());
        if n % 100 == 0 {
            let is_open = || stage.metric("kiket_connections{listener=\"proxy\"}") >= n as u64;
            stage.until("all are connected", is_open);
        }
    }
    stage.backend.vault.root(|_| {
        // Nobody is answered before all have asked.
        for (n, client) in waiting.iter_mut().enumerate() {
            client.send(&invocation(&installations[n % installations.len()], b"{}"));
        }
        let is_asked = || stage.metric("kiket_in_flight") == DELIVERIES as u64;
        stage.until("all of them wait", is_asked);
    });
    for mut client in waiting {
        let answer = client.answer();
        assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
    }
    let received = stage.endpoint.received();
    assert_eq!(received.len(), DELIVERIES);
    let is_it = |value: Option<String>| value.as_deref() == Some("the first value");
    assert!(received.iter().all(|received| is_it(received.secret("KEY"))));
    assert_eq!(stage.backend.reads(), [READ], "by ten installations");
}

#[test]
fn the_references_of_one_demand_are_fetched_at_a_time() {
    let stage = vault();
    let keys: Vec<String> = (0..8).map(|n| format!("KEY_{n}")).collect();
    let configuration: Value = keys
        .iter()
        .map(|key| (key.clone(), json!({"secret": true, "required": true})))
        .collect::<serde_json::Map<_, _>>()
        .into();
    for key in &keys {
        let path = format!("kiket/org/{key}");
        stage
            .backend
            .vault
            .root(|root| root.put("secret", &path, json!({"value": key})));
        let mut link = super::link(&format!("vault:secret/{path}#value"));
        link["scope"] = json!("organization");
        link["id"] = json!("org");
        stage
            .instance
            .must("POST", &format!("/extensions/secrets/{key}/link"), &link);
    }
    let url = json!({"url": stage.endpoint.url()});
    stage.instance.register("com.example.many", url, configuration);
    stage.instance.install("many", "com.example.many");
    stage.instance.enable("many");
    let known = stage.backend.reads().len();
    stage.backend.fail(&Fault::Stall, keys.len());
    assert_eq!(stage.instance.deliver("many", b"{}").status, 503);
    let asked = stage.backend.reads().len() - known;
    assert_eq!(
        asked,
        keys.len(),
        "none waited for another to be answered, which none was"
    );
    stage.instance.clock.advance(10_000); // so many failures in a row: it is left alone for a while
    assert_eq!(stage.instance.deliver("many", b"{}").status, 200);
    let received = stage.endpoint.last();
    assert!(keys.iter().all(|key| received.secret(key).as_ref() == Some(key)));
}

#[test]
fn what_is_fresh_is_not_fetched_again_and_what_is_missing_or_refused_not_at_once() {
    let stage = vault();
    assert_eq!(stage.outcome("required"), "the first value");
    assert_eq!(stage.outcome("optional"), "the first value", "of another installation");
    assert_eq!(stage.backend.reads().len(), 1);
    stage.instance.must("PUT", super::MAIN, &stage.backend.document()); // another row, another source
    assert_eq!(stage.outcome("required"), "the first value");
    assert_eq!(stage.backend.reads().len(), 2);
    stage.backend.arrange(Condition::Dangling);
    stage.instance.clock.advance(TTL);
    stage.until("it is seen to be gone", || {
        stage.outcome("optional") == "missing [\"KEY\"]" && stage.outcome("required").starts_with("424")
    });
    let asked = stage.backend.reads().len();
    for _ in 0..5 {
        assert_eq!(stage.outcome("optional"), "missing [\"KEY\"]");
        assert_eq!(stage.outcome("required"), "424 required-secrets-missing");
    }
    assert_eq!(stage.backend.reads().len(), asked, "it is taken to be gone for a while");
    stage.backend.put("the second value");
    stage.instance.clock.advance(30_000);
    stage.until("it is there again", || stage.outcome("optional") == "the second value");
    stage.until("it is told, once a day", || {
        stage.alerts("dangling-reference").len() == 1
    });
}

#[test]
fn a_reference_that_is_outside_of_its_provider_is_never_asked_for() {
    let stage = vault();
    for outside in [
        "vault:secret/kiket/orgs#value",
        "vault:secret/kiket/other/crm#value",
        "vault:secret/kiket#value",
        "vault:other/kiket/org/crm#value",
        "vault:sys/kiket/org/crm#value",
        "vault:kv/kiket/org/crm#value@1",
        "secret/kiket/other",
    ] {
        stage.link(outside);
        assert_eq!(stage.outcome("optional"), "503 secret-source-unavailable", "{outside}");
        let refreshed = stage.refresh();
        assert_eq!(
            (refreshed.status, refreshed.problem().as_str()),
            (409, "reference-denied"),
            "{outside}"
        );
    }
    for escape in [
        "vault:secret/kiket/org/../other#value",
        "vault:secret/kiket/org/%2e%2e/other#value",
        "vault:secret/kiket/org//crm#value",
        "vault:secret/kiket/org/..%2fother#value",
        "vault:secret//kiket/org/crm#value",
        "secret/kiket/org/../other",
        "gsm:projects/../secrets/s",
    ] {
        let answer = stage
            .instance
            .api("POST", "/extensions/secrets/KEY/link", &super::link(escape));
        assert_eq!(
            (answer.status, answer.problem().as_str()),
            (422, "invalid-field"),
            "{escape}"
        );
    }
    stage.link("gsm:projects/p/secrets/s");
    assert_eq!(
        stage.outcome("optional"),
        "503 secret-source-unavailable",
        "no provider of its kind"
    );
    let refreshed = stage.refresh();
    assert_eq!(
        (refreshed.status, refreshed.problem().as_str()),
        (409, "provider-missing")
    );
    assert_eq!(stage.backend.reads(), [""; 0]);
    assert!(stage.backend.vault.asked().is_empty(), "not even a login");
    stage.link("secret/kiket/org/crm");
    assert_eq!(
        stage.outcome("optional"),
        "the first value",
        "a bare path goes to the default provider"
    );
}
