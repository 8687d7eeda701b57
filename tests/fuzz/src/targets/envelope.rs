//! Whether sealed bytes open in their place only, and are refused for the right reason everywhere else.

use std::sync::LazyLock;

use secrecy::ExposeSecret;

use super::input::Input;
use crate::crypto::envelope::{OpenError, head};
use crate::crypto::keyring::{KeyId, Keyring};
use crate::domain::id::{OrganizationId, ScopeId};
use crate::domain::key::SecretKey;
use crate::domain::scope::{Owner, Scope, Slot};
use crate::domain::secret::SecretKind;

/// Bytes of an envelope without format, name of the key, and value: two nonces, the wrapped data key, a tag.
const OVERHEAD: usize = 12 + 32 + 16 + 12 + 16;

const PLACES: [(Scope, &str, &str, u64, SecretKind); 4] = [
    (Scope::Extension, "com.example", "TOKEN", 3, SecretKind::Value),
    (Scope::Extension, "com.example", "TOKEN", 4, SecretKind::Value),
    (Scope::Project, "com.example", "TOKEN", 3, SecretKind::Value),
    (Scope::Extension, "com.example", "TOKEN", 3, SecretKind::Reference),
];

/// Two keyrings of the same two keys: one seals with `old`, the other one with `new`.
static KEYS: LazyLock<[Keyring; 2]> = LazyLock::new(|| ["old", "new"].map(keyring));

/// Envelopes to start from, sealed in the first place.
static SEALED: LazyLock<[Vec<u8>; 2]> = LazyLock::new(|| {
    let (slot, kind, version) = place(0);
    [&KEYS[0], &KEYS[1]].map(|keys| keys.seal(&slot, kind, version, b"a value").expect("it seals"))
});

fn keyring(active: &str) -> Keyring {
    let table = |purpose: &str, id: &str, key: &str| {
        let is_active = if id == active { "active = true\n" } else { "" };
        format!("[[{purpose}]]\nid = \"{id}\"\ncreated_at = \"2026-01-01T00:00:00Z\"\n{is_active}key = \"{key}\"\n")
    };
    let file = [
        table("kek", "old", "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3I="),
        table("kek", "new", "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3M="),
        table("audit-mac", "a", "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3I="),
        table("audit-sign", "b", "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3I="),
        table("fingerprint", "c", "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3I="),
    ];
    Keyring::parse(&format!("format = 1\n{}", file.concat())).expect("a keyring")
}

fn place(which: usize) -> (Slot, SecretKind, u64) {
    let (scope, scope_id, key, version, kind) = PLACES[which % PLACES.len()];
    let slot = Slot {
        owner: Owner::Organization(OrganizationId::parse("acme").expect("an id")),
        scope,
        scope_id: ScopeId::parse(scope_id).expect("an id"),
        key: SecretKey::parse(key).expect("a key"),
    };
    (slot, kind, version)
}

/// Reads: what to try, then bytes for it.
pub fn hold(data: &[u8]) {
    let mut input = Input::new(data);
    match input.below(3) {
        0 => refuses(input.rest()),
        1 => refuses_altered(&mut input),
        _ => carries(&mut input),
    }
}

/// Bytes that nobody sealed.
fn refuses(bytes: &[u8]) {
    let (slot, kind, version) = place(0);
    let expected = why_not(bytes);
    let opened = KEYS[0]
        .open(&slot, kind, version, bytes)
        .map(|text| text.expose_secret().to_owned());
    assert_eq!(opened, Err(expected));
    let rewrapped = KEYS[0].rewrap(&slot, kind, version, bytes);
    if is_of(bytes, "old") && expected == OpenError::NotAuthentic {
        assert_eq!(rewrapped, Ok(None), "it is under the active key already");
    } else {
        assert_eq!(rewrapped, Err(expected));
    }
}

/// Why bytes that nobody sealed do not open, told by their length and their first bytes.
fn why_not(bytes: &[u8]) -> OpenError {
    match bytes {
        [1, id, rest @ ..] if rest.len() >= usize::from(*id) + OVERHEAD => {
            let is_known = is_of(bytes, "old") || is_of(bytes, "new");
            if is_known {
                OpenError::NotAuthentic
            } else {
                OpenError::UnknownKey
            }
        }
        _ => OpenError::Damaged,
    }
}

fn is_of(bytes: &[u8], kek: &str) -> bool {
    bytes.starts_with(&head(&KeyId::parse(kek).expect("an id")))
}

/// An envelope with some bytes changed, cut or prolonged, or in another place.
fn refuses_altered(input: &mut Input<'_>) {
    let original = &SEALED[input.below(2)];
    let (slot, kind, version) = place(input.below(PLACES.len()));
    let is_at_home = place(0) == (slot.clone(), kind, version);
    let mut bytes = original.clone();
    bytes.truncate(bytes.len() - input.below(bytes.len()).saturating_sub(bytes.len() / 2));
    while !input.is_empty() && bytes.len() < 256 {
        let (at, change) = (usize::from(input.byte()), input.byte());
        match bytes.get_mut(at) {
            Some(byte) => *byte ^= change,
            None => bytes.push(change),
        }
    }
    let opened = KEYS[1]
        .open(&slot, kind, version, &bytes)
        .map(|text| text.expose_secret().to_owned());
    if is_at_home && bytes == *original {
        assert_eq!(opened.as_deref(), Ok("a value"));
    } else {
        assert_eq!(opened, Err(why_not(&bytes)));
    }
}

/// Any text opens as it was sealed, also after its data key was wrapped anew; what is no text is not sealed.
fn carries(input: &mut Input<'_>) {
    let (slot, kind, version) = place(input.below(PLACES.len()));
    let plaintext = input.rest();
    let sealed = KEYS[0].seal(&slot, kind, version, plaintext);
    let Ok(text) = std::str::from_utf8(plaintext) else {
        assert!(sealed.is_err());
        return;
    };
    let sealed = sealed.expect("text seals");
    assert_eq!(sealed.len(), 2 + "old".len() + OVERHEAD + text.len());
    let rewrapped = KEYS[1]
        .rewrap(&slot, kind, version, &sealed)
        .expect("it is authentic")
        .expect("under another key");
    let value = 12 + text.len() + 16;
    assert!(is_of(&sealed, "old") && is_of(&rewrapped, "new"));
    assert_eq!(
        sealed[sealed.len() - value..],
        rewrapped[rewrapped.len() - value..],
        "the value stays as it is"
    );
    for (keys, bytes) in [
        (&KEYS[0], &sealed),
        (&KEYS[1], &sealed),
        (&KEYS[0], &rewrapped),
        (&KEYS[1], &rewrapped),
    ] {
        let opened = keys.open(&slot, kind, version, bytes).expect("it opens in its place");
        assert_eq!(opened.expose_secret(), text);
    }
}
