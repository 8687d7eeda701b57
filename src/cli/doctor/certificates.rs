//! When do certificates end: the REST API's own, and those that installations show to their endpoints?

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::check::{Check, UNREAD, counted, named};
use super::registered::Registered;
use crate::clock::{Clock, SystemClock};
use crate::config::Config;
use crate::crypto::keyring::Keyring;
use crate::delivery::identity::{certificate_end, chain_end};
use crate::domain::resolution::{HandshakeSecret, slots};
use crate::domain::secret::SecretKind;
use crate::domain::time::Timestamp;
use crate::registry;
use crate::store::SharedStore;

const NAME: &str = "certificates";

const DAY_MILLIS: u64 = 24 * 60 * 60 * 1_000;

/// With so many days left somebody should know, and with so many it is a failure to come.
const DAYS: (u64, u64) = (30, 7);

const ADVICE: &str = "replace it: the REST API's is read at a start, a client's with \
                      `kiket extensions secrets rotate` for certificate and key";

/// A certificate: whose, and when it ends.
struct Seen {
    name: String,
    end: Timestamp,
}

pub(super) async fn look(
    config: &Config,
    registered: Option<&Registered>,
    rows: Option<&SharedStore>,
    keyring: Option<&Arc<Keyring>>,
) -> Check {
    let mut seen: Vec<Seen> = Vec::new();
    if let Some(end) = config.admin_tls_cert_file.as_deref().and_then(file_end) {
        let name = String::from("admin_tls_cert_file");
        seen.push(Seen { name, end });
    }
    let is_read = registered.is_some();
    if let (Some(registered), Some(rows), Some(keyring)) = (registered, rows, keyring) {
        for installation in &registered.installations {
            let end = client_end(installation, rows, keyring).await;
            let name = installation.installation.id.to_string();
            seen.extend(end.map(|end| Seen { name, end }));
        }
    }
    if seen.is_empty() && !is_read {
        return Check::not_applicable(NAME, UNREAD);
    }
    judged(seen, SystemClock.now())
}

fn judged(mut seen: Vec<Seen>, now: Timestamp) -> Check {
    seen.sort_by_key(|one| one.end);
    let Some(first) = seen.first() else {
        return Check::not_applicable(NAME, "none is known here");
    };
    let (warned, failed) = DAYS;
    let within = |one: &&Seen, days: u64| one.end < now.plus_millis(days.saturating_mul(DAY_MILLIS));
    let near: Vec<String> = seen
        .iter()
        .filter(|one| within(one, warned))
        .map(|one| left(one, now))
        .collect();
    if near.is_empty() {
        let count = counted(seen.len(), "certificate", "certificates");
        return Check::ok(NAME, format!("{count}, the first to end is {}", left(first, now)));
    }
    match within(&first, failed) {
        true => Check::failed(NAME, named(&near), ADVICE),
        false => Check::warning(NAME, named(&near), ADVICE),
    }
}

fn left(one: &Seen, now: Timestamp) -> String {
    let days = usize::try_from(one.end.0.saturating_sub(now.0) / DAY_MILLIS).unwrap_or(usize::MAX);
    match one.end <= now {
        true => format!("that of {}, which ended", one.name),
        false => format!("that of {}, {} left", one.name, counted(days, "day", "days")),
    }
}

/// When the certificate of a file ends. One that cannot be read is a matter of the configuration.
fn file_end(file: &Path) -> Option<Timestamp> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_file_iter(file).ok()?.collect();
    chain_end(&chain.ok()?)
}

/// When the client certificate of an installation ends; `None` where it has none here.
async fn client_end(one: &registry::Registered, rows: &SharedStore, keyring: &Keyring) -> Option<Timestamp> {
    let keys = one.manifest.callback.as_ref()?.mtls.as_ref()?;
    let slots = slots(&one.installation, one.partner_defaults, &keys.certificate_key);
    let found = rows.slots(&slots).await.ok()?;
    let standing = slots
        .iter()
        .filter_map(|slot| found.iter().find(|row| row.meta.slot == *slot));
    let decides = |kind: SecretKind| matches!(kind, SecretKind::Value | SecretKind::Reference);
    let row = standing.into_iter().find(|row| decides(row.meta.kind))?;
    if row.meta.kind == SecretKind::Reference {
        return None; // it stands in another backend
    }
    let opened = keyring.open(&row.meta.slot, row.meta.kind, row.meta.version, &row.sealed);
    certificate_end(&HandshakeSecret(opened.ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_told_of_a_month_ahead_and_is_a_failure_a_week_ahead() {
        let now = Timestamp(1_800_000_000_000);
        for (days, more, expected) in [
            (31, 0, "1 certificate, the first to end is that of ins_1, 31 days left"),
            (30, 0, "1 certificate, the first to end is that of ins_1, 30 days left"),
            (29, 1, "that of ins_1, 29 days left"),
            (7, 0, "that of ins_1, 7 days left"),
            (6, 1, "that of ins_1, 6 days left"),
            (0, 0, "that of ins_1, which ended"),
        ] {
            let seen = |days: u64| Seen {
                name: String::from("ins_1"),
                end: now.plus_millis(days * DAY_MILLIS + more),
            };
            let check = judged(vec![seen(days)], now);
            let expected = match days {
                30.. => Check::ok(NAME, expected),
                7.. => Check::warning(NAME, expected, ADVICE),
                _ => Check::failed(NAME, expected, ADVICE),
            };
            assert_eq!(check, expected, "{days}");
        }
        assert!(!judged(Vec::new(), now).is_finding());
    }
}
