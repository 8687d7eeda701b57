//! What is said of where a value comes from, and what a rotation report says of its age.

use serde_json::{Value, json};

use super::super::support::api::Api;
use super::super::support::endpoint::Endpoint;
use super::super::support::gated_store::Gated;
use super::super::support::instance::Instance;
use super::super::support::problem::CANARY;
use super::{refusal, refused};
use kiket_sidecar::store::Role;

const EXPLAIN: &str = "/extensions/secrets/explain";
const REPORT: &str = "/extensions/secrets/report";

/// Scope, whether the partner's, outcome, whether hidden.
fn tried(explanation: &Value) -> Vec<Value> {
    let tried = explanation["tried"].as_array().unwrap().iter();
    tried
        .map(|slot| json!([slot["scope"], slot["partner_default"], slot["outcome"], slot["hidden"]]))
        .collect()
}

fn furnished(instance: &Instance, url: &str) {
    let callback = json!({"url": url, "signing_secret_key": "SIGN"});
    let configuration = json!({"KEY": {"secret": true, "required": true}, "OTHER": {"secret": true}});
    instance.register("com.example.a", callback, configuration);
    let install = json!({
        "id": "ins", "extension_id": "com.example.a", "organization_id": "org", "project_id": "proj",
        "product_installation_id": "prod",
    });
    instance.must("POST", "/marketplace/installations", &install);
}

#[test]
fn an_override_that_hides_a_wider_value_is_told_from_one_that_is_missing() {
    let instance = Instance::start();
    let api = Api::bootstrap(&instance);
    furnished(&instance, "https://example.com");
    let explain = || api.get(&format!("{EXPLAIN}?installation=ins&key=KEY")).json()["data"][0].clone();

    let nothing = explain();
    assert_eq!(
        json!([
            nothing["outcome"],
            nothing["winner"],
            nothing["required"],
            nothing["used_for"]
        ]),
        json!(["missing", null, true, "payload"])
    );
    assert_eq!(nothing["says"], "missing: no scope has a value");
    let all_absent = [
        json!(["extension_installation", false, "absent", false]),
        json!(["product_installation", false, "absent", false]),
        json!(["extension", false, "absent", false]),
        json!(["extension", true, "absent", false]),
        json!(["project", false, "absent", false]),
        json!(["organization", false, "absent", false]),
    ];
    assert_eq!(tried(&nothing), all_absent);

    instance.set("organization", "org", "KEY", CANARY);
    instance.set("project", "proj", "KEY", CANARY);
    instance.set("project", "proj", "KEY", CANARY);
    let partner =
        json!({"scope": "extension", "id": "com.example.a", "key": "KEY", "value": CANARY, "partner_default": true});
    instance.must("POST", "/extensions/secrets", &partner);
    instance.set("product", "prod", "KEY", CANARY);
    api.delete("/extensions/secrets/KEY?scope=product&id=prod&organization_id=org");
    let narrow = explain();
    assert_eq!(narrow["outcome"], "found");
    assert_eq!(
        tried(&narrow),
        [
            json!(["extension_installation", false, "absent", false]),
            json!(["product_installation", false, "deleted", false]),
            json!(["extension", false, "absent", false]),
            json!(["extension", true, "found", false]),
            json!(["project", false, "found", true]),
            json!(["organization", false, "found", true]),
        ]
    );
    assert_eq!(
        narrow["says"],
        "the value of extension com.example.a (the partner's default) version 1 is used; \
         it hides project proj version 2, organization org version 1"
    );
    assert_eq!(
        json!([narrow["winner"]["version"], narrow["winner"]["source"]]),
        json!([1, "value"])
    );

    // Overridden away from the partner's destination, its default does not count.
    let moved = json!({"callback_url": "https://other.example.com"});
    instance.must("PATCH", "/marketplace/installations/ins", &moved);
    let withheld = explain();
    assert_eq!(tried(&withheld)[3], json!(["extension", true, "withheld", false]));
    assert_eq!(withheld["tried"][3]["version"], Value::Null);
    assert_eq!(withheld["winner"]["scope"], "project");

    let link = json!({"scope": "installation", "id": "ins", "external_secret_name": "a/b"});
    instance.must("POST", "/extensions/secrets/KEY/link", &link);
    let linked = explain();
    assert_eq!(
        json!([
            linked["outcome"],
            linked["winner"]["source"],
            linked["winner"]["outcome"]
        ]),
        json!(["unavailable", "external", "unavailable"])
    );
    assert!(
        linked["says"].as_str().unwrap().starts_with("unavailable: "),
        "{linked}"
    );
}

#[test]
fn every_key_of_a_demand_is_explained_and_any_other_that_is_asked_for() {
    let (instance, endpoint) = (Instance::start(), Endpoint::start());
    let api = Api::bootstrap(&instance);
    furnished(&instance, &endpoint.url());
    let all = api.get(&format!("{EXPLAIN}?installation=ins")).json();
    let keys: Vec<Value> = all["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| json!([one["key"], one["used_for"], one["required"]]))
        .collect();
    assert_eq!(
        keys,
        [
            json!(["KEY", "payload", true]),
            json!(["OTHER", "payload", false]),
            json!(["SIGN", "signing", true])
        ]
    );
    assert_eq!(
        json!([all["organization_id"], all["cache_age_ms"]]),
        json!(["org", null])
    );
    let other = api.get(&format!("{EXPLAIN}?installation=ins&key=ANY")).json();
    assert_eq!(
        json!([other["data"][0]["used_for"], other["data"][0]["required"]]),
        json!(["none", false])
    );

    // A placeholder waits, and says where.
    let mut scaffold = json!({"id": "ins2", "extension_id": "com.example.a", "organization_id": "org"});
    scaffold["project_id"] = json!("proj");
    scaffold["scaffold"] = json!(true);
    instance.must("POST", "/marketplace/installations", &scaffold);
    let waiting = api.get(&format!("{EXPLAIN}?installation=ins2&key=KEY")).json();
    assert_eq!(
        waiting["data"][0]["says"],
        "missing: no scope has a value; a placeholder waits for its value at extension_installation ins2 version 1"
    );

    // The age is that of what this instance would deliver.
    for key in ["KEY", "SIGN"] {
        instance.set("project", "proj", key, CANARY);
    }
    instance.enable("ins");
    for millis in [500, 1_000] {
        assert_eq!(instance.deliver("ins", b"{}").status, 200);
        instance.clock.advance(millis);
    }
    let age = || api.get(&format!("{EXPLAIN}?installation=ins")).json()["cache_age_ms"].clone();
    assert_eq!(age(), 1_500);
    instance.set("project", "proj", "KEY", CANARY);
    assert_eq!(age(), Value::Null, "dropped");
}

#[test]
fn what_cannot_be_explained_is_refused() {
    let gated = Gated::open();
    let instance = gated.start(&[]);
    furnished(&instance, "https://example.com");
    let api = Api::bootstrap(&instance);
    for (query, expected) in [
        ("", refused(422, "invalid-field", "query")),
        ("?installation=none", refused(404, "not-found", "")),
        ("?installation=a%20b", refused(422, "invalid-field", "installation")),
        ("?installation=ins&key=lower", refused(422, "invalid-field", "key")),
        ("?installation=ins&organization_id=org2", refused(404, "not-found", "")),
    ] {
        assert_eq!(refusal(&api.get(&format!("{EXPLAIN}{query}"))), expected, "{query}");
    }
    let foreign = Api::with(&instance, &gated, Role::OrgAdmin, Some("org2"));
    let answer = foreign.get(&format!("{EXPLAIN}?installation=ins"));
    assert_eq!(refusal(&answer), refused(404, "not-found", ""));
}

#[test]
fn a_report_holds_ages_against_the_policy_and_adds_up() {
    const DAY: u64 = 24 * 60 * 60 * 1_000;
    let gated = Gated::open();
    let instance = gated.start(&[]);
    let api = Api::bootstrap(&instance);
    furnished(&instance, "https://example.com");
    instance.set("project", "proj", "OLD", CANARY);
    instance.clock.advance(1);
    let mut fresh =
        json!({"scope": "project", "id": "proj", "organization_id": "org", "key": "FRESH", "value": CANARY});
    fresh["owner"] = json!("=cmd|' /C calc'!A0");
    instance.must("POST", "/extensions/secrets", &fresh);
    instance.must("POST", "/extensions/secrets", &fresh);
    let link = json!({"scope": "project", "id": "proj", "organization_id": "org", "external_secret_name": "a/b"});
    instance.must("POST", "/extensions/secrets/LINK/link", &link);
    let mut scaffold = json!({"id": "ins2", "extension_id": "com.example.a", "organization_id": "org"});
    scaffold["project_id"] = json!("proj");
    scaffold["scaffold"] = json!(true);
    instance.must("POST", "/marketplace/installations", &scaffold);
    let foreign = json!({"scope": "organization", "id": "org2", "key": "FOREIGN", "value": CANARY});
    instance.must("POST", "/extensions/secrets", &foreign);
    instance.clock.advance(90 * DAY); // OLD is a millisecond older than the policy allows, FRESH exactly as old

    let report = api.get(&format!("{REPORT}?organization_id=org")).json();
    let lines: Vec<Value> = report["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|line| {
            json!([
                line["key"],
                line["source"],
                line["rotation_count"],
                line["age_days"],
                line["overdue"]
            ])
        })
        .collect();
    assert_eq!(
        lines,
        [
            json!(["OLD", "value", 0, 90, true]),
            json!(["FRESH", "value", 1, 90, false]),
            json!(["LINK", "external", 0, 90, false]),
            json!(["KEY", "placeholder", 0, null, false]),
            json!(["OTHER", "placeholder", 0, null, false]),
            json!(["SIGN", "placeholder", 0, null, false]),
        ]
    );
    let totals = json!({"secrets": 6, "overdue": 1, "external": 1, "placeholders": 3, "never_rotated": 2});
    assert_eq!(report["totals"], totals);
    let line = &report["data"][1];
    assert_eq!(
        json!([line["owner"], line["written_by"], line["max_age_days"], line["version"]]),
        json!(["=cmd|' /C calc'!A0", "bootstrap", 90, 2])
    );
    assert_eq!(api.get(REPORT).json()["totals"]["secrets"], 7, "an operator sees all");

    let csv = api.get(&format!("{REPORT}?organization_id=org&format=csv"));
    assert!(csv.header("content-type").unwrap().starts_with("text/csv"));
    let text = String::from_utf8(csv.body).unwrap();
    let rows: Vec<&str> = text.split("\r\n").collect();
    assert_eq!(rows.len(), 8, "a header, six secrets, and the last line's end: {text}");
    assert!(
        rows[0].starts_with("organization_id,key,scope,scope_id,source,version,rotation_count"),
        "{text}"
    );
    assert!(rows[1].starts_with("org,OLD,project,proj,value,1,0,"), "{text}");
    assert!(rows[1].contains(",90,90,true,"), "{text}");
    assert!(rows[2].contains(",\"'=cmd|' /C calc'!A0\",bootstrap"), "{text}");
    let columns = rows[0].split(',').count();
    assert!(rows[1..7].iter().all(|row| row.split(',').count() == columns), "{text}");

    let refused_format = api.get(&format!("{REPORT}?format=xml"));
    assert_eq!(refusal(&refused_format), refused(422, "invalid-field", "format"));
}

#[test]
fn a_report_does_not_believe_a_policy_that_somebody_edited() {
    let gated = Gated::open();
    let instance = gated.start(&[]);
    let api = Api::bootstrap(&instance);
    instance.set("organization", "org", "KEY", CANARY);
    instance.must(
        "PUT",
        "/organizations/org/policy",
        &json!({"rotation_max_age_days": 30}),
    );
    let path = format!("{REPORT}?organization_id=org");
    assert_eq!(api.get(&path).json()["data"][0]["max_age_days"], 30);
    assert_eq!(gated.damage("UPDATE policies SET rotation_max_age_days = 9999"), 1);
    assert_eq!(refusal(&api.get(&path)), refused(500, "internal", ""));
}

#[test]
fn a_report_of_many_secrets_is_one_document() {
    let instance = Instance::start();
    let api = Api::bootstrap(&instance);
    let secret = |n: usize| json!({"scope": "project", "id": "proj", "organization_id": "org", "key": format!("K{n}"), "value": "v"});
    for part in 0..6 {
        let secrets: Vec<Value> = (part * 200..part * 200 + 200).map(secret).collect();
        instance.must("POST", "/extensions/secrets", &json!({"secrets": secrets}));
    }
    let report = api.get(&format!("{REPORT}?organization_id=org")).json();
    assert_eq!(
        json!([report["data"].as_array().unwrap().len(), report["totals"]["secrets"]]),
        json!([1_200, 1_200])
    );
    assert_eq!(report["data"][1_199]["key"], "K1199");
    let csv = api.get(&format!("{REPORT}?organization_id=org&format=csv"));
    assert_eq!(String::from_utf8(csv.body).unwrap().lines().count(), 1_201);
}
