//! What of a Vault is asked, and which Vault: nothing outside the prefix, and nobody who cannot be trusted.

use std::collections::BTreeMap;

use kiket_sidecar::domain::provider::{ProviderFields, TargetError};
use kiket_sidecar::domain::reference::Reference;

use super::support::external::{Asking, PATIENCE};
use super::support::pki::Authority;
use super::support::vault::{Fault, fields, furnished};

#[test]
fn a_vault_that_cannot_be_reached_or_trusted_gets_no_question() {
    let authority = Authority::new("dev CA");
    let stranger = Authority::new("unknown CA").pem();
    let nobody = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let (vault, asking) = furnished(&authority);
    let address = vault.url();
    for (what, authority, address, allow, outcome) in [
        (
            "another CA",
            Some(stranger),
            address.clone(),
            "127.0.0.0/8",
            "tls-failed",
        ),
        ("the system's roots", None, address.clone(), "127.0.0.0/8", "tls-failed"),
        (
            "a closed network",
            Some(authority.pem()),
            address,
            "10.0.0.0/8",
            "refused",
        ),
        (
            "nobody",
            Some(authority.pem()),
            format!("https://{nobody}"),
            "127.0.0.0/8",
            "unreachable",
        ),
    ] {
        let asking = Asking {
            fields: ProviderFields {
                address,
                ..fields(&vault)
            },
            credential: asking.credential.clone(),
            authority,
            allow,
            allow_http: true,
            clock: asking.clock.clone(),
        };
        assert_eq!(asking.open().outcome("vault:secret/a/b#f"), outcome, "{what}");
    }
    assert_eq!(vault.asked(), []);
    assert_eq!(asking.open().outcome("vault:secret/a/b#f"), "found");
}

#[test]
fn a_redirect_is_not_followed() {
    let authority = Authority::new("dev CA");
    let (vault, asking) = furnished(&authority);
    let (elsewhere, _) = furnished(&authority);
    vault.fail(
        "secret/",
        &[Fault::Redirect(format!("{}/v1/secret/data/a/b", elsewhere.url()))],
    );
    assert_eq!(asking.open().outcome("vault:secret/a/b#f"), "redirected");
    assert_eq!(elsewhere.tls().sessions().len(), 0);
}

#[test]
fn nothing_outside_a_providers_prefix_reaches_the_vault() {
    let (vault, mut asking) = furnished(&Authority::new("dev CA"));
    asking.fields.path_prefix = "kiket/a".into();
    asking.fields.mounts = BTreeMap::from([("secret".into(), 2)]);
    let asker = asking.open();
    let texts = [
        "vault:secret/kiket/a/../b#f",
        "vault:secret/kiket/a/%2e%2e/b#f",
        "vault:secret/kiket/a/..%2fb#f",
        "vault:secret/kiket/a//b#f",
        "vault:secret/kiket/a/./b#f",
        "vault:secret//kiket/a#f",
        "vault:secret/kiket/a/b?version=1#f",
        "vault:secret/kiket/ab#f",
        "vault:secret/kiket#f",
        "vault:secret/a/b#f",
        "vault:kv/kiket/a#f",
        "vault:sys/kiket/a#f",
        "vault:../sys/kiket/a#f",
        "gsm:projects/kiket/secrets/a",
        "secret/kiket/a/../b",
        "secret/kiket/b",
        "kv/kiket/a",
    ];
    let parsed = texts.iter().filter_map(|text| Reference::parse(text).ok());
    let vault_reference = |mount: &str, path: &str, field: &str| Reference::Vault {
        mount: mount.into(),
        path: path.into(),
        field: field.into(),
        version: None,
    };
    // What no parser made: as if a stored reference had been tampered with.
    let made = [
        vault_reference("secret", "kiket/a/../../b", "f"),
        vault_reference("secret", "kiket/a/%2e%2e/b", "f"),
        vault_reference("secret", "kiket/a//b", "f"),
        vault_reference("secret", "kiket/a/b?version=1", "f"),
        vault_reference("secret", "kiket/a/b HTTP/1.1\r\nX-Vault-Token: t\r\n\r\n", "f"),
        vault_reference("..", "kiket/a/b", "f"),
        vault_reference("secret/data", "kiket/a/b", "f"),
        Reference::Path("secret/kiket/a/../../b".into()),
    ];
    for escape in parsed.chain(made) {
        let refused: Result<_, TargetError> = asker.try_fetch(&escape, PATIENCE);
        assert!(refused.is_err(), "{escape:?}");
    }
    assert_eq!(vault.asked(), []);
    for within in [
        "vault:secret/kiket/a/b#f@2",
        "secret/kiket/a/c",
        "vault:secret/kiket/a#f",
    ] {
        assert_eq!(asker.outcome(within), "dangling", "{within}");
    }
    let read = vault.take();
    assert_eq!(
        read,
        [
            "GET auth/token/lookup-self",
            "GET secret/data/kiket/a/b?version=2",
            "GET secret/data/kiket/a/c",
            "GET secret/data/kiket/a",
        ]
    );
}
