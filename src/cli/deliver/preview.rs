//! What a delivery would send, with a mask where each value would stand. Nothing is sent, and no value is known here.

use std::collections::BTreeMap;

use bytes::Bytes;
use secrecy::SecretString;
use serde_json::{Value, json};

use super::invocation::Invocation;
use super::{Args, exit_of};
use crate::cli::client::{Call, Problem as Told};
use crate::cli::extensions::explain;
use crate::cli::remote::{self, Form};
use crate::cli::table::{ABSENT, facts, printable, text};
use crate::cli::{Failure, Outcome, say};
use crate::clock::{Clock, SystemClock};
use crate::domain::key::SecretKey;
use crate::domain::payload::{self, Enriched, Scan, ScanError};
use crate::domain::problem::Problem;
use crate::domain::resolution::{PayloadSecret, PayloadSecrets};

/// What stands where a value would. Says nothing of its length.
const MASK: &str = "••••••••";

/// The keys of one use, each with what a delivery gets for it.
type Keys = BTreeMap<SecretKey, String>;

/// What the API says of an installation.
struct Resolved {
    installation: Value,
    explanation: Value,
    payload: Keys,
    handshake: Keys,
    signing: Keys,
}

pub(super) fn run(args: &Args, invocation: Invocation) -> Outcome {
    let body = invocation.body;
    let scan = match payload::scan(&body) {
        Ok(scan) => scan,
        Err(error) => return super::refused(&Told::of(problem_of(error))),
    };
    let resolved = Resolved::ask(args)?;
    let obstacle = obstacle(args, &scan, &resolved);
    let (insert_at, is_empty) = (scan.insert_at, scan.is_empty);
    let enriched = resolved.enriched(body.clone(), insert_at, is_empty);
    show(args, &resolved, &enriched, obstacle.as_ref());
    match obstacle {
        None => Ok(crate::cli::Exit::Fine),
        Some(problem) => Err(Failure {
            exit: exit_of(&problem),
            reason: format!("a delivery would be refused: {problem}{}", unless(&problem)),
        }),
    }
}

/// What the API does not tell of a manifest.
fn unless(problem: &Told) -> &'static str {
    match problem.name() {
        "required-secrets-missing" => "\n  unless its manifest says `on_missing: forward`: then it goes out as shown",
        _ => "",
    }
}

const fn problem_of(error: ScanError) -> Problem {
    match error {
        ScanError::Reserved => Problem::ReservedMember,
        ScanError::Malformed | ScanError::TooDeep | ScanError::Duplicate | ScanError::WrongType => {
            Problem::MalformedInvocation
        }
    }
}

impl Resolved {
    fn ask(args: &Args) -> Result<Self, Failure> {
        let client = args.remote.client()?;
        let path = ["marketplace", "installations", args.installation.as_str()];
        let installation = client.call(Call::get(&path))?.body;
        let explanation = explain::ask(&args.remote, &client, &args.installation, None)?;
        let of = |used_for: &str| {
            let keys = explain::keys(&explanation).filter(|key| text(key, "used_for") == used_for);
            let named = keys.filter_map(|key| {
                let name = SecretKey::parse(&text(key, "key")).ok()?;
                Some((name, text(key, "outcome")))
            });
            named.collect::<Keys>()
        };
        Ok(Self {
            payload: of("payload"),
            handshake: of("handshake"),
            signing: of("signing"),
            installation,
            explanation,
        })
    }

    /// Keys of the payload without a value, sorted. What cannot be told is no such key: a delivery waits for it.
    fn missing(&self) -> Vec<SecretKey> {
        let missing = self.payload.iter().filter(|(_, outcome)| is_missing(outcome));
        missing.map(|(key, _)| key.clone()).collect()
    }

    /// Those of them that a delivery needs.
    fn required(&self) -> Vec<String> {
        let needed = explain::keys(&self.explanation)
            .filter(|key| text(key, "used_for") == "payload" && explain::is(key, "required"))
            .filter(|key| is_missing(&text(key, "outcome")));
        needed.map(|key| text(key, "key")).collect()
    }

    /// The payload as it would be sent: the same splice, over masks.
    fn enriched(&self, body: Bytes, insert_at: usize, is_empty: bool) -> Enriched {
        let mut masked = PayloadSecrets::default();
        for (key, _) in self.payload.iter().filter(|(_, outcome)| *outcome == "found") {
            masked.insert(PayloadSecret {
                key: key.clone(),
                value: SecretString::from(MASK),
            });
        }
        let fragment = payload::fragment(&masked, &self.missing());
        payload::splice(body, insert_at, is_empty, Bytes::copy_from_slice(&fragment))
    }
}

fn is_missing(outcome: &str) -> bool {
    matches!(outcome, "missing" | "not-consented")
}

/// The first reason for which the sidecar would not send it, as far as the API tells; in the order of its refusals.
fn obstacle(args: &Args, scan: &Scan<'_>, resolved: &Resolved) -> Option<Told> {
    let record = |name: &str| resolved.installation.get(name).and_then(Value::as_str);
    let stated = &scan.stated;
    let agrees = [
        (&stated.extension_installation_id, Some(args.installation.as_str())),
        (&stated.organization_id, record("organization_id")),
        (&stated.project_id, record("project_id")),
        (&stated.extension_id, record("extension_id")),
        (&stated.product_installation_id, record("product_installation_id")),
    ];
    let agrees = agrees.into_iter().all(|(stated, recorded)| match stated.as_deref() {
        None => true,
        Some(stated) => Some(stated) == recorded,
    });
    if !agrees {
        return Some(Told::of(Problem::ScopeMismatch));
    }
    if record("state") != Some("enabled") {
        return Some(Told::of(Problem::InstallationNotEnabled));
    }
    if explain::unconfirmed(&resolved.explanation).is_some() || record("destination").is_none() {
        return Some(Told::of(Problem::DestinationUnconfirmed));
    }
    let uses = [&resolved.payload, &resolved.handshake, &resolved.signing];
    let mut outcomes = uses.into_iter().flat_map(BTreeMap::values);
    if outcomes.any(|outcome| matches!(outcome.as_str(), "unavailable" | "denied")) {
        return Some(Told::of(Problem::SecretSourceUnavailable));
    }
    let required = resolved.required();
    if !required.is_empty() {
        return Some(Told::of(Problem::RequiredSecretsMissing).about(required));
    }
    let lacks = |keys: &Keys| keys.values().any(|outcome| is_missing(outcome));
    if lacks(&resolved.signing) {
        return Some(Told::of(Problem::SigningKeyMissing).about(lacking(&resolved.signing)));
    }
    lacks(&resolved.handshake).then(|| Told::of(Problem::MtlsIdentityMissing).about(lacking(&resolved.handshake)))
}

fn lacking(keys: &Keys) -> Vec<String> {
    let lacking = keys.iter().filter(|(_, outcome)| is_missing(outcome));
    lacking.map(|(key, _)| key.to_string()).collect()
}

fn show(args: &Args, resolved: &Resolved, enriched: &Enriched, obstacle: Option<&Told>) {
    let payload = enriched.pieces().concat();
    let payload = String::from_utf8_lossy(&payload); // the scan saw that it is UTF-8
    let path = args.path();
    let below = if path == "/" { "" } else { path.as_str() };
    let destination = resolved.installation.get("destination").and_then(Value::as_str);
    let destination = destination.map(|destination| format!("{}{below}", printable(destination)));
    let missing: Vec<String> = resolved.missing().iter().map(ToString::to_string).collect();
    let names = |keys: &Keys| keys.keys().map(ToString::to_string).collect::<Vec<_>>();
    match args.remote.output {
        Form::Json => say(&remote::json(&json!({
            "sent": false,
            "payload": payload,
            "destination": destination,
            "missing": missing,
            "mtls_keys": names(&resolved.handshake),
            "signing_keys": names(&resolved.signing),
            "refused_as": obstacle.map(Told::name),
            "explanation": resolved.explanation,
        }))),
        Form::Table => {
            let listed = |names: Vec<String>| match names.is_empty() {
                true => ABSENT.to_owned(),
                false => names.join(", "),
            };
            let facts = facts(&[
                ("Destination", destination.unwrap_or_else(|| ABSENT.to_owned())),
                ("Missing", listed(missing)),
                ("Mutual TLS with", listed(names(&resolved.handshake))),
                ("Signed with", listed(names(&resolved.signing))),
            ]);
            let explanation = explain::told(&resolved.explanation, SystemClock.now());
            say(&format!(
                "nothing was sent; the body would be\n\n{}\n\n{facts}\n{explanation}",
                payload.trim_end_matches('\n')
            ))
        }
    };
}
