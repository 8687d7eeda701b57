//! Which runtime tokens let a delivery through: tables of bad ones beside the good one, and what anybody is told of them.

use aws_lc_rs::hmac;
use serde_json::{Value, json};

use super::support::endpoint::Endpoint;
use super::support::http::{once, request};
use super::support::instance::Instance;
use super::support::issuer::{Issuer, SigningKey, carrying, encoded};
use super::support::problem::assert_problem;
use super::support::vouched::Vouched;

#[test]
fn an_invocation_that_is_vouched_for_is_delivered_as_it_came() {
    let stage = Vouched::with(&[]);
    let body = carrying(&stage.good());
    assert_eq!(stage.instance.deliver("ins", &body).status, 200);
    let received = stage.endpoint.last();
    assert!(received.body.starts_with(body.strip_suffix(b"}").unwrap()));
    assert_eq!(received.secret("KEY").as_deref(), Some("secret-value-0123456789"));
    stage
        .instance
        .await_line("a vouched delivery", |line| line["token_check"] == "valid");
    assert_eq!(stage.counted("valid"), 1);
    assert_eq!(stage.issuer.asked(), 1);
}

#[test]
fn without_the_setting_no_token_is_looked_at() {
    let (instance, endpoint) = (Instance::start(), Endpoint::start());
    instance.simple(&endpoint.url());
    for body in [
        "{}",
        r#"{"authentication":{"runtime_token":"nonsense"}}"#,
        r#"{"authentication":7,"authentication":{"runtime_token":1,"runtime_token":2}}"#,
    ] {
        assert_eq!(instance.deliver("ins", body.as_bytes()).status, 200, "{body}");
    }
    assert!(instance.lines().iter().all(|line| line.get("token_check").is_none()));
    assert!(
        instance
            .metrics()
            .contains("kiket_runtime_token_checks_total{verdict=\"absent\"} 0\n")
    );
}

#[test]
fn an_invocation_without_a_token_is_refused_and_one_with_two_is_malformed() {
    let stage = Vouched::with(&[]);
    let good = stage.good();
    for body in [
        json!({}),
        json!({"authentication": null}),
        json!({"authentication": {}}),
        json!({"authentication": {"runtime_token": null}}),
        json!({"authentication": {"token": good}}),
        json!({"runtime_token": good}),
        json!({"a": {"authentication": {"runtime_token": good}}}),
    ] {
        let refused = stage.instance.deliver("ins", body.to_string().as_bytes());
        assert_problem(&refused, 403, "runtime-token-invalid", false, &body.to_string());
    }
    assert_eq!(stage.logged("absent"), 7);
    for body in [
        format!(r#"{{"authentication":{{"runtime_token":"{good}","runtime_token":"{good}"}}}}"#),
        format!(r#"{{"authentication":{{"runtime_token":"{good}"}},"\u0061uthentication":null}}"#),
        String::from(r#"{"authentication":{"runtime_token":1}}"#),
        format!(r#"{{"authentication":"{good}"}}"#),
    ] {
        let refused = stage.instance.deliver("ins", body.as_bytes());
        assert_problem(&refused, 400, "malformed-invocation", false, &body);
    }
    assert!(stage.endpoint.received().is_empty());
    assert_eq!(stage.status(&good), 200);
}

#[test]
fn a_token_that_is_signed_by_anybody_or_anyhow_else_is_refused() {
    let stage = Vouched::with(&[]);
    let (good, draft, key) = (stage.good(), stage.draft(), &stage.key);
    let mallory = SigningKey::new("key-1");
    let (message, signature) = good.rsplit_once('.').unwrap();
    let signed_with = |header: Value, sign: &dyn Fn(&[u8]) -> Vec<u8>| {
        let message = format!("{}.{}", encoded(header.to_string()), encoded(draft.claims.to_string()));
        format!("{message}.{}", encoded(sign(message.as_bytes())))
    };
    let hmac_by = |secret: &[u8]| {
        let secret = hmac::Key::new(hmac::HMAC_SHA256, secret);
        let header = json!({"alg": "HS256", "typ": "JWT", "kid": "key-1"});
        signed_with(header, &|bytes| hmac::sign(&secret, bytes).as_ref().to_vec())
    };
    let alg = |alg: &str| signed_with(json!({"alg": alg, "kid": "key-1"}), &|bytes| key.signature(bytes));
    let other_claims = draft.clone().claim("org_id", json!("other")).sign(key);
    let swapped = [
        message.split('.').next().unwrap(),
        other_claims.split('.').nth(1).unwrap(),
        signature,
    ]
    .join(".");
    let jwk = key.jwk();
    for (verdict, what, token) in [
        ("signature", "another's key under the same id", draft.sign(&mallory)),
        ("signature", "other claims", swapped),
        ("signature", "no signature", format!("{message}.")),
        (
            "signature",
            "a signature of zeros",
            format!("{message}.{}", encoded([0; 64])),
        ),
        (
            "signature",
            "a short signature",
            format!("{message}.{}", encoded([1; 63])),
        ),
        (
            "algorithm",
            "none",
            signed_with(json!({"alg": "none"}), &|_| Vec::new()),
        ),
        ("algorithm", "none, signed", alg("none")),
        ("algorithm", "None", alg("None")),
        ("algorithm", "HS256 by the point", hmac_by(key.public())),
        (
            "algorithm",
            "HS256 by the key as published",
            hmac_by(jwk.to_string().as_bytes()),
        ),
        (
            "algorithm",
            "HS256 by a coordinate",
            hmac_by(jwk["x"].as_str().unwrap().as_bytes()),
        ),
        ("algorithm", "HS256 by nothing", hmac_by(b"")),
        ("algorithm", "ES384", alg("ES384")),
        ("algorithm", "RS256", alg("RS256")),
        ("algorithm", "in other letters", alg("es256")),
    ] {
        stage.refuses(verdict, what, &token);
    }
}

#[test]
fn a_header_that_brings_a_key_or_points_to_one_is_refused_even_over_a_good_signature() {
    let stage = Vouched::with(&[]);
    let elsewhere = Issuer::publishing(&[&SigningKey::new("key-1")]);
    let mallory = SigningKey::new("key-1");
    for (name, value) in [
        ("jwk", mallory.jwk()),
        ("jku", json!(elsewhere.url())),
        ("x5u", json!(elsewhere.url())),
        ("x5c", json!(["MIIB"])),
        ("crit", json!(["exp"])),
        ("crit", json!([])),
    ] {
        let draft = stage.draft().head(name, value);
        stage.refuses("header", name, &draft.sign(&stage.key));
        stage.refuses("header", name, &draft.sign(&mallory));
    }
    assert_eq!(elsewhere.asked(), 0);
    // What only describes the key is nobody's concern.
    for (name, value) in [("x5t", json!("abc")), ("cty", json!("JWT")), ("own", json!({"a": 1}))] {
        assert_eq!(
            stage.status(&stage.draft().head(name, value).sign(&stage.key)),
            200,
            "{name}"
        );
    }
}

#[test]
fn what_is_no_jwt_or_can_be_read_in_two_ways_is_refused() {
    let stage = Vouched::with(&[]);
    let (good, draft, key) = (stage.good(), stage.draft(), &stage.key);
    let (header, claims) = (draft.header.to_string(), draft.claims.to_string());
    let parts: Vec<&str> = good.split('.').collect();
    // Each adds a member to the good one's.
    let header_and = |more: &str| key.sign(&header.replacen('{', &format!("{{{more},"), 1), &claims);
    let claims_and = |more: &str| key.sign(&header, &claims.replacen('{', &format!("{{{more},"), 1));
    for (what, token) in [
        ("nothing", String::new()),
        ("a word", "token".into()),
        ("two parts", parts[..2].join(".")),
        ("four parts", format!("{good}.{}", parts[2])),
        ("an empty header", format!(".{}.{}", parts[1], parts[2])),
        ("padding", format!("{}=.{}.{}", parts[0], parts[1], parts[2])),
        ("white space", format!(" {good}")),
        (
            "base64 of the other alphabet",
            format!("{}.{}.+/{}", parts[0], parts[1], &parts[2][2..]),
        ),
        ("a header that is no JSON", key.sign("nonsense", &claims)),
        ("a header that is a list", key.sign("[]", &claims)),
        ("no algorithm", key.sign("{\"kid\":\"key-1\"}", &claims)),
        (
            "a key id that is a number",
            key.sign("{\"alg\":\"ES256\",\"kid\":1}", &claims),
        ),
        ("two algorithms", header_and(r#""alg":"ES256""#)),
        ("two algorithms, one escaped", header_and(r#""\u0061lg":"none""#)),
        ("two key ids", header_and(r#""kid":"key-1""#)),
        ("claims that are no JSON", key.sign(&header, "nonsense")),
        ("claims that are a list", key.sign(&header, "[]")),
        (
            "claims with something after them",
            key.sign(&header, &format!("{claims}{{}}")),
        ),
        ("two organizations", claims_and(r#""org_id":"org""#)),
        ("two organizations, one escaped", claims_and(r#""\u006frg_id":"org""#)),
        ("two products", claims_and(r#""pi_id":null"#)),
        ("two ends", claims_and(r#""exp":99999999999"#)),
        ("two issuers", claims_and(r#""iss":"kiket.dev""#)),
        (
            "a list of issuers",
            draft.clone().claim("iss", json!(["kiket.dev"])).sign(key),
        ),
        (
            "an end in words",
            draft.clone().claim("exp", json!("tomorrow")).sign(key),
        ),
        ("an end before time", draft.clone().claim("exp", json!(-1)).sign(key)),
        (
            "a beginning in words",
            draft.clone().claim("nbf", json!("now")).sign(key),
        ),
        (
            "an id that is a fraction",
            draft.clone().claim("proj_id", json!(1.0)).sign(key),
        ),
        (
            "an id that is true",
            draft.clone().claim("org_id", json!(true)).sign(key),
        ),
        (
            "an id that is a list",
            draft.clone().claim("org_id", json!(["org"])).sign(key),
        ),
        (
            "a product that is an object",
            draft.clone().claim("pi_id", json!({})).sign(key),
        ),
    ] {
        stage.refuses("malformed", what, &token);
    }
    assert_eq!(
        stage.status(&header_and(r#""own":1"#)),
        200,
        "the same way, another member"
    );
    assert_eq!(
        stage.status(&claims_and(r#""own":1"#)),
        200,
        "the same way, another member"
    );
}

#[test]
fn a_token_counts_from_its_beginning_to_its_end_and_thirty_seconds_around() {
    let stage = Vouched::with(&[]);
    let (draft, key) = (stage.draft(), &stage.key);
    let now = draft.claims["iat"].as_u64().unwrap();
    let at = |name: &str, seconds: u64| draft.clone().claim(name, json!(seconds)).sign(key);
    for (verdict, name, good, bad) in [
        ("expired", "exp", now - 29, now - 30),
        ("not-yet-valid", "nbf", now + 30, now + 31),
        ("not-yet-valid", "iat", now + 30, now + 31),
    ] {
        assert_eq!(stage.status(&at(name, good)), 200, "{name}");
        stage.refuses(verdict, name, &at(name, bad));
    }
    stage.refuses("expired", "at the epoch", &at("exp", 0));
    stage.refuses("not-yet-valid", "at the end of time", &at("nbf", u64::MAX));
    for (what, token) in [
        ("an end far away", at("exp", u64::MAX)),
        (
            "a fraction",
            draft.clone().claim("exp", json!(now as f64 + 0.5)).sign(key),
        ),
        ("only an end", draft.clone().without("nbf").without("iat").sign(key)),
        ("null", draft.clone().claim("nbf", Value::Null).sign(key)),
    ] {
        assert_eq!(stage.status(&token), 200, "{what}");
    }
    // It is this process's clock that counts.
    let good = stage.good();
    assert_eq!(stage.status(&good), 200);
    stage.instance.clock.advance(329_000);
    assert_eq!(stage.status(&good), 200, "remembered");
    stage.instance.clock.advance(1_000);
    stage.refuses("expired", "in the meantime", &good);
}

#[test]
fn a_token_of_another_issuer_or_of_none_is_refused() {
    let stage = Vouched::with(&[]);
    for iss in ["Kiket.dev", "kiket.dev.example.com", "https://kiket.dev", ""] {
        stage.refuses("issuer", iss, &stage.draft().claim("iss", json!(iss)).sign(&stage.key));
    }
    let own = Vouched::with(&[("runtime_token_issuer", "https://kiket.example.com")]);
    let token = own
        .draft()
        .claim("iss", json!("https://kiket.example.com"))
        .sign(&own.key);
    assert_eq!(own.status(&token), 200);
    let refused = own.instance.deliver("ins", &carrying(&own.good()));
    assert_problem(&refused, 403, "runtime-token-invalid", false, "the default's");
}

#[test]
fn a_token_is_refused_from_its_first_byte_too_many() {
    let stage = Vouched::with(&[]);
    let padded = |head: usize, claim: usize| {
        let draft = stage.draft().head("own", json!("x".repeat(head)));
        draft.claim("filler", json!("x".repeat(claim))).sign(&stage.key)
    };
    // In base64 not every length can be had by each part.
    let sized = |length: usize| {
        let paddings = (0..4).flat_map(|head| (5_600..6_000).map(move |claim| (head, claim)));
        let mut tokens = paddings.map(|(head, claim)| padded(head, claim));
        tokens.find(|token| token.len() == length).expect("one of this length")
    };
    let (fits, too_large) = (sized(8_192), sized(8_193));
    assert_eq!(stage.status(&fits), 200);
    stage.refuses("too-large", "well signed", &too_large);
    stage.refuses("too-large", "nonsense", &"x".repeat(8_193));
    stage.refuses("malformed", "nonsense that fits", &"x".repeat(8_192));
}

#[test]
fn a_token_vouches_for_the_installation_that_its_ids_are_of_and_for_no_other() {
    let stage = Vouched::with(&[]);
    let (instance, key) = (&stage.instance, &stage.key);
    let install = |id: &str, organization: &str, project: &str, product: Value| {
        let new = json!({
            "id": id, "extension_id": "com.example.simple", "organization_id": organization, "project_id": project,
            "product_installation_id": product,
        });
        instance.must("POST", "/marketplace/installations", &new);
        instance.enable(id);
    };
    install("numbered", "12", "-7", json!("34"));
    install("product", "org", "proj", json!("prod"));
    let draft = stage.draft();
    let numbered = draft.clone().claim("org_id", json!(12)).claim("proj_id", json!(-7));
    let product = |id: Value| draft.clone().claim("pi_id", id);
    for (what, installation, draft, verdict) in [
        ("all agree", "ins", draft.clone(), "valid"),
        ("no product", "ins", draft.clone().without("pi_id"), "valid"),
        (
            "another organization",
            "ins",
            draft.clone().claim("org_id", json!("other")),
            "mismatch",
        ),
        (
            "in other letters",
            "ins",
            draft.clone().claim("org_id", json!("ORG")),
            "mismatch",
        ),
        (
            "an empty organization",
            "ins",
            draft.clone().claim("org_id", json!("")),
            "mismatch",
        ),
        (
            "another extension",
            "ins",
            draft.clone().claim("ext_id", json!("com.example.other")),
            "mismatch",
        ),
        (
            "an extension's number",
            "ins",
            draft.clone().claim("ext_id", json!(7)),
            "mismatch",
        ),
        (
            "another project",
            "ins",
            draft.clone().claim("proj_id", json!("other")),
            "mismatch",
        ),
        (
            "a product where there is none",
            "ins",
            product(json!("prod")),
            "mismatch",
        ),
        ("no organization", "ins", draft.clone().without("org_id"), "incomplete"),
        ("no extension", "ins", draft.clone().without("ext_id"), "incomplete"),
        ("no project", "ins", draft.clone().without("proj_id"), "incomplete"),
        (
            "null for an organization",
            "ins",
            draft.clone().claim("org_id", Value::Null),
            "incomplete",
        ),
        ("no issuer", "ins", draft.clone().without("iss"), "incomplete"),
        ("no end", "ins", draft.clone().without("exp"), "incomplete"),
        (
            "null for an end",
            "ins",
            draft.clone().claim("exp", Value::Null),
            "incomplete",
        ),
        ("its product", "product", product(json!("prod")), "valid"),
        ("another product", "product", product(json!("other")), "mismatch"),
        ("silent on the product", "product", draft.clone(), "valid"),
        (
            "numbers",
            "numbered",
            numbered.clone().claim("pi_id", json!(34)),
            "valid",
        ),
        (
            "numbers as text",
            "numbered",
            numbered.clone().claim("org_id", json!("12")),
            "valid",
        ),
        (
            "another number",
            "numbered",
            numbered.clone().claim("org_id", json!(13)),
            "mismatch",
        ),
        ("another's", "numbered", draft.clone(), "mismatch"),
    ] {
        let before = stage.logged(verdict);
        let answer = instance.deliver(installation, &carrying(&draft.sign(key)));
        if verdict == "valid" {
            assert_eq!(answer.status, 200, "{what}");
            instance.await_line(what, |_| stage.logged(verdict) == before + 1);
        } else {
            assert_problem(&answer, 403, "runtime-token-invalid", false, what);
            assert_eq!(stage.logged(verdict), before + 1, "{what}: {}", instance.log());
        }
    }
}

#[test]
fn conflicts_are_told_before_a_bad_token_and_missing_secrets_after() {
    let stage = Vouched::with(&[]);
    let (instance, bad) = (&stage.instance, carrying("bad"));
    instance.register(
        "com.example.needy",
        json!({"url": stage.endpoint.url()}),
        json!({"NEEDED": {"secret": true, "required": true}}),
    );
    for id in ["pending", "needy"] {
        instance.install(id, "com.example.needy");
        instance.set("extension_installation", id, "NEEDED", "there");
    }
    instance.enable("needy");
    let path = "/extensions/secrets/NEEDED?scope=extension_installation&id=needy&organization_id=org";
    instance.must("DELETE", path, &Value::Null);
    let token = |extension: &str| carrying(&stage.draft().claim("ext_id", json!(extension)).sign(&stage.key));
    let mismatch = br#"{"organization_id":"other","authentication":{"runtime_token":"bad"}}"#.to_vec();
    for (installation, body, status, problem) in [
        ("ins", b"{\"secrets\":1}".to_vec(), 400, "reserved-member"),
        ("nobody", bad.clone(), 404, "installation-unknown"),
        ("ins", mismatch, 409, "scope-mismatch"),
        ("pending", bad.clone(), 409, "installation-not-enabled"),
        ("needy", bad.clone(), 403, "runtime-token-invalid"),
        ("needy", token("com.example.simple"), 403, "runtime-token-invalid"),
        ("needy", token("com.example.needy"), 424, "required-secrets-missing"),
        ("ins", bad, 403, "runtime-token-invalid"),
    ] {
        let answer = instance.deliver(installation, &body);
        assert_problem(&answer, status, problem, false, &format!("{installation} {problem}"));
    }
    let get = request("GET", "/x", &[("Content-Type", "application/json")], b"");
    assert_problem(&once(instance.proxy(), &get), 405, "method-not-allowed", false, "GET");
    assert_eq!(stage.issuer.asked(), 1);
    assert_eq!(stage.status(&stage.good()), 200);
}
