//! Whether providers that an operator set up are asked as the machine, and no tenant gets its token or its rights.

use std::sync::Arc;

use http::StatusCode;
use kiket_sidecar::clock::SystemClock;
use kiket_sidecar::store::Role;
use serde_json::{Value, json};

use super::support::api::Api;
use super::support::canary::Canary;
use super::support::endpoint::Endpoint;
use super::support::gated_store::Gated;
use super::support::gsm::account::Account;
use super::support::gsm::metadata::{MetadataServer, flavored};
use super::support::gsm::{ACCESSOR, FakeGsm, VIEWER};
use super::support::instance::Instance;

const MAIN: &str = "/organizations/org/providers/main";
const KEY: &str = "/extensions/secrets/KEY";
const PROJECT: &str = "acme-prod";
const TOKEN: &str = "cnry-machine";

/// A served instance on a machine whose identity may read a project, and an installation that wants `KEY`.
struct Machine {
    gated: Gated,
    instance: Instance,
    google: FakeGsm,
    metadata: MetadataServer,
    endpoint: Endpoint,
}

impl Machine {
    fn start() -> Self {
        let google = FakeGsm::start(None, Arc::new(SystemClock));
        google.admit_token("cnry-machine-1", PROJECT);
        google.add(PROJECT, "crm", b"the machine's value");
        google.add(PROJECT, "other", b"another tenant's value");
        let metadata = MetadataServer::start(TOKEN, 3_600);
        let gated = Gated::open();
        let instance = gated.start(&[("gsm_url", &google.url()), ("gsm_metadata_url", &metadata.url())]);
        let endpoint = Endpoint::start();
        instance.simple(&endpoint.url());
        Self {
            gated,
            instance,
            google,
            metadata,
            endpoint,
        }
    }

    fn operator(&self) -> Api<'_> {
        Api::with(&self.instance, &self.gated, Role::PlatformOperator, None)
    }

    fn tenant(&self) -> Api<'_> {
        Api::with(&self.instance, &self.gated, Role::OrgAdmin, Some("org"))
    }

    fn link(&self, api: &Api<'_>, reference: &str) -> (u16, String) {
        let link =
            json!({"scope": "project", "id": "proj", "organization_id": "org", "external_secret_name": reference});
        let answer = api.json("POST", &format!("{KEY}/link"), &link);
        (
            answer.status,
            if answer.status < 300 {
                String::new()
            } else {
                answer.problem()
            },
        )
    }

    /// The value that a delivery carries, or how it is refused.
    fn delivered(&self) -> String {
        let answer = self.instance.deliver("ins", b"{}");
        match answer.status {
            200 => self.endpoint.last().secret("KEY").unwrap_or_else(|| "missing".into()),
            status => format!("{status} {}", answer.problem()),
        }
    }
}

/// As an operator sets it up for an organization.
fn as_machine() -> Value {
    json!({
        "kind": "gsm", "path_prefix": format!("projects/{PROJECT}/secrets/crm"), "auth": {"method": "metadata"},
        "default": true,
    })
}

fn with(mut document: Value, member: &str, value: Value) -> Value {
    document[member] = value;
    document
}

#[test]
fn a_reference_is_delivered_as_the_machine_whose_token_is_seen_at_the_operators_address_alone() {
    let machine = Machine::start();
    assert_eq!(machine.metadata.asked().len(), 0, "no start asks for it");
    let (operator, tenant) = (machine.operator(), machine.tenant());
    assert_eq!(operator.json("PUT", MAIN, &as_machine()).status, 201);
    let linked = machine.link(&tenant, "gsm:projects/acme-prod/secrets/crm");
    assert_eq!(linked.0, 201, "{}", linked.1);
    assert_eq!(machine.delivered(), "the machine's value");
    let checked = tenant.json("POST", &format!("{MAIN}/check"), &Value::Null);
    assert_eq!(checked.status, 200);
    // The token that the check had asked for anew is not taken: it says so, and of the token nothing.
    assert_eq!(checked.json()["outcome"], "denied", "{}", checked.json());
    let bearers = machine.google.bearers();
    assert!(!bearers.is_empty() && bearers.iter().all(|token| token.starts_with(TOKEN)));
    assert!(bearers.contains(&String::from("cnry-machine-1")));

    let token = Canary::new(TOKEN);
    let shown = tenant.get(MAIN);
    for (what, bytes) in [
        ("the provider", shown.body),
        ("the check", checked.body),
        ("the log", machine.instance.log().into_bytes()),
        ("the metrics", machine.instance.metrics().into_bytes()),
        (
            "the endpoint",
            format!("{:?}", machine.endpoint.last().json()).into_bytes(),
        ),
    ] {
        assert_eq!(token.found_in(&bytes), None, "{what}");
    }
}

#[test]
fn a_metadata_server_that_is_away_is_a_source_that_is_unavailable_for_a_while_and_no_wider_value() {
    let machine = Machine::start();
    let (operator, tenant) = (machine.operator(), machine.tenant());
    let wider = json!({
        "scope": "organization", "id": "org", "organization_id": "org", "key": "KEY", "value": "a wider value",
    });
    assert_eq!(tenant.json("POST", "/extensions/secrets", &wider).status, 201);
    operator.json("PUT", MAIN, &as_machine());
    machine.link(&tenant, "gsm:projects/acme-prod/secrets/crm");
    machine
        .metadata
        .next((0..4).map(|_| flavored(StatusCode::SERVICE_UNAVAILABLE, "")));
    assert_eq!(machine.delivered(), "503 secret-source-unavailable");
    assert!(machine.endpoint.received().is_empty());
    machine.instance.clock.advance(120_000);
    assert_eq!(machine.delivered(), "the machine's value");
}

#[test]
fn only_a_platform_operator_sets_a_provider_up_that_is_asked_as_the_machine_or_changes_one() {
    let machine = Machine::start();
    let operator = machine.operator();
    let others = [Role::OrgAdmin, Role::Auditor, Role::Dispatcher];
    let apis: Vec<_> = others
        .map(|role| Api::with(&machine.instance, &machine.gated, role, Some("org")))
        .into();
    let wider = with(as_machine(), "path_prefix", json!(format!("projects/{PROJECT}")));
    let elsewhere = with(as_machine(), "path_prefix", json!("projects/other-prod"));
    let longer = with(as_machine(), "ttl", json!(86_400));
    // Where there is none, and where an operator's stands.
    for standing in [false, true] {
        if standing {
            assert_eq!(operator.json("PUT", MAIN, &as_machine()).status, 201);
        }
        for (api, role) in apis.iter().zip(others) {
            for document in [&as_machine(), &wider, &elsewhere, &longer] {
                let refused = api.json("PUT", MAIN, document);
                assert_eq!(
                    (refused.status, refused.problem().as_str()),
                    (403, "forbidden"),
                    "{}",
                    role.name()
                );
                let refused = api.json_at("\"1\"", "PUT", MAIN, document);
                assert_eq!(refused.status, 403, "{}", role.name());
            }
        }
        let stands = operator.get(MAIN);
        assert_eq!(stands.status, if standing { 200 } else { 404 });
    }
    assert_eq!(operator.get(MAIN).json()["path_prefix"], as_machine()["path_prefix"]);
    // What the prefix leaves out is not asked for.
    machine.link(&apis[0], "gsm:projects/acme-prod/secrets/other");
    assert_eq!(machine.delivered(), "503 secret-source-unavailable");
    assert_eq!((machine.google.connections(), machine.metadata.asked().len()), (0, 0));
}

#[test]
fn no_tenant_sends_the_machines_token_to_an_address_of_its_choosing() {
    let machine = Machine::start();
    let (operator, tenant) = (machine.operator(), machine.tenant());
    let account = Account::new("tenants-own");
    let collector = FakeGsm::start(None, Arc::new(SystemClock));
    collector.admit(&account, PROJECT, &[ACCESSOR, VIEWER]);
    collector.add(PROJECT, "crm", b"the tenant's value");
    // Not even an operator sets one up that names an address or an authority.
    for (field, document) in [
        ("address", with(as_machine(), "address", json!(collector.url()))),
        ("ca_key", with(as_machine(), "ca_key", json!("TENANTS_CA"))),
    ] {
        for api in [&operator, &tenant] {
            let refused = api.json("PUT", MAIN, &document);
            assert!((400..500).contains(&refused.status), "{field}");
            assert!(
                String::from_utf8_lossy(&refused.body).contains(field),
                "{field}: {}",
                refused.json()
            );
        }
    }
    // Nor is the metadata server anybody's backend.
    for address in [
        "http://169.254.169.254",
        "http://[fd00:ec2::254]",
        "http://[::ffff:169.254.169.254]",
    ] {
        let document = json!({
            "kind": "vault", "address": address, "auth": {"method": "token", "credential_key": "VAULT_TOKEN"},
        });
        for api in [&operator, &tenant] {
            let refused = api.json("PUT", MAIN, &document);
            assert_eq!(
                refused.status,
                422,
                "{address}: {}",
                String::from_utf8_lossy(&refused.body)
            );
        }
    }
    // A tenant may replace the operator's provider by one of its own: it is asked as the tenant then.
    assert_eq!(operator.json("PUT", MAIN, &as_machine()).status, 201);
    machine.link(&tenant, "gsm:projects/acme-prod/secrets/crm");
    assert_eq!(machine.delivered(), "the machine's value");
    let own = json!({
        "kind": "gsm", "address": collector.url(), "path_prefix": format!("projects/{PROJECT}/secrets/crm"),
        "auth": {"method": "service_account", "credential_key": "ACCOUNT"}, "default": true,
    });
    assert_eq!(tenant.json("PUT", MAIN, &own).status, 200);
    assert_eq!(
        machine.delivered(),
        "503 secret-source-unavailable",
        "there is no account"
    );
    let account = json!({
        "scope": "organization", "id": "org", "organization_id": "org", "key": "ACCOUNT",
        "value": account.json().to_string(),
    });
    assert_eq!(tenant.json("POST", "/extensions/secrets", &account).status, 201);
    assert_eq!(machine.delivered(), "the tenant's value");
    let bearers = collector.bearers();
    assert!(!bearers.is_empty() && bearers.iter().all(|token| !token.contains(TOKEN)));
}
