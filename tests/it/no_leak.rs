//! Whether anything that is secret comes out where it should not: log, metrics, answers, files, process table.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};

use super::support::canary::Canary;
use super::support::endpoint::{Endpoint, Received, answer};
use super::support::http::{Answer, once, request};
use super::support::process::{Home, Process};

/// Characters that forms of writing treat differently.
const ODD: &str = "/\u{fc}\" \\\u{1f511}";

/// Files in which an operator gives secrets to the process.
const GIVEN: [&str; 3] = ["master.key", "operator.token", "dispatcher.token"];

/// What is delivered, signed with, shown in a handshake, and the texts that callers show.
struct Secrets {
    payload: Canary,
    signing: Canary,
    certificate: Canary,
    key: Canary,
    dispatcher: Canary,
    foreign: Canary,
    inside: Canary,
    answered: Canary,
}

impl Secrets {
    fn new() -> Self {
        let pem = |label: &str, word: &str| format!("-----BEGIN {label}-----\n{word}\n-----END {label}-----\n");
        Self {
            payload: Canary::new(&format!("cnry-payload-4f{ODD}")),
            signing: Canary::new(&format!("cnry-signing-9c{ODD}")),
            certificate: Canary::new(&pem("CERTIFICATE", "cnry-certificate-52")),
            key: Canary::new(&pem("PRIVATE KEY", "cnry-key-0e")),
            dispatcher: Canary::new("cnry-dispatcher-token-b3"),
            foreign: Canary::new("cnry-foreign-d1"),
            inside: Canary::new("cnry-inside-66"),
            answered: Canary::new("cnry-answered-aa"),
        }
    }

    fn all(&self) -> [&Canary; 8] {
        [
            &self.payload,
            &self.signing,
            &self.certificate,
            &self.key,
            &self.dispatcher,
            &self.foreign,
            &self.inside,
            &self.answered,
        ]
    }
}

/// An instance that says all it can, its secrets, and everything that it answered.
struct Stage {
    process: Process,
    endpoint: Endpoint,
    secrets: Secrets,
    answers: Vec<Vec<u8>>,
}

fn whole(answer: &Answer) -> Vec<u8> {
    format!("{:?}", answer.headers)
        .into_bytes()
        .into_iter()
        .chain(answer.body.clone())
        .collect()
}

impl Stage {
    fn start(log_format: &str) -> Self {
        let (home, secrets) = (Home::new(), Secrets::new());
        let token = home.write("dispatcher.token", &secrets.dispatcher.text);
        let settings = [
            ("log", "trace"),
            ("log_format", log_format),
            ("dispatcher_token_file", token.to_str().unwrap()),
        ];
        let command = home.serve(&settings);
        let word = secrets.answered.text.clone();
        let script = move |received: &Received| match received.target.as_str() {
            "/garbage" => Some(format!("{word}\r\n\r\n").into_bytes()),
            "/redirect" => Some(answer(302, &format!("Location: https://example.com/{word}\r\n"), b"")),
            _ => Some(answer(
                500,
                &format!("X-Debug: {word}\r\n"),
                format!("{{\"{word}\":1}}").as_bytes(),
            )),
        };
        Self {
            process: Process::spawn(home, command),
            endpoint: Endpoint::scripted(Arc::new(script)),
            secrets,
            answers: Vec::new(),
        }
    }

    /// A call of the REST API whose answer is kept.
    fn call(&mut self, method: &str, path: &str, body: &[u8]) -> u16 {
        let answer = self.process.call(method, path, body);
        self.answers.push(whole(&answer));
        answer.status
    }

    fn set(&mut self, key: &str, value: &str) {
        let secret = json!({"scope": "project", "id": "proj", "key": key, "value": value, "organization_id": "org"});
        let status = self.call("POST", "/extensions/secrets", secret.to_string().as_bytes());
        assert!(status < 300, "{key}: {status}");
    }

    /// An invocation. What comes back of the endpoint's own is not the sidecar's answer, and not kept.
    fn deliver(&mut self, path: &str, token: &str, installation: &str, body: &str) -> u16 {
        let (bearer, inside) = (format!("Bearer {token}"), self.secrets.inside.text.clone());
        let headers = [
            ("Content-Type", "application/json"),
            ("X-Kiket-Installation-Id", installation),
            ("Authorization", &bearer),
            ("Cookie", &inside),
            ("X-Own", &inside),
        ];
        let answer = once(self.process.proxy(), &request("POST", path, &headers, body.as_bytes()));
        if answer
            .header("proxy-status")
            .is_some_and(|status| status.contains("error="))
        {
            self.answers.push(whole(&answer));
        }
        answer.status
    }

    /// Installs one that delivers, and one whose certificate is none.
    fn install(&mut self) {
        let url = json!({"url": self.endpoint.url(), "signing_secret_key": "SIGN"});
        let configuration = json!({"KEY": {"secret": true, "required": true}});
        self.process.install("ins", "com.example.plain", &url, &configuration);
        let mtls = json!({
            "url": "https://127.0.0.1:9/", "mtls": {"certificate_key": "CERT", "private_key_key": "PRIVATE"},
        });
        self.process.install("mtls", "com.example.mtls", &mtls, &configuration);
        let Secrets {
            payload,
            signing,
            certificate,
            key,
            ..
        } = &self.secrets;
        let values = [
            ("KEY", payload.text.clone()),
            ("SIGN", signing.text.clone()),
            ("CERT", certificate.text.clone()),
            ("PRIVATE", key.text.clone()),
        ];
        for (key, value) in values {
            self.set(key, &format!("{value} that is replaced"));
            self.set(key, &value);
        }
        self.process.enable("ins");
        self.process.enable("mtls");
    }

    /// Deliveries that succeed and every kind that is refused.
    fn deliveries(&mut self) {
        let (token, foreign) = (self.secrets.dispatcher.text.clone(), self.secrets.foreign.text.clone());
        let inside = self.secrets.inside.text.clone();
        let body = format!("{{\"id\":\"inv_1\",\"payload\":\"{inside}\"}}");
        let query = format!("/webhooks/x?token={inside}");
        let cases = [
            (query.as_str(), token.as_str(), "ins", body.clone(), 500),
            ("/garbage", &token, "ins", body.clone(), 502),
            ("/redirect", &token, "ins", body.clone(), 502),
            ("/x", &foreign, "ins", body.clone(), 401),
            ("/x", &token, "unknown", body.clone(), 404),
            ("/x", &token, "mtls", body.clone(), 502),
            ("/x", &token, "ins", format!("{body}{inside}"), 400),
            ("/x", &token, "ins", format!("{{\"secrets\":\"{inside}\"}}"), 400),
            (
                "/x",
                &token,
                "ins",
                format!("{{\"organization_id\":\"{inside}\"}}"),
                409,
            ),
            ("/x", &token, "ins", format!("{{\"id\":{{\"{inside}\":1}}}}"), 400),
            (&format!("/../{inside}"), &token, "ins", body, 400),
        ];
        for (path, token, installation, body, status) in cases {
            assert_eq!(
                self.deliver(path, token, installation, &body),
                status,
                "{path} {installation} {body}"
            );
        }
    }

    /// Calls of the REST API that are refused for what is in them, and ones that read everything.
    fn calls(&mut self) {
        let value = json!(self.secrets.foreign.text);
        let text = self.secrets.foreign.text.clone();
        let with = |member: &str, value: &Value| {
            let mut body = json!({"scope": "project", "id": "proj", "key": "KEY", "organization_id": "org"});
            body[member] = value.clone();
            body.to_string()
        };
        let refused = [
            with("value", &json!({"text": value})),
            with("value", &json!([value])),
            with("valeu", &value),
            with("key", &value),
            with("scope", &value),
            with("expires_at", &value),
            with("external_secret_name", &value),
            with("partner_default", &value),
            format!("{{\"value\": \"{text}\""),
            format!("\"{text}\""),
            format!("{{\"secrets\": [\"{text}\"]}}"),
        ];
        for body in refused {
            let status = self.call("POST", "/extensions/secrets", body.as_bytes());
            assert!((400..500).contains(&status), "{status}: {body}");
            let status = self.call("POST", "/extensions/secrets/KEY/rotate", body.as_bytes());
            assert!((400..500).contains(&status), "{status}: {body}");
        }
        let manifests = [
            format!("{{\"extension\": \"{text}\"}}"),
            format!("extension: {{id: com.example.x, delivery: {text}}}"),
            format!("{{\"id\":\"com.example.x\",\"delivery\":{{\"callback\":{{\"url\":\"https://u:{text}@h/\"}}}}}}"),
            format!("{{\"id\":\"com.example.x\",\"configuration\":{{\"{text}\":{{\"secret\":true}}}}}}"),
            format!("{{\"id\":\"com.example.x\",\"callback\":{{\"secret\":\"env:{text}\"}}}}"),
            text.clone(),
        ];
        for body in manifests {
            let status = self.call("PUT", "/extensions/com.example.x", body.as_bytes());
            assert!((400..500).contains(&status), "{status}: {body}");
        }
        for path in [
            format!("/extensions/secrets/{text}?scope=project&id=proj&organization_id=org"),
            format!("/extensions/secrets?cursor={text}"),
            format!("/{text}"),
        ] {
            let status = self.call("GET", &path, b"");
            assert!((400..500).contains(&status), "{status}: {path}");
        }
        for path in [
            "/extensions/secrets?organization_id=org",
            "/extensions/secrets/KEY?scope=project&id=proj&organization_id=org",
            "/extensions/com.example.plain",
            "/marketplace/installations?organization_id=org",
            "/marketplace/installations/ins",
            "/openapi.json",
        ] {
            assert_eq!(self.call("GET", path, b""), 200, "{path}");
        }
        let bearer = format!("Bearer {text}");
        let stranger = request("GET", "/api/v1/extensions/secrets", &[("Authorization", &bearer)], b"");
        let refused = once(self.process.admin, &stranger);
        assert_eq!(refused.status, 401);
        self.answers.push(whole(&refused));
    }
}

/// The text of every file below a folder but those that an operator wrote.
fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if path.is_dir() {
            found.extend(files(&path));
        } else if !GIVEN.contains(&name.as_str()) {
            found.push((name, fs::read(&path).unwrap()));
        }
    }
    found
}

/// Goes through a life with secrets in every place, and looks at all that is left of it.
fn nothing_leaks(log_format: &str) {
    let mut stage = Stage::start(log_format);
    stage.install();
    stage.deliveries();
    stage.calls();
    let Stage {
        process,
        endpoint,
        secrets,
        answers,
    } = stage;
    let mut places: Vec<(String, Vec<u8>)> = answers
        .into_iter()
        .map(|answer| ("an answer".to_owned(), answer))
        .collect();
    for path in ["/metrics", "/readyz", "/livez"] {
        places.push((path.to_owned(), whole(&process.health(path))));
    }
    for name in ["cmdline", "environ"] {
        let path = format!("/proc/{}/{name}", process.pid());
        places.push((path.clone(), fs::read(path).unwrap()));
    }
    let home = Arc::clone(&process.home);
    places.extend(files(home.path()));
    let ended = process.stop();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    places.extend(files(home.path()));
    places.push(("log".to_owned(), ended.stderr.into_bytes()));
    places.push(("stdout".to_owned(), ended.stdout.into_bytes()));

    let keyring = fs::read_to_string(home.path().join("master.key")).unwrap();
    let keys: Vec<&str> = keyring
        .lines()
        .filter_map(|line| line.strip_prefix("key = \""))
        .collect();
    assert!(keys.len() >= 4);
    for (place, bytes) in &places {
        for canary in secrets.all() {
            assert_eq!(canary.found_in(bytes), None, "{} in {place}", canary.text);
        }
        let text = String::from_utf8_lossy(bytes);
        for given in keys
            .iter()
            .map(|key| key.trim_end_matches(['"', '=']))
            .chain([home.token.as_str()])
        {
            assert!(!text.contains(given), "{given} in {place}");
        }
    }
    assert_is_seen(&places, &endpoint, &secrets, &home);
}

/// The same search finds what is there: a test that looks at nothing would pass as well.
fn assert_is_seen(places: &[(String, Vec<u8>)], endpoint: &Endpoint, secrets: &Secrets, home: &Home) {
    let received = endpoint.received();
    assert_eq!(received.len(), 3);
    assert_eq!(secrets.payload.found_in(&received[0].body), Some("raw"));
    assert_eq!(
        received[0].secret("KEY").as_deref(),
        Some(secrets.payload.text.as_str())
    );
    assert_eq!(secrets.inside.found_in(received[0].target.as_bytes()), Some("raw"));
    let token = fs::read(home.path().join("dispatcher.token")).unwrap();
    assert_eq!(secrets.dispatcher.found_in(&token), Some("raw"));
    let seen = |name: &str, word: &str| {
        let named = places.iter().filter(|(place, _)| place.ends_with(name));
        named
            .map(|(_, bytes)| String::from_utf8_lossy(bytes).matches(word).count())
            .sum::<usize>()
    };
    assert_eq!(seen("log", "endpoint-redirected"), 1);
    for (name, word) in [
        ("kiket.db-wal", "com.example.plain"),
        ("cmdline", "dispatcher_token_file"),
        ("environ", "PATH="),
        ("/metrics", "kiket_deliveries_total"),
        ("log", "mtls-identity-invalid"),
        ("an answer", "KEY"),
    ] {
        assert!(seen(name, word) > 0, "{word} in {name}");
    }
}

#[test]
fn no_secret_comes_out_of_an_instance_that_logs_all_it_can_as_json() {
    nothing_leaks("json");
}

#[test]
fn no_secret_comes_out_of_an_instance_that_logs_all_it_can_as_text() {
    nothing_leaks("text");
}
