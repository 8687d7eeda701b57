//! How a client certificate is replaced under load, without a restart and without a delivery lost.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use serde_json::json;

use super::support::instance::{Instance, invocation};
use super::support::pki::{Authority, Identity};
use super::support::problem::assert_problem;
use super::support::tenant::{CERTIFICATE, PRIVATE_KEY, Tenant, mutual_callback};
use super::support::tls_endpoint::{H1, H2, Setup, TlsEndpoint};

const EXTENSION: &str = "com.example.rotated";
const THREADS: usize = 4;
const ROTATIONS: usize = 6;

/// As long as the last matching pair may stand in for one that does not match (contract, section 5).
const GRACE_MILLIS: u64 = 10 * 60 * 1_000;

fn tenant<'a>(
    instance: &'a Instance,
    endpoint: &TlsEndpoint,
    identity: &Identity,
    authority: &Authority,
) -> Tenant<'a> {
    let callback = mutual_callback(&endpoint.url());
    instance.register(EXTENSION, callback, json!({"KEY": {"secret": true}}));
    Tenant::enabled(instance, EXTENSION, ["org", "ins"], identity, authority)
}

/// The first write of a rotation, and the second; which comes first alternates.
fn halves(identity: &Identity, rotation: usize) -> [(&'static str, String); 2] {
    let mut halves = [
        (CERTIFICATE, identity.certificate_pem()),
        (PRIVATE_KEY, identity.key_pem()),
    ];
    halves.rotate_left(rotation % 2);
    halves
}

/// Delivers now and says which certificate was shown.
fn shown(instance: &Instance, endpoint: &TlsEndpoint, mark: &str) -> [u8; 32] {
    let mut request = invocation("ins", b"{}");
    let end = request.len() - "\r\n{}".len();
    request.splice(end..end, format!("X-Mark: {mark}\r\n").into_bytes());
    let answer = instance.connect().exchange(&request);
    assert_eq!(answer.status, 200, "{mark}: {}", String::from_utf8_lossy(&answer.body));
    let seen = endpoint.seen();
    let marked = seen.iter().find(|seen| seen.header("x-mark") == Some(mark)).unwrap();
    endpoint.session_of(marked).certificate.unwrap()
}

#[test]
fn a_rotation_under_load_loses_nothing_and_is_in_force_with_its_second_write() {
    // Side by side: most of the time goes into waiting for old connections to end.
    thread::scope(|scope| {
        for (alpn, workers) in [(H1, "1"), (H1, "2"), (H2, "1")] {
            scope.spawn(move || rotate_under_load(alpn, workers));
        }
    });
}

fn rotate_under_load(alpn: &'static [&'static str], workers: &str) {
    let authority = Authority::new("dev CA");
    let instance = Instance::with(super::support::instance::Options {
        settings: &[("workers", workers)],
        ..Default::default()
    });
    let endpoint = Setup::mutual(&authority, alpn).start();
    let identities: Vec<Identity> = (0..=ROTATIONS).map(|n| authority.client(&format!("org {n}"))).collect();
    let tenant = tenant(&instance, &endpoint, &identities[0], &authority);
    let done = AtomicBool::new(false);
    let delivered: usize = thread::scope(|scope| {
        let stop = Stop(&done);
        let load: Vec<_> = (0..THREADS)
            .map(|_| scope.spawn(|| deliver_until(&instance, &done)))
            .collect();
        for (n, pair) in identities.windows(2).enumerate() {
            let [first, second] = halves(&pair[1], n);
            assert_eq!(
                shown(&instance, &endpoint, &format!("{n} before")),
                pair[0].fingerprint()
            );
            tenant.set(first.0, &first.1);
            assert_eq!(
                shown(&instance, &endpoint, &format!("{n} between")),
                pair[0].fingerprint()
            );
            tenant.set(second.0, &second.1);
            assert_eq!(
                shown(&instance, &endpoint, &format!("{n} after")),
                pair[1].fingerprint()
            );
        }
        drop(stop);
        load.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!(endpoint.seen().len(), delivered + 3 * ROTATIONS);
    // Nobody uses a replaced certificate's connections any more, so they end.
    let current = identities[ROTATIONS].fingerprint();
    endpoint.wait("the end of old connections", |sessions, _| {
        sessions
            .iter()
            .all(|session| session.closed || session.certificate == Some(current))
    });
    assert_eq!(shown(&instance, &endpoint, "last"), current);
}

/// Ends the load, also where the test fails.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Delivers over one connection until told; every delivery has to succeed.
fn deliver_until(instance: &Instance, done: &AtomicBool) -> usize {
    let (mut client, mut delivered) = (instance.connect(), 0);
    while !done.load(Ordering::SeqCst) {
        let answer = client.exchange(&invocation("ins", b"{}"));
        assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
        delivered += 1;
    }
    delivered
}

#[test]
fn halves_that_do_not_match_are_bridged_for_ten_minutes_and_no_longer() {
    for order in [0, 1] {
        let (authority, instance) = (Authority::new("dev CA"), Instance::start());
        let endpoint = Setup::mutual(&authority, H1).start();
        let (old, new) = (authority.client("old"), authority.client("new"));
        let tenant = tenant(&instance, &endpoint, &old, &authority);
        assert_eq!(shown(&instance, &endpoint, "before"), old.fingerprint());
        let [first, second] = halves(&new, order);
        tenant.set(first.0, &first.1);
        assert_eq!(shown(&instance, &endpoint, "at once"), old.fingerprint());
        instance.clock.advance(GRACE_MILLIS - 1);
        assert_eq!(shown(&instance, &endpoint, "at the end"), old.fingerprint());
        instance.clock.advance(1);
        let refused = instance.deliver("ins", b"{}");
        assert_problem(&refused, 502, "mtls-identity-invalid", false, first.0);
        assert_eq!(endpoint.seen().len(), 3);
        // Looking again does not begin another ten minutes, nor does a change elsewhere.
        instance.set("organization", "org", "KEY", "wide");
        let refused = instance.deliver("ins", b"{}");
        assert_problem(&refused, 502, "mtls-identity-invalid", false, first.0);
        tenant.set(second.0, &second.1);
        assert_eq!(shown(&instance, &endpoint, "after"), new.fingerprint());
    }
}

#[test]
fn a_change_elsewhere_neither_ends_nor_prolongs_the_bridge() {
    let (authority, instance) = (Authority::new("dev CA"), Instance::start());
    let endpoint = Setup::mutual(&authority, H1).start();
    let (old, new) = (authority.client("old"), authority.client("new"));
    let tenant = tenant(&instance, &endpoint, &old, &authority);
    assert_eq!(shown(&instance, &endpoint, "before"), old.fingerprint());
    tenant.set(CERTIFICATE, &new.certificate_pem());
    assert_eq!(shown(&instance, &endpoint, "at once"), old.fingerprint());
    instance.clock.advance(GRACE_MILLIS / 2);
    instance.set("organization", "org", "KEY", "wide");
    assert_eq!(shown(&instance, &endpoint, "halfway"), old.fingerprint());
    assert_eq!(endpoint.last().json()["secrets"], json!({"KEY": "wide"}));
    instance.clock.advance(GRACE_MILLIS / 2);
    let refused = instance.deliver("ins", b"{}");
    assert_problem(&refused, 502, "mtls-identity-invalid", false, "ten minutes");
    tenant.set(CERTIFICATE, &old.certificate_pem());
    assert_eq!(shown(&instance, &endpoint, "put back"), old.fingerprint());
}

#[test]
fn a_certificate_renewed_for_the_same_key_takes_one_write() {
    let (authority, instance) = (Authority::new("dev CA"), Instance::start());
    let endpoint = Setup::mutual(&authority, H1).start();
    let old = authority.client("org");
    let renewed = authority.renewed("org", &old);
    let tenant = tenant(&instance, &endpoint, &old, &authority);
    assert_eq!(shown(&instance, &endpoint, "before"), old.fingerprint());
    tenant.set(CERTIFICATE, &renewed.certificate_pem());
    assert_eq!(shown(&instance, &endpoint, "after"), renewed.fingerprint());
}
