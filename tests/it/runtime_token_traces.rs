//! Whether a runtime token, good or bad, leaves a trace anywhere but at the endpoint: log at `trace`, answers, audit.

use serde_json::json;

use super::support::canary::Canary;
use super::support::endpoint::Endpoint;
use super::support::issuer::{Draft, Issuer, SigningKey, carrying};
use super::support::process::{Home, Process};

#[test]
fn a_token_comes_out_nowhere_but_at_the_endpoint() {
    let key = SigningKey::new("a");
    let issuer = Issuer::publishing(&[&key]);
    let (home, url) = (Home::new(), issuer.url());
    let command = home.serve(&[("log", "trace"), ("runtime_token_jwks_url", &url)]);
    let process = Process::spawn(home, command);
    let endpoint = Endpoint::start();
    process.install(
        "ins",
        "com.example.simple",
        &json!({"url": endpoint.url()}),
        &json!({"KEY": {"secret": true}}),
    );
    process.enable("ins");
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let (claim, kid) = (Canary::new("cnry-claim-5d"), Canary::new("cnry-kid-e1"));
    let draft = |key: &SigningKey| Draft {
        header: json!({"alg": "ES256", "kid": key.id}),
        claims: json!({
            "iss": "kiket.dev", "exp": now + 3_600, "jti": claim.text,
            "org_id": "org", "ext_id": "com.example.simple", "proj_id": "proj",
        }),
    };
    let stranger = SigningKey::new(&kid.text);
    let good = draft(&key).sign(&key);
    let cases = [
        ("good", good.clone(), 200),
        ("expired", draft(&key).claim("exp", json!(now - 3_600)).sign(&key), 403),
        (
            "mismatch",
            draft(&key).claim("org_id", json!(claim.text)).sign(&key),
            403,
        ),
        ("malformed", draft(&key).claim("exp", json!(claim.text)).sign(&key), 403),
        ("unknown", draft(&stranger).sign(&stranger), 403),
        ("header", draft(&key).head("jku", json!(kid.text)).sign(&key), 403),
        ("nonsense", format!("{}.{}", claim.text, kid.text), 403),
    ];
    let mut said = Vec::new();
    for (what, token, status) in &cases {
        let answer = process.deliver("ins", &carrying(token));
        assert_eq!(answer.status, *status, "{what}");
        said.extend(format!("{:?}{}", answer.headers, String::from_utf8_lossy(&answer.body)).into_bytes());
    }
    assert_eq!(
        endpoint.last().json()["authentication"]["runtime_token"],
        json!(good),
        "the control"
    );
    for path in ["/metrics", "/readyz"] {
        said.extend(process.health(path).body);
    }
    said.extend(process.call("GET", "/secrets/audit?organization_id=org", b"").body);
    let ended = process.stop();
    said.extend_from_slice(ended.stderr.as_bytes());
    said.extend_from_slice(ended.stdout.as_bytes());
    let text = String::from_utf8_lossy(&said);
    assert!(
        text.contains("\"token_check\":\"unknown-key\""),
        "the log is there: {text}"
    );
    for (what, token, _) in &cases {
        let parts = token.split('.').filter(|part| part.len() > 16);
        for part in parts.skip(usize::from(*what != "nonsense")) {
            assert!(!text.contains(part), "{what}: a part of a token in {text}");
        }
    }
    for canary in [claim, kid] {
        assert_eq!(canary.found_in(&said), None, "{text}");
    }
}
