//! The shapes found in the wild, and what is refused with which place.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;

const FULL: &str = r"
extension:
  id: com.example.mailchimp
  version: 1.4.0
  delivery:
    callback:
      url: https://ext.example.com/kiket
      timeout: 5000
      secret_keys: [CRM_TOKEN]
      signing_secret_key: KIKET_WEBHOOK_SECRET
      mtls: { certificate_key: CLIENT_CERT, private_key_key: CLIENT_KEY, ca_key: SERVER_CA }
      on_missing: forward
      rotation_webhook: true
  configuration:
    ZOOM_CLIENT_ID: { type: string, secret: true, required: true, scope: extension, label: Zoom Client ID }
    CLIENT_KEY: { type: string, secret: true }
    channelId: { type: string, required: true, scope: installation }
";

fn keys(demand: &Demand) -> Vec<(String, bool)> {
    demand
        .payload
        .iter()
        .map(|wanted| (wanted.key.to_string(), wanted.required))
        .collect()
}

#[test]
fn a_full_manifest_demands_payload_handshake_and_signing_keys_apart() {
    let manifest = Manifest::parse(FULL).unwrap();
    assert_eq!(manifest.id.as_str(), "com.example.mailchimp");
    assert_eq!(manifest.version.as_deref(), Some("1.4.0"));
    let demand = manifest.demand();
    assert_eq!(
        keys(&demand),
        [("CRM_TOKEN".into(), false), ("ZOOM_CLIENT_ID".into(), true)]
    );
    assert_eq!(demand.handshake.unwrap().all().count(), 3);
    assert_eq!(demand.signing, [SecretKey::parse("KIKET_WEBHOOK_SECRET").unwrap()]);
    assert_eq!(demand.on_missing, OnMissing::Forward);
    assert_eq!(demand.timeout, Duration::from_millis(5000));
    assert!(manifest.callback.unwrap().rotation_webhook);
    assert_eq!(manifest.configuration.first().unwrap().scope, FieldScope::Extension);
    assert_eq!(
        manifest.configuration.first().unwrap().label.as_deref(),
        Some("Zoom Client ID")
    );
}

#[test]
fn every_accepted_shape_means_the_same() {
    let callback = r#"{"url": "https://e.example.com", "secret_keys": ["B"]}"#;
    let configuration = r#"{"A": {"secret": true, "required": true}}"#;
    let shapes = [
        format!(
            r#"{{"extension": {{"id": "com.e", "delivery": {{"callback": {callback}}}, "configuration": {configuration}}}}}"#
        ),
        format!(
            r#"{{"id": "com.e", "delivery": {{"type": "http", "callback": {callback}}}, "configuration": {configuration}}}"#
        ),
        format!(
            r#"{{"id": "com.e", "delivery": "http", "callback": {callback}, "configuration": {{"properties": {configuration}}}}}"#
        ),
        format!("id: com.e\ndelivery: http\ncallback: {callback}\nconfiguration: {configuration}\nunknown: [1, 2]\n"),
    ];
    let parsed: Vec<Manifest> = shapes.iter().map(|shape| Manifest::parse(shape).unwrap()).collect();
    for manifest in &parsed {
        assert_eq!(manifest, parsed.first().unwrap());
        assert_eq!(keys(&manifest.demand()), [("A".into(), true), ("B".into(), false)]);
    }
}

#[test]
fn an_older_manifest_names_its_signing_key_by_environment() {
    let manifest = Manifest::parse("id: com.e\ncallback: {url: 'https://${HOST}/x', secret: 'env:SIGN'}").unwrap();
    let callback = manifest.callback.as_ref().unwrap();
    assert_eq!(callback.url, None);
    assert_eq!(callback.signing_secret_keys, [SecretKey::parse("SIGN").unwrap()]);
}

#[test]
fn what_is_wrong_is_told_with_its_place() {
    use ManifestErrorKind as Kind;
    for (document, line, kind) in [
        ("{", 1, Kind::Syntax),
        ("id: com.e\nid: com.f", 2, Kind::Syntax),
        ("id: com.e\n---\nid: com.f", 2, Kind::Syntax),
        ("[1]", 1, Kind::NotAMap),
        ("version: 1.0.0", 1, Kind::NoId),
        ("version: 1\nid: nodot", 2, Kind::Id),
        ("id: com.e\ndelivery: smtp", 2, Kind::Delivery),
        ("id: com.e\ncallback:\n  url: ftp://x", 3, Kind::Url),
        ("id: com.e\ncallback:\n  timeout: 99", 3, Kind::Timeout),
        ("id: com.e\ncallback:\n  timeout: 60001", 3, Kind::Timeout),
        ("id: com.e\ncallback:\n  timeout: soon", 3, Kind::Timeout),
        ("id: com.e\ncallback:\n  secret_keys:\n  - A\n  - b", 5, Kind::Key),
        (
            "id: com.e\ncallback:\n  signing_secret_key: S\n  secret_keys:\n  - S",
            5,
            Kind::NotInjectable,
        ),
        ("id: com.e\ncallback:\n  mtls: {certificate_key: C}", 3, Kind::Mtls),
        ("id: com.e\ncallback:\n  on_missing: maybe", 3, Kind::OnMissing),
        ("id: com.e\ncallback:\n  rotation_webhook: often", 3, Kind::NotAFlag),
        ("id: com.e\ncallback:\n  secret: literal", 3, Kind::LegacySecret),
        (
            "id: com.e\nconfiguration:\n  A: {secret: true, scope: moon}",
            3,
            Kind::Scope,
        ),
        ("id: com.e\nconfiguration:\n  low: {secret: true}", 3, Kind::Key),
    ] {
        let error = Manifest::parse(document).unwrap_err();
        assert_eq!((error.line, error.kind), (line, kind), "{document}");
    }
    assert_eq!(Manifest::parse(&" ".repeat(262_145)).unwrap_err().kind, Kind::TooLarge);
    for timeout in [100, 60_000] {
        assert!(Manifest::parse(&format!("id: com.e\ncallback: {{timeout: {timeout}}}")).is_ok());
    }
}

#[test]
fn a_bomb_of_aliases_and_bottomless_nesting_are_refused() {
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x]\n");
    for n in 1..9 {
        let list = vec![format!("*a{}", n - 1); 9].join(", ");
        bomb.push_str(&format!("a{n}: &a{n} [{list}]\n"));
    }
    bomb.push_str("id: com.e\n");
    assert_eq!(Manifest::parse(&bomb).unwrap_err().kind, ManifestErrorKind::Syntax);
    let deep = format!("id: com.e\nx: {}{}", "[".repeat(100), "]".repeat(100));
    assert_eq!(Manifest::parse(&deep).unwrap_err().kind, ManifestErrorKind::Syntax);
}

#[test]
fn an_error_carries_nothing_of_the_text() {
    let canary = "kiket-canary-91";
    for document in [
        format!("id: com.e\ncallback: {{url: '{canary}'}}"),
        format!("{{{canary}: ["),
        canary.to_owned(),
    ] {
        let error = Manifest::parse(&document).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("canary"));
    }
}
