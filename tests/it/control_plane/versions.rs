//! What `If-Match` insists on, for everything that has a version.

use serde_json::{Value, json};

use super::super::support::api::Api;
use super::super::support::http::Answer;
use super::super::support::instance::Instance;
use super::secrets::{at, secret};
use super::{refusal, refused};

const SECRETS: &str = "/extensions/secrets";
const INSTALLATION: &str = "/marketplace/installations/ins";
const EXTENSION: &str = "/extensions/com.example.a";

fn manifest() -> Value {
    json!({"id": "com.example.a", "delivery": {"type": "http", "callback": {"url": "https://example.com"}}})
}

/// Every write that replaces something, under this `If-Match`.
fn writes(api: &Api<'_>, version: &str) -> Vec<(&'static str, Answer)> {
    let place = json!({"scope": "project", "id": "proj", "organization_id": "org"});
    let mut link = place.clone();
    link["external_secret_name"] = json!("a/b");
    let rotation = json!({"scope": "project", "id": "proj", "organization_id": "org", "value": "v"});
    vec![
        ("set", api.json_at(version, "POST", SECRETS, &secret("KEY", "v"))),
        (
            "rotate",
            api.json_at(version, "POST", &format!("{SECRETS}/KEY/rotate"), &rotation),
        ),
        (
            "link",
            api.json_at(version, "POST", &format!("{SECRETS}/KEY/link"), &link),
        ),
        (
            "rollback",
            api.json_at(version, "POST", &format!("{SECRETS}/KEY/rollback"), &place),
        ),
        ("delete", api.send("DELETE", &at("KEY"), &[("If-Match", version)], b"")),
        (
            "uninstall",
            api.send("DELETE", INSTALLATION, &[("If-Match", version)], b""),
        ),
        (
            "patch",
            api.json_at(version, "PATCH", INSTALLATION, &json!({"state": "disabled"})),
        ),
        ("put", api.json_at(version, "PUT", EXTENSION, &manifest())),
    ]
}

#[test]
fn a_write_over_another_version_is_refused_and_changes_nothing() {
    let instance = Instance::start();
    let api = Api::bootstrap(&instance);
    assert_eq!(api.json("PUT", EXTENSION, &manifest()).status, 201);
    instance.install("ins", "com.example.a");
    api.json("POST", SECRETS, &secret("KEY", "v"));
    for version in ["\"0\"", "\"2\"", "\"18446744073709551615\"", "7"] {
        for (what, answer) in writes(&api, version) {
            assert_eq!(
                refusal(&answer),
                refused(412, "version-mismatch", ""),
                "{what} {version}"
            );
        }
    }
    for version in [
        "*",
        "W/\"1\"",
        "\"one\"",
        "",
        "\"-1\"",
        "\"1\", \"2\"",
        "\"18446744073709551616\"",
    ] {
        for (what, answer) in writes(&api, version) {
            assert_eq!(
                refusal(&answer),
                refused(422, "invalid-field", "If-Match"),
                "{what} {version}"
            );
        }
    }
    for path in [at("KEY").as_str(), INSTALLATION, EXTENSION] {
        assert_eq!(api.get(path).header("etag"), Some("\"1\""), "{path}");
    }
}

#[test]
fn a_write_over_the_version_that_was_read_goes_through() {
    let instance = Instance::start();
    let api = Api::bootstrap(&instance);
    api.json("PUT", EXTENSION, &manifest());
    instance.install("ins", "com.example.a");
    api.json("POST", SECRETS, &secret("KEY", "v"));
    let rotation = json!({"scope": "project", "id": "proj", "organization_id": "org", "value": "v"});
    let set = |version| api.json_at(version, "POST", SECRETS, &secret("KEY", "v"));
    assert_eq!(set("\"1\"").header("etag"), Some("\"2\""));
    assert_eq!(
        api.json_at("2", "POST", &format!("{SECRETS}/KEY/rotate"), &rotation)
            .header("etag"),
        Some("\"3\"")
    );
    let patched = api.json_at("\"1\"", "PATCH", INSTALLATION, &json!({"state": "enabled"}));
    assert_eq!((patched.status, patched.header("etag")), (200, Some("\"2\"")));
    let put = api.json_at("\"1\"", "PUT", EXTENSION, &manifest());
    assert_eq!((put.status, put.header("etag")), (200, Some("\"2\"")));
    assert_eq!(
        api.send("DELETE", &at("KEY"), &[("If-Match", "\"3\"")], b"").status,
        204
    );
    // What is not there has no version.
    assert_eq!(refusal(&set("\"4\"")), refused(412, "version-mismatch", ""));
    assert_eq!(refusal(&set("\"0\"")), refused(412, "version-mismatch", ""));
    let unknown = api.json_at(
        "\"1\"",
        "PUT",
        "/extensions/com.example.b",
        &json!({"id": "com.example.b"}),
    );
    assert_eq!(refusal(&unknown), refused(412, "version-mismatch", ""));
}
