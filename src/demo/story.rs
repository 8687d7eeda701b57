//! What is told: the delivery in, the delivery out, and one line for each promise that could be looked at.

use std::collections::BTreeMap;

use aws_lc_rs::hmac;
use bytes::Bytes;
use data_encoding::{BASE64, HEXLOWER};
use http::HeaderMap;
use serde_json::{Value, json};

use super::client::{Administrator, Answer, Connection};
use super::endpoint::{Endpoint, Received};
use super::scene::{HOST, INSTALLATION, MISSING, SIGNING_KEY, Scene};
use super::writes::{Since, Written};
use super::{DemoError, Page, Places};
use crate::guard;

/// How many warm deliveries the write calls are counted over.
const WARM: u32 = 100;

const PATH: &str = "/webhooks/issue.created";

/// A value that is there and not shown, however long it is.
const MASK: &str = "••••••••";

/// Sets up, delivers once, tells what was seen; then delivers some more and counts. `false` where anything is not as
/// it should be.
pub(super) async fn tell(
    places: &Places<'_>,
    scene: &Scene,
    endpoint: &Endpoint,
    page: &mut Page,
) -> Result<bool, DemoError> {
    let admin = Administrator {
        api: places.api,
        token: &scene.operator_token,
    };
    page.line("kiket demo: one delivery over mutual TLS, with everything on this machine");
    page.line("");
    page.line(&format!("  deliveries  http://{}", places.proxy));
    page.line(&format!("  REST API    http://{}", places.api));
    page.line(&format!("  metrics     http://{}", places.running.metrics()));
    page.line(&format!(
        "  endpoint    https://{HOST}:{}  (here; demands a client certificate)",
        endpoint.address.port()
    ));
    page.line(&format!(
        "  store       {}  (throw-away; its keys exist in memory only)",
        places.folder.display()
    ));
    scene.set_up(&admin, endpoint.address.port()).await?;

    let invocation = Bytes::from(invocation().to_string());
    page.heading("What the dispatcher sends");
    page.line(&format!("  POST {PATH}"));
    page.line(&format!("  {}", String::from_utf8_lossy(&invocation)));
    let mut dispatcher = Connection::open(places.proxy).await?;
    let answer = dispatcher.post(PATH, &invocation).await?;
    let Some(received) = endpoint.take() else {
        page.line(&format!(
            "  answered {}: {}",
            answer.status,
            String::from_utf8_lossy(&answer.body)
        ));
        page.check(false, "the endpoint received the invocation");
        return Ok(false);
    };
    let mut checks = Checks { page: *page, all: true };
    show_received(&mut checks, scene, &received);
    page.heading("What was looked at");
    check_payload(&mut checks, scene, &invocation, &received);
    check_transport(&mut checks, scene, &received);
    check_signatures(&mut checks, scene, &received);
    check_answer(&mut checks, &answer);
    count_writes(&mut checks, places, endpoint, &mut dispatcher, &invocation).await?;
    page.heading("What the log says of it");
    page.line(&format!("  {}", places.log.first()));
    page.heading("Guards of this process");
    for (guard, status) in guard::report() {
        page.line(&format!("  {:<14} {}", guard.name(), status.name()));
    }
    page.line(&format!("  {:<14} {}", "swap", guard::swap().name()));
    page.line("");
    page.line(if checks.all {
        "Everything is as it should be."
    } else {
        "Something is not as it should be: see the lines marked NO."
    });
    Ok(checks.all)
}

/// What a reader who stays can do.
pub(super) fn try_next(places: &Places<'_>, scene: &Scene, page: &mut Page) {
    let (proxy, api, metrics) = (places.proxy, places.api, places.running.metrics());
    page.heading("Try next (this stays up until Ctrl-C, and tells what the endpoint receives)");
    page.line("");
    page.line("  # deliver again");
    page.line(&format!(
        "  curl -i http://{proxy}{PATH} -H 'Content-Type: application/json' \\\n       -d '{}'",
        json!({"id": "inv_2", "extension_installation_id": INSTALLATION})
    ));
    page.line("  # give the missing key a value; the next delivery has it");
    page.line(&format!("  export TOKEN={}", scene.operator_token));
    let secret = json!({"scope": "project", "id": "web", "organization_id": "acme", "key": MISSING, "value": "s3cret"});
    page.line(&format!(
        "  curl http://{api}/api/v1/extensions/secrets -H \"Authorization: Bearer $TOKEN\" \\\n       \
         -H 'Content-Type: application/json' -d '{secret}'"
    ));
    page.line("  # what is stored: everything but values");
    page.line(&format!(
        "  curl 'http://{api}/api/v1/extensions/secrets?organization_id=acme' -H \"Authorization: Bearer $TOKEN\""
    ));
    page.line("  # what an operator sees");
    page.line(&format!(
        "  curl http://{metrics}/metrics; curl http://{metrics}/readyz"
    ));
    page.line("");
}

/// Prints each check, and remembers whether all were so.
struct Checks {
    page: Page,
    all: bool,
}

impl Checks {
    fn check(&mut self, is_so: bool, what: &str) {
        self.all &= is_so;
        self.page.check(is_so, what);
    }
}

fn invocation() -> Value {
    json!({
        "id": "inv_demo_0001", "event": "issue.created", "extension_installation_id": INSTALLATION,
        "organization_id": "acme", "project_id": "web", "payload": {"issue": 4217, "title": "Räume aufräumen"},
    })
}

fn show_received(checks: &mut Checks, scene: &Scene, received: &Received) {
    let body: Value = serde_json::from_slice(&received.body).unwrap_or_default();
    checks.page.heading("What the endpoint received");
    checks.page.line(&format!("  POST {}", received.head.uri));
    checks.page.line("  every original member, then");
    let mut came_from = BTreeMap::new();
    for (key, value) in body.get("secrets").and_then(Value::as_object).into_iter().flatten() {
        let origin = scene
            .placed
            .iter()
            .find(|placed| placed.key == key && *value == placed.value);
        let wider: Vec<_> = scene
            .placed
            .iter()
            .filter(|placed| placed.key == key && *value != placed.value)
            .map(|placed| placed.place())
            .collect();
        let instead = if wider.is_empty() {
            String::new()
        } else {
            format!(", over {}", wider.join(", "))
        };
        let from = origin.map_or("an unknown place".to_owned(), |placed| placed.place());
        checks
            .page
            .line(&format!("    secrets.{key:<22} {MASK}  from {from}{instead}"));
        came_from.insert(
            key.clone(),
            origin.map(|placed| (placed.scope, placed.is_partner_default)),
        );
    }
    let missing = body.pointer("/secret_status/missing").cloned().unwrap_or_default();
    checks
        .page
        .line(&format!("    secret_status.missing          {missing}"));
    let expected = scene.placed.iter().map(|placed| {
        let origin = Some((placed.scope, placed.is_partner_default));
        (placed.key.to_owned(), origin)
    });
    // The wider values of a key stand first, so that the narrowest one is what is left.
    let all_right = came_from == expected.collect() && missing == json!([MISSING]);
    checks.page.line("");
    checks.check(
        all_right,
        "each key has the value of its narrowest scope, and what nobody set is missing",
    );
}

fn check_payload(checks: &mut Checks, scene: &Scene, sent: &Bytes, received: &Received) {
    let original = sent.strip_suffix(b"}").unwrap_or_default();
    let is_spliced = received.body.starts_with(original) && received.body.ends_with(b"}");
    checks.check(
        is_spliced,
        "every original byte is there, in its order, before the inserted members",
    );
    let text = String::from_utf8_lossy(&received.body);
    let never = [
        &scene.pki.client.certificate,
        &scene.pki.client.key,
        &scene.pki.ca,
        &scene.signing_secret,
    ];
    let names = ["CLIENT_CERT", "CLIENT_KEY", "SERVER_CA", SIGNING_KEY];
    let is_clean =
        never.iter().all(|value| !text.contains(&as_in_json(value))) && !names.iter().any(|name| text.contains(name));
    checks.check(is_clean, "certificate, key, CA and signing secret are in no payload");
}

fn as_in_json(text: &str) -> String {
    Value::from(text).to_string().trim_matches('"').to_owned()
}

fn check_transport(checks: &mut Checks, scene: &Scene, received: &Received) {
    let peer = &received.peer;
    let expected = super::endpoint::fingerprint(&scene.pki.client.certificate);
    let short = HEXLOWER.encode(peer.fingerprint.first_chunk::<8>().map_or(&[], |head| head.as_slice()));
    let what = format!(
        "{} with the client certificate of {:?}, SHA-256 {short}…",
        peer.protocol, peer.common_name
    );
    checks.check(expected == Some(peer.fingerprint), &what);
}

/// Verifies as a receiver would, from the headers and the body that arrived.
fn check_signatures(checks: &mut Checks, scene: &Scene, received: &Received) {
    let (headers, body) = (&received.head.headers, &received.body);
    let header = |name| text(headers, name);
    let key = hmac::Key::new(hmac::HMAC_SHA256, scene.signing_secret.as_bytes());
    let message = [header("x-kiket-timestamp").as_bytes(), b".", body].concat();
    let kiket = HEXLOWER
        .decode(header("x-kiket-signature").as_bytes())
        .is_ok_and(|tag| hmac::verify(&key, &message, &tag).is_ok());
    checks.check(kiket, "X-Kiket-Signature verifies over the bytes that arrived");
    let message = [header("webhook-id"), ".", header("webhook-timestamp"), "."].concat();
    let message = [message.as_bytes(), body].concat();
    let standard = header("webhook-signature")
        .strip_prefix("v1,")
        .and_then(|tag| BASE64.decode(tag.as_bytes()).ok())
        .is_some_and(|tag| hmac::verify(&key, &message, &tag).is_ok());
    let what = format!(
        "webhook-signature (Standard Webhooks) verifies for {}",
        header("webhook-id")
    );
    checks.check(standard, &what);
}

fn check_answer(checks: &mut Checks, answer: &Answer) {
    let what = format!(
        "the dispatcher got the endpoint's {} {}, {}",
        answer.status.as_u16(),
        String::from_utf8_lossy(&answer.body),
        text(&answer.headers, "proxy-status"),
    );
    checks.check(answer.status.is_success() && *answer.body == *b"{\"ok\":true}", &what);
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers
        .get(name)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
}

/// Delivers warm and looks at what the process wrote meanwhile.
async fn count_writes(
    checks: &mut Checks,
    places: &Places<'_>,
    endpoint: &Endpoint,
    dispatcher: &mut Connection,
    invocation: &Bytes,
) -> Result<(), DemoError> {
    let unknown = |error: std::io::Error| DemoError::Machine("/proc/self, where write calls are counted", error.kind());
    let before = Written::now(places.folder).map_err(unknown)?;
    let mut delivered = 0;
    for _ in 0..WARM {
        let answer = dispatcher.post(PATH, invocation).await?;
        delivered += u32::from(answer.status.is_success() && endpoint.take().is_some());
    }
    let since = Written::now(places.folder).map_err(unknown)?.since(&before);
    let (product, others) = by_cast(&since);
    let what = format!(
        "{delivered} warm deliveries made {product} write calls, all by the worker to its sockets ({others} by other threads)"
    );
    checks.check(delivered == WARM && others == 0, &what);
    let what = format!(
        "meanwhile {} of {} open files changed, and {} bytes went to a disk",
        since.files_changed, since.files, since.disk_bytes
    );
    checks.check(since.files_changed == 0 && since.disk_bytes == 0, &what);
    Ok(())
}

/// Write calls of the data plane, and of the product's other threads; the dispatcher and the endpoint are this demo's.
fn by_cast(since: &Since) -> (u64, u64) {
    let of = |is_of: fn(&str) -> bool| {
        since
            .calls
            .iter()
            .filter(|(name, _)| is_of(name))
            .map(|(_, calls)| calls)
            .sum()
    };
    (
        of(|name| name.starts_with("kiket-worker")),
        of(|name| name.starts_with("kiket-") && !name.starts_with("kiket-worker")),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_thing_that_is_not_so_is_remembered() {
        let mut checks = Checks {
            page: Page { is_coloured: false },
            all: true,
        };
        checks.check(true, "so");
        assert!(checks.all);
        checks.check(false, "not so");
        checks.check(true, "so again");
        assert!(!checks.all);
    }
}
