//! What a dispatcher is refused, with which status and problem, and that nothing of it leaks or poisons anything.

use serde_json::{Value, json};

use super::support::endpoint::Endpoint;
use super::support::http::{Client, once, request};
use super::support::instance::{Instance, Options};
use super::support::problem::{CANARY, assert_problem};

const JSON: (&str, &str) = ("Content-Type", "application/json");
const INS: (&str, &str) = ("X-Kiket-Installation-Id", "ins");

fn ready() -> (Instance, Endpoint) {
    let (instance, endpoint) = (Instance::start(), Endpoint::start());
    instance.simple(&endpoint.url());
    instance.set("organization", "org", "KEY", "secret-value-0123456789");
    (instance, endpoint)
}

/// What was refused left no trace in the log but its line, and the next delivery succeeds.
fn assert_unharmed(instance: &Instance, endpoint: &Endpoint, refused: usize) {
    assert!(endpoint.received().is_empty());
    assert_eq!(instance.deliver("ins", b"{}").status, 200);
    assert_eq!(endpoint.received().len(), 1);
    let log = instance.log();
    assert!(!log.contains(CANARY) && !log.contains("secret-value"), "{log}");
    assert_eq!(
        instance
            .lines()
            .iter()
            .filter(|line| line["outcome"] == "refused")
            .count(),
        refused
    );
}

#[test]
fn a_body_that_is_not_one_acceptable_object_is_malformed() {
    let (instance, endpoint) = ready();
    let depth = |n: usize| format!("{{\"a\":{}{}}}", "[".repeat(n - 1), "]".repeat(n - 1)).into_bytes();
    let text = |text: &str| text.as_bytes().to_vec();
    let bodies: Vec<Vec<u8>> = vec![
        vec![],
        text(&format!("{{\"a\": {CANARY}}}")),
        text(&format!("[{{\"a\":\"{CANARY}\"}}]")),
        text(&format!("{{}}{{\"{CANARY}\":1}}")),
        [b"\xef\xbb\xbf".as_slice(), b"{}"].concat(),
        [b"{\"a\":\"".as_slice(), CANARY.as_bytes(), b"\xff\"}"].concat(),
        text("}"),
        depth(129),
        text(&format!("{{\"id\":1,\"id\":\"{CANARY}\"}}")),
        text(&format!("{{\"project_id\":[\"{CANARY}\"]}}")),
    ];
    for body in &bodies {
        let what = String::from_utf8_lossy(body).into_owned();
        assert_problem(
            &instance.deliver("ins", body),
            400,
            "malformed-invocation",
            false,
            &what,
        );
    }
    assert_unharmed(&instance, &endpoint, bodies.len());
    assert_eq!(instance.deliver("ins", &depth(128)).status, 200);
}

#[test]
fn a_member_that_could_be_taken_for_an_inserted_one_is_reserved_at_the_top_only() {
    let (instance, endpoint) = ready();
    let names = [
        "secrets",
        "\\u0073ecrets",
        "SECRETS",
        "ſecrets",
        "secret_status",
        "Secret_Status",
    ];
    for name in names {
        let body = format!("{{\"{name}\":\"{CANARY}\"}}");
        assert_problem(
            &instance.deliver("ins", body.as_bytes()),
            400,
            "reserved-member",
            false,
            name,
        );
    }
    assert_unharmed(&instance, &endpoint, names.len());
    for name in names {
        let body = format!("{{\"deeper\":{{\"{name}\":1}}}}");
        assert_eq!(instance.deliver("ins", body.as_bytes()).status, 200, "{name}");
        let received = String::from_utf8(endpoint.last().body).unwrap();
        assert!(received.starts_with(body.strip_suffix('}').unwrap()), "{received}");
    }
}

#[test]
fn heads_are_refused_in_the_contracts_order() {
    let instance = Instance::start();
    let long = "x".repeat(1_048_577);
    for (method, path, headers, body, status, problem) in [
        ("GET", "/x", vec![], "", 405, "method-not-allowed"),
        ("PUT", "/../x", vec![], long.as_str(), 405, "method-not-allowed"),
        ("POST", "/../x", vec![], long.as_str(), 413, "payload-too-large"),
        ("POST", "/../x", vec![], "{}", 415, "unsupported-media-type"),
        (
            "POST",
            "/x",
            vec![("Content-Type", "text/plain")],
            "{}",
            415,
            "unsupported-media-type",
        ),
        (
            "POST",
            "/x",
            vec![JSON, ("Content-Encoding", "gzip")],
            "{}",
            415,
            "unsupported-media-type",
        ),
        (
            "POST",
            "/x",
            vec![JSON, ("Origin", "https://evil.example")],
            "{}",
            401,
            "dispatcher-unauthenticated",
        ),
        ("POST", "/a/../x", vec![JSON, INS], "nonsense", 400, "invalid-path"),
        ("POST", "/a%2fx", vec![JSON, INS], "nonsense", 400, "invalid-path"),
        ("POST", "/a//x", vec![JSON, INS], "nonsense", 400, "invalid-path"),
        ("POST", "/x", vec![JSON], "{}", 400, "malformed-invocation"),
        (
            "POST",
            "/x",
            vec![JSON, ("X-Kiket-Installation-Id", "no such id!")],
            "{}",
            400,
            "malformed-invocation",
        ),
        ("POST", "/x", vec![JSON, INS], "{}", 404, "installation-unknown"),
    ] {
        let what = format!("{method} {path} {headers:?}");
        assert_problem(
            &once(instance.proxy(), &request(method, path, &headers, body.as_bytes())),
            status,
            problem,
            false,
            &what,
        );
    }
    let allow = once(instance.proxy(), &request("GET", "/x", &[], b""));
    assert_eq!(allow.header("allow"), Some("POST"));
}

#[test]
fn a_payload_of_exactly_the_limit_passes_and_one_byte_more_does_not_declared_or_chunked() {
    let (instance, endpoint) = ready();
    let sized = |size: usize| format!("{{\"a\":\"{}\"}}", "x".repeat(size - 8)).into_bytes();
    let chunked = |body: &[u8]| {
        let head = "POST /x HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
                    X-Kiket-Installation-Id: ins\r\nTransfer-Encoding: chunked\r\n\r\n";
        let mut bytes = head.as_bytes().to_vec();
        for chunk in body.chunks(100_000) {
            bytes.extend(format!("{:x}\r\n", chunk.len()).into_bytes());
            bytes.extend_from_slice(chunk);
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(b"0\r\n\r\n");
        bytes
    };
    let (fits, too_large) = (sized(1_048_576), sized(1_048_577));
    assert_problem(
        &instance.deliver("ins", &too_large),
        413,
        "payload-too-large",
        false,
        "declared",
    );
    let answer = once(instance.proxy(), &chunked(&too_large));
    assert_problem(&answer, 413, "payload-too-large", false, "chunked");
    assert_unharmed(&instance, &endpoint, 2);
    assert_eq!(instance.deliver("ins", &fits).status, 200);
    assert_eq!(once(instance.proxy(), &chunked(&fits)).status, 200);
    assert!(endpoint.last().body.starts_with(fits.strip_suffix(b"}").unwrap()));
}

#[test]
fn stated_ids_must_agree_with_each_other_and_with_the_registry() {
    let (instance, endpoint) = ready();
    let mismatches = [
        json!({"extension_installation_id": "other"}),
        json!({"organization_id": CANARY}),
        json!({"project_id": 7}),
        json!({"extension_id": "com.example.other"}),
        json!({"product_installation_id": "prod"}),
    ];
    for body in &mismatches {
        let answer = instance.deliver("ins", body.to_string().as_bytes());
        assert_problem(&answer, 409, "scope-mismatch", false, &body.to_string());
    }
    assert_unharmed(&instance, &endpoint, mismatches.len());
    let all = json!({
        "extension_installation_id": "ins", "organization_id": "org", "project_id": "proj",
        "extension_id": "com.example.simple", "product_installation_id": null,
    });
    assert_eq!(instance.deliver("ins", all.to_string().as_bytes()).status, 200);
    let by_body = request("POST", "/x", &[JSON], all.to_string().as_bytes());
    assert_eq!(once(instance.proxy(), &by_body).status, 200);
}

#[test]
fn an_installation_that_is_not_enabled_gets_nothing_and_a_mismatch_is_told_first() {
    let (instance, endpoint) = (Instance::start(), Endpoint::start());
    instance.register("com.example.simple", json!({"url": endpoint.url()}), json!({}));
    instance.install("ins", "com.example.simple");
    assert_problem(
        &instance.deliver("ins", b"{}"),
        409,
        "installation-not-enabled",
        false,
        "pending",
    );
    let mismatch = instance.deliver("ins", b"{\"organization_id\":\"other\"}");
    assert_problem(&mismatch, 409, "scope-mismatch", false, "mismatch");
    instance.enable("ins");
    assert_eq!(instance.deliver("ins", b"{}").status, 200);
    instance.must("PATCH", "/marketplace/installations/ins", &json!({"state": "disabled"}));
    assert_problem(
        &instance.deliver("ins", b"{}"),
        409,
        "installation-not-enabled",
        false,
        "disabled",
    );
    assert_eq!(endpoint.received().len(), 1);
}

#[test]
fn a_missing_required_key_fails_fast_or_is_forwarded_as_missing() {
    let (instance, endpoint) = (Instance::start(), Endpoint::start());
    let configuration = json!({"NEEDED": {"secret": true, "required": true}, "OPTIONAL": {"secret": true}});
    for (extension, on_missing) in [("com.example.fast", "fail_fast"), ("com.example.forward", "forward")] {
        instance.register(
            extension,
            json!({"url": endpoint.url(), "on_missing": on_missing}),
            configuration.clone(),
        );
        instance.install(on_missing, extension);
        instance.set("extension_installation", on_missing, "NEEDED", "there");
        instance.enable(on_missing);
        let path =
            format!("/extensions/secrets/NEEDED?scope=extension_installation&id={on_missing}&organization_id=org");
        instance.must("DELETE", &path, &Value::Null);
    }
    let refused = instance.deliver("fail_fast", b"{}");
    assert_problem(&refused, 424, "required-secrets-missing", false, "fail_fast");
    assert_eq!(refused.json()["missing"], json!(["NEEDED"]));
    assert!(endpoint.received().is_empty());
    assert_eq!(instance.deliver("forward", b"{}").status, 200);
    assert_eq!(
        endpoint.last().json()["secret_status"]["missing"],
        json!(["NEEDED", "OPTIONAL"])
    );
}

#[test]
fn a_missing_signing_key_is_never_an_unsigned_delivery() {
    let (instance, endpoint) = (Instance::start(), Endpoint::start());
    instance.register(
        "com.example.signed",
        json!({"url": endpoint.url(), "signing_secret_key": "SIGN"}),
        json!({}),
    );
    instance.install("ins", "com.example.signed");
    let enable = instance.api("PATCH", "/marketplace/installations/ins", &json!({"state": "enabled"}));
    assert_eq!(
        (enable.status, enable.problem().as_str()),
        (409, "required-secrets-missing")
    );
    instance.set("project", "proj", "SIGN", "signing-secret");
    instance.enable("ins");
    assert_eq!(instance.deliver("ins", b"{}").status, 200);
    assert_eq!(endpoint.last().json()["secrets"], json!({}));
    instance.must(
        "DELETE",
        "/extensions/secrets/SIGN?scope=project&id=proj&organization_id=org",
        &Value::Null,
    );
    assert_problem(
        &instance.deliver("ins", b"{}"),
        424,
        "signing-key-missing",
        false,
        "deleted",
    );
    assert_eq!(endpoint.received().len(), 1);
}

#[test]
fn a_dispatcher_needs_its_token_where_one_is_set() {
    let dir = tempfile::TempDir::new().unwrap();
    let file = dir.path().join("dispatcher.token");
    std::fs::write(&file, "the-token\n").unwrap();
    super::support::instance::set_mode(&file, 0o640);
    let settings = [("dispatcher_token_file", file.to_str().unwrap())];
    let (instance, endpoint) = (
        Instance::with(Options {
            settings: &settings,
            ..Options::default()
        }),
        Endpoint::start(),
    );
    instance.simple(&endpoint.url());
    let with = |token: &str| {
        once(
            instance.proxy(),
            &request("POST", "/x", &[JSON, INS, ("Authorization", token)], b"{}"),
        )
    };
    for wrong in ["Bearer wrong", "Bearer", "the-token", "Basic the-token"] {
        let refused = with(wrong);
        assert_problem(&refused, 401, "dispatcher-unauthenticated", false, wrong);
        assert_eq!(refused.header("www-authenticate"), Some("Bearer"));
    }
    assert_problem(
        &instance.deliver("ins", b"{}"),
        401,
        "dispatcher-unauthenticated",
        false,
        "none",
    );
    assert_eq!(with("Bearer the-token").status, 200);
    assert_eq!(endpoint.last().header("authorization"), None);
}

#[test]
fn bytes_that_are_no_request_end_the_connection_and_nothing_else() {
    let (instance, endpoint) = ready();
    for bytes in [
        b"\x16\x03\x01\x00\x00".as_slice(),
        b"GARBAGE\r\n\r\n",
        b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
        b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
    ] {
        let mut client = Client::connect(instance.proxy());
        client.send(bytes);
        if let Some(answer) = client.try_answer() {
            assert_eq!(answer.status, 400, "{bytes:?}");
        }
        assert!(client.is_closed());
    }
    assert_unharmed(&instance, &endpoint, 0);
}
