//! How a recorded invocation is sent through a running sidecar from a command line, and shown without being sent.

use std::sync::Arc;

use serde_json::{Value, json};

use super::support::command::{Shell, assert_refused};
use super::support::endpoint::{Endpoint, answer};
use super::support::process::Process;

const CANARY: &str = "cnry-deliver-4407";
/// What stands for a value.
const MASK: &str = "••••••••";

/// An invocation with all that a splice could disturb: order, numbers, escapes, white space, a brace in a text.
const INVOCATION: &str = "{ \"payload\":{\"b\":1.50e+2, \"a\":\"\\u00e9}\"},\t\"id\" : \"inv_7\"\n }\n\n";

/// An enabled installation `ins` of organization `org` that gets `KEY` and would take `OTHER`.
fn furnished(process: &Process, url: &str) {
    let configuration = json!({"KEY": {"secret": true, "required": true}, "OTHER": {"secret": true}});
    process.install("ins", "com.example.simple", &json!({"url": url}), &configuration);
    process.set("KEY", CANARY);
    process.enable("ins");
    process.home.write("invocation.json", INVOCATION);
}

fn shell(process: &Process) -> Shell<'_> {
    let proxy = format!("http://{}", process.proxy());
    Shell::of(process).with("KIKET_PROXY_URL", &proxy).guarding(CANARY)
}

const DELIVER: [&str; 4] = ["deliver", "invocation.json", "--installation", "ins"];

fn with<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&DELIVER, more].concat()
}

#[test]
fn a_file_is_delivered_as_it_is_and_the_answer_is_told_with_where_values_came_from() {
    let endpoint = Endpoint::scripted(Arc::new(|_| {
        Some(answer(
            201,
            "X-Seen: a\u{9b}b\r\n",
            "{\"ok\":\n\ttrue}\u{1b}[2J".as_bytes(),
        ))
    }));
    let process = Process::start();
    furnished(&process, &endpoint.url());
    let told = shell(&process).fine(&with(&["--event", "issue.created"]));
    let received = endpoint.last();
    assert_eq!(
        (received.target.as_str(), received.secret("KEY").as_deref()),
        ("/webhooks/issue.created", Some(CANARY))
    );
    let body = String::from_utf8(received.body).unwrap();
    let (head, tail) = INVOCATION.split_at(INVOCATION.rfind('}').unwrap());
    assert!(body.starts_with(head) && body.ends_with(tail), "{body}");
    assert!(told.starts_with("201 the endpoint's answer, delivery "), "{told}");
    for line in [
        "Proxy-Status: kiket; received-status=201\n",
        "x-seen: a\u{fffd}b\n",
        "\n{\"ok\":\n    true}\u{fffd}[2J\n",
        "KEY (payload, required): found\n",
        "OTHER (payload, optional): missing\n",
    ] {
        assert!(told.contains(line), "{line}: {told}");
    }
    let document = shell(&process).json(&DELIVER);
    assert_eq!(
        endpoint.last().target,
        "/",
        "without an event the callback itself is called"
    );
    assert_eq!(document["answer"]["status"], 201);
    assert_eq!(document["answer"]["problem"], Value::Null);
    assert_eq!(document["explanation"]["installation_id"], "ins");
    // From standard input, and without anybody to ask for an explanation.
    let piped = shell(&process).with("KIKET_TOKEN", "");
    let ended = piped.fed(INVOCATION.as_bytes(), &["deliver", "-", "--installation", "ins"]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(
        ended
            .stderr
            .starts_with("warning: where the values came from is not told: no token")
    );
    assert_eq!(endpoint.received().len(), 3);
}

#[test]
fn an_endpoint_that_says_no_is_a_finding_and_its_words_are_told() {
    let endpoint = Endpoint::scripted(Arc::new(|_| {
        let long = "x".repeat(100_000);
        Some(answer(
            422,
            "Content-Type: application/problem+json\r\n",
            long.as_bytes(),
        ))
    }));
    let process = Process::start();
    furnished(&process, &endpoint.url());
    let ended = shell(&process).run(&DELIVER);
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(1), ""));
    assert!(
        ended.stdout.starts_with("422 the endpoint's answer"),
        "{}",
        ended.stdout
    );
    assert!(ended.stdout.contains("… the first 65536 of 100000 bytes\n"));
    let document = shell(&process).json(&DELIVER);
    assert_eq!(document["answer"]["body_bytes"], 100_000);
}

#[test]
fn a_refusal_is_told_with_its_title_and_what_to_do() {
    let endpoint = Endpoint::start();
    let process = Process::start();
    furnished(&process, &endpoint.url());
    let shell = shell(&process);
    let unknown = ["deliver", "invocation.json", "--installation", "nobody"];
    shell.refused(
        4,
        &[
            "Installation unknown: No installation goes by this id.",
            "marketplace status",
        ],
        &unknown,
    );
    process
        .home
        .write("invocation.json", r#"{"extension_installation_id": "another"}"#);
    shell.refused(4, &["Scope mismatch", "--installation"], &DELIVER);
    process.home.write("invocation.json", r#"{"secrets": {}}"#);
    shell.refused(4, &["Reserved member", "as it was before the sidecar"], &DELIVER);
    process.home.write("invocation.json", "no JSON");
    shell.refused(4, &["Malformed invocation"], &DELIVER);
    process.home.write("invocation.json", INVOCATION);
    process.must("PATCH", "/marketplace/installations/ins", &json!({"state": "disabled"}));
    shell.refused(4, &["Installation not enabled", "kiket marketplace enable"], &DELIVER);
    process.enable("ins");
    process.must(
        "DELETE",
        "/extensions/secrets/KEY?scope=project&id=proj&organization_id=org",
        &json!({}),
    );
    let missing = shell.refused(
        1,
        &["Required secrets missing", "KEY", "kiket extensions secrets set"],
        &DELIVER,
    );
    assert!(
        missing.stdout.starts_with("424 the sidecar's own answer"),
        "{}",
        missing.stdout
    );
    assert!(
        missing.stdout.contains("KEY (payload, required): missing\n"),
        "{}",
        missing.stdout
    );
    assert_eq!(shell.json(&DELIVER)["answer"]["problem"], "required-secrets-missing");
    assert!(endpoint.received().is_empty());
    process.set("KEY", CANARY);
    process.must(
        "PATCH",
        "/marketplace/installations/ins",
        &json!({"callback_url": "http://127.0.0.1:9/"}),
    );
    process.must("PATCH", "/marketplace/installations/ins", &json!({"state": "disabled"}));
    process.enable("ins");
    shell.refused(1, &["Endpoint unreachable", "look at the endpoint"], &DELIVER);
}

#[test]
fn a_sidecar_that_is_away_or_is_none_ends_with_3_and_bad_arguments_with_2() {
    let process = Process::start();
    furnished(&process, "http://127.0.0.1:9/");
    let stranger = Endpoint::start();
    let shell = || shell(&process);
    let away = "is the sidecar running? --proxy or KIKET_PROXY_URL";
    shell().refused(
        3,
        &["cannot be reached", away],
        &with(&["--proxy", "http://127.0.0.1:1"]),
    );
    shell().refused(
        3,
        &["cannot be reached", away],
        &with(&["--proxy", "unix:/nowhere/proxy.sock"]),
    );
    let other = stranger.url();
    shell().refused(
        3,
        &["answered 200 in a way that the sidecar does not"],
        &with(&["--proxy", &other]),
    );
    let token = process.home.write("dispatcher.token", "cnry-dispatcher-token");
    let token = token.to_str().unwrap();
    let elsewhere = ["--proxy", "http://192.0.2.1:8080", "--dispatcher-token-file", token];
    shell().refused(2, &["the dispatcher's token would travel readable"], &with(&elsewhere));
    for (arguments, said) in [
        (&["--proxy", "ftp://127.0.0.1"][..], "--proxy or KIKET_PROXY_URL"),
        (&["--event", "../x"], "an event is 1 to 128"),
        (&["--dispatcher-token-file", "none"], "--dispatcher-token-file"),
    ] {
        shell().refused(2, &[said], &with(arguments));
    }
    shell().refused(
        2,
        &["none.json: cannot be read"],
        &["deliver", "none.json", "--installation", "ins"],
    );
    shell().refused(
        2,
        &["an id is 1 to 128"],
        &["deliver", "invocation.json", "--installation", "a b"],
    );
    assert_eq!(stranger.received().len(), 1, "no token went there");
}

#[test]
fn a_socket_and_a_dispatchers_token_are_used_where_they_are_set() {
    let endpoint = Endpoint::start();
    let home = super::support::process::Home::new();
    let token = home.write("dispatcher.token", "cnry-dispatcher-token");
    let (token, socket) = (token.display().to_string(), home.path().join("proxy.sock"));
    let listen = format!("unix:{},127.0.0.1:0", socket.display());
    let command = home.serve(&[("proxy_listen", &listen), ("dispatcher_token_file", &token)]);
    let process = Process::spawn(home, command);
    furnished(&process, &endpoint.url());
    let socket = format!("unix:{}", socket.display());
    let shell = shell(&process)
        .guarding("cnry-dispatcher-token")
        .with("KIKET_PROXY_URL", &socket);
    shell.refused(4, &["Dispatcher unauthenticated", "--dispatcher-token-file"], &DELIVER);
    shell.fine(&with(&["--dispatcher-token-file", &token]));
    let shell = shell.with("KIKET_DISPATCHER_TOKEN_FILE", &token);
    shell.fine(&DELIVER);
    assert_eq!(endpoint.received().len(), 2);
    assert!(
        endpoint
            .received()
            .iter()
            .all(|received| received.header("authorization").is_none())
    );
}

/// What a dry run prints as JSON, and its exit code.
fn previewed(shell: &Shell<'_>, more: &[&str]) -> (Option<i32>, Value) {
    let ended = shell.run(&with(&[more, &["--dry-run", "--output", "json"]].concat()));
    let document = serde_json::from_str(&ended.stdout);
    (
        ended.code,
        document.unwrap_or_else(|error| panic!("{error}: {}{}", ended.stdout, ended.stderr)),
    )
}

#[test]
fn a_dry_run_shows_what_would_be_sent_with_masks_for_values_and_sends_nothing() {
    let endpoint = Endpoint::start();
    let process = Process::start();
    furnished(&process, &endpoint.url());
    let shell = shell(&process);
    let told = shell.fine(&with(&["--dry-run", "--event", "issue.created"]));
    let (head, tail) = INVOCATION.split_at(INVOCATION.rfind('}').unwrap());
    let inserted = format!(",\"secrets\":{{\"KEY\":\"{MASK}\"}},\"secret_status\":{{\"missing\":[\"OTHER\"]}}");
    let expected = format!(
        "nothing was sent; the body would be\n\n{head}{inserted}{}\n\n",
        tail.trim_end()
    );
    assert!(told.starts_with(&expected), "{told}");
    let destination = format!("{}/webhooks/issue.created\n", endpoint.url());
    for line in [destination.as_str(), "OTHER\n", "KEY (payload, required): found\n"] {
        assert!(told.contains(line), "{line}: {told}");
    }
    let (code, document) = previewed(&shell, &[]);
    assert_eq!(code, Some(0));
    assert_eq!(document["payload"], format!("{head}{inserted}{tail}"));
    assert_eq!(
        (&document["sent"], &document["refused_as"]),
        (&json!(false), &Value::Null)
    );
    assert_eq!(document["missing"], json!(["OTHER"]));
    assert!(endpoint.received().is_empty(), "something was sent");
    // The very delivery differs from it in the values alone.
    shell.fine(&DELIVER);
    let sent = String::from_utf8(endpoint.last().body).unwrap();
    assert_eq!(sent.replace(CANARY, MASK), document["payload"].as_str().unwrap());
}

#[test]
fn a_dry_run_ends_as_the_delivery_would() {
    let endpoint = Endpoint::start();
    let process = Process::start();
    let callback = json!({
        "url": endpoint.url(), "signing_secret_key": "SIGNING",
    });
    let configuration = json!({"KEY": {"secret": true, "required": true}});
    process.install("ins", "com.example.signed", &callback, &configuration);
    process.set("KEY", CANARY);
    process.set("SIGNING", CANARY);
    process.home.write("invocation.json", INVOCATION);
    let shell = shell(&process);
    let both = |code: i32, name: &str| {
        let (dry, document) = previewed(&shell, &[]);
        assert_eq!((dry, &document["refused_as"]), (Some(code), &json!(name)));
        let sent = shell.run(&DELIVER);
        assert_eq!(sent.code, Some(code), "{}", sent.stderr);
        assert_eq!(shell.json(&DELIVER)["answer"]["problem"], name);
    };
    both(4, "installation-not-enabled");
    process.enable("ins");
    let (code, document) = previewed(&shell, &[]);
    assert_eq!(
        (code, &document["signing_keys"], &document["mtls_keys"]),
        (Some(0), &json!(["SIGNING"]), &json!([]))
    );
    let delete = |key: &str| {
        let path = format!("/extensions/secrets/{key}?scope=project&id=proj&organization_id=org");
        process.must("DELETE", &path, &json!({}));
    };
    delete("SIGNING");
    both(1, "signing-key-missing");
    process.set("SIGNING", CANARY);
    delete("KEY");
    both(1, "required-secrets-missing");
    process.set("KEY", CANARY);
    process
        .home
        .write("invocation.json", r#"{"organization_id": "another"}"#);
    both(4, "scope-mismatch");
    process.home.write("invocation.json", INVOCATION);
    let moved = json!({"callback_url": format!("{}/moved", endpoint.url())});
    process.must("PATCH", "/marketplace/installations/ins", &moved);
    both(4, "destination-unconfirmed");
    for (text, said) in [
        (r#"{"SECRETS": 1}"#, "Reserved member"),
        ("[]", "Malformed invocation"),
        ("{} {}", "Malformed invocation"),
    ] {
        process.home.write("invocation.json", text);
        assert_refused(&shell.run(&with(&["--dry-run"])), 4, &[said], &[]);
        assert_refused(&shell.run(&DELIVER), 4, &[said], &[]);
    }
    assert!(endpoint.received().is_empty(), "something was sent");
}
