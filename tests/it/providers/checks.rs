//! What a check of a provider tells: whether it can be used or what is in the way, and nothing of what it saw.

use kiket_sidecar::store::{Role, StoreError};
use serde_json::{Value, json};

use super::super::support::api::{Api, audit};
use super::super::support::gated_store::Gated;
use super::super::support::http::Answer;
use super::super::support::pki::Authority;
use super::super::support::problem::CANARY;
use super::super::support::vault::{FakeVault, Fault, Grant};
use super::{MAIN, bare, with};

const CHECK: &str = "/organizations/org/providers/main/check";

/// A Vault that takes the canary as token and as every method's credential; who is asked trusts it by `VAULT_CA`.
struct Scene {
    vault: FakeVault,
    authority: Authority,
}

impl Scene {
    fn new() -> Self {
        let authority = Authority::new("dev CA");
        let vault = FakeVault::start(&authority);
        vault.root(|root| {
            for method in ["approle", "jwt", "kubernetes"] {
                root.entry(method, "r-1", CANARY, Grant::default());
            }
            root.token(CANARY, 0, Grant::default());
        });
        Self { vault, authority }
    }

    /// A provider that is asked by a method.
    fn provider(&self, method: &str) -> Value {
        let role = if method == "token" { Value::Null } else { json!("r-1") };
        json!({
            "kind": "vault", "address": self.vault.url(), "ca_key": "VAULT_CA",
            "auth": {"method": method, "role": role, "credential_key": "VAULT_CREDENTIAL"},
        })
    }

    /// What the provider's keys name, at organization scope.
    fn furnish(&self, api: &Api<'_>) {
        set(api, "VAULT_CREDENTIAL", CANARY);
        set(api, "VAULT_CA", &self.authority.pem());
    }
}

fn set(api: &Api<'_>, key: &str, value: &str) {
    let secret = json!({"scope": "organization", "id": "org", "key": key, "value": value});
    assert!(api.json("POST", "/extensions/secrets", &secret).status < 300);
}

fn link(api: &Api<'_>, key: &str) {
    let link = json!({"scope": "organization", "id": "org", "key": key, "external_secret_name": "secret/a"});
    assert!(api.json("POST", "/extensions/secrets", &link).status < 300);
}

fn unset(api: &Api<'_>, key: &str) {
    let path = format!("/extensions/secrets/{key}?scope=organization&id=org");
    assert_eq!(api.delete(&path).status, 204);
}

fn checked(api: &Api<'_>) -> Answer {
    api.json("POST", CHECK, &Value::Null)
}

/// The outcome's word, after the answer was held to its form: a word, a sentence, nothing else.
fn outcome(api: &Api<'_>) -> String {
    let answer = checked(api);
    assert_eq!(answer.status, 200, "{}", answer.json());
    let answer = answer.json();
    let members: Vec<&String> = answer.as_object().unwrap().keys().collect();
    assert_eq!(members, ["detail", "outcome"]);
    let detail = answer["detail"].as_str().unwrap();
    assert!(detail.ends_with('.') && detail.is_ascii(), "{detail}");
    answer["outcome"].as_str().unwrap().to_owned()
}

fn configure(api: &Api<'_>, provider: &Value) {
    let answer = api.json("PUT", MAIN, provider);
    assert!(answer.status < 300, "{}", answer.json());
}

#[test]
fn a_provider_that_takes_its_credential_is_usable_by_every_method_and_no_secret_is_read() {
    let (gated, scene) = (Gated::open(), Scene::new());
    let instance = gated.start(&[]);
    let api = Api::with(&instance, &gated, Role::OrgAdmin, Some("org"));
    scene.furnish(&api);
    for (method, asked) in [
        (
            "token",
            vec!["GET auth/token/lookup-self", "GET auth/token/lookup-self"],
        ),
        ("approle", vec!["POST auth/approle/login", "GET auth/token/lookup-self"]),
        ("jwt", vec!["POST auth/jwt/login", "GET auth/token/lookup-self"]),
        (
            "kubernetes",
            vec!["POST auth/kubernetes/login", "GET auth/token/lookup-self"],
        ),
    ] {
        configure(&api, &scene.provider(method));
        assert_eq!(outcome(&api), "usable", "{method}");
        assert_eq!(scene.vault.take(), asked, "{method}");
    }
    assert!(!instance.log().contains(CANARY));
}

#[test]
fn what_is_in_the_way_is_told_in_a_word() {
    let (gated, scene) = (Gated::open(), Scene::new());
    let instance = gated.start(&[]);
    let api = Api::with(&instance, &gated, Role::OrgAdmin, Some("org"));
    scene.furnish(&api);
    let approle = scene.provider("approle");
    configure(&api, &approle);
    let login = "auth/approle/login";
    let upstream = || CANARY.as_bytes().to_vec();
    for (faults, word) in [
        (vec![Fault::Bytes(500, upstream()); 4], "server-error"),
        (vec![Fault::Status(429); 4], "rate-limited"),
        (
            vec![Fault::Redirect(format!("https://{CANARY}.example.com/"))],
            "redirected",
        ),
        (vec![Fault::Bytes(200, upstream())], "wrong-shape"),
        (vec![Fault::Bytes(400, upstream())], "denied"),
        (vec![Fault::Bytes(404, upstream())], "login-failed"),
    ] {
        scene.vault.fail(login, &faults);
        assert_eq!(outcome(&api), word);
    }
    scene.vault.seal(true);
    assert_eq!(outcome(&api), "sealed");
    scene.vault.seal(false);
    assert_eq!(outcome(&api), "usable");
    set(&api, "VAULT_CREDENTIAL", &format!("{CANARY} of somebody else"));
    assert_eq!(outcome(&api), "denied");
    for (document, word) in [
        (with(approle.clone(), "/auth/mount", json!("nowhere")), "login-failed"),
        (with(approle.clone(), "/auth/role", json!("r-2")), "denied"),
        (with(approle.clone(), "/namespace", json!("nobodys")), "login-failed"),
        (with(approle.clone(), "/ca_key", Value::Null), "tls-failed"),
        (with(approle.clone(), "/address", json!(nobody())), "unreachable"),
    ] {
        configure(&api, &document);
        assert_eq!(outcome(&api), word, "{document}");
    }
    assert!(!instance.log().contains(CANARY));
}

/// An address at which nobody listens.
fn nobody() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    format!("https://{}", listener.local_addr().unwrap())
}

#[test]
fn an_address_that_this_instance_must_not_reach_is_not_asked() {
    let (gated, scene) = (Gated::open(), Scene::new());
    let open = gated.start(&[]);
    let api = Api::with(&open, &gated, Role::OrgAdmin, Some("org"));
    scene.furnish(&api);
    configure(&api, &scene.provider("token"));
    assert_eq!(outcome(&api), "usable");
    scene.vault.take();
    let closed = gated.start(&[("egress_allow_cidrs", "")]);
    let api = Api {
        instance: &closed,
        token: api.token,
    };
    assert_eq!(outcome(&api), "refused");
    assert_eq!(scene.vault.take(), [""; 0]);
}

#[test]
fn a_credential_is_a_value_at_organization_scope_and_no_reference_is_followed() {
    let (gated, scene) = (Gated::open(), Scene::new());
    let instance = gated.start(&[]);
    let api = Api::with(&instance, &gated, Role::OrgAdmin, Some("org"));
    let other = Api::with(&instance, &gated, Role::OrgAdmin, Some("other"));
    configure(&api, &scene.provider("token"));
    assert_eq!(outcome(&api), "credential-missing");
    // The same key elsewhere, or another organization's, is not it.
    for (scope, id) in [("project", "proj"), ("extension", "com.example.a")] {
        let secret = json!({"scope": scope, "id": id, "key": "VAULT_CREDENTIAL", "value": CANARY});
        assert!(api.json("POST", "/extensions/secrets", &secret).status < 300);
    }
    let foreign = json!({"scope": "organization", "key": "VAULT_CREDENTIAL", "value": CANARY});
    assert!(other.json("POST", "/extensions/secrets", &foreign).status < 300);
    assert_eq!(outcome(&api), "credential-missing");
    link(&api, "VAULT_CREDENTIAL");
    assert_eq!(outcome(&api), "credential-external");
    set(&api, "VAULT_CREDENTIAL", CANARY);
    assert_eq!(outcome(&api), "ca-missing");
    link(&api, "VAULT_CA");
    assert_eq!(outcome(&api), "ca-external");
    set(&api, "VAULT_CA", &format!("{CANARY} is no certificate"));
    assert_eq!(outcome(&api), "ca-malformed");
    set(&api, "VAULT_CA", &scene.authority.pem());
    assert_eq!(outcome(&api), "usable");
    set(&api, "VAULT_CREDENTIAL", &format!("{CANARY}\u{1}"));
    assert_eq!(outcome(&api), "credential-malformed");
    unset(&api, "VAULT_CREDENTIAL");
    assert_eq!(outcome(&api), "credential-missing");
    assert_eq!(scene.vault.take().len(), 2, "one check got so far");
    assert!(!instance.log().contains(CANARY));
}

#[test]
fn a_check_and_the_loads_that_it_takes_are_recorded_or_nobody_is_asked() {
    let (gated, scene) = (Gated::open(), Scene::new());
    let instance = gated.start(&[]);
    let api = Api::with(&instance, &gated, Role::OrgAdmin, Some("org"));
    scene.furnish(&api);
    configure(&api, &scene.provider("token"));
    let before = audit(&gated, Some("org")).len();
    assert_eq!(outcome(&api), "usable");
    let told: Vec<_> = audit(&gated, Some("org"))[before..]
        .iter()
        .map(|entry| {
            let who = entry.actor.id.split(':').next().unwrap().to_owned();
            let key = entry.key.as_ref().map(ToString::to_string).unwrap_or_default();
            let (action, source, outcome) = (entry.action.name(), entry.source.name(), entry.outcome.name());
            format!("{who} {action} {key} {source} {outcome} {}", entry.external)
        })
        .collect();
    let expected = [
        "sidecar secret.load VAULT_CREDENTIAL refresh ok false",
        "sidecar secret.load VAULT_CA refresh ok false",
        "tok-org_admin-org provider.check  api ok false",
    ];
    assert_eq!(told, expected);
    scene.vault.take();
    gated.store.fail("record", StoreError::Unavailable);
    assert_eq!(checked(&api).status, 503);
    assert_eq!(
        scene.vault.take(),
        [""; 0],
        "a credential that is not recorded goes nowhere"
    );
}

#[test]
fn a_credential_that_somebody_edited_is_not_sent_anywhere() {
    let (gated, scene) = (Gated::open(), Scene::new());
    let instance = gated.start(&[]);
    let api = Api::with(&instance, &gated, Role::OrgAdmin, Some("org"));
    scene.furnish(&api);
    configure(&api, &scene.provider("token"));
    let edit = "UPDATE secrets SET sealed = (SELECT sealed FROM secrets WHERE key = 'VAULT_CA') \
                WHERE key = 'VAULT_CREDENTIAL'";
    assert_eq!(gated.damage(edit), 1);
    assert_eq!(checked(&api).status, 500);
    assert_eq!(scene.vault.take(), [""; 0]);
}

#[test]
fn an_organization_checks_one_provider_at_a_time_and_keeps_nobody_else_from_it() {
    let gated = Gated::open();
    let instance = gated.start(&[]);
    let api = Api::with(&instance, &gated, Role::OrgAdmin, Some("org"));
    let other = Api::with(&instance, &gated, Role::OrgAdmin, Some("other"));
    configure(&api, &bare());
    other.json("PUT", "/organizations/other/providers/main", &bare());
    std::thread::scope(|scope| {
        let held = gated.store.hold("slots");
        let first = scope.spawn(|| checked(&api).status);
        held.wait();
        let second = checked(&api);
        assert_eq!((second.status, second.problem().as_str()), (429, "rate-limited"));
        let elsewhere = other.json("POST", "/organizations/other/providers/main/check", &Value::Null);
        assert_eq!(elsewhere.status, 200);
        held.release();
        assert_eq!(first.join().unwrap(), 200);
    });
    assert_eq!(outcome(&api), "credential-missing", "and the next one when it is done");
}
