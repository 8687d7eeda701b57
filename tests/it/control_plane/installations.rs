//! How an extension is installed, what its installation still needs, and when it may be enabled.

use kiket_sidecar::clock::Clock;
use serde_json::{Value, json};

use super::super::support::api::Api;
use super::super::support::instance::Instance;
use super::super::support::problem::CANARY;
use super::{refusal, refused};

const PATH: &str = "/marketplace/installations";

/// An extension with keys of every kind.
fn register(instance: &Instance) {
    let callback = json!({
        "url": "https://example.com", "signing_secret_key": "SIGN", "secret_keys": ["LISTED"],
        "mtls": {"certificate_key": "CERT", "private_key_key": "CERT_KEY"},
    });
    let configuration = json!({
        "NEEDED": {"secret": true, "required": true, "scope": "extension", "label": "What is needed"},
        "OPTIONAL": {"secret": true},
        "CHANNEL": {"required": true},
    });
    instance.register("com.example.a", callback, configuration);
}

fn body(id: &str) -> Value {
    json!({"id": id, "extension_id": "com.example.a", "organization_id": "org", "project_id": "proj"})
}

fn line(key: &str, required: bool, scope: &str) -> Value {
    json!({
        "key": key, "label": null, "required": required, "scope": scope, "satisfied_by": null, "placeholder": false,
    })
}

#[test]
fn an_installation_is_answered_with_what_it_still_needs() {
    let instance = Instance::start();
    let api = Api::bootstrap(&instance);
    register(&instance);
    let created_at = instance.clock.now().to_rfc3339();
    let mut needed = line("NEEDED", true, "extension");
    needed["label"] = json!("What is needed");
    let record = json!({
        "id": "ins", "extension_id": "com.example.a", "organization_id": "org", "project_id": "proj",
        "product_installation_id": null, "state": "pending", "callback_url": null, "version": 1,
        "destination": "https://example.com", "awaiting_consent": {"destination": null, "keys": []},
        "created_at": created_at, "updated_at": created_at,
    });
    let mut object = record.clone();
    object["checklist"] = json!([
        line("LISTED", false, "installation"),
        needed,
        line("OPTIONAL", false, "installation"),
        line("CERT", true, "installation"),
        line("CERT_KEY", true, "installation"),
        line("SIGN", true, "installation"),
    ]);
    object["missing_extension_secrets"] = json!(["CERT", "CERT_KEY", "NEEDED", "SIGN"]);
    object["scaffolded_extension_secrets"] = json!([]);
    let created = api.json("POST", PATH, &body("ins"));
    assert_eq!(
        (created.status, created.json(), created.header("etag")),
        (201, object.clone(), Some("\"1\""))
    );
    let read = api.get(&format!("{PATH}/ins"));
    assert_eq!(
        (read.status, read.json(), read.header("etag")),
        (200, object, Some("\"1\""))
    );
    let listed = api.get(PATH);
    assert_eq!(
        (listed.status, listed.json()),
        (200, json!({"data": [record], "next_cursor": null}))
    );

    instance.set("organization", "org", "NEEDED", CANARY);
    let now = api.get(&format!("{PATH}/ins")).json();
    assert_eq!(now["checklist"][1]["satisfied_by"], "organization");
    assert_eq!(now["missing_extension_secrets"], json!(["CERT", "CERT_KEY", "SIGN"]));
}

#[test]
fn an_installation_is_enabled_once_no_required_key_is_missing() {
    let instance = Instance::start();
    let api = Api::bootstrap(&instance);
    register(&instance);
    api.json("POST", PATH, &body("ins"));
    let patch = |state: &str| api.json("PATCH", &format!("{PATH}/ins"), &json!({"state": state}));
    let mut missing = vec!["CERT", "CERT_KEY", "NEEDED", "SIGN"];
    while !missing.is_empty() {
        let answer = patch("enabled");
        assert_eq!(refusal(&answer), refused(409, "required-secrets-missing", ""));
        assert_eq!(answer.json()["missing"], json!(missing));
        instance.set("project", "proj", missing.remove(0), "v");
    }
    assert_eq!(api.get(&format!("{PATH}/ins")).json()["state"], "pending");
    for state in ["enabled", "disabled", "enabled"] {
        let answer = patch(state);
        assert_eq!(
            (answer.status, answer.json()["state"].as_str().unwrap().to_owned()),
            (200, state.to_owned())
        );
    }
    assert_eq!(api.get(&format!("{PATH}/ins")).header("etag"), Some("\"4\""));
    for state in ["pending", "Enabled", "", CANARY] {
        assert_eq!(
            refusal(&patch(state)),
            refused(422, "invalid-field", "state"),
            "{state}"
        );
    }
}

#[test]
fn a_scaffolding_install_leaves_a_placeholder_for_each_key_that_nothing_satisfies() {
    let instance = Instance::start();
    let api = Api::bootstrap(&instance);
    register(&instance);
    instance.set("project", "proj", "SIGN", "v");
    let scaffold = |id: &str| {
        let mut body = body(id);
        body["scaffold"] = json!(true);
        api.json("POST", PATH, &body)
    };
    let first = scaffold("ins").json();
    let made = json!(["LISTED", "NEEDED", "OPTIONAL", "CERT", "CERT_KEY"]);
    assert_eq!(first["scaffolded_extension_secrets"], made);
    let waits = first["checklist"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|item| item["placeholder"] == true);
    assert_eq!(json!(waits.map(|item| item["key"].clone()).collect::<Vec<_>>()), made);
    assert_eq!(
        first["missing_extension_secrets"],
        json!(["CERT", "CERT_KEY", "NEEDED"]),
        "a placeholder is no value"
    );
    // The extension's own placeholder is shared, the others are the installation's.
    let second = scaffold("ins2").json();
    assert_eq!(
        second["scaffolded_extension_secrets"],
        json!(["LISTED", "OPTIONAL", "CERT", "CERT_KEY"])
    );
    let list = api.get("/extensions/secrets?organization_id=org&key=NEEDED").json();
    assert_eq!(
        json!([list["data"][0]["scope"], list["data"][0]["placeholder"]]),
        json!(["extension", true])
    );
    assert_eq!(list["data"].as_array().unwrap().len(), 1);
    let refused_install = scaffold("ins");
    assert_eq!(refusal(&refused_install), refused(409, "conflict", ""));
}

#[test]
fn an_installation_has_the_id_that_was_asked_for_or_a_new_one() {
    let instance = Instance::start();
    let api = Api::bootstrap(&instance);
    register(&instance);
    let mut without = body("");
    without.as_object_mut().unwrap().remove("id");
    let ids: Vec<String> = (0..2)
        .map(|_| {
            api.json("POST", PATH, &without).json()["id"]
                .as_str()
                .unwrap()
                .to_owned()
        })
        .collect();
    assert!(
        ids[0] != ids[1] && ids.iter().all(|id| id.starts_with("ins_") && id.len() == 36),
        "{ids:?}"
    );
    let numbers = json!({
        "id": 7, "extension_id": "com.example.a", "organization_id": 1, "project_id": 2, "product_installation_id": 3,
    });
    let object = api.json("POST", PATH, &numbers).json();
    let told = json!([
        object["id"],
        object["organization_id"],
        object["project_id"],
        object["product_installation_id"]
    ]);
    assert_eq!(told, json!(["7", "1", "2", "3"]));
    assert_eq!(refusal(&api.json("POST", PATH, &numbers)), refused(409, "conflict", ""));
    let page = api.get(&format!("{PATH}?limit=2")).json();
    let next = page["next_cursor"].as_str().unwrap();
    let rest = api.get(&format!("{PATH}?limit=2&cursor={next}")).json();
    assert_eq!(
        json!([
            page["data"].as_array().unwrap().len(),
            rest["data"][0]["id"],
            rest["next_cursor"]
        ]),
        json!([2, "7", null])
    );
    assert_eq!(
        api.get(&format!("{PATH}?organization_id=1")).json()["data"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
}

#[test]
fn an_install_or_a_patch_that_breaks_a_rule_is_refused_without_quoting_it() {
    let instance = Instance::start();
    let api = Api::bootstrap(&instance);
    register(&instance);
    let with = |member: &str, value: Value| {
        let mut body = body("ins");
        body[member] = value;
        body
    };
    for (body, field) in [
        (with("id", json!(format!("a b {CANARY}"))), "id"),
        (with("extension_id", json!("nodot")), "extension_id"),
        (with("extension_id", json!("com.example.unknown")), "extension_id"),
        (with("organization_id", json!("")), "organization_id"),
        (with("organization_id", Value::Null), "organization_id"),
        (with("project_id", json!("a/b")), "project_id"),
        (
            with("product_installation_id", json!("K".repeat(129))),
            "product_installation_id",
        ),
        (with("project_id", Value::Null), ""),
        (with("scaffold", json!(CANARY)), ""),
        (with(CANARY, json!(1)), ""),
    ] {
        assert_eq!(
            refusal(&api.json("POST", PATH, &body)),
            refused(422, "invalid-field", field),
            "{body}"
        );
    }
    for url in [
        CANARY,
        "ftp://example.com",
        "https://user@example.com",
        "https://example.com?x",
        "",
    ] {
        let answer = api.json("POST", PATH, &with("callback_url", json!(url)));
        assert_eq!(refusal(&answer), refused(422, "destination-refused", ""), "{url}");
    }
    api.json("POST", PATH, &body("ins"));
    let one = format!("{PATH}/ins");
    for body in [
        json!({"state": [CANARY]}),
        json!({"callback_url": 7}),
        json!({CANARY: 1}),
        json!([]),
        json!({"version": 3}),
    ] {
        assert_eq!(
            refusal(&api.json("PATCH", &one, &body)),
            refused(422, "invalid-field", ""),
            "{body}"
        );
    }
    assert_eq!(
        refusal(&api.send("PATCH", &one, &[], b"{}")),
        refused(415, "unsupported-media-type", "")
    );
    let json_type = [("Content-Type", "application/json")];
    assert_eq!(
        refusal(&api.send("PATCH", &one, &json_type, b"{")),
        refused(400, "malformed-request", "")
    );
    for path in ["/none", "/a%20b"] {
        let path = format!("{PATH}{path}");
        assert_eq!(refusal(&api.get(&path)), refused(404, "not-found", ""));
        assert_eq!(
            refusal(&api.json("PATCH", &path, &json!({}))),
            refused(404, "not-found", "")
        );
    }
    let not_text = format!("{PATH}/%ff");
    assert_eq!(refusal(&api.get(&not_text)), refused(400, "malformed-request", ""));
    assert_eq!(api.get(&one).header("etag"), Some("\"1\""));
    assert!(!instance.log().contains(CANARY));
}

#[test]
fn a_callback_of_its_own_is_set_kept_and_taken_back() {
    let instance = Instance::start();
    let api = Api::bootstrap(&instance);
    register(&instance);
    api.json("POST", PATH, &body("ins"));
    let patch = |body: Value| api.json("PATCH", &format!("{PATH}/ins"), &body).json()["callback_url"].clone();
    assert_eq!(
        patch(json!({"callback_url": "https://other.example.com/x"})),
        "https://other.example.com/x"
    );
    assert_eq!(patch(json!({"state": "disabled"})), "https://other.example.com/x");
    assert_eq!(patch(json!({"callback_url": null})), Value::Null);
}
