//! Whether a callback's URL means one destination, with nothing in it that leads elsewhere.

use std::net::{IpAddr, Ipv4Addr};

use url::Host;

use super::address::is_refused;
use crate::domain::destination::{Destination, Scheme};
use crate::egress::DestinationPolicy;

/// Reads: a URL.
pub fn hold(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let parsed = Destination::parse(text);
    if let Some(expected) = plain(text) {
        let got = parsed
            .as_ref()
            .map(|one| (one.scheme, one.host.to_string(), one.port, one.path_prefix.clone()));
        assert_eq!(got, Ok(expected));
    }
    if let Ok(destination) = parsed {
        says_one_thing(&destination);
        if let Some(address) = host(text).and_then(as_the_resolver_reads) {
            assert_eq!(
                destination.host,
                Host::<String>::Ipv4(address),
                "an address in disguise"
            );
        }
        is_guarded(&destination);
    }
}

fn says_one_thing(destination: &Destination) {
    let written = format!("{}{}", destination.origin(), destination.path_prefix);
    assert_eq!(Destination::parse(&written).as_ref(), Ok(destination), "{written}");

    let path = &destination.path_prefix;
    assert!(path.is_empty() || path.starts_with('/'), "{path}");
    for segment in path.split('/').skip(1) {
        let lower = segment.to_ascii_lowercase().replace("%2e", ".");
        assert!(!matches!(lower.as_str(), "" | "." | ".."), "{path}");
        assert!(
            !["%2f", "%5c", "\\", "?", "#"]
                .iter()
                .any(|unclear| lower.contains(unclear)),
            "{path}"
        );
        assert!(lower.bytes().all(|byte| byte.is_ascii_graphic()), "{path}");
    }
    if let Host::Domain(name) = &destination.host {
        let fits =
            |byte: u8| byte.is_ascii_graphic() && !b"%@:/\\?#[]<>^|".contains(&byte) && !byte.is_ascii_uppercase();
        assert!(!name.is_empty() && name.bytes().all(fits), "{name}");
        assert_eq!(as_the_resolver_reads(name), None, "{name}");
        assert!(name.parse::<IpAddr>().is_err(), "{name}");
    }
}

fn is_guarded(destination: &Destination) {
    let literal = match destination.host {
        Host::Domain(_) => None,
        Host::Ipv4(address) => Some(IpAddr::V4(address)),
        Host::Ipv6(address) => Some(IpAddr::V6(address)),
    };
    let is_public = !literal.is_some_and(is_refused);
    let may_be_registered = |policy: &DestinationPolicy| policy.check(destination).is_ok();
    let strict = DestinationPolicy::default();
    assert_eq!(
        may_be_registered(&strict),
        is_public && destination.scheme == Scheme::Https
    );
    let plain_allowed = DestinationPolicy {
        allow_http: true,
        ..strict
    };
    assert_eq!(may_be_registered(&plain_allowed), is_public);
}

/// What stands where a host does, in a URL without anything odd before it.
fn host(text: &str) -> Option<&str> {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"))?;
    let end = rest.find(['/', '?', '#', ':', '\\', '@']).unwrap_or(rest.len());
    let (host, after) = rest.split_at(end);
    (!after.starts_with('@') && !after.contains('@')).then_some(host)
}

/// The address that `inet_aton` reads out of a text, which is what resolvers do before they ask anyone.
fn as_the_resolver_reads(text: &str) -> Option<Ipv4Addr> {
    let parts: Vec<u64> = text.split('.').map(number).collect::<Option<_>>()?;
    let (last, leading) = parts.split_last()?;
    if leading.len() > 3 || leading.iter().any(|part| *part > 255) || *last >> (8 * (4 - leading.len())) != 0 {
        return None;
    }
    let high = leading
        .iter()
        .zip([24, 16, 8])
        .map(|(part, shift)| part << shift)
        .sum::<u64>();
    u32::try_from(high | last).ok().map(Ipv4Addr::from_bits)
}

/// A number as C reads it: decimal, octal behind a zero, hexadecimal behind `0x`.
fn number(text: &str) -> Option<u64> {
    let (digits, radix) = match text.as_bytes() {
        [b'0', b'x' | b'X', ..] => (&text[2..], 16),
        [b'0', _, ..] => (&text[1..], 8),
        _ => (text, 10),
    };
    digits
        .starts_with(|first: char| first.is_ascii_hexdigit())
        .then(|| u64::from_str_radix(digits, radix).ok())?
}

/// What a URL without anything special in it says, read by hand.
fn plain(text: &str) -> Option<(Scheme, String, u16, String)> {
    let (scheme, port, rest) = if let Some(rest) = text.strip_prefix("https://") {
        (Scheme::Https, 443, rest)
    } else {
        (Scheme::Http, 80, text.strip_prefix("http://")?)
    };
    let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
    let (host, port) = match authority.split_once(':') {
        None => (authority, port),
        Some((host, digits)) => (
            host,
            digits
                .parse()
                .ok()
                .filter(|_| digits.bytes().all(|b| b.is_ascii_digit()))?,
        ),
    };
    let is_label = |label: &str| {
        label.starts_with(|first: char| first.is_ascii_lowercase())
            && !label.starts_with("xn--")
            && label
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
    };
    let is_segment = |segment: &str| !segment.is_empty() && segment.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let is_plain = host.split('.').all(is_label) && path.split('/').skip(1).all(is_segment);
    is_plain.then(|| (scheme, host.to_owned(), port, path.to_owned()))
}
