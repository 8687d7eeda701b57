//! What is answered about secrets that are written, read, rotated, listed and deleted.

use kiket_sidecar::clock::Clock;
use serde_json::{Value, json};

use super::super::support::api::Api;
use super::super::support::endpoint::Endpoint;
use super::super::support::instance::Instance;
use super::super::support::problem::CANARY;
use super::{refusal, refused};

const SECRETS: &str = "/extensions/secrets";

/// A secret of `proj` in `org`.
pub fn secret(key: &str, value: &str) -> Value {
    json!({"scope": "project", "id": "proj", "organization_id": "org", "key": key, "value": value})
}

/// The path of a secret of `proj` in `org`.
pub fn at(key: &str) -> String {
    format!("{SECRETS}/{key}?scope=project&id=proj&organization_id=org")
}

#[test]
fn a_secret_is_answered_as_its_object_and_never_with_its_value() {
    let instance = Instance::start();
    let api = Api::bootstrap(&instance);
    let created_at = instance.clock.now().to_rfc3339();
    let mut object = json!({
        "key": "KEY", "scope": "project", "scope_id": "proj", "organization_id": "org",
        "masked_value_present": true, "placeholder": false, "external": false, "external_secret_name": null,
        "version": 1, "rotation_count": 0, "last_rotated_at": null,
        "created_at": created_at, "updated_at": created_at, "new_scope": true,
    });
    let created = api.json("POST", SECRETS, &secret("KEY", CANARY));
    assert_eq!((created.status, created.json()), (201, object.clone()));
    assert_eq!(created.header("etag"), Some("\"1\""));
    assert_eq!(created.header("content-type"), Some("application/json"));
    object.as_object_mut().unwrap().remove("new_scope");
    let read = api.get(&at("KEY"));
    assert_eq!(
        (read.status, read.json(), read.header("etag")),
        (200, object.clone(), Some("\"1\""))
    );
    let listed = api.get(&format!("{SECRETS}?organization_id=org"));
    assert_eq!(
        (listed.status, listed.json()),
        (200, json!({"data": [object], "next_cursor": null}))
    );

    instance.clock.advance(1_500);
    let now = instance.clock.now().to_rfc3339();
    let rotation = json!({
        "scope": "project", "id": "proj", "organization_id": "org", "value": CANARY,
        "expires_at": "2030-01-02T03:04:05+01:00",
    });
    let rotated = api.json("POST", &format!("{SECRETS}/KEY/rotate"), &rotation);
    for (member, value) in [
        ("version", json!(2)),
        ("rotation_count", json!(1)),
        ("last_rotated_at", json!(now)),
        ("updated_at", json!(now)),
        ("expires_at", json!("2030-01-02T02:04:05Z")),
    ] {
        object[member] = value;
    }
    assert_eq!(
        (rotated.status, rotated.json(), rotated.header("etag")),
        (200, object, Some("\"2\""))
    );

    let deleted = api.delete(&at("KEY"));
    assert_eq!((deleted.status, deleted.body.len()), (204, 0));
    assert_eq!(refusal(&api.get(&at("KEY"))), refused(404, "not-found", ""));
    assert_eq!(refusal(&api.delete(&at("KEY"))), refused(404, "not-found", ""));
    assert_eq!(
        api.get(&format!("{SECRETS}?organization_id=org")).json()["data"],
        json!([])
    );
}

#[test]
fn versions_and_counts_never_restart_and_a_first_value_is_no_rotation() {
    let instance = Instance::start();
    let api = Api::bootstrap(&instance);
    let rotation = json!({"scope": "project", "id": "proj", "organization_id": "org", "value": "v"});
    let (mut created_at, mut rotated_at) = (Value::Null, Value::Null);
    // What is done, the status, then version, count, and whether it is a rotation.
    for (what, status, version, count, rotates) in [
        ("set", 201, 1, 0, false),
        ("set", 200, 2, 1, true),
        ("rotate", 200, 3, 2, true),
        ("delete", 204, 4, 2, false),
        ("set", 201, 5, 2, false),
        ("set", 200, 6, 3, true),
        ("delete", 204, 7, 3, false),
        ("set", 201, 8, 3, false),
        ("rotate", 200, 9, 4, true),
    ] {
        instance.clock.advance(1_000);
        let answer = match what {
            "set" => api.json("POST", SECRETS, &secret("KEY", "v")),
            "rotate" => api.json("POST", &format!("{SECRETS}/KEY/rotate"), &rotation),
            _ => api.delete(&at("KEY")),
        };
        assert_eq!(answer.status, status, "{what} {version}");
        if what == "delete" {
            continue;
        }
        if rotates {
            rotated_at = json!(instance.clock.now().to_rfc3339());
        }
        let object = answer.json();
        if created_at.is_null() {
            created_at = object["created_at"].clone();
        }
        let counters = json!([
            object["version"],
            object["rotation_count"],
            object["last_rotated_at"],
            object["created_at"]
        ]);
        assert_eq!(
            counters,
            json!([version, count, rotated_at, created_at]),
            "{what} {version}"
        );
    }
}

#[test]
fn the_first_value_of_a_placeholder_is_no_rotation() {
    let instance = Instance::start();
    let api = Api::bootstrap(&instance);
    let configuration = json!({"KEY": {"secret": true, "required": true}});
    instance.register("com.example.a", json!({"url": "https://example.com"}), configuration);
    let install = json!({
        "id": "ins", "extension_id": "com.example.a", "organization_id": "org", "project_id": "proj", "scaffold": true,
    });
    assert_eq!(api.json("POST", "/marketplace/installations", &install).status, 201);
    let path = format!("{SECRETS}/KEY?scope=installation&id=ins");
    let placeholder = api.get(&path).json();
    let told = |object: &Value| {
        json!([
            object["version"],
            object["placeholder"],
            object["masked_value_present"],
            object["rotation_count"],
            object["last_rotated_at"]
        ])
    };
    assert_eq!(told(&placeholder), json!([1, true, false, 0, null]));
    let value = json!({"scope": "installation", "id": "ins", "key": "KEY", "value": CANARY});
    let first = api.json("POST", SECRETS, &value);
    assert_eq!(
        (first.status, told(&first.json())),
        (201, json!([2, false, true, 0, null]))
    );
    let second = api.json("POST", SECRETS, &value);
    assert_eq!(
        (second.status, second.json()["rotation_count"].clone()),
        (200, json!(1))
    );
}

#[test]
fn rotating_needs_something_to_replace() {
    let instance = Instance::start();
    let api = Api::bootstrap(&instance);
    let rotation = json!({"scope": "project", "id": "proj", "organization_id": "org", "value": CANARY});
    let rotate = || api.json("POST", &format!("{SECRETS}/KEY/rotate"), &rotation);
    assert_eq!(refusal(&rotate()), refused(404, "not-found", ""));
    api.json("POST", SECRETS, &secret("KEY", "v"));
    assert_eq!(rotate().status, 200);
    api.delete(&at("KEY"));
    assert_eq!(refusal(&rotate()), refused(404, "not-found", ""));
}

#[test]
fn a_rotation_that_revokes_ends_the_replaced_signature_at_once() {
    let (instance, endpoint) = (Instance::start(), Endpoint::start());
    let api = Api::bootstrap(&instance);
    instance.register(
        "com.example.a",
        json!({"url": endpoint.url(), "signing_secret_key": "SIGN"}),
        json!({}),
    );
    instance.install("ins", "com.example.a");
    instance.set("project", "proj", "SIGN", "the first");
    instance.enable("ins");
    for (revoke, signatures) in [(false, 2), (true, 1)] {
        let rotation = json!({
            "scope": "project", "id": "proj", "organization_id": "org", "value": "the next", "revoke_now": revoke,
        });
        assert_eq!(
            api.json("POST", &format!("{SECRETS}/SIGN/rotate"), &rotation).status,
            200
        );
        assert_eq!(instance.deliver("ins", b"{}").status, 200);
        let header = endpoint.last().header("webhook-signature").unwrap().to_owned();
        assert_eq!(header.split(' ').count(), signatures, "revoke_now {revoke}");
    }
}

#[test]
fn a_value_is_anything_of_1_byte_to_64_kib_of_utf_8() {
    let (instance, endpoint) = (Instance::start(), Endpoint::start());
    let api = Api::bootstrap(&instance);
    instance.simple(&endpoint.url());
    let set = |value: &str| api.json("POST", SECRETS, &secret("KEY", value));
    let values = [
        "x".to_owned(),
        "\0".to_owned(),
        "a\0b\u{7f}\u{1f511}\"\\\n\r\t ".to_owned(),
        "x".repeat(65_536),
        "\u{e4}".repeat(32_768),
        "\u{1f511}".repeat(16_384),
    ];
    for value in &values {
        assert!(set(value).status < 300, "{} bytes", value.len());
        assert_eq!(instance.deliver("ins", b"{}").status, 200);
        assert!(
            endpoint.last().secret("KEY").as_ref() == Some(value),
            "{} bytes",
            value.len()
        );
    }
    for value in [
        "".to_owned(),
        "x".repeat(65_537),
        format!("{}x", "\u{e4}".repeat(32_768)),
    ] {
        assert_eq!(
            refusal(&set(&value)),
            refused(422, "invalid-field", "value"),
            "{} bytes",
            value.len()
        );
    }
    assert_eq!(api.get(&at("KEY")).json()["version"], values.len());
}

#[test]
fn a_first_write_under_an_id_never_seen_says_so() {
    let instance = Instance::start();
    let api = Api::bootstrap(&instance);
    instance.register("com.example.a", json!({"url": "https://example.com"}), json!({}));
    instance.install("ins", "com.example.a");
    for (scope, id, organization, is_new) in [
        ("extension_installation", "ins", "org", false),
        ("extension_installation", "isn", "org", true),
        ("product_installation", "prod", "org", true),
        ("product_installation", "prod", "org", false),
        ("extension", "com.example.a", "org", false),
        ("extension", "com.example.b", "org", true),
        ("project", "proj", "org", false),
        ("project", "proj", "org2", true),
        ("organization", "org", "org", false),
        ("organization", "org2", "org2", false), // its project named it
        ("organization", "org3", "org3", true),
    ] {
        let body = json!({"scope": scope, "id": id, "organization_id": organization, "key": "KEY", "value": "v"});
        let answer = api.json("POST", SECRETS, &body);
        assert!(answer.status < 300);
        let new_scope = answer.json()["new_scope"].as_bool().unwrap_or(false);
        assert_eq!(new_scope, is_new, "{scope} {id} of {organization}");
    }
}

#[test]
fn many_secrets_are_written_all_or_none() {
    let instance = Instance::start();
    let api = Api::bootstrap(&instance);
    let many = |secrets: Vec<Value>| api.json("POST", SECRETS, &json!({"secrets": secrets}));
    let keys = || {
        let listed = api.get(&format!("{SECRETS}?organization_id=org&limit=1000")).json();
        listed["data"].as_array().unwrap().len()
    };
    let good = |n: usize| secret(&format!("K{n}"), CANARY);
    let bad = [
        (secret("lower", CANARY), refused(422, "invalid-field", "key")),
        (secret("K1", ""), refused(422, "invalid-field", "value")),
        (good(0), refused(422, "invalid-field", "secrets")), // the same slot twice
        (
            json!({"scope": "galaxy", "key": "K", "value": CANARY}),
            refused(422, "invalid-field", "scope"),
        ),
        (
            json!({"scope": "project", "id": "p", "key": "K", "value": CANARY}),
            refused(422, "invalid-field", "organization_id"),
        ),
        (json!({"scope": "project"}), refused(422, "invalid-field", "")),
    ];
    for (bad, expected) in bad {
        for at in 0..=2 {
            let mut secrets = vec![good(0), good(2)];
            secrets.insert(at, bad.clone());
            assert_eq!(refusal(&many(secrets)), expected, "{bad} at {at}");
            assert_eq!(keys(), 0);
        }
    }
    assert_eq!(refusal(&many(vec![])), refused(422, "invalid-field", "secrets"));
    assert_eq!(
        refusal(&many((0..201).map(good).collect())),
        refused(422, "invalid-field", "secrets")
    );
    let insisting = api.json_at("\"1\"", "POST", SECRETS, &json!({"secrets": [good(0)]}));
    assert_eq!(refusal(&insisting), refused(422, "invalid-field", "If-Match"));
    assert_eq!(keys(), 0);

    let written = many((0..200).map(good).collect());
    assert_eq!((written.status, keys()), (201, 200));
    let written = written.json();
    assert_eq!(written["next_cursor"], Value::Null);
    let in_order = written["data"].as_array().unwrap().iter().enumerate();
    assert!(
        in_order
            .clone()
            .all(|(n, object)| object["key"] == format!("K{n}") && object["version"] == 1)
    );
    assert_eq!(in_order.filter(|(_, object)| object["new_scope"] == true).count(), 200);
    let again = many(vec![good(7), good(3)]);
    assert_eq!(
        (again.status, again.json()["data"][0]["version"].clone()),
        (200, json!(2))
    );
}

#[test]
fn scopes_go_by_their_aliases_and_ids_may_be_integers() {
    let instance = Instance::start();
    let api = Api::bootstrap(&instance);
    for (alias, scope) in [
        ("installation", "extension_installation"),
        ("product", "product_installation"),
    ] {
        let body = json!({"scope": alias, "id": 7, "organization_id": 12, "key": "KEY", "value": "v"});
        let object = api.json("POST", SECRETS, &body).json();
        assert_eq!(
            json!([object["scope"], object["scope_id"], object["organization_id"]]),
            json!([scope, "7", "12"])
        );
        let read = api.get(&format!("{SECRETS}/KEY?scope={alias}&id=7&organization_id=12"));
        assert_eq!(read.json()["scope"], scope);
    }
    let implied = api.json(
        "POST",
        SECRETS,
        &json!({"scope": "organization", "id": "org", "key": "KEY", "value": "v"}),
    );
    assert_eq!(implied.json()["organization_id"], "org");
    let left_out = json!({"scope": "organization", "organization_id": "org", "key": "KEY", "value": "v"});
    assert_eq!(api.json("POST", SECRETS, &left_out).json()["version"], 2);
}

#[test]
fn lists_are_filtered_and_walked_with_cursors_that_cannot_be_made_up() {
    let instance = Instance::start();
    let api = Api::bootstrap(&instance);
    for n in 0..5 {
        api.json("POST", SECRETS, &secret(&format!("K{n}"), "v"));
    }
    let other = json!({"scope": "organization", "organization_id": "org2", "key": "K0", "value": "v"});
    api.json("POST", SECRETS, &other);
    let count = |query: &str| {
        api.get(&format!("{SECRETS}?{query}")).json()["data"]
            .as_array()
            .unwrap()
            .len()
    };
    for (query, expected) in [
        ("", 6),
        ("organization_id=org", 5),
        ("organization_id=nobody", 0),
        ("scope=project", 5),
        ("scope=project&id=proj", 5),
        ("scope=project&id=other", 0),
        ("key=K0", 2),
        ("key=K0&organization_id=org2", 1),
        ("limit=6", 6),
        ("limit=1000", 6),
    ] {
        assert_eq!(count(query), expected, "{query}");
    }
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = api
            .get(&format!("{SECRETS}?organization_id=org&limit=2{cursor}"))
            .json();
        seen.extend(
            page["data"]
                .as_array()
                .unwrap()
                .iter()
                .map(|object| object["key"].clone()),
        );
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(json!(seen), json!(["K0", "K1", "K2", "K3", "K4"]));
    let real = cursor.trim_start_matches("&cursor=");
    let (position, tag) = real.split_once('.').unwrap();
    for forged in [
        format!("{position}0.{tag}"),
        format!("1.{tag}"),
        format!("{position}."),
        format!("{position}.{}", &tag[1..]),
        format!("{position}.{}0", &tag[..tag.len() - 1]).replace(real, "x"),
        position.to_owned(),
        CANARY.to_owned(),
        "-1.0".to_owned(),
        String::new(),
    ] {
        let answer = api.get(&format!("{SECRETS}?cursor={forged}"));
        assert_eq!(refusal(&answer), refused(422, "invalid-field", "cursor"), "{forged}");
    }
    for (query, field) in [
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=-1", "query"),
        ("limit=many", "query"),
        (&format!("{CANARY}=1"), "query"),
        (&format!("scope={CANARY}"), "scope"),
        ("id=a%20b", "id"),
        ("key=lower", "key"),
        ("organization_id=a/b", "organization_id"),
        ("limit=1&limit=2", "query"),
    ] {
        assert_eq!(
            refusal(&api.get(&format!("{SECRETS}?{query}"))),
            refused(422, "invalid-field", field),
            "{query}"
        );
    }
}
