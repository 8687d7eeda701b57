//! How the keys of runtime tokens are come by: fetched once for many, replaced, and missed for no longer than allowed.

use std::sync::{Arc, Barrier, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use data_encoding::BASE64URL_NOPAD;
use http::Response;
use rustix::process::{Resource, getrlimit, setrlimit};
use serde_json::{Value, json};

use super::support::endpoint::{Endpoint, answer};
use super::support::http::{Client, once, request};
use super::support::instance::{Instance, Options, invocation};
use super::support::issuer::{Draft, Issuer, PATH, Publishes, SigningKey, carrying};
use super::support::pki::Authority;
use super::support::problem::assert_problem;
use super::support::tls_endpoint::{H1, Reply, Setup};

/// Longer than anything takes; a test that hangs fails.
const PATIENCE: Duration = Duration::from_secs(30);

/// Less than the time after which an unknown key brings about another fetch, and that time, in milliseconds.
const TOO_SOON: u64 = 9_999;
const SOON_ENOUGH: u64 = 10_000;

/// After so many milliseconds keys are fetched anew.
const FETCH_EVERY: u64 = 300_000;

fn ready(instance: &Instance) -> Endpoint {
    let endpoint = Endpoint::start();
    instance.simple(&endpoint.url());
    endpoint
}

fn status(instance: &Instance, key: &SigningKey) -> u16 {
    let token = Draft::of(key, instance).sign(key);
    instance.deliver("ins", &carrying(&token)).status
}

fn metric(instance: &Instance, name: &str) -> i64 {
    let metrics = instance.metrics();
    let line = metrics.lines().find_map(|line| line.strip_prefix(&format!("{name} ")));
    line.unwrap_or_else(|| panic!("no {name}")).parse().unwrap()
}

fn fetches(instance: &Instance, outcome: &str) -> i64 {
    metric(
        instance,
        &format!("kiket_runtime_token_key_fetches_total{{outcome=\"{outcome}\"}}"),
    )
}

/// Waits until so many fetches ended so.
fn await_fetches(instance: &Instance, outcome: &str, count: i64) {
    let begun = Instant::now();
    while fetches(instance, outcome) < count {
        assert!(
            begun.elapsed() < PATIENCE,
            "never {count} {outcome}: {}",
            instance.metrics()
        );
    }
}

fn keys(instance: &Instance) -> (String, Value) {
    let answer = once(instance.running.metrics(), &request("GET", "/readyz", &[], b""));
    assert_eq!(answer.status, 200, "a sidecar that can answer is ready");
    let document = answer.json();
    (
        document["status"].as_str().unwrap().to_owned(),
        document["runtime_token_keys"].clone(),
    )
}

#[test]
fn keys_are_fetched_ahead_of_their_time_and_no_delivery_waits_for_that() {
    let key = SigningKey::new("a");
    let issuer = Issuer::publishing(&[&key]);
    let instance = issuer.instance(&[]);
    let _endpoint = ready(&instance);
    await_fetches(&instance, "fetched", 1);
    assert_eq!(issuer.server.last().target, PATH);
    assert_eq!(
        keys(&instance),
        ("ready".into(), json!({"state": "fresh", "count": 1, "age_seconds": 0}))
    );
    instance.clock.advance(FETCH_EVERY - 1);
    assert_eq!(status(&instance, &key), 200);
    assert_eq!(keys(&instance).1["age_seconds"], 299);
    assert_eq!(metric(&instance, "kiket_runtime_token_keys"), 1);
    assert_eq!(metric(&instance, "kiket_runtime_token_keys_age_seconds"), 299);
    assert_eq!(issuer.asked(), 1);
    instance.clock.advance(1);
    await_fetches(&instance, "fetched", 2); // nobody asked for it
    assert_eq!(keys(&instance).1["age_seconds"], 0);
    assert_eq!(status(&instance, &key), 200);
    assert_eq!(issuer.asked(), 2);
}

#[test]
fn a_key_that_the_issuer_begins_to_use_is_found_and_one_that_it_withdraws_is_dropped() {
    let (old, new) = (SigningKey::new("old"), SigningKey::new("new"));
    let issuer = Issuer::publishing(&[&old]);
    let instance = issuer.instance(&[]);
    let endpoint = ready(&instance);
    let remembered = carrying(&Draft::of(&old, &instance).claim("exp", json!(u32::MAX)).sign(&old));
    for _ in 0..2 {
        assert_eq!(instance.deliver("ins", &remembered).status, 200);
    }
    issuer.publish(&[&old, &new]);
    instance.clock.advance(SOON_ENOUGH);
    assert_eq!((status(&instance, &new), status(&instance, &old)), (200, 200));
    assert_eq!(issuer.asked(), 2);
    issuer.publish(&[&new]);
    instance.clock.advance(FETCH_EVERY - 1);
    assert_eq!(status(&instance, &old), 200, "not withdrawn as far as anybody knows");
    instance.clock.advance(1);
    await_fetches(&instance, "fetched", 3);
    assert_eq!((status(&instance, &old), status(&instance, &new)), (403, 200));
    assert_eq!(
        instance.deliver("ins", &remembered).status,
        403,
        "though it was verified once"
    );
    assert_eq!(endpoint.received().len(), 6);
}

#[test]
fn an_id_that_goes_to_another_key_takes_the_tokens_of_the_first_with_it() {
    let (first, second) = (SigningKey::new("a"), SigningKey::new("a"));
    let issuer = Issuer::publishing(&[&first]);
    let instance = issuer.instance(&[]);
    let endpoint = ready(&instance);
    let remembered = carrying(&Draft::of(&first, &instance).claim("exp", json!(u32::MAX)).sign(&first));
    for _ in 0..2 {
        assert_eq!(instance.deliver("ins", &remembered).status, 200);
    }
    issuer.publish(&[&second]);
    instance.clock.advance(FETCH_EVERY);
    await_fetches(&instance, "fetched", 2);
    assert_eq!(instance.deliver("ins", &remembered).status, 403);
    assert_eq!((status(&instance, &second), endpoint.received().len()), (200, 3));
}

#[test]
fn an_unknown_key_brings_about_one_fetch_every_ten_seconds_however_many_tokens_name_one() {
    let key = SigningKey::new("known");
    let issuer = Issuer::publishing(&[&key]);
    let instance = issuer.instance(&[]);
    let endpoint = ready(&instance);
    assert_eq!(status(&instance, &key), 200);
    let unknown = |number: usize| SigningKey::new(&format!("unknown-{number}"));
    instance.clock.advance(TOO_SOON);
    assert_eq!(status(&instance, &unknown(0)), 403);
    assert_eq!(issuer.asked(), 1);
    instance.clock.advance(SOON_ENOUGH - TOO_SOON);
    for number in 1..20 {
        assert_eq!(status(&instance, &unknown(number)), 403);
        assert_eq!(issuer.asked(), 2);
    }
    instance.clock.advance(TOO_SOON);
    assert_eq!((status(&instance, &unknown(20)), issuer.asked()), (403, 2));
    instance.clock.advance(SOON_ENOUGH - TOO_SOON);
    assert_eq!((status(&instance, &unknown(21)), issuer.asked()), (403, 3));
    assert_eq!((status(&instance, &key), endpoint.received().len()), (200, 2));
}

/// A thousand connections take two thousand descriptors of this process.
fn allow_many_descriptors() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).unwrap();
}

#[test]
fn a_thousand_deliveries_at_once_with_an_unknown_key_cost_one_fetch() {
    const DELIVERIES: usize = 1_000;
    const SENDERS: usize = 8;
    allow_many_descriptors();
    let key = SigningKey::new("known");
    let issuer = Issuer::publishing(&[&key]);
    let instance = issuer.instance(&[]);
    let endpoint = ready(&instance);
    assert_eq!((status(&instance, &key), issuer.asked()), (200, 1));
    let unknown = SigningKey::new("unknown");
    let request = invocation("ins", &carrying(&Draft::of(&unknown, &instance).sign(&unknown)));
    let mut dispatchers: Vec<Client> = (0..DELIVERIES).map(|_| instance.connect()).collect();
    instance.clock.advance(SOON_ENOUGH);
    let together = Barrier::new(SENDERS);
    thread::scope(|scope| {
        for share in dispatchers.chunks_mut(DELIVERIES / SENDERS) {
            scope.spawn(|| {
                together.wait();
                share.iter_mut().for_each(|dispatcher| dispatcher.send(&request));
                for dispatcher in share {
                    assert_problem(&dispatcher.answer(), 403, "runtime-token-invalid", false, "unknown");
                }
            });
        }
    });
    assert_eq!(issuer.asked(), 2);
    let unknown = "kiket_runtime_token_checks_total{verdict=\"unknown-key\"}";
    assert_eq!(metric(&instance, unknown), i64::try_from(DELIVERIES).unwrap());
    assert_eq!((status(&instance, &key), endpoint.received().len()), (200, 2));
}

/// Where the issuer's answer is held back until everybody waits for it.
#[derive(Default)]
struct Gate {
    is_open: Mutex<bool>,
    opened: Condvar,
}

impl Gate {
    fn pass(&self) {
        let is_open = self.is_open.lock().unwrap();
        let is_shut = |is_open: &mut bool| !*is_open;
        let passed = self.opened.wait_timeout_while(is_open, PATIENCE, is_shut).unwrap();
        assert!(*passed.0, "hangs at the gate");
    }

    fn open(&self) {
        *self.is_open.lock().unwrap() = true;
        self.opened.notify_all();
    }
}

#[test]
fn a_delivery_does_not_wait_for_keys_without_end() {
    let (key, gate) = (SigningKey::new("a"), Arc::new(Gate::default()));
    let (held, set) = (Arc::clone(&gate), json!({"keys": [key.jwk()]}).to_string());
    let server = Endpoint::scripted(Arc::new(move |_| {
        held.pass();
        Some(answer(200, "", set.as_bytes()))
    }));
    let settings = [("runtime_token_jwks_url", server.url())];
    let settings = settings.each_ref().map(|(name, url)| (*name, url.as_str()));
    let instance = Instance::with(Options {
        settings: &settings,
        ..Options::default()
    });
    let endpoint = ready(&instance);
    assert_eq!(
        keys(&instance),
        ("degraded".into(), json!({"state": "unavailable", "count": 0}))
    );
    let refused = instance.deliver("ins", &carrying(&Draft::of(&key, &instance).sign(&key)));
    assert_problem(&refused, 503, "secret-source-unavailable", true, "no keys yet");
    gate.open();
    instance.clock.advance(30_000); // the fetch may have been given up by now
    await_fetches(&instance, "fetched", 1);
    assert_eq!(status(&instance, &key), 200);
    assert_eq!(endpoint.received().len(), 1);
}

#[test]
fn an_issuer_that_is_away_is_asked_again_and_nothing_is_delivered_before_it_answered() {
    let key = SigningKey::new("a");
    let issuer = Issuer::publishing(&[]);
    issuer.does(Publishes::Nothing);
    let instance = issuer.instance(&[]);
    let endpoint = ready(&instance);
    let deliver = |body: &[u8]| instance.deliver("ins", body);
    await_fetches(&instance, "unreachable", 1);
    let good = carrying(&Draft::of(&key, &instance).sign(&key));
    assert_problem(&deliver(&good), 503, "secret-source-unavailable", true, "away");
    // What can be said without keys is said.
    assert_problem(&deliver(b"{}"), 403, "runtime-token-invalid", false, "absent");
    assert_eq!(fetches(&instance, "unreachable"), 1, "asked no sooner for that");
    issuer.publish(&[&key]);
    instance.clock.advance(999);
    assert_eq!(deliver(&good).status, 503);
    instance.clock.advance(1);
    assert_eq!(deliver(&good).status, 200);
    assert_eq!((keys(&instance).0.as_str(), endpoint.received().len()), ("ready", 1));
}

#[test]
fn the_last_keys_are_used_through_an_outage_until_they_are_as_old_as_allowed() {
    let (key, new) = (SigningKey::new("a"), SigningKey::new("new"));
    let issuer = Issuer::publishing(&[&key]);
    let instance = issuer.instance(&[("max_stale", "15m")]);
    let endpoint = ready(&instance);
    assert_eq!(status(&instance, &key), 200);
    issuer.does(Publishes::Answer(answer(500, "", b"{}")));
    instance.clock.advance(FETCH_EVERY);
    await_fetches(&instance, "status", 1);
    assert_eq!(status(&instance, &key), 200);
    assert_eq!(keys(&instance).0, "degraded");
    assert_eq!(keys(&instance).1["state"], "stale");
    let unknown = instance.deliver("ins", &carrying(&Draft::of(&new, &instance).sign(&new)));
    assert_problem(
        &unknown,
        503,
        "secret-source-unavailable",
        true,
        "it may be published by now",
    );
    let mallory = SigningKey::new("a");
    let forged = instance.deliver("ins", &carrying(&Draft::of(&mallory, &instance).sign(&mallory)));
    assert_problem(&forged, 403, "runtime-token-invalid", false, "still not another's");
    instance.clock.advance(900_000 - FETCH_EVERY);
    assert_eq!(status(&instance, &key), 200, "to the last moment");
    let delivered = endpoint.received().len();
    instance.clock.advance(1);
    let refused = instance.deliver("ins", &carrying(&Draft::of(&key, &instance).sign(&key)));
    assert_problem(&refused, 503, "secret-source-unavailable", true, "too old");
    assert_eq!(keys(&instance).1["state"], "unavailable");
    assert_eq!(metric(&instance, "kiket_runtime_token_keys"), 0);
    assert_eq!(endpoint.received().len(), delivered);
    issuer.publish(&[&key]);
    instance.clock.advance(30_000);
    assert_eq!(status(&instance, &key), 200);
    assert_eq!(keys(&instance).0, "ready");
}

#[test]
fn what_is_no_key_set_is_as_good_as_no_answer_and_keys_for_something_else_are_none() {
    let key = SigningKey::new("a");
    let issuer = Issuer::publishing(&[&key]);
    let instance = issuer.instance(&[]);
    let endpoint = ready(&instance);
    assert_eq!(status(&instance, &key), 200);
    let padded = |length: usize| {
        let set = json!({"keys": [key.jwk()]}).to_string();
        answer(200, "", format!("{set}{}", " ".repeat(length - set.len())).as_bytes())
    };
    let plain = |status, body: &str| answer(status, "", body.as_bytes());
    for (outcome, bytes) in [
        ("no-key-set", plain(200, "nonsense")),
        ("no-key-set", plain(200, "{}")),
        ("no-key-set", plain(200, "{\"keys\":{}}")),
        ("no-key-set", plain(200, &key.jwk().to_string())),
        ("status", plain(404, "{\"keys\":[]}")),
        ("status", plain(204, "")),
        (
            "redirected",
            answer(302, &format!("Location: {}\r\n", issuer.url()), b""),
        ),
        ("too-large", padded(65_537)),
        ("protocol", b"SSH-2.0-x\r\n\r\n".to_vec()),
    ] {
        let before = fetches(&instance, outcome);
        issuer.does(Publishes::Answer(bytes));
        instance.clock.advance(FETCH_EVERY);
        await_fetches(&instance, outcome, before + 1);
        assert_eq!(status(&instance, &key), 200, "{outcome}: the last ones are used");
        issuer.does(Publishes::Answer(padded(65_536)));
        let before = fetches(&instance, "fetched");
        instance.clock.advance(30_000);
        await_fetches(&instance, "fetched", before + 1);
    }
    let delivered = endpoint.received().len();
    let changed = |name: &str, value: Value| {
        let mut jwk = key.jwk();
        jwk[name] = value;
        jwk
    };
    let x = key.jwk()["x"].as_str().unwrap().to_owned();
    let mut moved = BASE64URL_NOPAD.decode(x.as_bytes()).unwrap();
    moved[31] ^= 1;
    let secret = json!({"kty": "oct", "kid": "a", "k": x, "alg": "HS256"});
    for (what, jwk) in [
        ("none", None),
        ("a secret", Some(secret)),
        ("for encryption", Some(changed("use", json!("enc")))),
        ("for signing alone", Some(changed("key_ops", json!(["sign"])))),
        ("for another algorithm", Some(changed("alg", json!("ES384")))),
        ("on another curve", Some(changed("crv", json!("P-384")))),
        (
            "beside the curve",
            Some(changed("x", json!(BASE64URL_NOPAD.encode(&moved)))),
        ),
        ("short", Some(changed("x", json!(&x[..42])))),
        ("no text", Some(changed("x", json!(1)))),
    ] {
        issuer.answer(&json!({"keys": jwk.into_iter().collect::<Vec<Value>>()}));
        let before = fetches(&instance, "fetched");
        instance.clock.advance(FETCH_EVERY);
        await_fetches(&instance, "fetched", before + 1);
        let refused = instance.deliver("ins", &carrying(&Draft::of(&key, &instance).sign(&key)));
        assert_problem(&refused, 503, "secret-source-unavailable", true, what);
        assert_eq!(keys(&instance).1["count"], 0, "{what}");
    }
    assert_eq!(endpoint.received().len(), delivered);
    let other = json!({"kty": "RSA", "kid": "b", "n": "AQAB", "e": "AQAB"});
    issuer.answer(&json!({"keys": [other, {"kty": "new"}, 7, changed("key_ops", json!(["verify"]))]}));
    let before = fetches(&instance, "fetched");
    instance.clock.advance(FETCH_EVERY);
    await_fetches(&instance, "fetched", before + 1);
    assert_eq!(status(&instance, &key), 200, "beside others that are passed over");
}

#[test]
fn a_token_names_its_key_unless_there_is_but_one() {
    let (one, two) = (SigningKey::new("one"), SigningKey::new("two"));
    let issuer = Issuer::publishing(&[&one]);
    let instance = issuer.instance(&[]);
    let endpoint = ready(&instance);
    let nameless = |key: &SigningKey| {
        let mut draft = Draft::of(key, &instance);
        draft.header.as_object_mut().unwrap().remove("kid");
        instance.deliver("ins", &carrying(&draft.sign(key))).status
    };
    assert_eq!((nameless(&one), nameless(&two)), (200, 403));
    let mut namesake = two.jwk();
    namesake["kid"] = json!("one");
    for (what, document, statuses) in [
        (
            "two keys",
            json!({"keys": [one.jwk(), two.jwk()]}),
            [403, 403, 200, 200],
        ),
        (
            "two of one name",
            json!({"keys": [one.jwk(), namesake]}),
            [403, 403, 403, 403],
        ),
    ] {
        issuer.answer(&document);
        let before = fetches(&instance, "fetched");
        instance.clock.advance(FETCH_EVERY);
        await_fetches(&instance, "fetched", before + 1);
        let got = [
            nameless(&one),
            nameless(&two),
            status(&instance, &one),
            status(&instance, &two),
        ];
        assert_eq!(got, statuses, "{what}");
    }
    assert_eq!(endpoint.received().len(), 3);
}

#[test]
fn the_key_set_is_fetched_by_the_guarded_way_out_alone() {
    let key = SigningKey::new("a");
    let issuer = Issuer::publishing(&[&key]);
    let instance = issuer.instance(&[("egress_allow_cidrs", "10.0.0.0/8")]);
    let endpoint = ready_elsewhere(&instance);
    await_fetches(&instance, "refused", 1);
    let refused = instance.deliver("ins", &carrying(&Draft::of(&key, &instance).sign(&key)));
    assert_problem(&refused, 503, "secret-source-unavailable", true, "refused");
    assert_eq!((issuer.asked(), endpoint.received().len()), (0, 0));
}

/// An installation whose endpoint is by a name: an internal literal is not even registered.
fn ready_elsewhere(instance: &Instance) -> Endpoint {
    let endpoint = Endpoint::start();
    instance.simple(&endpoint.url().replace("127.0.0.1", "localhost"));
    endpoint
}

#[test]
fn an_issuer_is_believed_over_tls_of_an_authority_that_is_trusted_and_of_no_other() {
    let (authority, stranger) = (Authority::new("one"), Authority::new("two"));
    let key = SigningKey::new("a");
    let set = json!({"keys": [key.jwk()]}).to_string();
    let script = move |_: &_| Reply::Whole(Response::new(set.clone().into_bytes().into()));
    let server = Setup::new(&authority, H1).script(script).start();
    let url = format!("{}{PATH}", server.url());
    let instance = |authority: &Authority| {
        let file = authority.file();
        let settings = [
            ("runtime_token_jwks_url", url.as_str()),
            ("egress_ca_file", file.path().to_str().unwrap()),
        ];
        Instance::with(Options {
            settings: &settings,
            ..Options::default()
        })
    };
    let trusting = instance(&authority);
    let _endpoint = ready(&trusting);
    assert_eq!(status(&trusting, &key), 200);
    assert_eq!(server.last().path, PATH);
    let distrusting = instance(&stranger);
    let endpoint = ready(&distrusting);
    await_fetches(&distrusting, "tls-failed", 1);
    assert_eq!((status(&distrusting, &key), endpoint.received().len()), (503, 0));
}
