//! What a generic fuzzer of APIs makes of the REST API: it reads the document, calls every operation in every way that
//! the document allows and does not, and finds no 5xx and no answer that the document does not describe.

use std::process::Command;

use serde_json::json;

use super::support::instance::{Instance, Options};
use super::support::python;

/// How long the fuzzer goes on, in seconds.
const BUDGET_SECONDS: &str = "15";

/// What there is, so that the fuzzer also gets at answers about something.
const FURNITURE: &str = r#"
[parameters]
"path.key" = "KEY"
"query.key" = "KEY"
"query.scope" = "project"
"query.organization_id" = "org"
"query.installation" = "ins"

[[operations]]
include-path-regex = "/extensions/\\{id\\}"
parameters = { "path.id" = "com.example.a" }

[[operations]]
include-path-regex = "/installations/"
parameters = { "path.id" = "ins" }

[[operations]]
include-path-regex = "/extensions/secrets/"
parameters = { "query.id" = "proj" }
"#;

/// What counts as a fault.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,\
                      response_schema_conformance,response_headers_conformance,unsupported_method";

/// `schemathesis run` against an instance with these checks and further arguments; its output, and whether it found
/// nothing.
fn fuzz(instance: &Instance, document: &str, checks: &str, further: &[&str]) -> (String, bool) {
    let mut command: Command = python::interpreter();
    command
        .args(["-m", "schemathesis.cli", "run", document])
        .args(["--url", &format!("http://{}", instance.running.admin().unwrap())])
        .args([
            "--header",
            &format!("Authorization: Bearer {}", instance.bootstrap_token()),
        ])
        .args(["--checks", checks, "--max-examples", "8", "--seed", "1"])
        .args(["--request-timeout", "30", "--no-color", "--warnings", "off"])
        .args(further)
        .current_dir(instance.dir.path().join("fuzz"));
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (said, output.status.success())
}

fn furnished() -> Instance {
    let instance = Instance::with(Options {
        settings: &[("api_rate_per_second", "1000000"), ("api_burst", "1000000")],
        ..Default::default()
    });
    instance.register(
        "com.example.a",
        json!({"url": "https://example.com"}),
        json!({"KEY": {"secret": true}}),
    );
    instance.install("ins", "com.example.a");
    instance.set("project", "proj", "KEY", "v");
    std::fs::create_dir(instance.dir.path().join("fuzz")).unwrap();
    instance
}

#[test]
fn a_fuzzer_finds_no_5xx_and_no_answer_that_the_document_does_not_describe() {
    let instance = furnished();
    let document = format!("http://{}/api/v1/openapi.json", instance.running.admin().unwrap());
    let operations = kiket_sidecar::admin::openapi().matches("\"operationId\"").count();
    let bounded = ["--phases", "coverage,fuzzing", "--max-time", BUDGET_SECONDS];
    for furniture in ["", FURNITURE] {
        std::fs::write(instance.dir.path().join("fuzz/schemathesis.toml"), furniture).unwrap();
        let (said, found_nothing) = fuzz(&instance, &document, CHECKS, &bounded);
        assert!(found_nothing, "{said}");
        assert!(
            said.contains(&format!("{operations} selected / {operations} total")),
            "{said}"
        );
        assert!(said.contains("passed"), "{said}");
    }
}

#[test]
fn the_fuzzer_sees_an_answer_that_the_document_does_not_describe() {
    let instance = furnished();
    let mut document: serde_json::Value = serde_json::from_str(&kiket_sidecar::admin::openapi()).unwrap();
    let path = "/api/v1/extensions";
    document["paths"] = json!({path: document["paths"][path].clone()});
    document
        .pointer_mut("/paths/~1api~1v1~1extensions/get/responses/200/content/application~1json")
        .unwrap()["schema"] = json!({"type": "object", "required": ["nothing"]});
    let file = instance.dir.path().join("wrong.json");
    std::fs::write(&file, document.to_string()).unwrap();
    let (said, found_nothing) = fuzz(
        &instance,
        file.to_str().unwrap(),
        "response_schema_conformance",
        &["--phases", "fuzzing"],
    );
    assert!(!found_nothing, "{said}");
    assert!(said.contains("schema"), "{said}");
}
