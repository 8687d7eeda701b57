//! A certificate and key that stand in a backend: shown in the handshake, replaced there, and replaced here with that.

use kiket_sidecar::store::StoreError;
use serde_json::json;

use super::super::support::gated_store::Gated;
use super::super::support::pki::{Authority, Identity};
use super::super::support::referred::VaultBackend;
use super::super::support::tenant::{CA, CERTIFICATE, PRIVATE_KEY, mutual_callback};
use super::super::support::tls_endpoint::{H1, Setup};
use super::{Stage, TTL};

const PATH: &str = "kiket/org/tls";

fn put(stage: &Stage<VaultBackend>, identity: &Identity) {
    let data = json!({"certificate": identity.certificate_pem(), "key": identity.key_pem()});
    stage.backend.vault.root(|root| root.put("secret", PATH, data));
}

#[test]
fn an_identity_that_is_replaced_in_the_backend_is_replaced_in_handshakes_whether_that_can_be_noted_or_not() {
    let authority = Authority::new("dev CA");
    let gated = Gated::open();
    let stage = Stage::furnish(gated.start(&[]), Box::new(VaultBackend::start()));
    let endpoint = Setup::mutual(&authority, H1).start();
    let identities = ["first", "second", "third"].map(|name| authority.client(name));
    put(&stage, &identities[0]);
    stage
        .instance
        .register("com.example.mutual", mutual_callback(&endpoint.url()), json!({}));
    stage.instance.install("mutual", "com.example.mutual");
    stage.instance.set("project", "proj", CA, &authority.pem());
    for (key, field) in [(CERTIFICATE, "certificate"), (PRIVATE_KEY, "key")] {
        let link = super::link(&format!("vault:secret/{PATH}#{field}"));
        stage
            .instance
            .must("POST", &format!("/extensions/secrets/{key}/link"), &link);
    }
    stage.instance.enable("mutual");
    let shown = || {
        assert_eq!(stage.deliver("mutual").status, 200);
        let last = endpoint.last();
        endpoint.session_of(&last).certificate.unwrap()
    };
    assert_eq!(shown(), identities[0].fingerprint());
    put(&stage, &identities[1]);
    shown();
    stage.instance.clock.advance(TTL);
    stage.until("the second identity", || shown() == identities[1].fingerprint());
    // Nothing is noted from here on, as by an instance that writes no rows: the rows say nothing of the change.
    gated.store.fail("commit", StoreError::Unavailable);
    put(&stage, &identities[2]);
    shown();
    stage.instance.clock.advance(TTL);
    stage.until("the third identity", || shown() == identities[2].fingerprint());
    gated.store.mend();
    let version = |key: &str| {
        let path = format!("/extensions/secrets/{key}?scope=project&id=proj&organization_id=org");
        stage.instance.must("GET", &path, &serde_json::Value::Null)["version"].clone()
    };
    assert_eq!([version(CERTIFICATE), version(PRIVATE_KEY)], [2, 2]);
    shown();
    stage.instance.clock.advance(TTL);
    stage.until("both are noted once that can be", || {
        shown();
        [version(CERTIFICATE), version(PRIVATE_KEY)] == [3, 3]
    });
}
