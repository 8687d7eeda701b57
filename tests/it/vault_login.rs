//! As whom a Vault is asked: logins, namespaces, the token's renewal and its replacement, and what a check tells.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::join_all;
use kiket_sidecar::domain::provider::ProviderFields;
use kiket_sidecar::domain::reference::Reference;
use kiket_sidecar::egress::{BadAuthority, ExchangerError};
use kiket_sidecar::external::OpenError;
use serde_json::json;

use super::support::external::{Asker, Asking, PATIENCE, value};
use super::support::pki::Authority;
use super::support::tls_endpoint::finished;
use super::support::vault::{FakeVault, Fault, Grant};

const SECRET: &str = "vault:secret/a/b#f";
const READ: &str = "GET secret/data/a/b";
const LOGIN: &str = "POST auth/approle/login";
const RENEW: &str = "POST auth/token/renew-self";
const LOOKUP: &str = "GET auth/token/lookup-self";

/// An hour, in seconds.
const LEASE: u64 = 3_600;

fn lease() -> Grant {
    Grant {
        ttl: LEASE,
        ..Grant::default()
    }
}

/// A Vault with one secret, at which one logs in by every method; and who does by `method`.
fn asking(method: &str, grant: &Grant) -> (FakeVault, Asking) {
    let authority = Authority::new("dev CA");
    let vault = FakeVault::start(&authority);
    vault.root(|root| {
        root.put("secret", "a/b", json!({"f": "value"}));
        for method in ["approle", "jwt", "kubernetes"] {
            root.entry(method, "role", "credential", grant.clone());
        }
        root.token("credential", 0, grant.clone());
    });
    let fields = ProviderFields {
        kind: "vault".into(),
        address: vault.url(),
        mounts: BTreeMap::from([("secret".into(), 2)]),
        auth_method: method.into(),
        auth_role: if method == "token" {
            String::new()
        } else {
            "role".into()
        },
        credential_key: "VAULT_CREDENTIAL".into(),
        ca_key: "VAULT_CA".into(),
        ..ProviderFields::default()
    };
    (vault, Asking::new(fields, "credential", &authority.pem()))
}

/// Moves both sides' clocks.
fn advance(vault: &FakeVault, asking: &Asking, secs: u64) {
    vault.advance(secs);
    asking.clock.advance(secs * 1_000);
}

/// So many fetches at once, and their outcomes.
fn at_once(asker: &Asker, count: usize) -> Vec<&'static str> {
    let target = asker.provider.target(&Reference::parse(SECRET).unwrap()).unwrap();
    let fetches = (0..count).map(|_| asker.source.fetch(&target, PATIENCE));
    finished("fetches", join_all(fetches))
        .iter()
        .map(|fetched| fetched.name())
        .collect()
}

fn count(questions: &[String], question: &str) -> usize {
    questions.iter().filter(|asked| *asked == question).count()
}

#[test]
fn every_method_logs_in_once_and_asks_with_what_it_got() {
    for (method, first, token) in [
        ("token", LOOKUP, "credential"),
        ("approle", LOGIN, "hvs.approle-1"),
        ("jwt", "POST auth/jwt/login", "hvs.jwt-1"),
        ("kubernetes", "POST auth/kubernetes/login", "hvs.kubernetes-1"),
    ] {
        // Credentials are kept in files, and files end with a line break.
        let (vault, mut asking) = asking(method, &lease());
        asking.credential = Some("credential\n".into());
        let asker = asking.open();
        for _ in 0..3 {
            assert_eq!(value(&asker.fetch(SECRET)), "value");
        }
        let asked = vault.asked();
        assert!(
            asked[1..].iter().all(|asked| asked.token.as_deref() == Some(token)),
            "{asked:?}"
        );
        assert_eq!(vault.take(), [first, READ, READ, READ], "{method}");
    }
}

#[test]
fn fetches_at_once_share_a_login_and_its_replacement() {
    let (vault, asking) = asking("approle", &lease());
    let asker = asking.open();
    assert_eq!(at_once(&asker, 8), ["found"; 8]);
    assert_eq!(count(&vault.take(), LOGIN), 1);
    vault.root(|root| root.revoke_all());
    assert_eq!(at_once(&asker, 8), ["found"; 8]);
    assert_eq!(count(&vault.take(), LOGIN), 1);
}

#[test]
fn a_token_is_renewed_at_two_thirds_of_its_lease() {
    for method in ["approle", "token"] {
        let (vault, asking) = asking(method, &lease());
        let asker = asking.open();
        assert_eq!(asker.outcome(SECRET), "found");
        vault.take();
        for round in 0..3 {
            advance(&vault, &asking, LEASE / 3 * 2 - 1);
            assert_eq!(asker.outcome(SECRET), "found");
            assert_eq!(vault.take(), [READ], "{method} {round}");
            advance(&vault, &asking, 1);
            assert_eq!(asker.outcome(SECRET), "found");
            assert_eq!(vault.take(), [RENEW, READ], "{method} {round}");
        }
    }
}

#[test]
fn a_token_without_an_end_is_never_renewed() {
    for method in ["approle", "token"] {
        let (vault, asking) = asking(method, &Grant::default());
        let asker = asking.open();
        assert_eq!(asker.outcome(SECRET), "found");
        vault.take();
        advance(&vault, &asking, 365 * 24 * LEASE);
        assert_eq!(asker.outcome(SECRET), "found");
        assert_eq!(vault.take(), [READ], "{method}");
    }
}

#[test]
fn a_token_that_ended_or_cannot_be_renewed_is_replaced_by_a_login() {
    let unrenewable = Grant {
        renewable: false,
        ..lease()
    };
    for (what, grant, secs, asked) in [
        ("ended", lease(), LEASE, &[LOGIN, READ] as &[_]),
        ("not renewable", unrenewable, LEASE / 3 * 2, &[LOGIN, READ]),
    ] {
        let (vault, asking) = asking("approle", &grant);
        let asker = asking.open();
        assert_eq!(asker.outcome(SECRET), "found");
        vault.take();
        advance(&vault, &asking, secs);
        assert_eq!(asker.outcome(SECRET), "found");
        assert_eq!(vault.take(), asked, "{what}");
    }
}

#[test]
fn a_token_whose_leases_get_shorter_is_replaced_before_it_ends() {
    let (vault, asking) = asking(
        "approle",
        &Grant {
            max_ttl: LEASE,
            ..lease()
        },
    );
    let asker = asking.open();
    assert_eq!(asker.outcome(SECRET), "found");
    vault.take();
    // A third is left of all that there will be.
    advance(&vault, &asking, LEASE / 3 * 2);
    assert_eq!(asker.outcome(SECRET), "found");
    assert_eq!(vault.take(), [RENEW, LOGIN, READ]);
}

#[test]
fn a_renewal_that_vault_refuses_is_replaced_by_a_login_and_one_that_fails_is_put_off() {
    let (vault, asking) = asking("approle", &lease());
    let asker = asking.open();
    assert_eq!(asker.outcome(SECRET), "found");
    vault.take();
    advance(&vault, &asking, LEASE / 3 * 2);
    vault.fail(
        "auth/token/renew-self",
        &[
            Fault::Status(500),
            Fault::Status(500),
            Fault::Status(500),
            Fault::Status(500),
        ],
    );
    assert_eq!(asker.outcome(SECRET), "found");
    assert_eq!(vault.take(), [RENEW, RENEW, RENEW, RENEW, READ]);
    // 1200 seconds are left: a third of them later it is tried again.
    advance(&vault, &asking, 399);
    assert_eq!(asker.outcome(SECRET), "found");
    assert_eq!(vault.take(), [READ]);
    advance(&vault, &asking, 1);
    vault.fail("auth/token/renew-self", &[Fault::Status(403)]);
    assert_eq!(asker.outcome(SECRET), "found");
    assert_eq!(vault.take(), [RENEW, LOGIN, READ]);
}

#[test]
fn a_token_that_vault_does_not_take_any_more_is_replaced_once_and_no_more() {
    for method in ["approle", "jwt", "kubernetes"] {
        let login = format!("POST auth/{method}/login");
        let (vault, asking) = asking(method, &lease());
        let asker = asking.open();
        assert_eq!(asker.outcome(SECRET), "found");
        vault.take();
        vault.root(|root| root.revoke_all());
        assert_eq!(asker.outcome(SECRET), "found");
        assert_eq!(vault.take(), [READ, &login, READ], "{method}");
        // Neither does a policy that forbids it, whoever asks.
        vault.fail("secret/", &[Fault::Status(403), Fault::Status(403), Fault::Status(403)]);
        assert_eq!(asker.outcome(SECRET), "denied");
        assert_eq!(vault.take(), [READ, &login, READ], "{method}");
        // Nor does a credential that was withdrawn.
        vault.root(|root| {
            root.revoke_all();
            root.bar();
        });
        assert_eq!(asker.outcome(SECRET), "denied");
    }
}

#[test]
fn a_token_that_was_made_elsewhere_is_not_replaced() {
    let (vault, asking) = asking("token", &lease());
    let asker = asking.open();
    assert_eq!(asker.outcome(SECRET), "found");
    vault.take();
    vault.root(|root| root.revoke_all());
    assert_eq!(asker.outcome(SECRET), "denied");
    assert_eq!(vault.take(), [READ]);
}

#[test]
fn a_token_that_may_not_look_itself_up_is_used_as_it_is() {
    let (vault, asking) = asking(
        "token",
        &Grant {
            default_policy: false,
            ..lease()
        },
    );
    let asker = asking.open();
    assert_eq!(asker.outcome(SECRET), "found");
    advance(&vault, &asking, LEASE - 1);
    assert_eq!(asker.outcome(SECRET), "found");
    assert_eq!(vault.take(), [LOOKUP, READ, READ]);
}

#[test]
fn how_a_login_fails_is_told_apart() {
    let html = || Fault::Bytes(200, b"<html>".to_vec());
    let empty = || Fault::Bytes(200, br#"{"auth":{"client_token":"","lease_duration":1}}"#.to_vec());
    let sealed = || Fault::Bytes(503, br#"{"errors":["Vault is sealed"]}"#.to_vec());
    for (what, faults, outcome) in [
        ("a wrong secret id", vec![Fault::Status(400)], "denied"),
        ("401", vec![Fault::Status(401)], "denied"),
        ("403", vec![Fault::Status(403)], "denied"),
        ("no such method", vec![Fault::Status(404)], "login-failed"),
        ("405", vec![Fault::Status(405)], "login-failed"),
        ("no JSON", vec![html()], "wrong-shape"),
        ("no token", vec![empty()], "wrong-shape"),
        ("sealed", vec![sealed()], "sealed"),
        ("500 again and again", vec![Fault::Status(500); 4], "server-error"),
        ("429 and a long wait", vec![Fault::Wait(429, 3_600)], "rate-limited"),
        ("500 once", vec![Fault::Status(500)], "found"),
    ] {
        let (vault, asking) = asking("approle", &lease());
        let asker = asking.open();
        vault.fail("auth/approle/login", &faults);
        assert_eq!(asker.outcome(SECRET), outcome, "{what}");
        assert_eq!(count(&vault.take(), READ), usize::from(outcome == "found"), "{what}");
        assert_eq!(asker.outcome(SECRET), "found", "{what}, later");
    }
    let (vault, asking) = asking("approle", &lease());
    vault.fail("auth/approle/login", &[Fault::Stall]);
    let late = asking.open().fetch_within(SECRET, Duration::from_millis(200));
    assert_eq!(late.name(), "timeout");
}

#[test]
fn every_question_is_put_to_the_providers_namespace() {
    for (namespace, expected) in [("team/a", "inner"), ("", "value")] {
        let (vault, mut asking) = asking("approle", &lease());
        vault.within("team/a", |inner| {
            inner.put("secret", "a/b", json!({"f": "inner"}));
            inner.entry("approle", "role", "credential", lease());
        });
        asking.fields.namespace = namespace.into();
        let asker = asking.open();
        assert_eq!(value(&asker.fetch(SECRET)), expected);
        advance(&vault, &asking, LEASE / 3 * 2);
        assert_eq!(value(&asker.fetch(SECRET)), expected);
        assert_eq!(asker.check().name(), "usable");
        let asked = vault.asked();
        assert!(asked.iter().all(|asked| asked.namespace == namespace), "{asked:?}");
        assert!(asked.len() > 4 && asked.iter().all(|asked| asked.is_marked));
    }
}

#[test]
fn a_vault_behind_a_path_and_a_method_under_another_name_are_found() {
    let (vault, mut asking) = asking("approle", &lease());
    asking.fields.auth_mount = "jwt".into();
    assert_eq!(asking.open().outcome(SECRET), "denied");
    assert_eq!(vault.take(), ["POST auth/jwt/login"]);
    asking.fields.auth_mount = "team/approle".into();
    assert_eq!(asking.open().outcome(SECRET), "login-failed");
    assert_eq!(vault.take(), ["POST auth/team/approle/login"]);
    asking.fields.address = format!("{}/behind", vault.url());
    asking.fields.auth_method = "token".into();
    (asking.fields.auth_role, asking.fields.auth_mount) = (String::new(), String::new());
    asking.open().fetch(SECRET);
    assert_eq!(vault.take()[0], "GET /behind/v1/auth/token/lookup-self");
}

#[test]
fn a_check_tells_whether_the_credential_is_taken_and_reads_no_secret() {
    for method in ["token", "approle", "jwt", "kubernetes"] {
        let (vault, asking) = asking(method, &lease());
        let check = || asking.open().check().name();
        assert_eq!(check(), "usable", "{method}");
        vault.seal(true);
        assert_eq!(check(), "sealed", "{method}");
        vault.seal(false);
        vault.root(|root| {
            root.bar();
            root.revoke_all();
        });
        assert_eq!(check(), "denied", "{method}");
        assert!(vault.take().iter().all(|asked| asked.contains(" auth/")), "{method}");
    }
    // What is checked is the credential, not the token that is held.
    let (vault, asking) = asking("approle", &lease());
    let asker = asking.open();
    assert_eq!(asker.outcome(SECRET), "found");
    vault.root(|root| root.bar());
    assert_eq!(asker.outcome(SECRET), "found");
    assert_eq!(asker.check().name(), "denied");
}

#[test]
fn what_cannot_be_asked_with_is_refused_before_anybody_is_asked() {
    /// A change of the asking.
    type Edit = fn(&mut Asking);
    let edits: [(Edit, OpenError); 6] = [
        (|asking| asking.credential = None, OpenError::CredentialMissing),
        (
            |asking| asking.credential = Some(String::new()),
            OpenError::CredentialMalformed,
        ),
        (
            |asking| asking.credential = Some("\n".into()),
            OpenError::CredentialMalformed,
        ),
        (
            |asking| asking.credential = Some("a\r\nX: b".into()),
            OpenError::CredentialMalformed,
        ),
        (
            |asking| asking.authority = Some("junk".into()),
            OpenError::Address(ExchangerError::Authority(BadAuthority)),
        ),
        (
            |asking| asking.fields.address = asking.fields.address.replace("https", "http"),
            OpenError::Address(ExchangerError::NotHttps),
        ),
    ];
    for (edit, error) in edits {
        let (vault, mut asking) = asking("token", &lease());
        edit(&mut asking);
        assert_eq!(asking.try_open().map(drop).unwrap_err(), error);
        assert_eq!(vault.tls().sessions().len(), 0);
    }
}

#[test]
fn a_vault_is_spoken_to_in_the_clear_only_where_the_operator_allows_it() {
    let vault = FakeVault::plain();
    vault.root(|root| {
        root.put("secret", "a/b", json!({"f": "value"}));
        root.token("credential", 0, Grant::default());
    });
    let (_, mut asking) = asking("token", &lease());
    asking.fields.address = vault.url();
    assert!(asking.try_open().is_err());
    asking.allow_http = true;
    assert_eq!(value(&asking.open().fetch(SECRET)), "value");
}
