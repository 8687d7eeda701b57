//! Whether a request that reached an endpoint carries a secret where none belongs: looked at for every request of the
//! whole suite.
//!
//! What was injected the request says itself. What signs and is shown in handshakes is known from the calls of the REST
//! API that tests make: who registers a callback, which keys it names, and what is set under them.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use bytes::Bytes;
use kiket_sidecar::domain::echo::EchoPatterns;
use kiket_sidecar::domain::key::SecretKey;
use kiket_sidecar::domain::leak::LeakPatterns;
use kiket_sidecar::domain::payload::{slot_end, splice};
use secrecy::SecretString;
use serde_json::Value;

/// How many texts' patterns are kept: most requests of a test inject the same values.
const KEPT_MAX: usize = 64;

const SLOT: &[u8] = b"\"secrets\":{";

static BOOK: LazyLock<Mutex<Book>> = LazyLock::new(Mutex::default);

/// What was told to instances.
#[derive(Default)]
struct Book {
    instances: HashMap<SocketAddr, Told>,
    /// Who delivers to a port.
    ports: HashMap<u16, HashSet<SocketAddr>>,
    /// Every text that was set under a key that goes into payloads: ports are used again by other tests, and what is
    /// for signatures in one may be a payload's in another.
    injected: HashSet<String>,
    kept: HashMap<(u16, Vec<u8>), Option<Arc<LeakPatterns>>>,
}

#[derive(Default)]
struct Told {
    /// Keys that sign or are shown in handshakes.
    withheld: HashSet<String>,
    values: Vec<(String, String)>,
}

/// Takes note of a call of an instance's REST API.
pub fn told(instance: SocketAddr, path: &str, body: &Value) {
    let mut book = BOOK.lock().unwrap_or_else(PoisonError::into_inner);
    let in_path = path.split(['/', '?']).skip_while(|part| *part != "secrets").nth(1);
    book.read(instance, in_path, body);
    let told = book.instances.entry(instance).or_default();
    let withheld = told.withheld.clone();
    let injected = told.values.iter().filter(|(key, _)| !withheld.contains(key));
    let injected: Vec<String> = injected.map(|(_, value)| value.trim().to_owned()).collect();
    book.injected.extend(injected);
    book.kept.clear();
}

impl Book {
    fn read(&mut self, instance: SocketAddr, key: Option<&str>, value: &Value) {
        let members = match value {
            Value::Object(members) => members,
            Value::Array(all) => return all.iter().for_each(|one| self.read(instance, key, one)),
            Value::String(text) => {
                let port = text.strip_prefix("http").and_then(|_| text.split(':').nth(2));
                let port = port.and_then(|port| port.split('/').next()?.parse().ok());
                port.map(|port: u16| self.ports.entry(port).or_default().insert(instance));
                return;
            }
            _ => return,
        };
        let told = self.instances.entry(instance).or_default();
        for (name, member) in members {
            let names = member.as_array().map_or(std::slice::from_ref(member), Vec::as_slice);
            let names = names.iter().filter_map(Value::as_str).map(str::to_owned);
            // A CA is nobody's secret.
            if ["signing_secret_key", "certificate_key", "private_key_key"].contains(&name.as_str()) {
                told.withheld.extend(names);
            }
        }
        let key = members.get("key").and_then(Value::as_str).or(key);
        if let (Some(key), Some(value)) = (key, members.get("value").and_then(Value::as_str)) {
            told.values.push((key.to_owned(), value.to_owned()));
        }
        members.values().for_each(|member| self.read(instance, key, member));
    }

    /// What must not be seen at a port in a request that injects these values.
    fn patterns(&mut self, port: u16, slot: &[u8]) -> Option<Arc<LeakPatterns>> {
        if let Some(kept) = self.kept.get(&(port, slot.to_vec())) {
            return kept.clone();
        }
        let instances = self.ports.get(&port).into_iter().flatten();
        let told = instances.filter_map(|instance| self.instances.get(instance));
        let withheld = told.flat_map(|told| told.values.iter().filter(|(key, _)| told.withheld.contains(key)));
        let withheld = withheld.filter(|(_, value)| !self.injected.contains(value.trim()));
        let withheld = secrets(withheld.map(|(key, value)| (key.as_str(), value.as_str())));
        let object = [b"{", slot, b"}"].concat();
        let parsed: Value = serde_json::from_slice(&object).unwrap_or_default();
        let injected = parsed["secrets"].as_object().into_iter().flatten();
        let injected = secrets(injected.filter_map(|(key, value)| Some((key.as_str(), value.as_str()?))));
        let patterns = |all: &[(SecretKey, SecretString)]| EchoPatterns::of(all.iter().map(|(key, text)| (key, text)));
        let made = LeakPatterns::new(patterns(&injected).map(Arc::new), patterns(&withheld)).map(Arc::new);
        if self.kept.len() >= KEPT_MAX {
            self.kept.clear();
        }
        self.kept.insert((port, slot.to_vec()), made.clone());
        made
    }
}

fn secrets<'a>(all: impl Iterator<Item = (&'a str, &'a str)>) -> Vec<(SecretKey, SecretString)> {
    all.filter_map(|(key, value)| Some((SecretKey::parse(key).ok()?, SecretString::from(value))))
        .collect()
}

/// What is wrong with a request that reached the endpoint at this port, if anything is.
pub fn found<'a>(
    port: u16,
    target: &str,
    headers: impl Iterator<Item = (&'a str, &'a [u8])>,
    body: &[u8],
) -> Option<String> {
    // What was inserted stands last, before the final brace; within it, quotes are escaped.
    let slot = body.windows(SLOT.len()).rposition(|window| window == SLOT);
    let from = slot.map_or(body.len(), |at| at - usize::from(at > 0 && body[at - 1] == b','));
    let to = body
        .iter()
        .rposition(|byte| *byte == b'}')
        .map_or(from, |at| at.max(from));
    let fragment = &body[from..to];
    let values = &fragment[..slot_end(fragment)];
    let values = values.strip_prefix(b",").unwrap_or(values);
    let patterns = {
        let mut book = BOOK.lock().unwrap_or_else(PoisonError::into_inner);
        book.patterns(port, values)?
    };
    let around = [&body[..from], &body[to..]].concat();
    let enriched = splice(Bytes::from(around), from, false, Bytes::copy_from_slice(fragment));
    let tell = |key: &SecretKey, place: &str| format!("{key} in the {place} of a request to {target}");
    let in_headers = |(name, value): (&str, &[u8])| {
        let key = patterns.in_text(value).or_else(|| patterns.in_text(name.as_bytes()));
        key.map(|key| tell(key, "header fields"))
    };
    let in_target = patterns.in_text(target.as_bytes()).map(|key| tell(key, "path"));
    let in_body = || patterns.in_body(&enriched).map(|key| tell(key, "body"));
    in_target
        .or_else(in_body)
        .or_else(|| headers.into_iter().find_map(in_headers))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const INSERTED: &str = r#","secrets":{"KEY":"the-injected-value"},"secret_status":{"missing":["GONE"]}"#;

    #[test]
    fn a_leak_is_found_wherever_it_is_and_a_proper_request_has_none() {
        // Ports that no endpoint gets.
        let (instance, port) = ("192.0.2.1:1".parse().unwrap(), 1);
        let callback = json!({"url": "http://127.0.0.1:1/x", "signing_secret_key": ["SIGN"]});
        told(
            instance,
            "/extensions/com.example.x",
            &json!({"delivery": {"callback": callback}}),
        );
        told(
            instance,
            "/extensions/secrets",
            &json!({"key": "SIGN", "value": "the-signing-secret"}),
        );
        told(
            instance,
            "/extensions/secrets/SIGN/rotate?x",
            &json!({"value": "the-next-signing-secret"}),
        );
        let found = |target: &str, header: &str, before: &str, fragment: &str| {
            let body = format!("{{\"a\":\"{before}\"{fragment}}}\n");
            found(
                port,
                target,
                [("x-own", header.as_bytes())].into_iter(),
                body.as_bytes(),
            )
        };
        assert_eq!(found("/x", "y", "z", INSERTED), None);
        for leak in ["the-injected-value", "the-signing-secret", "the-next-signing-secret"] {
            for [target, header, before] in [[leak, "", ""], ["", leak, ""], ["", "", leak]] {
                assert!(
                    found(target, header, before, INSERTED).is_some(),
                    "{leak}: {target} {header} {before}"
                );
            }
            let hex = data_encoding::HEXLOWER.encode(leak.as_bytes());
            assert!(found("", "", &hex, INSERTED).is_some());
        }
        let signing = INSERTED.replace("the-injected-value", "the-signing-secret");
        assert!(found("/x", "y", "z", &signing).is_some());
        assert_eq!(found("/x", "y", "the-injected-value", ""), None, "nothing was injected");
    }
}
