//! How a delivery presents its client certificate, and that without a usable one there is none.

use rustls::version::{TLS12, TLS13};
use serde_json::json;

use super::support::endpoint::Endpoint;
use super::support::instance::Instance;
use super::support::pki::{Authority, EXPIRED, Identity, NOT_YET, Validity};
use super::support::problem::assert_problem;
use super::support::tenant::{CA, CERTIFICATE, PRIVATE_KEY, Tenant, mutual_callback};
use super::support::tls_endpoint::{H1, H2, Setup, TlsEndpoint};

const EXTENSION: &str = "com.example.mutual";

/// An installation `ins` whose extension declares mTLS and injects `KEY`, `OTHER` and, wrongly, the certificate.
fn tenant<'a>(
    instance: &'a Instance,
    endpoint: &TlsEndpoint,
    identity: &Identity,
    authority: &Authority,
) -> Tenant<'a> {
    let configuration = json!({
        "KEY": {"secret": true}, "OTHER": {"secret": true},
        CERTIFICATE: {"secret": true}, PRIVATE_KEY: {"secret": true},
    });
    instance.register(EXTENSION, mutual_callback(&endpoint.url()), configuration);
    Tenant::enabled(instance, EXTENSION, ["org", "ins"], identity, authority)
}

/// Fails where a line of one of these PEM texts stands in the answers or in anything logged.
fn assert_no_pem(instance: &Instance, answers: &str, texts: &[String]) {
    let everything = format!("{answers}{}", instance.log());
    assert!(!everything.contains("BEGIN"), "{everything}");
    for line in texts.iter().flat_map(|text| text.lines()).filter(|line| line.len() > 8) {
        assert!(!everything.contains(line), "{line} in {everything}");
    }
}

#[test]
fn a_delivery_over_mutual_tls_shows_the_certificate_and_carries_only_the_payload_keys() {
    for (alpn, version) in [(H1, &TLS13), (H1, &TLS12), (H2, &TLS13), (H2, &TLS12)] {
        let (authority, instance) = (Authority::new("dev CA"), Instance::start());
        let endpoint = TlsEndpoint::start(Setup {
            versions: vec![version],
            ..Setup::mutual(&authority, alpn)
        });
        let identity = authority.client("org");
        let tenant = tenant(&instance, &endpoint, &identity, &authority);
        tenant.set("KEY", "narrow");
        instance.set("organization", "org", "OTHER", "wide");
        let answer = instance.deliver("ins", b"{\"id\": 7}");
        assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
        let seen = endpoint.last();
        let expected = r#"{"id": 7,"secrets":{"KEY":"narrow","OTHER":"wide"},"secret_status":{"missing":[]}}"#;
        assert_eq!(String::from_utf8(seen.body.clone()).unwrap(), expected);
        assert_eq!(seen.path, "/webhooks/issue.created");
        let session = endpoint.session_of(&seen);
        assert_eq!(session.certificate, Some(identity.fingerprint()));
        assert_eq!(session.h2, alpn == H2);
        assert_eq!(instance.lines()[0]["mtls"], json!(true));
        let texts = [identity.certificate_pem(), identity.key_pem(), authority.pem()];
        assert_no_pem(&instance, &format!("{answer:?}{:?}", seen.headers), &texts);
    }
}

#[test]
fn handshake_secrets_that_are_missing_or_unusable_are_refused_before_anything_is_dialled() {
    let authority = Authority::new("dev CA");
    let (good, other) = (authority.client("org"), authority.client("other"));
    let (expired, early) = (
        authority.client_valid("org", EXPIRED),
        authority.client_valid("org", NOT_YET),
    );
    let ca = authority.pem();
    let of = |certificate: &Identity, key: &Identity| [Some(certificate.certificate_pem()), Some(key.key_pem())];
    let [certificate, key] = of(&good, &good);
    let junk = Some(String::from("-----BEGIN CERTIFICATE-----\nkiket-canary-7f3a\n"));
    let (missing, invalid) = ((424, "mtls-identity-missing"), (502, "mtls-identity-invalid"));
    for (what, [certificate, key], ca, (status, problem)) in [
        ("nothing", [None, None], None, missing),
        ("no certificate", [None, key.clone()], Some(ca.clone()), missing),
        ("no key", [certificate.clone(), None], Some(ca.clone()), missing),
        ("no CA", of(&good, &good), None, missing),
        (
            "a certificate that is not PEM",
            [junk.clone(), key.clone()],
            Some(ca.clone()),
            invalid,
        ),
        (
            "a key that is not PEM",
            [certificate.clone(), junk.clone()],
            Some(ca.clone()),
            invalid,
        ),
        ("a CA that is not PEM", of(&good, &good), junk, invalid),
        (
            "key and certificate exchanged",
            [key, certificate],
            Some(ca.clone()),
            invalid,
        ),
        ("another's key", of(&good, &other), Some(ca.clone()), invalid),
        (
            "an expired certificate",
            of(&expired, &expired),
            Some(ca.clone()),
            invalid,
        ),
        (
            "one that is not valid yet",
            of(&early, &early),
            Some(ca.clone()),
            invalid,
        ),
    ] {
        let (instance, endpoint) = (Instance::start(), Setup::mutual(&authority, H1).start());
        let tenant = tenant(&instance, &endpoint, &good, &authority);
        tenant.set("KEY", "kiket-canary-7f3a");
        for (name, value) in [(CERTIFICATE, &certificate), (PRIVATE_KEY, &key), (CA, &ca)] {
            match value {
                Some(value) => tenant.set(name, value),
                None => tenant.delete(name),
            }
        }
        let refused = instance.deliver("ins", b"{}");
        assert_problem(&refused, status, problem, false, what);
        assert_eq!(refused.header("x-kiket-attempts"), Some("0"), "{what}");
        assert_eq!(endpoint.sessions().len(), 0, "{what}: a connection");
        let texts: Vec<String> = [certificate, key, ca].into_iter().flatten().collect();
        let answer = String::from_utf8_lossy(&refused.body).into_owned();
        assert_no_pem(&instance, &format!("{refused:?}{answer}"), &texts);
        // With correct values, the next delivery is as good as any.
        tenant.set_identity(&good, &authority);
        assert_eq!(instance.deliver("ins", b"{}").status, 200, "{what}, corrected");
        let seen = endpoint.last();
        assert_eq!(
            endpoint.session_of(&seen).certificate,
            Some(good.fingerprint()),
            "{what}"
        );
    }
}

#[test]
fn a_certificate_that_ends_while_it_is_in_use_is_not_shown_again() {
    const HOUR_MILLIS: u64 = 60 * 60 * 1_000;
    let (authority, instance) = (Authority::new("dev CA"), Instance::start());
    let endpoint = Setup::mutual(&authority, H1).start();
    let ending = authority.client_valid("org", Validity { from: -1, until: 1 });
    let tenant = tenant(&instance, &endpoint, &ending, &authority);
    instance.clock.advance(HOUR_MILLIS - 60_000);
    assert_eq!(instance.deliver("ins", b"{}").status, 200);
    instance.clock.advance(120_000);
    let refused = instance.deliver("ins", b"{}");
    assert_problem(&refused, 502, "mtls-identity-invalid", false, "ended");
    assert_eq!(endpoint.seen().len(), 1);
    tenant.set_identity(&authority.client("org"), &authority);
    assert_eq!(instance.deliver("ins", b"{}").status, 200);
}

#[test]
fn the_ca_that_a_manifest_names_replaces_every_other_trust() {
    // The sidecar trusts the endpoint's CA, the tenant's secret names another one.
    let (authority, stranger) = (Authority::new("dev CA"), Authority::new("another CA"));
    let instance = super::support::tenant::trusting(&authority, &[]);
    let endpoint = Setup::mutual(&authority, H1).start();
    let tenant = tenant(&instance, &endpoint, &authority.client("org"), &stranger);
    let refused = instance.deliver("ins", b"{}");
    assert_problem(&refused, 502, "endpoint-tls-failed", true, "another CA");
    assert_eq!(endpoint.seen().len(), 0);
    tenant.set(CA, &authority.pem());
    assert_eq!(instance.deliver("ins", b"{}").status, 200);
}

#[test]
fn mutual_tls_and_a_plain_callback_cannot_be_registered_together() {
    let (authority, instance) = (Authority::new("dev CA"), Instance::start());
    let (endpoint, plain) = (Setup::mutual(&authority, H1).start(), Endpoint::start());
    let manifest = json!({"id": EXTENSION, "callback": mutual_callback(&plain.url())});
    let refused = instance.api("PUT", &format!("/extensions/{EXTENSION}"), &manifest);
    assert_eq!(
        (refused.status, refused.problem().as_str()),
        (422, "destination-refused")
    );

    tenant(&instance, &endpoint, &authority.client("org"), &authority);
    let overriding = json!({
        "id": "plain", "extension_id": EXTENSION, "organization_id": "org", "project_id": "proj",
        "callback_url": plain.url(),
    });
    for (method, path, body) in [
        ("POST", "/marketplace/installations", overriding),
        (
            "PATCH",
            "/marketplace/installations/ins",
            json!({"callback_url": plain.url()}),
        ),
    ] {
        let refused = instance.api(method, path, &body);
        assert_eq!(
            (refused.status, refused.problem().as_str()),
            (422, "destination-refused"),
            "{method}"
        );
    }
}

#[test]
fn a_manifest_that_declares_mutual_tls_later_never_goes_over_a_plain_callback() {
    let (authority, instance) = (Authority::new("dev CA"), Instance::start());
    let (endpoint, plain) = (Setup::mutual(&authority, H1).start(), Endpoint::start());
    let configuration = json!({"KEY": {"secret": true}});
    instance.register(EXTENSION, json!({"url": plain.url()}), configuration.clone());
    let tenant = Tenant::enabled(
        &instance,
        EXTENSION,
        ["org", "ins"],
        &authority.client("org"),
        &authority,
    );
    let own = json!({"callback_url": plain.url()});
    instance.must("PATCH", "/marketplace/installations/ins", &own);
    tenant.set("KEY", "narrow");
    assert_eq!(instance.deliver("ins", b"{}").status, 200);

    instance.register(EXTENSION, mutual_callback(&endpoint.url()), configuration);
    let refused = instance.deliver("ins", b"{}");
    assert_problem(&refused, 502, "destination-refused", false, "plain");
    assert_eq!(refused.header("x-kiket-attempts"), Some("0"));
    assert_eq!(plain.received().len(), 1, "sent in the clear");

    instance.must(
        "PATCH",
        "/marketplace/installations/ins",
        &json!({"callback_url": null}),
    );
    for consent in ["confirm-destination", "accept-keys"] {
        let path = format!("/marketplace/installations/ins/{consent}");
        instance.must("POST", &path, &json!({}));
    }
    assert_eq!(instance.deliver("ins", b"{}").status, 200);
    assert_eq!(endpoint.seen().len(), 1);
}
