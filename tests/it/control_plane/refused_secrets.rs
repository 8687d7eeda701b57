//! What a write of a secret is refused for, and that no refusal quotes what was sent.

use serde_json::{Value, json};

use super::super::support::api::Api;
use super::super::support::instance::Instance;
use super::super::support::problem::CANARY;
use super::secrets::{at, secret};
use super::{refusal, refused};

const SECRETS: &str = "/extensions/secrets";
const JSON: (&str, &str) = ("Content-Type", "application/json");

/// A good secret with one member replaced, or taken away.
fn with(member: &str, value: Value) -> Value {
    let mut body = secret("KEY", CANARY);
    if value.is_null() {
        body.as_object_mut().unwrap().remove(member);
    } else {
        body[member] = value;
    }
    body
}

#[test]
fn what_is_not_json_is_told_by_line_and_column_only() {
    let instance = Instance::start();
    let api = Api::bootstrap(&instance);
    for (body, place) in [
        (format!("{{\n  \"key\": \"KEY\",\n  {CANARY}"), "line 3, column 3"),
        (format!("{{\"value\": \"{CANARY}"), "line 1, column 28"),
        (format!("{{\"value\": \"{CANARY}\"}} {CANARY}"), "line 1, column 32"),
        (format!("{{\"value\": \"{CANARY}\\ud800\"}}"), "line 1, column"),
        (CANARY.to_owned(), "line 1, column 1"),
        (String::new(), "line 1, column 0"),
    ] {
        let answer = api.send("POST", SECRETS, &[JSON], body.as_bytes());
        assert_eq!(refusal(&answer), refused(400, "malformed-request", ""), "{body}");
        let detail = answer.json()["detail"].as_str().unwrap().to_owned();
        assert!(detail.contains(place), "{body}: {detail}");
    }
    let not_text = [b"{\"value\": \"".as_slice(), CANARY.as_bytes(), b"\xff\"}"].concat();
    assert_eq!(
        refusal(&api.send("POST", SECRETS, &[JSON], &not_text)),
        refused(400, "malformed-request", "")
    );
}

#[test]
fn a_field_that_is_unknown_missing_twice_or_of_another_type_is_refused_without_quoting_it() {
    let instance = Instance::start();
    let api = Api::bootstrap(&instance);
    let any = |bodies: &[Value]| bodies.iter().map(Value::to_string).collect::<Vec<_>>();
    let mut bodies = any(&[
        with(CANARY, json!(CANARY)),
        with("scope", Value::Null),
        with("key", Value::Null),
        with("scope", json!([CANARY])),
        with("key", json!({"a": CANARY})),
        with("value", json!([CANARY])),
        with("value", json!({"secret": CANARY})),
        with("value", json!(123_456_789)),
        with("value", json!(true)),
        with("id", json!([CANARY])),
        with("id", json!(1.5)),
        with("organization_id", json!(false)),
        with("partner_default", json!(CANARY)),
        with("expires_at", json!(12)),
        json!([secret("KEY", CANARY)]),
        json!(CANARY),
        json!({"secrets": CANARY}),
        json!({"secrets": [CANARY]}),
        json!({"secrets": [secret("KEY", CANARY)], "key": CANARY}),
        json!({"secrets": null, "value": CANARY}),
        json!({}),
    ]);
    bodies.push(format!(
        "{{\"scope\":\"project\",\"id\":\"p\",\"key\":\"A\",\"key\":\"{CANARY}\",\"value\":\"v\"}}"
    ));
    bodies.push(format!("{{\"secrets\":[],\"secrets\":\"{CANARY}\"}}"));
    bodies.push(format!(
        "{{\"value\":{}\"{CANARY}\"{}}}",
        "[".repeat(9_000),
        "]".repeat(9_000)
    ));
    for body in bodies {
        let answer = api.send("POST", SECRETS, &[JSON], body.as_bytes());
        assert_eq!(refusal(&answer), refused(422, "invalid-field", ""), "{body}");
        assert!(
            answer.json()["detail"].as_str().unwrap().contains("line 1, column "),
            "{body}"
        );
    }
    assert!(!instance.log().contains(CANARY));
}

#[test]
fn a_field_that_breaks_a_rule_is_named() {
    let instance = Instance::start();
    let api = Api::bootstrap(&instance);
    let long = |n: usize| json!("K".repeat(n));
    let partner = |organization: Value, scope: &str| {
        json!({
            "scope": scope, "id": "com.example.a", "organization_id": organization, "key": "KEY", "value": CANARY,
            "partner_default": true,
        })
    };
    for (body, field) in [
        (with("key", json!("lower")), "key"),
        (with("key", json!(format!("K-{CANARY}"))), "key"),
        (with("key", json!("")), "key"),
        (with("key", json!("1K")), "key"),
        (with("key", long(129)), "key"),
        (with("value", json!("")), "value"),
        (with("value", Value::Null), "value"),
        (with("scope", json!(CANARY)), "scope"),
        (with("scope", json!("Project")), "scope"),
        (with("id", json!(format!("a b {CANARY}"))), "id"),
        (with("id", json!("")), "id"),
        (with("id", long(129)), "id"),
        (with("id", Value::Null), "id"),
        (with("organization_id", Value::Null), "organization_id"),
        (with("organization_id", json!("a/b")), "organization_id"),
        (with("expires_at", json!(CANARY)), "expires_at"),
        (with("expires_at", json!("2030-01-01")), "expires_at"),
        (with("expires_at", json!("1969-12-31T23:59:59Z")), "expires_at"),
        (with("external_secret_name", json!(CANARY)), "external_secret_name"),
        (
            json!({"scope": "extension", "id": "nodot", "organization_id": "org", "key": "K", "value": CANARY}),
            "id",
        ),
        (partner(json!("org"), "extension"), "partner_default"),
        (partner(Value::Null, "project"), "partner_default"),
    ] {
        assert_eq!(
            refusal(&api.json("POST", SECRETS, &body)),
            refused(422, "invalid-field", field),
            "{body}"
        );
    }
    assert!(!instance.log().contains(CANARY));
    assert_eq!(api.json("POST", SECRETS, &with("key", long(128))).status, 201);
    assert_eq!(api.json("POST", SECRETS, &with("id", long(128))).status, 201);
}

#[test]
fn a_path_or_query_that_breaks_a_rule_is_refused_in_the_same_words() {
    let instance = Instance::start();
    let api = Api::bootstrap(&instance);
    for (path, expected) in [
        (at("lower"), refused(422, "invalid-field", "key")),
        (at(&"K".repeat(129)), refused(422, "invalid-field", "key")),
        (at(CANARY), refused(422, "invalid-field", "key")),
        (format!("{SECRETS}/KEY"), refused(422, "invalid-field", "query")),
        (
            format!("{SECRETS}/KEY?scope=galaxy&id=x"),
            refused(422, "invalid-field", "scope"),
        ),
        (
            format!("{SECRETS}/KEY?scope=project&organization_id=org"),
            refused(422, "invalid-field", "id"),
        ),
        (
            format!("{SECRETS}/KEY?scope=project&id=x"),
            refused(422, "invalid-field", "organization_id"),
        ),
        (
            format!("{}&{CANARY}=1", at("KEY")),
            refused(422, "invalid-field", "query"),
        ),
        (
            format!("{SECRETS}/%ff?scope=project&id=proj&organization_id=org"),
            refused(400, "malformed-request", ""),
        ),
        (at("KEY"), refused(404, "not-found", "")),
    ] {
        assert_eq!(refusal(&api.get(&path)), expected, "GET {path}");
        assert_eq!(refusal(&api.delete(&path)), expected, "DELETE {path}");
    }
}

#[test]
fn only_json_is_read_and_no_more_than_2_mib_of_it() {
    let instance = Instance::start();
    let api = Api::bootstrap(&instance);
    let body = secret("KEY", CANARY).to_string();
    let rotation = json!({"scope": "project", "id": "proj", "organization_id": "org", "value": CANARY}).to_string();
    let rotate = format!("{SECRETS}/KEY/rotate");
    let write = |headers: &[(&str, &str)], body: &str| api.send("POST", SECRETS, headers, body.as_bytes());
    for media_type in [
        "text/plain",
        "application/jsonx",
        "application/x-www-form-urlencoded",
        "",
        CANARY,
    ] {
        let headers = [("Content-Type", media_type)];
        assert_eq!(
            refusal(&write(&headers, &body)),
            refused(415, "unsupported-media-type", ""),
            "{media_type}"
        );
        let refused_rotation = api.send("POST", &rotate, &headers, rotation.as_bytes());
        assert_eq!(
            refusal(&refused_rotation),
            refused(415, "unsupported-media-type", ""),
            "{media_type}"
        );
    }
    assert_eq!(refusal(&write(&[], &body)), refused(415, "unsupported-media-type", ""));
    for media_type in ["application/json", "Application/JSON; charset=utf-8"] {
        assert!(
            write(&[("Content-Type", media_type)], &body).status < 300,
            "{media_type}"
        );
    }
    let padded = |size: usize| format!("{body}{}", " ".repeat(size - body.len()));
    let limit = 2 * 1024 * 1024;
    assert_eq!(write(&[JSON], &padded(limit)).status, 200);
    for size in [limit + 1, limit * 4] {
        assert_eq!(
            refusal(&write(&[JSON], &padded(size))),
            refused(413, "payload-too-large", ""),
            "{size}"
        );
    }
}
