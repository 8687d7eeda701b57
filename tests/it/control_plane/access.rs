//! Who may call what: tokens, roles, tenants, and the pages of browsers.

use kiket_sidecar::clock::Clock;
use kiket_sidecar::domain::id::OrganizationId;
use kiket_sidecar::store::{Change, Role, Store, Write};
use serde_json::{Value, json};

use super::super::support::api::{Api, assert_presentable, row, store_token};
use super::super::support::gated_store::Gated;
use super::super::support::http::{Client, once, request};
use super::super::support::instance::Instance;
use super::super::support::problem::CANARY;
use super::{refusal, refused};

const SECRETS: &str = "/extensions/secrets";
const INSTALLATIONS: &str = "/marketplace/installations";
const ALL_ROLES: [Role; 4] = [Role::PlatformOperator, Role::OrgAdmin, Role::Auditor, Role::Dispatcher];

/// An instance with an extension, an installation `ins` of `org`, and a secret of `org`.
fn furnished(gated: &Gated) -> Instance {
    let instance = gated.start(&[]);
    instance.register("com.example.a", json!({"url": "https://example.com"}), json!({}));
    instance.install("ins", "com.example.a");
    instance.set("project", "proj", "KEY", CANARY);
    instance.set("extension_installation", "ins", "KEY", CANARY);
    instance
}

/// Every route, with who is let in.
fn routes() -> Vec<(&'static str, String, Value, &'static [Role])> {
    const OPERATOR: &[Role] = &[Role::PlatformOperator];
    const ADMINISTER: &[Role] = &[Role::PlatformOperator, Role::OrgAdmin];
    const READ: &[Role] = &[Role::PlatformOperator, Role::OrgAdmin, Role::Auditor];
    let value = json!({"scope": "project", "id": "proj", "organization_id": "org", "key": "KEY", "value": CANARY});
    let rotation = json!({"scope": "project", "id": "proj", "organization_id": "org", "value": CANARY});
    let partner =
        json!({"scope": "extension", "id": "com.example.a", "key": "KEY", "value": CANARY, "partner_default": true});
    let partner_rotation =
        json!({"scope": "extension", "id": "com.example.a", "value": CANARY, "partner_default": true});
    let partner_at = format!("{SECRETS}/KEY?scope=extension&id=com.example.a&partner_default=true");
    let one = format!("{SECRETS}/KEY?scope=project&id=proj&organization_id=org");
    let rotate = format!("{SECRETS}/KEY/rotate");
    let install = json!({"extension_id": "com.example.a", "organization_id": "org", "project_id": "proj"});
    vec![
        (
            "PUT",
            "/extensions/com.example.a".into(),
            json!({"id": "com.example.a"}),
            OPERATOR,
        ),
        ("GET", "/extensions/com.example.a".into(), Value::Null, READ),
        ("POST", INSTALLATIONS.into(), install, ADMINISTER),
        ("GET", INSTALLATIONS.into(), Value::Null, READ),
        ("GET", format!("{INSTALLATIONS}/ins"), Value::Null, READ),
        ("PATCH", format!("{INSTALLATIONS}/ins"), json!({}), ADMINISTER),
        ("POST", SECRETS.into(), value, ADMINISTER),
        ("POST", SECRETS.into(), partner, OPERATOR),
        ("POST", rotate.clone(), partner_rotation, OPERATOR),
        ("GET", partner_at.clone(), Value::Null, OPERATOR),
        ("DELETE", partner_at, Value::Null, OPERATOR),
        ("GET", SECRETS.into(), Value::Null, READ),
        ("GET", "/secrets/audit".into(), Value::Null, READ),
        ("GET", "/secrets/audit?format=csv".into(), Value::Null, READ),
        ("GET", "/secrets/audit?format=ndjson".into(), Value::Null, READ),
        ("GET", "/secrets/audit/verify".into(), Value::Null, READ),
        ("GET", one.clone(), Value::Null, READ),
        ("POST", rotate, rotation, ADMINISTER),
        ("DELETE", one, Value::Null, ADMINISTER),
    ]
}

#[test]
fn each_role_may_do_what_it_is_for_and_nothing_else() {
    let gated = Gated::open();
    let instance = furnished(&gated);
    let in_org = |role| {
        if role == Role::PlatformOperator {
            None
        } else {
            Some("org")
        }
    };
    let callers = ALL_ROLES.map(|role| (role, Api::with(&instance, &gated, role, in_org(role))));
    for (method, path, body, allowed) in routes() {
        for (role, api) in callers.iter().rev() {
            let answer = api.json(method, &path, &body);
            let what = format!("{} {method} {path}", role.name());
            if allowed.contains(role) {
                assert!(
                    answer.status < 300 || (answer.status == 404 && method == "DELETE"),
                    "{what}: {}",
                    answer.status
                );
            } else {
                assert_eq!(refusal(&answer), refused(403, "forbidden", ""), "{what}");
            }
        }
    }
}

#[test]
fn a_tenants_token_without_a_tenant_is_let_in_nowhere() {
    let gated = Gated::open();
    let instance = furnished(&gated);
    for role in [Role::OrgAdmin, Role::Auditor] {
        let api = Api::with(&instance, &gated, role, None);
        for (method, path, body, _) in routes()
            .into_iter()
            .filter(|(_, path, _, _)| !path.starts_with("/extensions/com"))
        {
            let answer = api.json(method, &path, &body);
            assert_eq!(
                refusal(&answer),
                refused(403, "forbidden", ""),
                "{} {method} {path}",
                role.name()
            );
        }
    }
}

#[test]
fn another_tenants_things_look_absent_and_stay_as_they_are() {
    let gated = Gated::open();
    let instance = furnished(&gated);
    let owner = Api::with(&instance, &gated, Role::OrgAdmin, Some("org"));
    let thief = Api::with(&instance, &gated, Role::OrgAdmin, Some("org2"));
    let absent = refused(404, "not-found", "");
    let write = |scope: &str, id: &str, organization: Value| json!({"scope": scope, "id": id, "organization_id": organization, "key": "KEY", "value": CANARY});
    for (scope, id, organization) in [
        ("extension_installation", "ins", "org"),
        ("extension_installation", "ins", "org2"),
        ("extension_installation", "ins", ""),
        ("project", "proj", "org"),
        ("organization", "org", ""),
        ("organization", "org", "org"),
        ("extension", "com.example.a", "org"),
    ] {
        let named = if organization.is_empty() {
            Value::Null
        } else {
            json!(organization)
        };
        let body = write(scope, id, named.clone());
        let what = format!("{scope} {id} of {organization}");
        assert_eq!(refusal(&thief.json("POST", SECRETS, &body)), absent, "set {what}");
        assert_eq!(
            refusal(&thief.json("POST", SECRETS, &json!({"secrets": [body]}))),
            absent,
            "set many {what}"
        );
        let rotation = json!({"scope": scope, "id": id, "organization_id": named, "value": CANARY});
        assert_eq!(
            refusal(&thief.json("POST", &format!("{SECRETS}/KEY/rotate"), &rotation)),
            absent,
            "rotate {what}"
        );
        let query = if organization.is_empty() {
            String::new()
        } else {
            format!("&organization_id={organization}")
        };
        let path = format!("{SECRETS}/KEY?scope={scope}&id={id}{query}");
        assert_eq!(refusal(&thief.get(&path)), absent, "get {what}");
        assert_eq!(refusal(&thief.delete(&path)), absent, "delete {what}");
    }
    for path in [format!("{INSTALLATIONS}/ins"), format!("{INSTALLATIONS}/nobodys")] {
        assert_eq!(refusal(&thief.get(&path)), absent, "{path}");
        assert_eq!(
            refusal(&thief.json("PATCH", &path, &json!({"state": "disabled"}))),
            absent,
            "{path}"
        );
    }
    for path in [SECRETS, INSTALLATIONS] {
        assert_eq!(thief.get(path).json()["data"], json!([]), "{path}");
        assert_eq!(
            refusal(&thief.get(&format!("{path}?organization_id=org"))),
            absent,
            "{path}"
        );
    }
    let install = json!({"extension_id": "com.example.a", "organization_id": "org", "project_id": "proj"});
    assert_eq!(refusal(&thief.json("POST", INSTALLATIONS, &install)), absent);
    // The same ids in the thief's own organization are other slots.
    assert_eq!(
        thief
            .json("POST", SECRETS, &write("project", "proj", Value::Null))
            .status,
        201
    );
    assert_eq!(owner.get(SECRETS).json()["data"].as_array().unwrap().len(), 2);
    for scope in ["project&id=proj", "extension_installation&id=ins"] {
        assert_eq!(owner.get(&format!("{SECRETS}/KEY?scope={scope}")).json()["version"], 1);
    }
    assert_eq!(owner.get(&format!("{INSTALLATIONS}/ins")).json()["version"], 1);
}

#[test]
fn a_tenants_list_never_shows_a_partners_default() {
    let gated = Gated::open();
    let instance = furnished(&gated);
    let partner = json!({"scope": "extension", "id": "com.example.a", "key": "PARTNER", "value": CANARY, "partner_default": true});
    let object = instance.must("POST", SECRETS, &partner);
    assert_eq!(object["organization_id"], Value::Null);
    let admin = Api::with(&instance, &gated, Role::OrgAdmin, Some("org"));
    let listed = admin.get(SECRETS).json();
    assert!(!listed.to_string().contains("PARTNER"), "{listed}");
    let own = admin.get(&format!("{SECRETS}/PARTNER?scope=extension&id=com.example.a"));
    assert_eq!(refusal(&own), refused(404, "not-found", ""));
    assert!(
        Api::bootstrap(&instance)
            .get(SECRETS)
            .json()
            .to_string()
            .contains("PARTNER")
    );
}

#[test]
fn whoever_shows_no_valid_token_is_told_nothing() {
    let gated = Gated::open();
    let instance = furnished(&gated);
    let admin = instance.running.admin().unwrap();
    let now = instance.clock.now();
    let mut ending = row(&gated, "ending", Role::Auditor, Some("org"));
    ending.expires_at = Some(now.plus_millis(1_000));
    store_token(&gated, ending);
    let bearer = |authorization: &str| {
        let answer = once(
            admin,
            &request(
                "GET",
                "/api/v1/extensions/secrets",
                &[("Authorization", authorization)],
                b"",
            ),
        );
        assert_presentable(&answer, authorization);
        answer
    };
    let without = once(admin, &request("GET", "/api/v1/extensions/secrets", &[], b""));
    assert_presentable(&without, "none");
    assert_eq!(refusal(&without), refused(401, "unauthenticated", ""));
    for wrong in [
        "Bearer",
        "Bearer ",
        "Bearer  ending",
        "Bearer ending ",
        "Bearer Ending",
        "Bearer kiket-canary-7f3a",
        "Basic ending",
        "ending",
        "Bearer ending, Bearer ending",
    ] {
        // Optional white space at a field's end is no part of it.
        let expected = if wrong == "Bearer ending " { 200 } else { 401 };
        assert_eq!(bearer(wrong).status, expected, "{wrong:?}");
    }
    for (advance, status) in [(999, 200), (1, 401)] {
        instance.clock.advance(advance);
        assert_eq!(bearer("bearer ending").status, status, "after {advance} ms more");
    }
}

#[test]
fn a_token_that_somebody_wrote_into_the_database_is_none() {
    let gated = Gated::open();
    let instance = furnished(&gated);
    let honest =
        kiket_sidecar::registry::sealed_token(&gated.keyring, row(&gated, "edited", Role::Auditor, Some("org")));
    let edits: [fn(&mut kiket_sidecar::store::TokenRow); 5] = [
        |row| row.role = Role::OrgAdmin,
        |row| row.organization = Some(OrganizationId::parse("org2").unwrap()),
        |row| row.organization = None,
        |row| row.expires_at = Some(kiket_sidecar::domain::time::Timestamp(u64::MAX >> 1)),
        |row| row.mac.clear(),
    ];
    for (n, edit) in edits.into_iter().enumerate() {
        let text = format!("edited-{n}");
        let mut forged = row(&gated, &text, Role::Auditor, Some("org"));
        forged = kiket_sidecar::registry::sealed_token(&gated.keyring, forged);
        edit(&mut forged);
        let change = Change {
            writes: vec![Write::Token(forged)],
            entries: Vec::new(),
        };
        gated.block_on(gated.store.commit(change)).unwrap();
        let api = Api {
            instance: &instance,
            token: text,
        };
        assert_eq!(
            refusal(&api.get(SECRETS)),
            refused(401, "unauthenticated", ""),
            "edit {n}"
        );
    }
    let change = Change {
        writes: vec![Write::Token(honest)],
        entries: Vec::new(),
    };
    gated.block_on(gated.store.commit(change)).unwrap();
    let api = Api {
        instance: &instance,
        token: "edited".into(),
    };
    assert_eq!(api.get(SECRETS).status, 200);
}

#[test]
fn the_bootstrap_token_is_valid_until_an_operators_token_is_stored() {
    let gated = Gated::open();
    let instance = furnished(&gated);
    let bootstrap = Api::bootstrap(&instance);
    for role in [Role::OrgAdmin, Role::Auditor, Role::Dispatcher] {
        Api::with(&instance, &gated, role, Some("org"));
        assert_eq!(bootstrap.get(SECRETS).status, 200, "{}", role.name());
    }
    let operator = Api::with(&instance, &gated, Role::PlatformOperator, None);
    assert_eq!(refusal(&bootstrap.get(SECRETS)), refused(401, "unauthenticated", ""));
    assert_eq!(operator.get(SECRETS).status, 200);
}

#[test]
fn an_operator_sees_all_and_has_to_say_whose_where_a_write_would_be_ambiguous() {
    let gated = Gated::open();
    let instance = furnished(&gated);
    let operator = Api::with(&instance, &gated, Role::PlatformOperator, None);
    assert_eq!(operator.get(SECRETS).json()["data"].as_array().unwrap().len(), 2);
    let missing = refused(422, "invalid-field", "organization_id");
    for (scope, id) in [
        ("project", "proj"),
        ("product", "prod"),
        ("extension", "com.example.a"),
        ("installation", "unknown"),
    ] {
        let body = json!({"scope": scope, "id": id, "key": "KEY", "value": CANARY});
        assert_eq!(refusal(&operator.json("POST", SECRETS, &body)), missing, "{scope}");
    }
    for (scope, id) in [("installation", "ins"), ("organization", "org")] {
        let body = json!({"scope": scope, "id": id, "key": "IMPLIED", "value": CANARY});
        assert_eq!(
            operator.json("POST", SECRETS, &body).json()["organization_id"],
            "org",
            "{scope}"
        );
    }
    let install = json!({"extension_id": "com.example.a", "project_id": "proj"});
    assert_eq!(refusal(&operator.json("POST", INSTALLATIONS, &install)), missing);
    let bound = Api::with(&instance, &gated, Role::OrgAdmin, Some("org"));
    assert_eq!(
        bound.json("POST", INSTALLATIONS, &install).json()["organization_id"],
        "org"
    );
}

#[test]
fn a_page_in_a_browser_does_not_reach_this_plane() {
    let gated = Gated::open();
    let instance = furnished(&gated);
    let authorization = format!("Bearer {}", instance.bootstrap_token());
    let with = |host: &str, origin: &str| {
        let origin = if origin.is_empty() {
            String::new()
        } else {
            format!("Origin: {origin}\r\n")
        };
        let bytes = format!(
            "GET /api/v1/extensions/secrets HTTP/1.1\r\nHost: {host}\r\n{origin}Authorization: {authorization}\r\n\r\n"
        );
        let mut client = Client::connect(instance.running.admin().unwrap());
        let answer = client.exchange(bytes.as_bytes());
        assert_presentable(&answer, &bytes);
        answer
    };
    let port = instance.running.admin().unwrap().port();
    for host in [
        "localhost",
        &format!("localhost:{port}"),
        &format!("127.0.0.1:{port}"),
        "[::1]",
    ] {
        assert_eq!(with(host, "").status, 200, "{host}");
        for origin in ["https://evil.example", &format!("http://localhost:{port}"), "null"] {
            assert_eq!(
                refusal(&with(host, origin)),
                refused(403, "forbidden", ""),
                "{host} {origin}"
            );
        }
    }
    for host in [
        "evil.example",
        &format!("evil.example:{port}"),
        "localhost.evil.example",
        "10.0.0.1",
        "",
        "127.0.0.1.evil.example",
    ] {
        assert_eq!(refusal(&with(host, "")), refused(403, "forbidden", ""), "{host:?}");
    }
}

#[test]
fn what_is_not_there_is_not_found_and_a_method_without_use_is_refused() {
    let gated = Gated::open();
    let instance = furnished(&gated);
    let api = Api::bootstrap(&instance);
    for path in [
        "",
        "/",
        "/nothing",
        "/extensions/secrets/KEY/none",
        &format!("/{CANARY}"),
    ] {
        assert_eq!(refusal(&api.get(path)), refused(404, "not-found", ""), "{path}");
    }
    for (method, path, allow) in [
        ("PUT", SECRETS, ["GET", "POST"]),
        ("DELETE", "/extensions/com.example.a", ["PUT", "GET"]),
        ("PUT", "/marketplace/installations/ins", ["GET", "PATCH"]),
    ] {
        let answer = api.send(method, path, &[], b"");
        assert_eq!(
            refusal(&answer),
            refused(405, "method-not-allowed", ""),
            "{method} {path}"
        );
        let told = answer.header("allow").unwrap_or_default().to_owned();
        assert!(
            allow.iter().all(|method| told.contains(method)),
            "{method} {path}: {told:?}"
        );
    }
}
