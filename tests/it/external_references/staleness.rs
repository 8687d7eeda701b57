//! How long the last good value stands in for a backend that does not answer, and what ends its use at once.

use super::super::support::referred::{Backend, Condition};
use super::{TTL, vault, vault_with};

const UNAVAILABLE: &str = "503 secret-source-unavailable";
const STALE: &str = "kiket_source_stale_served_total{backend=\"vault\"}";
const OPEN: &str = "kiket_source_breakers_open{backend=\"vault\"}";

/// How long a value may stand in where the settings do not say, in milliseconds.
const MAX_STALE: u64 = 15 * 60_000;

#[test]
fn the_last_good_value_stands_in_until_it_is_too_old_for_whatever_needs_it() {
    let stage = vault();
    let clock = &stage.instance.clock;
    assert_eq!(stage.outcome("required"), "the first value");
    assert_eq!(stage.outcome("optional"), "the first value"); // fetched 1 ms ago
    stage.backend.arrange(Condition::Sealed);
    clock.advance(TTL);
    stage.until("it is looked at again", || {
        let outcomes = [stage.outcome("required"), stage.outcome("optional")];
        assert_eq!(outcomes, ["the first value"; 2]);
        stage.metric(STALE) > 0
    });
    let says = stage.instance.must(
        "GET",
        "/extensions/secrets/explain?installation=required",
        &serde_json::Value::Null,
    );
    let fetched = &says["data"][0]["winner"]["fetched"];
    assert_eq!(
        (&fetched["outcome"], &fetched["stale"]),
        (&"sealed".into(), &true.into())
    );
    let age = fetched["cache_age_ms"].as_u64().unwrap();
    clock.advance(MAX_STALE - age - 3);
    assert_eq!(
        stage.outcome("required"),
        "the first value",
        "one of the last milliseconds"
    );
    clock.advance(2);
    assert_eq!(stage.outcome("required"), UNAVAILABLE);
    assert_eq!(stage.outcome("optional"), UNAVAILABLE, "not missing: nobody knows");
    stage.backend.vault.seal(false);
    clock.advance(10_000); // it was left alone
    assert_eq!(stage.outcome("required"), "the first value");
    assert_eq!(stage.outcome("optional"), "the first value");
}

#[test]
fn what_is_refused_or_gone_at_the_next_look_is_not_used_on() {
    for (condition, required, optional) in [
        (Condition::Denied, UNAVAILABLE, UNAVAILABLE),
        (Condition::Dangling, "424 required-secrets-missing", "missing [\"KEY\"]"),
    ] {
        let stage = vault();
        assert_eq!(stage.outcome("required"), "the first value");
        assert_eq!(stage.outcome("optional"), "the first value");
        stage.backend.arrange(condition);
        assert_eq!(stage.outcome("required"), "the first value", "it is fresh");
        stage.instance.clock.advance(TTL);
        stage.until("its use ends", || {
            stage.outcome("required") == required && stage.outcome("optional") == optional
        });
        stage.backend.grant(&["secret/"]);
        stage.backend.put("the second value");
        stage.instance.clock.advance(30_000);
        stage.until("it is there again", || {
            stage.outcome("required") == "the second value" && stage.outcome("optional") == "the second value"
        });
    }
}

#[test]
fn a_bound_shorter_than_the_ttl_ends_nothing_that_is_fresh_and_lets_nothing_stand_in() {
    let stage = vault_with(&[("max_stale", "30s")]);
    assert_eq!(stage.outcome("required"), "the first value");
    stage.backend.arrange(Condition::Sealed);
    stage.instance.clock.advance(TTL - 2);
    assert_eq!(stage.outcome("required"), "the first value");
    stage.instance.clock.advance(1);
    assert_eq!(stage.outcome("required"), UNAVAILABLE);
}

#[test]
fn a_new_version_is_picked_up_while_deliveries_go_on() {
    let stage = vault();
    assert_eq!(stage.outcome("required"), "the first value");
    assert_eq!(stage.outcome("required"), "the first value");
    stage.backend.put("the second value");
    stage.instance.clock.advance(TTL);
    let asked = stage.backend.reads().len();
    stage.backend.vault.root(|_| {
        // Whoever asks the backend is not answered now.
        for _ in 0..20 {
            assert_eq!(stage.outcome("required"), "the first value");
        }
    });
    stage.until("the new value is delivered", || {
        stage.outcome("required") == "the second value"
    });
    assert_eq!(stage.backend.reads().len(), asked + 1);
}

#[test]
fn a_backend_that_fails_again_and_again_is_left_alone_and_asked_once_in_a_while() {
    let stage = vault();
    let clock = &stage.instance.clock;
    stage.backend.arrange(Condition::Sealed);
    let fail = || {
        clock.advance(1_000);
        assert_eq!(stage.outcome("required"), UNAVAILABLE);
    };
    for _ in 0..4 {
        fail();
    }
    assert_eq!(stage.metric(OPEN), 0);
    fail();
    assert_eq!(stage.metric(OPEN), 1);
    let asked = stage.backend.vault.asked().len();
    for _ in 0..5 {
        fail();
        assert_eq!(stage.outcome("optional"), UNAVAILABLE);
    }
    assert_eq!(stage.backend.vault.asked().len(), asked, "it is left alone");
    clock.advance(10_000);
    assert_eq!(stage.outcome("required"), UNAVAILABLE);
    let probed = stage.backend.vault.asked().len();
    assert!(probed > asked, "it is looked at");
    fail();
    assert_eq!(stage.backend.vault.asked().len(), probed, "and left alone again");
    stage.backend.vault.seal(false);
    let refreshed = stage.refresh();
    assert_eq!(refreshed.status, 200, "whoever asks for it by hand is answered");
    assert_eq!(stage.metric(OPEN), 0, "and so is everybody else from then on");
    assert_eq!(stage.outcome("required"), "the first value");
    assert_eq!(stage.outcome("optional"), "the first value");
}
