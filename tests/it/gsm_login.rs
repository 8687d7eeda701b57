//! As whom Google is asked: the tokens that a tenant's account signs, and the machine's, which no tenant gets to see.

use std::sync::Arc;
use std::time::Duration;

use http::{Response, StatusCode};
use kiket_sidecar::clock::Clock;
use kiket_sidecar::domain::destination::Destination;
use kiket_sidecar::domain::provider::{Backend as Kind, Provider, ProviderFields, Unavailable};
use kiket_sidecar::domain::reference::Reference;
use kiket_sidecar::egress::Trust;
use kiket_sidecar::external::{Checked, Credentials, External, Machine, OpenError};
use rustls::RootCertStore;
use secrecy::SecretString;
use serde_json::{Value, json};

use super::support::backend::{Backend, Told};
use super::support::external::{Asker, Asking, PATIENCE, resolver, value};
use super::support::gsm::account::Account;
use super::support::gsm::metadata::{MetadataServer, flavored};
use super::support::gsm::{ACCESSOR, FakeGsm, Fault};
use super::support::pki::Authority;

const PROJECT: &str = "acme-prod";
const SECRET: &str = "gsm:projects/acme-prod/secrets/crm";

/// How long a token is good for, and how long before its end it is replaced, in milliseconds.
const LIFE: u64 = 3_600_000;
const EARLY: u64 = 180_000;

fn fields(address: String) -> ProviderFields {
    ProviderFields {
        kind: "gsm".into(),
        address,
        path_prefix: "projects/acme-prod".into(),
        auth_method: "service_account".into(),
        credential_key: "GOOGLE_ACCOUNT".into(),
        ca_key: "GOOGLE_CA".into(),
        ..ProviderFields::default()
    }
}

/// A Secret Manager with a secret, and an account that may access it.
fn furnished(authority: &Authority, account: &Account) -> (FakeGsm, Asking) {
    let asking = Asking::new(fields(String::new()), &account.json().to_string(), &authority.pem());
    let google = FakeGsm::start(Some(&authority.server(&["127.0.0.1"])), asking.clock.clone());
    google.admit(account, PROJECT, &[ACCESSOR]);
    google.add(PROJECT, "crm", b"value");
    let fields = fields(google.url());
    (google, Asking { fields, ..asking })
}

#[test]
fn a_token_is_signed_once_and_used_until_shortly_before_its_end() {
    let (google, asking) = furnished(&Authority::new("dev CA"), &Account::new("reader"));
    let asker = asking.open();
    for (passes, signed) in [(0, 1), (LIFE - EARLY - 1, 1), (1, 2), (LIFE - EARLY, 3), (10 * LIFE, 4)] {
        asking.clock.advance(passes);
        assert_eq!(asker.outcome(SECRET), "found", "{passes}");
        let mut bearers = google.bearers();
        bearers.dedup();
        assert_eq!(bearers.len(), signed, "{passes}");
    }
}

#[test]
fn an_account_whose_json_is_not_one_is_refused_before_anybody_is_asked() {
    let account = Account::new("reader");
    let (google, asking) = furnished(&Authority::new("dev CA"), &account);
    let with = |member: &str, value: Value| {
        let mut json = account.json();
        json[member] = value;
        json.to_string()
    };
    let without = |member: &str| {
        let mut json = account.json();
        json.as_object_mut().unwrap().remove(member);
        json.to_string()
    };
    let elliptic = Authority::new("EC").server(&["a"]).key_pem();
    for credential in [
        String::new(),
        String::from("null"),
        String::from("a.jwt.token"),
        with("type", json!("authorized_user")),
        with("type", json!("external_account")),
        without("type"),
        without("client_email"),
        without("private_key"),
        without("private_key_id"),
        with("client_email", json!("")),
        with("client_email", json!("a b@c")),
        with("client_email", json!("x".repeat(321))),
        with("private_key_id", json!("")),
        with("private_key_id", json!("a\nb")),
        with("private_key", json!("")),
        with(
            "private_key",
            json!("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"),
        ),
        with("private_key", json!(elliptic)),
        with("universe_domain", json!("other.cloud")),
        account.json().to_string() + "x",
    ] {
        let asking = copy(&asking, Some(credential.clone()));
        let refused = asking.try_open().map(drop).unwrap_err();
        assert_eq!(refused, OpenError::CredentialMalformed, "{credential}");
    }
    let missing = copy(&asking, None).try_open().map(drop);
    assert_eq!(missing.unwrap_err(), OpenError::CredentialMissing);
    assert_eq!(google.connections(), 0);
    for credential in [without("universe_domain"), account.json().to_string() + "\n"] {
        assert_eq!(copy(&asking, Some(credential)).open().outcome(SECRET), "found");
    }
}

fn copy(asking: &Asking, credential: Option<String>) -> Asking {
    Asking {
        fields: asking.fields.clone(),
        credential,
        authority: asking.authority.clone(),
        clock: asking.clock.clone(),
        ..*asking
    }
}

#[test]
fn an_account_is_not_believed_where_it_says_that_tokens_come_from() {
    let account = Account::new("reader");
    let (_google, asking) = furnished(&Authority::new("dev CA"), &account);
    let collector = Backend::start(None, |_| Told::Break);
    let mut json = account.json();
    for member in ["token_uri", "auth_uri", "client_x509_cert_url"] {
        json[member] = json!(collector.url());
    }
    let asking = copy(&asking, Some(json.to_string()));
    assert_eq!(asking.open().outcome(SECRET), "found");
    assert_eq!(collector.connections(), 0);
}

#[test]
fn an_account_that_google_does_not_know_is_denied() {
    let (google, asking) = furnished(&Authority::new("dev CA"), &Account::new("reader"));
    let unknown = copy(&asking, Some(Account::new("unknown").json().to_string())).open();
    assert_eq!(unknown.outcome(SECRET), "denied");
    assert_eq!(google.paths().len(), 2, "once more with another token");
    assert_eq!(unknown.check(), Checked::Denied);
}

#[test]
fn a_check_says_whether_google_takes_the_account_and_reads_no_secret() {
    let account = Account::new("reader");
    let (google, asking) = furnished(&Authority::new("dev CA"), &account);
    let asker = asking.open();
    assert_eq!(asker.check(), Checked::Usable);
    google.admit(&account, PROJECT, &[]);
    assert_eq!(asker.check(), Checked::Usable, "rights are another matter");
    let page = Fault::Answer(StatusCode::OK, &[], "<html>".into());
    for (fault, checked) in [
        (Fault::google(401, "UNAUTHENTICATED"), Checked::Denied),
        (Fault::google(403, "PERMISSION_DENIED"), Checked::Denied),
        (
            Fault::google(404, "NOT_FOUND"),
            Checked::Unavailable(Unavailable::WrongShape),
        ),
        (page, Checked::Unavailable(Unavailable::WrongShape)),
        (Fault::google(503, "UNAVAILABLE"), Checked::Usable),
    ] {
        google.next([fault]);
        assert_eq!(asker.check(), checked);
    }
    let named = copy(&asking, Some(account.json().to_string()));
    let path_prefix = "projects/acme-prod/secrets/kiket-".into();
    let fields = ProviderFields {
        path_prefix,
        ..named.fields.clone()
    };
    assert_eq!(Asking { fields, ..named }.open().check(), Checked::Usable);
    let mut paths = google.paths();
    assert_eq!(
        paths.pop().unwrap(),
        "POST /v1/projects/acme-prod/secrets/kiket-:testIamPermissions"
    );
    paths.dedup();
    assert_eq!(paths, ["POST /v1/projects/acme-prod/secrets/kiket:testIamPermissions"]);
}

// --- The machine ---

/// What is asked as the machine, at an address that the operator named.
struct Operated {
    google: FakeGsm,
    metadata: MetadataServer,
    asking: Asking,
    external: External,
}

impl Operated {
    fn new(authority: &Authority, roots: &Authority) -> Self {
        Self::within(authority, roots, "127.0.0.0/8")
    }

    fn within(authority: &Authority, roots: &Authority, allow: &'static str) -> Self {
        let (google, asking) = furnished(authority, &Account::new("reader"));
        google.admit_token("machine-1", PROJECT);
        google.admit_token("machine-2", PROJECT);
        let metadata = MetadataServer::start("machine", LIFE / 1_000);
        let asking = Asking {
            fields: machine_fields(),
            credential: None,
            authority: None,
            allow,
            ..asking
        };
        let external = external(&asking, roots, &metadata.url(), &google.url());
        Self {
            google,
            metadata,
            asking,
            external,
        }
    }

    fn open(&self) -> Asker {
        self.asking.try_open_in(&self.external).unwrap()
    }
}

/// As an operator sets a provider up.
fn machine_fields() -> ProviderFields {
    ProviderFields {
        auth_method: "metadata".into(),
        credential_key: String::new(),
        ca_key: String::new(),
        ..fields(String::new())
    }
}

/// Sources of a process that trusts `roots` and runs on a machine.
fn external(asking: &Asking, roots: &Authority, metadata: &str, google: &str) -> External {
    let mut trusted = RootCertStore::empty();
    trusted.add(roots.der()).unwrap();
    let trust = Trust::new(Arc::new(trusted.clone()));
    let clock = Arc::clone(&asking.clock) as Arc<dyn Clock>;
    let [metadata, google] = [metadata, google].map(|url| Destination::parse(url).unwrap());
    let machine = Machine::new(&metadata, google, resolver(), &trust, clock, PATIENCE).unwrap();
    asking.external(trusted).with_machine(machine)
}

#[test]
fn the_machines_token_is_asked_for_once_and_used_until_shortly_before_its_end() {
    let authority = Authority::new("dev CA");
    let operated = Operated::new(&authority, &authority);
    // Two providers, one machine.
    let askers = [operated.open(), operated.open()];
    for (passes, asked) in [(0, 1), (LIFE - EARLY - 1, 1), (1, 2)] {
        operated.asking.clock.advance(passes);
        for asker in &askers {
            assert_eq!(value(&asker.fetch(SECRET)), "value");
        }
        assert_eq!(operated.metadata.asked().len(), asked, "{passes}");
    }
    let asked = operated.metadata.asked();
    assert_eq!(
        asked[0].path,
        "/computeMetadata/v1/instance/service-accounts/default/token"
    );
    assert_eq!(asked[0].header("metadata-flavor"), Some("Google"));
    let mut bearers = operated.google.bearers();
    bearers.dedup();
    assert_eq!(bearers, ["machine-1", "machine-2"]);
    assert_eq!(askers[0].check(), Checked::Denied, "the third token is not taken");
}

#[test]
fn a_token_of_the_machine_that_is_not_taken_is_replaced_once() {
    let authority = Authority::new("dev CA");
    let operated = Operated::new(&authority, &authority);
    let asker = operated.open();
    assert_eq!(asker.outcome(SECRET), "found");
    operated.google.revoke_token("machine-1");
    assert_eq!(asker.outcome(SECRET), "found");
    operated.google.revoke_token("machine-2");
    assert_eq!(asker.outcome(SECRET), "denied");
    assert_eq!(
        operated.google.bearers(),
        ["machine-1", "machine-1", "machine-2", "machine-2", "machine-3"]
    );
}

#[test]
fn a_metadata_server_that_hands_out_no_token_keeps_google_from_being_asked() {
    let authority = Authority::new("dev CA");
    let operated = Operated::new(&authority, &authority);
    let asker = operated.open();
    let token = r#"{"access_token":"machine-1","expires_in":3600,"token_type":"Bearer"}"#;
    let unflavored = || Told::Whole(Response::new(token.into()));
    let fine = |body: &str| flavored(StatusCode::OK, body);
    let redirect = || {
        let answer = Response::builder()
            .status(302)
            .header("location", operated.google.url());
        Told::Whole(answer.body(bytes::Bytes::new()).unwrap())
    };
    let busy = || flavored(StatusCode::SERVICE_UNAVAILABLE, "");
    for (told, outcome) in [
        (vec![unflavored()], "login-failed"),
        (vec![flavored(StatusCode::NOT_FOUND, "")], "login-failed"),
        (vec![flavored(StatusCode::FORBIDDEN, "")], "login-failed"),
        (vec![fine("")], "login-failed"),
        (
            vec![fine(r#"{"access_token":"a","token_type":"Bearer"}"#)],
            "login-failed",
        ),
        (vec![fine(&token.replace("Bearer", "Basic"))], "login-failed"),
        (vec![fine(&token.replace("machine-1", "a\\nb"))], "login-failed"),
        (vec![fine(&" ".repeat(16 * 1024 + 1))], "too-large"),
        (vec![redirect()], "redirected"),
        (vec![busy(), busy(), busy(), busy()], "server-error"),
        (vec![Told::Break, Told::Break, Told::Break, Told::Break], "unreachable"),
    ] {
        operated.metadata.next(told);
        assert_eq!(asker.outcome(SECRET), outcome);
        operated.asking.clock.advance(LIFE);
    }
    operated.metadata.next([Told::Stall]);
    assert_eq!(asker.fetch_within(SECRET, Duration::from_millis(200)).name(), "timeout");
    assert_eq!(operated.google.connections(), 0);
    operated.metadata.next([busy()]);
    assert_eq!(asker.outcome(SECRET), "found");
}

#[test]
fn the_machines_token_goes_to_the_operators_address_whatever_a_provider_says() {
    let authority = Authority::new("dev CA");
    let operated = Operated::new(&authority, &authority);
    let (collector, _) = furnished(&authority, &Account::new("reader"));
    // The settings cannot say so.
    let refused = |edit: fn(&mut ProviderFields, String)| {
        let mut fields = machine_fields();
        edit(&mut fields, collector.url());
        Provider::parse("main", &fields).unwrap_err().field
    };
    assert_eq!(refused(|fields, url| fields.address = url), "address");
    assert_eq!(refused(|fields, _| fields.ca_key = "COLLECTORS_CA".into()), "ca_key");
    // And nothing comes of settings that say it all the same.
    let mut provider = Provider::parse("main", &machine_fields()).unwrap();
    let Kind::Gsm(settings) = &mut provider.backend else {
        panic!("settings of another kind")
    };
    settings.address = Destination::parse(&collector.url()).unwrap();
    let credentials = Credentials {
        credential: None,
        authority: Some(SecretString::from(authority.pem())),
    };
    let source = operated.external.open(&provider, credentials).unwrap();
    let asker = Asker { provider, source };
    assert_eq!(asker.outcome(SECRET), "found");
    assert_eq!(asker.check(), Checked::Usable);
    assert_eq!(collector.connections(), 0);
    assert!(
        operated
            .google
            .bearers()
            .iter()
            .all(|token| token.starts_with("machine-"))
    );
}

#[test]
fn an_authority_of_a_tenants_vouches_for_nobody_to_the_machine() {
    let (own, theirs) = (Authority::new("dev CA"), Authority::new("tenant's CA"));
    // Somebody on the path shows a certificate of an authority that the tenant named.
    let operated = Operated::new(&theirs, &own);
    let asking = Asking {
        authority: Some(theirs.pem()),
        ..copy(&operated.asking, None)
    };
    let asker = asking.try_open_in(&operated.external).unwrap();
    assert_eq!(asker.outcome(SECRET), "tls-failed");
    assert_eq!(operated.google.bearers(), [""; 0]);
}

#[test]
fn only_the_metadata_server_is_reached_past_the_guard() {
    let authority = Authority::new("dev CA");
    let operated = Operated::within(&authority, &authority, "10.0.0.0/8");
    assert_eq!(operated.open().outcome(SECRET), "refused");
    assert_eq!((operated.metadata.asked().len(), operated.google.connections()), (1, 0));
}

#[test]
fn a_process_without_a_machine_opens_no_provider_that_needs_one() {
    let authority = Authority::new("dev CA");
    let (_google, asking) = furnished(&authority, &Account::new("reader"));
    let asking = Asking {
        fields: machine_fields(),
        ..copy(&asking, None)
    };
    assert_eq!(asking.try_open().map(drop).unwrap_err(), OpenError::NoMachine);
    let reference = Reference::parse(SECRET).unwrap();
    let provider = Provider::parse("main", &asking.fields).unwrap();
    assert!(provider.needs_operator() && provider.target(&reference).is_ok());
}
