//! Whether a reference has one meaning, and none that leaves what its provider may be asked for.

use std::collections::BTreeMap;

use url::Url;

use super::input::Input;
use crate::domain::provider::{KvVersion, Provider, ProviderFields, Target, TargetError};
use crate::domain::reference::Reference;

/// Reads: a provider's kind, its prefix, a reference; a line each.
pub fn hold(data: &[u8]) {
    let mut input = Input::new(data);
    let [kind, prefix, text] = [input.line(), input.line(), input.rest()].map(std::str::from_utf8);
    let (Ok(kind), Ok(prefix), Ok(text)) = (kind, prefix, text) else {
        return;
    };
    let parsed = Reference::parse(text);
    let canonical = parsed.as_ref().ok().map(ToString::to_string);
    assert_eq!(canonical, by_hand(text), "{text:?}");
    let (Ok(reference), Some(canonical)) = (parsed, canonical) else {
        return;
    };
    assert_eq!(Reference::parse(&canonical).as_ref(), Ok(&reference), "{canonical}");
    let Some(provider) = provider(kind, prefix) else {
        return;
    };
    let written = Provider::parse("main", &provider.fields());
    assert_eq!(written.as_ref(), Ok(&provider), "settings are written as they are read");
    let asked = provider.target(&reference).map(|target| path_of(&target));
    let expected = if kind == "gsm" {
        gsm(prefix, &canonical)
    } else {
        vault(prefix, &canonical)
    };
    assert_eq!(
        asked.as_ref().ok(),
        expected.as_ref(),
        "{prefix:?} {canonical}: {asked:?}"
    );
    if let Ok(path) = asked {
        // What a URL makes of it is what was asked for.
        let url = Url::parse("https://backend.example/v1/")
            .and_then(|base| base.join(&path))
            .expect("a URL");
        let whole = url
            .query()
            .map_or(url.path().to_owned(), |query| format!("{}?{query}", url.path()));
        assert_eq!(whole, format!("/v1/{path}"));
    } else if canonical.contains(':') {
        assert_ne!(
            asked,
            Err(TargetError::Malformed),
            "a parsed reference was taken for a forged one"
        );
    }
}

fn provider(kind: &str, prefix: &str) -> Option<Provider> {
    let is_gsm = kind == "gsm";
    let mounts = BTreeMap::from([("secret".to_owned(), 2), ("old".to_owned(), 1)]);
    let fields = ProviderFields {
        kind: if is_gsm { "gsm" } else { "vault" }.to_owned(),
        address: "https://backend.example".to_owned(),
        mounts: if is_gsm { BTreeMap::new() } else { mounts },
        path_prefix: prefix.to_owned(),
        auth_method: if is_gsm { "service_account" } else { "token" }.to_owned(),
        credential_key: "CREDENTIAL".to_owned(),
        ..ProviderFields::default()
    };
    Provider::parse("main", &fields).ok()
}

/// Where a target stands below the backend's `/v1/`.
fn path_of(target: &Target) -> String {
    match target {
        Target::Vault(target) => {
            let data = if target.kv() == KvVersion::V2 { "data/" } else { "" };
            let version = target.version().map(|version| format!("?version={version}"));
            format!(
                "{}/{data}{}{}",
                target.mount(),
                target.path(),
                version.unwrap_or_default()
            )
        }
        Target::Gsm(target) => {
            let version = target
                .version()
                .map_or("latest".to_owned(), |version| version.to_string());
            format!(
                "projects/{}/secrets/{}/versions/{version}",
                target.project(),
                target.secret()
            )
        }
    }
}

/// The canonical form of a reference, segment by segment.
fn by_hand(text: &str) -> Option<String> {
    if !(1..=512).contains(&text.len()) {
        return None;
    }
    if let Some(rest) = text.strip_prefix("vault:") {
        let (path, field) = rest.split_once('#')?;
        let (field, version) = field
            .split_once('@')
            .map_or((field, None), |(field, version)| (field, Some(version)));
        let is_good = is_path(path) && is_segment(field) && field.len() <= 128 && version.is_none_or(is_version);
        return is_good.then(|| text.to_owned());
    }
    if let Some(rest) = text.strip_prefix("gsm:") {
        let parts: Vec<_> = rest.split('/').collect();
        let is_named = |project: &str, secret: &str| is_project(project) && is_secret(secret);
        return match parts[..] {
            ["projects", project, "secrets", secret] if is_named(project, secret) => Some(text.to_owned()),
            ["projects", project, "secrets", secret, "versions", version] if is_named(project, secret) => match version
            {
                "latest-enabled" => text.strip_suffix("/versions/latest-enabled").map(str::to_owned),
                version => is_version(version).then(|| text.to_owned()),
            },
            _ => None,
        };
    }
    is_path(text).then(|| text.to_owned())
}

/// What a provider for Vault is asked for by a canonical reference.
fn vault(prefix: &str, reference: &str) -> Option<String> {
    let whole = match reference.strip_prefix("vault:") {
        Some(whole) => whole,
        None if reference.starts_with("gsm:") => return None,
        None => reference,
    };
    let (path, field) = whole.split_once('#').unwrap_or((whole, "value"));
    let version = field.split_once('@').map(|(_, version)| version);
    let mut segments = path.split('/');
    let mount = segments.next()?;
    let below: Vec<_> = segments.collect();
    let allowed: Vec<_> = prefix.split('/').filter(|segment| !segment.is_empty()).collect();
    if !below.starts_with(&allowed) {
        return None;
    }
    let below = below.join("/");
    match (mount, version) {
        ("secret", None) => Some(format!("secret/data/{below}")),
        ("secret", Some(version)) => Some(format!("secret/data/{below}?version={version}")),
        ("old", None) => Some(format!("old/{below}")),
        _ => None,
    }
}

/// What a provider for Google Secret Manager is asked for by a canonical reference.
fn gsm(prefix: &str, reference: &str) -> Option<String> {
    let canonical;
    let whole = match reference.strip_prefix("gsm:") {
        Some(whole) => whole,
        None => {
            canonical = by_hand(&format!("gsm:{reference}"))?;
            &canonical["gsm:".len()..]
        }
    };
    let whole = if whole.contains("/versions/") {
        whole.to_owned()
    } else {
        format!("{whole}/versions/latest")
    };
    // A project alone allows all its secrets, and no project that merely begins like it.
    let begins = if prefix.contains("/secrets/") {
        prefix.to_owned()
    } else {
        format!("{prefix}/secrets/")
    };
    whole.starts_with(&begins).then_some(whole)
}

fn is_path(text: &str) -> bool {
    text.split('/').count() >= 2 && text.split('/').all(is_segment)
}

fn is_segment(text: &str) -> bool {
    !matches!(text, "" | "." | "..") && text.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
}

fn is_project(text: &str) -> bool {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-.:".contains(c);
    (1..=63).contains(&text.len()) && text.chars().all(fits) && !text.starts_with(['-', '.', ':'])
}

fn is_secret(text: &str) -> bool {
    (1..=255).contains(&text.len()) && text.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c))
}

fn is_version(text: &str) -> bool {
    text.parse::<u64>()
        .is_ok_and(|version| version > 0 && version.to_string() == text)
}
