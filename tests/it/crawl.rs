//! Whether any answer of any route lets a value out: in whole, by its beginning, or by its length.

use kiket_sidecar::store::Role;
use serde_json::{Value, json};

use super::authorization::{SCOPES, calls};
use super::support::api::Api;
use super::support::canary::Canary;
use super::support::gated_store::Gated;
use super::support::http::Answer;
use super::support::instance::Instance;
use super::support::problem::CANARY;

/// A length that nothing else is likely to have, nor its sealed form.
const LONG: usize = 53_719;

/// A value of this length.
fn value(word: &str, length: usize) -> Canary {
    let text = format!("cnry-{word} ");
    Canary::new(&format!("{text}{}", "\u{fc}".repeat((length - text.len()) / 2)))
}

/// All that a client sees of an answer.
fn everything(answer: &Answer) -> Vec<u8> {
    let head = format!("{} {:?}", answer.status, answer.headers);
    [head.into_bytes(), answer.body.clone()].concat()
}

/// An installation with a value at every scope.
fn furnish(operator: &Api<'_>, value: &str) {
    let manifest = json!({
        "id": "com.example.a", "configuration": {"KEY": {"secret": true, "required": true}},
        "delivery": {"type": "http", "callback": {"url": "https://example.com"}},
    });
    operator.json("PUT", "/extensions/com.example.a", &manifest);
    let install = json!({
        "id": "ins", "extension_id": "com.example.a", "organization_id": "org", "project_id": "proj",
        "product_installation_id": "prod",
    });
    operator.json("POST", "/marketplace/installations", &install);
    for (scope, id) in SCOPES {
        let body = json!({"scope": scope, "id": id, "organization_id": "org", "key": "KEY", "value": value});
        assert!(operator.json("POST", "/extensions/secrets", &body).status < 300);
    }
}

#[test]
fn no_answer_of_any_route_holds_a_value_its_beginning_or_its_length() {
    let gated = Gated::open();
    let instance = gated.start(&[]);
    let long = value("x7-crawled", LONG);
    let length = long.text.len();
    let sealed = {
        // What would be stored of it, for whoever counts.
        let operator = Api::bootstrap(&instance);
        furnish(&operator, &long.text);
        gated.block_on(sealed_length(&gated))
    };
    let numbers = [
        length.to_string(),
        long.text.chars().count().to_string(),
        sealed.to_string(),
    ];
    let callers = [
        Api::with(&instance, &gated, Role::Auditor, Some("org")),
        Api::with(&instance, &gated, Role::OrgAdmin, Some("org")),
        Api::with(&instance, &gated, Role::PlatformOperator, None),
    ];
    let operator = &callers[2];
    let mut crawled = 0;
    for scope in SCOPES {
        for (method, path, body) in calls(scope) {
            for api in &callers {
                furnish(operator, &long.text);
                let filled = body.to_string().replace(CANARY, &long.text);
                let broken = filled.replacen(':', " ", 1);
                let elsewhere = filled.replace("\"key\":\"KEY\"", &format!("\"key\":{}", json!(long.text)));
                for body in [&filled, &broken, &elsewhere] {
                    let answer = api.send(method, &path, &[("Content-Type", "application/json")], body.as_bytes());
                    let seen = everything(&answer);
                    let what = format!("{method} {path}: {}", String::from_utf8_lossy(&seen));
                    assert_eq!(long.found_in(&seen), None, "{what}");
                    let text = String::from_utf8_lossy(&seen);
                    assert!(!text.contains("cnry"), "{what}");
                    let mut words = text.split(|c: char| !c.is_ascii_alphanumeric());
                    let is_length = |word: &str| numbers.iter().any(|number| number == word);
                    assert!(!words.any(is_length), "{what}");
                    crawled += 1;
                }
            }
        }
    }
    assert!(crawled > 1_000, "{crawled}");
    assert_eq!(long.found_in(instance.log().as_bytes()), None);
}

async fn sealed_length(gated: &Gated) -> usize {
    use kiket_sidecar::domain::id::{OrganizationId, ScopeId};
    use kiket_sidecar::domain::key::SecretKey;
    use kiket_sidecar::domain::scope::{Owner, Scope, Slot};
    use kiket_sidecar::store::Store;
    let slot = Slot {
        owner: Owner::Organization(OrganizationId::parse("org").unwrap()),
        scope: Scope::Project,
        scope_id: ScopeId::parse("proj").unwrap(),
        key: SecretKey::parse("KEY").unwrap(),
    };
    gated.store.slots(&[slot]).await.unwrap()[0].sealed.len()
}

/// What every route answers on an instance whose secret has this value, in order, with nothing in it that is chosen at
/// random.
fn answers(value: &str) -> Vec<(String, String)> {
    let gated = Gated::open();
    let instance: Instance = gated.start(&[]);
    let operator = Api::bootstrap(&instance);
    let now = kiket_sidecar::clock::Clock::now(&*instance.clock).0;
    instance.clock.advance(4_000_000_000_000 - now); // both stand at the same moment
    let mut seen = Vec::new();
    for scope in SCOPES {
        for (method, path, body) in calls(scope) {
            if path.starts_with("/secrets/audit/verify") {
                continue; // how far the log is signed is a matter of when the signer came by
            }
            furnish(&operator, value);
            let body: Value = serde_json::from_str(&body.to_string().replace(CANARY, "the same")).unwrap();
            let answer = operator.json(method, &path, &body);
            let mut answer = answer;
            answer.headers.retain(|(name, _)| name != "date");
            let mut text = String::from_utf8_lossy(&everything(&answer)).into_owned();
            text = masked(&text);
            seen.push((format!("{method} {path}"), text));
        }
    }
    seen
}

/// Stars instead of what is random or keyed: words of the alphabets of hex and base64 with 16 characters or more (ids,
/// hashes, keys, a token's text), and the end of a key's id.
fn masked(text: &str) -> String {
    let is_coded = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '-' | '_' | '=');
    let mut out = String::new();
    let mut word = String::new();
    for c in text.chars().chain(['\n']) {
        if is_coded(c) {
            word.push(c);
            continue;
        }
        // A word that somebody wrote has neither; one in many hundred of a token's texts has no digit.
        let is_unread = word.contains(|c: char| c.is_ascii_digit() || c.is_ascii_uppercase());
        let is_random = (word.len() >= 16 && is_unread) || word.starts_with("kek-");
        out.push_str(&if is_random {
            "*".repeat(word.len())
        } else {
            word.clone()
        });
        word.clear();
        out.push(c);
    }
    out
}

#[test]
fn a_secret_of_one_byte_is_not_told_from_one_of_64_kib() {
    let (short, long) = (answers("x"), answers(&"x".repeat(65_536)));
    assert_eq!(short.len(), long.len());
    for ((call, short), (_, long)) in short.iter().zip(&long) {
        let differs = short.bytes().zip(long.bytes()).position(|(short, long)| short != long);
        let around = |text: &str, at: usize| {
            text.get(at.saturating_sub(40)..(at + 40).min(text.len()))
                .map(str::to_owned)
        };
        assert_eq!(differs.map(|at| (around(short, at), around(long, at))), None, "{call}");
        assert_eq!(short.len(), long.len(), "{call}");
    }
}
