//! How API tokens are made, listed, used and removed, on both planes.

use kiket_sidecar::store::Role;
use serde_json::{Value, json};

use super::super::support::api::{Api, audit};
use super::super::support::endpoint::Endpoint;
use super::super::support::gated_store::{Gated, Held};
use super::super::support::http::{Answer, once, request};
use super::super::support::instance::{Instance, set_mode};
use super::{refusal, refused};

const TOKENS: &str = "/tokens";

fn make(api: &Api<'_>, role: &str, organization: Value) -> Answer {
    let body = json!({"name": format!("a {role}"), "role": role, "organization_id": organization});
    api.json("POST", TOKENS, &body)
}

/// The text of a token just made.
fn text(answer: &Answer) -> String {
    assert_eq!(answer.status, 201, "{}", String::from_utf8_lossy(&answer.body));
    answer.json()["token"].as_str().unwrap().to_owned()
}

#[test]
fn a_tokens_text_is_shown_once_and_works_until_it_is_removed() {
    let gated = Gated::open();
    let instance = gated.start(&[]);
    let operator = Api::bootstrap(&instance);
    let made = make(&operator, "org_admin", json!("org"));
    let secret = text(&made);
    assert!(secret.starts_with("kst_") && secret.len() == 47, "{secret}");
    let object = made.json();
    let shown = json!([
        object["name"],
        object["role"],
        object["organization_id"],
        object["created_by"],
        object["last_used_at"]
    ]);
    assert_eq!(shown, json!(["a org_admin", "org_admin", "org", "bootstrap", null]));
    let admin = Api {
        instance: &instance,
        token: secret.clone(),
    };
    assert_eq!(admin.get("/extensions/secrets").status, 200);
    let listed = operator.get(TOKENS).json();
    assert!(!listed.to_string().contains(&secret[4..]), "{listed}");
    assert_eq!(listed["data"][0]["id"], object["id"]);
    assert_eq!(listed["data"][0]["token"], Value::Null);
    let id = object["id"].as_str().unwrap();
    assert_eq!(operator.delete(&format!("{TOKENS}/{id}")).status, 204);
    assert_eq!(
        refusal(&admin.get("/extensions/secrets")),
        refused(401, "unauthenticated", "")
    );
    assert_eq!(
        refusal(&operator.delete(&format!("{TOKENS}/{id}"))),
        refused(404, "not-found", "")
    );
    let actions: Vec<_> = audit(&gated, Some("org"))
        .iter()
        .map(|entry| entry.action.name())
        .collect();
    assert_eq!(actions, ["token.create", "secret.list", "token.delete"]);
}

#[test]
fn who_may_make_and_remove_which_token() {
    let gated = Gated::open();
    let instance = gated.start(&[]);
    let operator = Api::with(&instance, &gated, Role::PlatformOperator, None);
    let admin = Api::with(&instance, &gated, Role::OrgAdmin, Some("org"));
    let forbidden = refused(403, "forbidden", "");
    for (role, organization, by_operator, by_admin) in [
        ("platform_operator", Value::Null, 201, 403),
        ("platform_operator", json!("org"), 422, 403),
        ("dispatcher", Value::Null, 201, 403),
        ("dispatcher", json!("org"), 201, 403),
        ("org_admin", json!("org"), 201, 201),
        ("org_admin", Value::Null, 422, 201),
        ("auditor", json!("org"), 201, 201),
        ("auditor", json!("org2"), 201, 404),
        ("nobody", json!("org"), 422, 422),
    ] {
        let what = format!("{role} of {organization}");
        assert_eq!(
            make(&operator, role, organization.clone()).status,
            by_operator,
            "{what}"
        );
        let answer = make(&admin, role, organization);
        assert_eq!(answer.status, by_admin, "{what}");
        if by_admin == 201 {
            assert_eq!(answer.json()["organization_id"], "org");
        }
    }
    for role in [Role::Auditor, Role::Dispatcher] {
        let api = Api::with(&instance, &gated, role, Some("org"));
        assert_eq!(
            refusal(&make(&api, "auditor", json!("org"))),
            forbidden,
            "{}",
            role.name()
        );
    }
    // An admin sees its own organization's tokens, and removes those that it could have made.
    let of = |api: &Api<'_>| api.get(TOKENS).json()["data"].as_array().unwrap().clone();
    let own = of(&admin);
    assert!(own.iter().all(|token| token["organization_id"] == "org"));
    let all = of(&operator);
    assert!(all.len() > own.len());
    for token in all {
        let id = token["id"].as_str().unwrap();
        let expected = match (token["organization_id"].as_str(), token["role"].as_str().unwrap()) {
            (Some("org"), "dispatcher") => 403,
            (Some("org"), _) if id == format!("tok-{}", admin.token) => continue,
            (Some("org"), _) => 204,
            _ => 404,
        };
        assert_eq!(admin.delete(&format!("{TOKENS}/{id}")).status, expected, "{token}");
    }
}

#[test]
fn one_operator_token_without_an_end_always_stays() {
    let gated = Gated::open();
    let instance = gated.start(&[]);
    let bootstrap = Api::bootstrap(&instance);
    let now = kiket_sidecar::clock::Clock::now(&*instance.clock);
    let ending = |api: &Api<'_>, millis: u64| {
        let end = now.plus_millis(millis).to_rfc3339();
        api.json(
            "POST",
            TOKENS,
            &json!({"name": "x", "role": "platform_operator", "expires_at": end}),
        )
    };
    assert_eq!(
        refusal(&ending(&bootstrap, 60_000)),
        refused(422, "invalid-field", "expires_at")
    );
    let first = make(&bootstrap, "platform_operator", Value::Null);
    let operator = Api {
        instance: &instance,
        token: text(&first),
    };
    assert_eq!(refusal(&bootstrap.get(TOKENS)), refused(401, "unauthenticated", ""));
    assert_eq!(
        refusal(&ending(&operator, 0)),
        refused(422, "invalid-field", "expires_at")
    );
    let short = ending(&operator, 60_000);
    let short = (text(&short), short.json()["id"].as_str().unwrap().to_owned());
    let remove = |id: &str| operator.delete(&format!("{TOKENS}/{id}"));
    let first_id = first.json()["id"].as_str().unwrap().to_owned();
    assert_eq!(refusal(&remove(&first_id)), refused(409, "last-operator-token", ""));
    let ending_operator = Api {
        instance: &instance,
        token: short.0,
    };
    assert_eq!(ending_operator.get(TOKENS).status, 200);
    instance.clock.advance(60_000);
    assert_eq!(
        refusal(&ending_operator.get(TOKENS)),
        refused(401, "unauthenticated", "")
    );
    assert_eq!(remove(&short.1).status, 204);
    assert_eq!(refusal(&remove(&first_id)), refused(409, "last-operator-token", ""));
    let second = make(&operator, "platform_operator", Value::Null);
    let second = Api {
        instance: &instance,
        token: text(&second),
    };
    assert_eq!(second.delete(&format!("{TOKENS}/{first_id}")).status, 204);
}

#[test]
fn a_tokens_last_use_is_noted_to_the_minute() {
    let gated = Gated::open();
    let instance = gated.start(&[]);
    let operator = Api::bootstrap(&instance);
    let token = text(&make(&operator, "auditor", json!("org")));
    let auditor = Api {
        instance: &instance,
        token,
    };
    let now = || kiket_sidecar::clock::Clock::now(&*instance.clock).to_rfc3339();
    let noted = |expected: &str| {
        let deadline = std::time::Instant::now();
        // The list itself is what takes time here.
        while operator.get(TOKENS).json()["data"][0]["last_used_at"] != expected {
            assert!(deadline.elapsed().as_secs() < 30, "never noted");
        }
    };
    auditor.get("/extensions");
    let first = now();
    noted(&first);
    let commits = gated.store.calls("commit");
    instance
        .clock
        .advance(60_000 - kiket_sidecar::clock::Clock::now(&*instance.clock).0 % 60_000 - 1);
    for _ in 0..20 {
        auditor.get("/extensions");
    }
    instance.clock.advance(1);
    auditor.get("/extensions");
    noted(&now());
    assert_eq!(gated.store.calls("commit"), commits + 1, "once a minute");
}

#[test]
fn a_token_with_a_bad_name_or_end_is_not_made() {
    let instance = Instance::start();
    let api = Api::bootstrap(&instance);
    let with = |member: &str, value: Value| {
        let mut body = json!({"name": "n", "role": "auditor", "organization_id": "org"});
        body[member] = value;
        refusal(&api.json("POST", TOKENS, &body))
    };
    for (member, value, field) in [
        ("name", json!(""), "name"),
        ("name", json!("a\nb"), "name"),
        ("name", json!("n".repeat(129)), "name"),
        ("role", json!("Auditor"), "role"),
        ("organization_id", json!("a b"), "organization_id"),
        ("expires_at", json!("2001-01-01T00:00:00Z"), "expires_at"),
        ("expires_at", json!("tomorrow"), "expires_at"),
        ("token", json!("chosen by me"), ""),
    ] {
        assert_eq!(with(member, value), refused(422, "invalid-field", field), "{member}");
    }
    assert_eq!(api.get(TOKENS).json()["data"], json!([]));
}

/// An instance whose dispatchers have to show a token, with an installation of `org` and one of `org2`. Its feed stands
/// still: what was made is not told a second time.
fn guarded(gated: &Gated, endpoint: &Endpoint) -> (Instance, Held) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("dispatcher.token");
    std::fs::write(&file, "from the file").unwrap();
    set_mode(&file, 0o600);
    let (instance, feed) = gated.start_without_feed(&[("dispatcher_token_file", file.to_str().unwrap())]);
    instance.simple(&endpoint.url());
    let other = json!({
        "id": "ins2", "extension_id": "com.example.simple", "organization_id": "org2", "project_id": "proj",
    });
    instance.must("POST", "/marketplace/installations", &other);
    instance.enable("ins2");
    (instance, feed)
}

fn deliver(instance: &Instance, installation: &str, token: &str) -> (u16, String) {
    let authorization = format!("Bearer {token}");
    let headers = [
        ("Content-Type", "application/json"),
        ("X-Kiket-Installation-Id", installation),
        ("Authorization", authorization.as_str()),
    ];
    let answer = once(instance.proxy(), &request("POST", "/webhooks/x", &headers, b"{}"));
    let problem = if answer.status < 400 {
        String::new()
    } else {
        answer.problem()
    };
    (answer.status, problem)
}

#[test]
fn a_dispatcher_token_delivers_beside_the_file_for_whom_it_is_bound_to() {
    let (gated, endpoint) = (Gated::open(), Endpoint::start());
    let (instance, _feed) = guarded(&gated, &endpoint);
    let operator = Api::bootstrap(&instance);
    let free = text(&make(&operator, "dispatcher", Value::Null));
    let made = make(&operator, "dispatcher", json!("org"));
    let bound = text(&made);
    let auditor = text(&make(&operator, "auditor", json!("org")));
    let (fine, unknown) = ((200, String::new()), (401, "dispatcher-unauthenticated".to_owned()));
    let mismatch = (409, "scope-mismatch".to_owned());
    for (token, installation, expected) in [
        ("from the file", "ins", &fine),
        ("from the file", "ins2", &fine),
        (&free, "ins", &fine),
        (&free, "ins2", &fine),
        (&bound, "ins", &fine),
        (&bound, "ins2", &mismatch),
        (&auditor, "ins", &unknown),
        (instance.bootstrap_token(), "ins", &unknown),
        ("kst_unknown", "ins", &unknown),
        (&free.to_uppercase(), "ins", &unknown),
    ] {
        assert_eq!(
            &deliver(&instance, installation, token),
            expected,
            "{token} {installation}"
        );
    }
    assert_eq!(endpoint.received().len(), 5);
    // Neither is one of use on the control plane, nor does it work once it is removed.
    let as_caller = Api {
        instance: &instance,
        token: bound.clone(),
    };
    assert_eq!(refusal(&as_caller.get("/extensions")), refused(403, "forbidden", ""));
    let id = made.json()["id"].as_str().unwrap().to_owned();
    assert_eq!(operator.delete(&format!("{TOKENS}/{id}")).status, 204);
    assert_eq!(deliver(&instance, "ins", &bound), unknown);
}

#[test]
fn a_dispatcher_token_that_was_seen_costs_no_store_call_and_ends_on_time() {
    let (gated, endpoint) = (Gated::open(), Endpoint::start());
    let (instance, _feed) = guarded(&gated, &endpoint);
    let operator = Api::bootstrap(&instance);
    let end = kiket_sidecar::clock::Clock::now(&*instance.clock)
        .plus_millis(5_000)
        .to_rfc3339();
    let made = operator.json(
        "POST",
        TOKENS,
        &json!({"name": "d", "role": "dispatcher", "expires_at": end}),
    );
    let token = text(&made);
    assert_eq!(deliver(&instance, "ins", &token).0, 200);
    let lookups = gated.store.calls("token");
    gated.store.fail("token", kiket_sidecar::store::StoreError::Unavailable);
    for _ in 0..5 {
        assert_eq!(deliver(&instance, "ins", &token).0, 200);
    }
    assert_eq!(gated.store.calls("token"), lookups);
    assert_eq!(
        deliver(&instance, "ins", "kst_other"),
        (503, "store-unavailable".to_owned())
    );
    gated.store.mend();
    instance.clock.advance(4_999);
    assert_eq!(deliver(&instance, "ins", &token).0, 200);
    instance.clock.advance(1);
    assert_eq!(deliver(&instance, "ins", &token).0, 401);
}

#[test]
fn guessing_costs_the_store_no_more_than_so_many_looks_a_minute() {
    let (gated, endpoint) = (Gated::open(), Endpoint::start());
    let (instance, _feed) = guarded(&gated, &endpoint);
    let token = text(&make(&Api::bootstrap(&instance), "dispatcher", Value::Null));
    let to_the_minute = 60_000 - kiket_sidecar::clock::Clock::now(&*instance.clock).0 % 60_000;
    instance.clock.advance(to_the_minute);
    assert_eq!(deliver(&instance, "ins", &token).0, 200);
    for n in 0..600 {
        assert_eq!(deliver(&instance, "ins", &format!("kst_{n}")).0, 401, "{n}");
    }
    let looks = gated.store.calls("token");
    for _ in 0..5 {
        assert_eq!(deliver(&instance, "ins", "kst_more"), (503, "overloaded".to_owned()));
    }
    assert_eq!(deliver(&instance, "ins", &token).0, 200, "one that was seen");
    assert_eq!(gated.store.calls("token"), looks);
    instance.clock.advance(60_000);
    assert_eq!(deliver(&instance, "ins", "kst_more").0, 401);
}

#[test]
fn the_loaded_keys_are_named_without_their_material() {
    let gated = Gated::open();
    let instance = gated.start(&[]);
    let keys = Api::bootstrap(&instance).get("/keys").json();
    assert_eq!(keys["data"].as_array().unwrap().len(), 1);
    assert_eq!(keys["data"][0]["active"], true);
    let id = keys["data"][0]["id"].as_str().unwrap();
    let keyring = gated.keyring.to_toml();
    assert!(keyring.contains(id));
    let material = keyring.lines().filter_map(|line| line.strip_prefix("key = \""));
    assert!(
        material
            .into_iter()
            .all(|key| !keys.to_string().contains(key.trim_end_matches('"')))
    );
    let admin = Api::with(&instance, &gated, Role::OrgAdmin, Some("org"));
    assert_eq!(refusal(&admin.get("/keys")), refused(403, "forbidden", ""));
}
