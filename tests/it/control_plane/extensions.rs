//! How a manifest is registered and read, and what one is refused for.

use kiket_sidecar::clock::Clock;
use serde_json::{Value, json};

use super::super::support::api::Api;
use super::super::support::instance::{Instance, Options};
use super::super::support::problem::CANARY;
use super::{refusal, refused};

const PATH: &str = "/extensions/com.example.a";

fn manifest(callback: Value) -> Value {
    json!({"extension": {"id": "com.example.a", "version": "1.4.0", "delivery": {"type": "http", "callback": callback}}})
}

#[test]
fn a_manifest_is_registered_in_json_or_yaml_and_read_back() {
    let instance = Instance::start();
    let api = Api::bootstrap(&instance);
    assert_eq!(refusal(&api.get(PATH)), refused(404, "not-found", ""));
    let created_at = instance.clock.now().to_rfc3339();
    let object = json!({
        "id": "com.example.a", "version": 1, "manifest_version": "1.4.0",
        "created_at": created_at, "updated_at": created_at,
    });
    let created = api.json("PUT", PATH, &manifest(json!({"url": "https://example.com"})));
    assert_eq!(
        (created.status, created.json(), created.header("etag")),
        (201, object.clone(), Some("\"1\""))
    );
    let read = api.get(PATH);
    assert_eq!(
        (read.status, read.json(), read.header("etag")),
        (200, object, Some("\"1\""))
    );
    let yaml = b"extension:\n  id: com.example.a\n  delivery: http\n  callback: {url: https://example.com/kiket}\n";
    let types = [
        "application/yaml",
        "application/x-yaml",
        "text/yaml",
        "application/YAML; charset=utf-8",
    ];
    for (n, media_type) in (2..).zip(types) {
        instance.clock.advance(1_000);
        let now = instance.clock.now().to_rfc3339();
        let replaced = api.send("PUT", PATH, &[("Content-Type", media_type)], yaml);
        let object = json!({
            "id": "com.example.a", "version": n, "manifest_version": null, "created_at": created_at, "updated_at": now,
        });
        assert_eq!((replaced.status, replaced.json()), (200, object), "{media_type}");
    }
}

#[test]
fn a_manifest_that_is_none_is_refused_with_its_place_and_without_its_text() {
    let instance = Instance::start();
    let api = Api::bootstrap(&instance);
    let put = |media_type: &str, body: &[u8]| api.send("PUT", PATH, &[("Content-Type", media_type)], body);
    for (body, place) in [
        (
            format!("extension:\n  id: com.example.a\n  delivery: {{type: [{CANARY}"),
            "line 3",
        ),
        (
            format!("extension:\n  id: com.example.a\n  configuration:\n    {CANARY}: {{secret: true}}\n"),
            "line 4",
        ),
        (
            format!("extension: {{id: com.example.a, delivery: {{callback: {{url: '{CANARY}'}}}}}}"),
            "line 1",
        ),
        (format!("extension: {{name: {CANARY}}}"), "line 1"),
        (CANARY.to_owned(), "line 1"),
        (String::new(), "line 1"),
    ] {
        let answer = put("application/yaml", body.as_bytes());
        assert_eq!(refusal(&answer), refused(422, "invalid-manifest", ""), "{body}");
        let detail = answer.json()["detail"].as_str().unwrap().to_owned();
        assert!(detail.contains(place) && detail.contains("column "), "{body}: {detail}");
    }
    let another = manifest(json!({}))
        .to_string()
        .replace("com.example.a", "com.example.b");
    assert_eq!(
        refusal(&put("application/json", another.as_bytes())),
        refused(422, "invalid-manifest", "")
    );
    assert_eq!(
        refusal(&put("application/json", b"\"\xff\"")),
        refused(400, "malformed-request", "")
    );
    for media_type in ["text/plain", "application/xml", ""] {
        assert_eq!(
            refusal(&put(media_type, b"{}")),
            refused(415, "unsupported-media-type", ""),
            "{media_type}"
        );
    }
    let padded = |size: usize| {
        let body = manifest(json!({})).to_string();
        format!("{body}{}", " ".repeat(size - body.len()))
    };
    let too_long = put("application/json", padded(256 * 1024 + 1).as_bytes());
    assert_eq!(refusal(&too_long), refused(422, "invalid-manifest", ""));
    let huge = put("application/json", padded(2 * 1024 * 1024 + 1).as_bytes());
    assert_eq!(refusal(&huge), refused(413, "payload-too-large", ""));
    assert_eq!(api.get(PATH).status, 404, "nothing of it was registered");
    assert_eq!(put("application/json", padded(256 * 1024).as_bytes()).status, 201);
    for (path, expected) in [
        ("/extensions/nodot", refused(422, "invalid-field", "id")),
        ("/extensions/a.b%20c", refused(422, "invalid-field", "id")),
        ("/extensions/%ff.x", refused(400, "malformed-request", "")),
    ] {
        assert_eq!(
            refusal(&api.json("PUT", path, &manifest(json!({})))),
            expected,
            "PUT {path}"
        );
        assert_eq!(refusal(&api.get(path)), expected, "GET {path}");
    }
}

#[test]
fn a_destination_that_no_delivery_may_reach_is_refused_at_registration() {
    let settings = [("dangerous_allow_http", "false"), ("egress_allow_cidrs", "10.1.0.0/16")];
    let instance = Instance::with(Options {
        settings: &settings,
        ..Options::default()
    });
    let api = Api::bootstrap(&instance);
    let urls = [
        "http://example.com",
        "https://127.0.0.1",
        "https://10.0.0.1",
        "https://[::1]",
        "https://[::ffff:10.0.0.1]",
        "https://169.254.169.254",
        "https://2130706433", // 127.0.0.1 as one number
    ];
    for url in urls {
        let answer = api.json("PUT", PATH, &manifest(json!({"url": url})));
        assert_eq!(refusal(&answer), refused(422, "destination-refused", ""), "{url}");
    }
    for url in [
        "https://example.com",
        "https://10.1.2.3/x",
        "https://1.1.1.1",
        "${KIKET_URL}/x",
    ] {
        assert!(
            api.json("PUT", PATH, &manifest(json!({"url": url}))).status < 300,
            "{url}"
        );
    }
    for (n, url) in urls.into_iter().enumerate() {
        let install = json!({
            "extension_id": "com.example.a", "organization_id": "org", "project_id": "proj", "callback_url": url,
        });
        let answer = api.json("POST", "/marketplace/installations", &install);
        assert_eq!(refusal(&answer), refused(422, "destination-refused", ""), "{n} {url}");
    }
}
