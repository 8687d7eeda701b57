//! What a provider may say, who configures it, and which one is the default.

use kiket_sidecar::store::{Role, StoreError};
use serde_json::{Value, json};

use super::super::support::api::{Api, audit};
use super::super::support::gated_store::Gated;
use super::super::support::instance::{Instance, Options};
use super::{MAIN, PROVIDERS, bare, vault, with, without};

fn named(name: &str) -> String {
    format!("{PROVIDERS}/{name}")
}

/// The names of an organization's providers, the default one with a star.
fn names(api: &Api<'_>) -> Vec<String> {
    let listed = api.get(PROVIDERS).json();
    assert_eq!(listed["next_cursor"], Value::Null);
    let name = |provider: &Value| {
        let star = if provider["default"] == true { "*" } else { "" };
        format!("{}{star}", provider["name"].as_str().unwrap())
    };
    listed["data"].as_array().unwrap().iter().map(name).collect()
}

#[test]
fn a_provider_is_answered_as_it_was_configured() {
    let gated = Gated::open();
    let instance = gated.start(&[]);
    let admin = Api::with(&instance, &gated, Role::OrgAdmin, Some("org"));
    let auditor = Api::with(&instance, &gated, Role::Auditor, Some("org"));
    assert_eq!(admin.get(MAIN).status, 404);
    assert_eq!(names(&admin), [""; 0]);
    let made = admin.json("PUT", MAIN, &vault());
    assert_eq!((made.status, made.header("etag")), (201, Some("\"1\"")));
    let (mut expected, made) = (vault(), made.json());
    let told = json!({
        "organization_id": "org", "name": "main", "version": 1,
        "created_at": made["created_at"], "updated_at": made["created_at"],
    });
    expected
        .as_object_mut()
        .unwrap()
        .extend(told.as_object().unwrap().clone());
    assert_eq!(made, expected);
    assert!(made["created_at"].as_str().unwrap().ends_with('Z'));
    let read = auditor.get(MAIN);
    assert_eq!(
        (read.status, read.header("etag"), read.json()),
        (200, Some("\"1\""), made)
    );
    assert_eq!(names(&auditor), ["main*"]);

    // It is replaced whole: what is left out has its default again.
    instance.clock.advance(1_000);
    let again = admin.json("PUT", MAIN, &bare());
    assert_eq!((again.status, again.header("etag")), (200, Some("\"2\"")));
    let again = again.json();
    for (field, value) in [
        ("namespace", json!(null)),
        ("mounts", json!({"secret": 2})),
        ("path_prefix", json!(null)),
        ("ca_key", json!(null)),
        ("default", json!(false)),
        ("ttl", json!(60)),
        ("created_at", expected["created_at"].clone()),
        (
            "auth",
            json!({"method": "token", "mount": null, "role": null, "credential_key": "VAULT_TOKEN"}),
        ),
    ] {
        assert_eq!(again[field], value, "{field}");
    }
    assert_ne!(again["updated_at"], again["created_at"]);

    assert_eq!(admin.delete(MAIN).status, 204);
    assert_eq!((admin.delete(MAIN).status, admin.get(MAIN).status), (404, 404));
    assert_eq!(names(&admin), [""; 0]);
}

#[test]
fn mounts_are_a_list_or_have_versions_and_are_answered_with_them() {
    let instance = Instance::start();
    let api = Api::bootstrap(&instance);
    for (said, answered) in [
        (json!(["secret", "team"]), json!({"secret": 2, "team": 2})),
        (json!({"kv": 1}), json!({"kv": 1})),
        (json!([]), json!({"secret": 2})),
        (json!({}), json!({"secret": 2})),
        (json!(null), json!({"secret": 2})),
    ] {
        let answer = api.json("PUT", MAIN, &with(bare(), "/mounts", said.clone()));
        assert!(answer.status < 300, "{said}");
        assert_eq!(answer.json()["mounts"], answered, "{said}");
    }
}

#[test]
fn google_is_asked_with_a_service_account_and_as_the_machine_by_operators_only() {
    let gated = Gated::open();
    let instance = gated.start(&[]);
    let admin = Api::with(&instance, &gated, Role::OrgAdmin, Some("org"));
    let operator = Api::with(&instance, &gated, Role::PlatformOperator, None);
    let account = json!({
        "kind": "gsm", "path_prefix": "projects/acme-prod/secrets/kiket-",
        "auth": {"method": "service_account", "credential_key": "GOOGLE_ACCOUNT"},
    });
    let answer = admin.json("PUT", MAIN, &account).json();
    assert_eq!(answer["address"], "https://secretmanager.googleapis.com");
    assert_eq!((&answer["mounts"], &answer["namespace"]), (&json!(null), &json!(null)));

    let machine = json!({"kind": "gsm", "path_prefix": "projects/acme-prod", "auth": {"method": "metadata"}});
    let refused = admin.json("PUT", MAIN, &machine);
    assert_eq!((refused.status, refused.problem().as_str()), (403, "forbidden"));
    assert_eq!(admin.get(MAIN).json()["auth"]["method"], "service_account");
    assert_eq!(operator.json("PUT", MAIN, &machine).status, 200);
    // The tenant may look at it and take it away.
    assert_eq!(admin.get(MAIN).json()["auth"]["method"], "metadata");
    assert_eq!(admin.delete(MAIN).status, 204);
    let refused: Vec<_> = audit(&gated, Some("org"))
        .into_iter()
        .filter(|entry| entry.outcome.name() == "refused")
        .map(|entry| (entry.action.name(), entry.subject.unwrap().to_string()))
        .collect();
    assert_eq!(refused, [("provider.put", "main".to_owned())]);
}

#[test]
fn the_field_that_cannot_stand_is_named_as_the_api_writes_it() {
    let instance = Instance::start();
    let api = Api::bootstrap(&instance);
    let auth = |member: &str, value: Value| with(vault(), &format!("/auth/{member}"), value);
    let many: Vec<String> = (0..33).map(|n| format!("m{n}")).collect();
    let table = [
        ("kind", with(vault(), "/kind", json!("aws"))),
        ("kind", without(vault(), "kind")),
        ("address", without(vault(), "address")),
        ("address", with(vault(), "/address", json!("vault.example.com"))),
        ("namespace", with(vault(), "/namespace", json!("a/../b"))),
        ("mounts", with(vault(), "/mounts", json!({"secret": 3}))),
        ("mounts", with(vault(), "/mounts", json!(["sys"]))),
        ("mounts", with(vault(), "/mounts", json!(many))),
        ("path_prefix", with(vault(), "/path_prefix", json!("a//b"))),
        ("auth.method", without(vault(), "auth")),
        ("auth.method", auth("method", json!("ldap"))),
        ("auth.mount", auth("mount", json!("a/../b"))),
        ("auth.role", auth("role", json!(""))),
        ("auth.credential_key", auth("credential_key", json!("lower"))),
        ("ca_key", with(vault(), "/ca_key", json!("vault:a/b#c"))),
        ("ttl", with(vault(), "/ttl", json!(0))),
        ("ttl", with(vault(), "/ttl", json!(86_401))),
    ];
    for (field, document) in table {
        let answer = api.json("PUT", MAIN, &document);
        let told = (answer.status, answer.problem(), answer.json()["field"].clone());
        assert_eq!(told, (422, "invalid-field".to_owned(), json!(field)), "{document}");
    }
    for name in ["Main", "-main", "a.b", &"a".repeat(65)] {
        let answer = api.json("PUT", &named(name), &vault());
        assert_eq!(
            (answer.status, answer.json()["field"].as_str()),
            (422, Some("name")),
            "{name}"
        );
        assert_eq!(api.get(&named(name)).status, 404, "{name}");
    }
    for shapeless in [
        with(vault(), "/unknown", json!(1)),
        with(vault(), "/auth/secret_id", json!("x")),
        with(vault(), "/ttl", json!("60")),
        with(vault(), "/mounts", json!({"secret": "2"})),
        json!([]),
    ] {
        assert_eq!(api.json("PUT", MAIN, &shapeless).status, 422, "{shapeless}");
    }
    assert_eq!(names(&api), [""; 0], "nothing of it was written");
    assert_eq!(api.json("PUT", &named(&"a".repeat(64)), &vault()).status, 201);
}

#[test]
fn an_address_that_must_not_be_reached_is_refused_when_it_is_configured() {
    let refused = [
        "http://vault.example.com",
        "https://127.0.0.1:8200",
        "https://10.0.0.1",
        "https://[::1]:8200",
        "https://169.254.169.254/latest",
        "https://0x7f.1/",
        "https://[::ffff:192.168.0.1]/",
    ];
    let strict = Instance::with(Options {
        settings: &[("dangerous_allow_http", "false"), ("egress_allow_cidrs", "10.0.0.0/8")],
        ..Options::default()
    });
    let api = Api::bootstrap(&strict);
    for address in refused {
        let answer = api.json("PUT", MAIN, &with(bare(), "/address", json!(address)));
        if address.contains("10.0.0.1") {
            assert_eq!(answer.status, 201, "the operator opened it");
            assert_eq!(api.delete(MAIN).status, 204);
            continue;
        }
        let told = (answer.status, answer.problem(), answer.json()["field"].clone());
        let expected = (422, "destination-refused".to_owned(), json!("address"));
        assert_eq!(told, expected, "{address}");
    }
    assert_eq!(names(&api), [""; 0]);
    let open = Instance::start(); // plain HTTP and loopback are allowed
    let api = Api::bootstrap(&open);
    let plain = with(bare(), "/address", json!("http://127.0.0.1:8200"));
    assert_eq!(api.json("PUT", MAIN, &plain).status, 201);
}

#[test]
fn a_provider_is_replaced_only_at_the_version_that_its_writer_read() {
    let gated = Gated::open();
    let instance = gated.start(&[]);
    let api = Api::with(&instance, &gated, Role::OrgAdmin, Some("org"));
    let put = |version: &str| api.json_at(version, "PUT", MAIN, &bare()).status;
    assert_eq!(
        (put("\"1\""), put("\"0\""), put("\"0\""), put("\"1\""), put("x")),
        (412, 201, 412, 200, 422)
    );
    let delete = |version: &str| api.send("DELETE", MAIN, &[("If-Match", version)], b"").status;
    assert_eq!((delete("\"1\""), delete("\"3\""), delete("\"2\"")), (412, 412, 204));

    // Whoever insists on no version is overtaken, and writes behind whoever overtook.
    api.json("PUT", MAIN, &bare());
    let status = std::thread::scope(|scope| {
        let held = gated.store.hold("providers");
        let late = scope.spawn(|| api.json("PUT", MAIN, &vault()).json()["version"].clone());
        held.wait();
        assert_eq!(api.json("PUT", MAIN, &bare()).status, 200);
        held.release();
        late.join().unwrap()
    });
    assert_eq!(status, 3);
    assert_eq!(api.get(MAIN).json()["namespace"], "team/a");
}

#[test]
fn a_new_default_ends_the_one_before_in_the_same_change() {
    let gated = Gated::open();
    let instance = gated.start(&[]);
    let api = Api::with(&instance, &gated, Role::OrgAdmin, Some("org"));
    let other = Api::with(&instance, &gated, Role::OrgAdmin, Some("other"));
    other.json("PUT", "/organizations/other/providers/main", &vault());
    let default = with(bare(), "/default", json!(true));
    assert_eq!(api.json("PUT", &named("a"), &default).status, 201);
    assert_eq!(api.json("PUT", &named("b"), &bare()).status, 201);
    assert_eq!(names(&api), ["a*", "b"]);
    assert_eq!(api.json("PUT", &named("b"), &default).status, 200);
    assert_eq!(names(&api), ["a", "b*"]);
    assert_eq!(api.get(&named("a")).json()["version"], 2, "its writer can tell");
    assert_eq!(
        api.json("PUT", &named("b"), &default).status,
        200,
        "it stays the default"
    );
    assert_eq!(api.json("PUT", &named("b"), &bare()).status, 200);
    assert_eq!(names(&api), ["a", "b"], "none is a default, too");
    let foreign = other.get("/organizations/other/providers/main").json();
    assert_eq!((&foreign["default"], &foreign["version"]), (&json!(true), &json!(1)));

    let puts: Vec<_> = audit(&gated, Some("org"))
        .into_iter()
        .filter(|entry| entry.action.name() == "provider.put")
        .map(|entry| format!("{} {}", entry.subject.unwrap(), entry.version.unwrap()))
        .collect();
    assert_eq!(puts, ["a 1", "b 1", "a 2", "b 2", "b 3", "b 4"]);
}

#[test]
fn of_defaults_that_are_set_at_once_one_is_left() {
    let gated = Gated::open();
    let instance = gated.start(&[]);
    let api = Api::with(&instance, &gated, Role::OrgAdmin, Some("org"));
    let default = with(bare(), "/default", json!(true));
    std::thread::scope(|scope| {
        let held = gated.store.hold("providers");
        let late = scope.spawn(|| api.json("PUT", &named("late"), &default).status);
        held.wait(); // it saw no default
        assert_eq!(api.json("PUT", &named("early"), &default).status, 201);
        held.release();
        assert_eq!(late.join().unwrap(), 201);
    });
    assert_eq!(names(&api), ["early", "late*"]);
}

#[test]
fn an_organization_has_thirty_two_providers_at_most() {
    let gated = Gated::open();
    let instance = gated.start(&[]);
    let api = Api::with(&instance, &gated, Role::OrgAdmin, Some("org"));
    for n in 0..32 {
        assert_eq!(api.json("PUT", &named(&format!("p{n}")), &bare()).status, 201, "{n}");
    }
    let refused = api.json("PUT", MAIN, &bare());
    assert_eq!(
        (refused.status, refused.problem().as_str()),
        (409, "too-many-providers")
    );
    assert_eq!(api.json("PUT", &named("p0"), &bare()).status, 200);
    let other = Api::with(&instance, &gated, Role::OrgAdmin, Some("other"));
    let elsewhere = other.json("PUT", "/organizations/other/providers/main", &bare());
    assert_eq!(elsewhere.status, 201);
    assert_eq!(api.delete(&named("p0")).status, 204);
    assert_eq!(api.json("PUT", MAIN, &bare()).status, 201);
}

#[test]
fn every_configuring_and_reading_has_its_entry_or_does_not_happen() {
    let gated = Gated::open();
    let instance = gated.start(&[]);
    let admin = Api::with(&instance, &gated, Role::OrgAdmin, Some("org"));
    let auditor = Api::with(&instance, &gated, Role::Auditor, Some("org"));
    let operator = Api::with(&instance, &gated, Role::PlatformOperator, None);
    admin.json("PUT", MAIN, &bare());
    auditor.get(MAIN);
    operator.get(PROVIDERS);
    admin.json("POST", &format!("{MAIN}/check"), &Value::Null);
    assert_eq!(auditor.json("PUT", MAIN, &bare()).status, 403);
    assert_eq!(auditor.json("POST", &format!("{MAIN}/check"), &Value::Null).status, 403);
    admin.delete(MAIN);
    let told: Vec<_> = audit(&gated, Some("org"))
        .into_iter()
        .map(|entry| {
            let subject = entry.subject.map(|id| id.to_string()).unwrap_or_default();
            let version = entry.version.unwrap_or_default();
            let (action, outcome) = (entry.action.name(), entry.outcome.name());
            format!("{} {action} {subject} {version} {outcome}", entry.actor.id)
        })
        .collect();
    let expected = [
        "tok-org_admin-org provider.put main 1 ok",
        "tok-auditor-org provider.get main 0 ok",
        "tok-platform_operator-none provider.list  0 ok",
        "tok-org_admin-org provider.check main 0 failed",
        "tok-auditor-org provider.put main 0 refused",
        "tok-auditor-org provider.check main 0 refused",
        "tok-org_admin-org provider.delete main 1 ok",
    ];
    assert_eq!(told, expected);

    gated.store.fail("commit", StoreError::Full);
    assert_eq!(admin.json("PUT", MAIN, &bare()).status, 507);
    gated.store.mend();
    assert_eq!(admin.get(MAIN).status, 404);
    admin.json("PUT", MAIN, &bare());
    gated.store.fail("record", StoreError::Unavailable);
    for (method, path) in [
        ("GET", MAIN),
        ("GET", PROVIDERS),
        ("POST", "/organizations/org/providers/main/check"),
    ] {
        assert_eq!(admin.json(method, path, &Value::Null).status, 503, "{method} {path}");
    }
}
