//! Whether many instances over one database deliver as one: changes, outages, and reads that only together are many.

use std::io::Write;
use std::time::{Duration, Instant};

use kiket_sidecar::app::StartError;
use kiket_sidecar::crypto::keyring::Keyring;
use kiket_sidecar::domain::time::Timestamp;
use serde_json::{Value, json};

use super::support::endpoint::Endpoint;
use super::support::http::{once, request};
use super::support::instance::{Instance, Options};
use super::support::postgres::{Cluster, ClusterOptions, Database};
use super::support::problem::assert_problem;

/// Longer than anything takes; a test that hangs fails.
const PATIENCE: Duration = Duration::from_secs(30);

/// Instances of one keyring over one database, and the endpoint that they deliver to.
struct Fleet {
    admin: Instance,
    proxies: Vec<Instance>,
    endpoint: Endpoint,
    database: Database,
}

impl Fleet {
    /// One that administers, and so many proxies. An installation `ins` delivers the key `KEY`.
    fn start(database: Database, proxies: usize) -> Self {
        let keyring = Keyring::generate(Timestamp(1_700_000_000_000))
            .unwrap()
            .to_toml()
            .to_string();
        let admin = join(&database, &keyring, "admin");
        let endpoint = Endpoint::start();
        admin.simple(&endpoint.url());
        admin.install("cold", "com.example.simple");
        admin.enable("cold");
        admin.set("organization", "org", "KEY", "the first value");
        let proxies = (0..proxies).map(|_| join(&database, &keyring, "proxy")).collect();
        let fleet = Self {
            admin,
            proxies,
            endpoint,
            database,
        };
        for proxy in &fleet.proxies {
            assert_eq!(fleet.delivered(proxy).as_deref(), Some("the first value"));
        }
        fleet
    }

    /// What a delivery through a proxy brings to the endpoint.
    fn delivered(&self, proxy: &Instance) -> Option<String> {
        let before = self.endpoint.received().len();
        assert_eq!(proxy.deliver("ins", b"{}").status, 200);
        let received = self.endpoint.received();
        assert_eq!(received.len(), before + 1);
        received.last().unwrap().secret("KEY")
    }

    fn rotate(&self, value: &str) {
        let body = json!({"scope": "organization", "id": "org", "value": value, "organization_id": "org"});
        self.admin.must("POST", "/extensions/secrets/KEY/rotate", &body);
    }

    /// Rotates, and measures for each proxy how long it delivers the old value after that was acknowledged.
    fn lags(&self, rotations: usize, round: &str) -> Vec<Duration> {
        let mut lags = Vec::new();
        for n in 0..rotations {
            let value = format!("{round} value {n}");
            self.rotate(&value);
            let rotated = Instant::now();
            let mut behind: Vec<&Instance> = self.proxies.iter().collect();
            while !behind.is_empty() {
                behind.retain(|proxy| {
                    let is_new = self.delivered(proxy).as_deref() == Some(&value);
                    if is_new {
                        lags.push(rotated.elapsed());
                    }
                    !is_new
                });
                assert!(rotated.elapsed() < PATIENCE, "never delivered: {value}");
            }
        }
        lags.sort_unstable();
        lags
    }
}

fn join(database: &Database, keyring: &str, role: &str) -> Instance {
    Instance::with(Options {
        settings: &[("database_url", &database.url()), ("role", role)],
        keyring: Some(Keyring::parse(keyring).unwrap()),
        ..Options::default()
    })
}

fn at(sorted: &[Duration], percent: usize) -> Duration {
    sorted[(sorted.len() - 1) * percent / 100]
}

fn report(what: &str, lags: &[Duration]) {
    let (median, last, worst) = (at(lags, 50), at(lags, 99), at(lags, 100));
    say(&format!(
        "{what}: {} lags, median {median:?}, p99 {last:?}, worst {worst:?}",
        lags.len()
    ));
}

/// A figure for whoever reads the run.
fn say(line: &str) {
    std::io::stdout()
        .write_all(format!("fleet: {line}\n").as_bytes())
        .unwrap();
}

/// Asks until it is so.
fn until(what: &str, is_so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "never: {what}");
    }
}

fn readiness(instance: &Instance) -> Value {
    let answer = once(instance.running.metrics(), &request("GET", "/readyz", &[], b""));
    assert_eq!(answer.status, 200);
    answer.json()
}

#[test]
fn a_rotation_at_one_instance_is_what_the_others_deliver_at_once_and_without_hints_when_they_look() {
    let fleet = Fleet::start(Database::fresh(), 2);
    let hinted = fleet.lags(100, "hinted");
    report("hinted", &hinted);
    // Somebody else's function of that name is found first: nothing is notified any more.
    let deaf = format!(
        "CREATE FUNCTION public.pg_notify(text, text) RETURNS void LANGUAGE sql AS 'SELECT'; \
         ALTER DATABASE {} SET search_path = public, pg_catalog",
        fleet.database.name()
    );
    fleet.database.run(&deaf);
    let end_all = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                   WHERE datname = current_database() AND pid <> pg_backend_pid()";
    fleet.database.run(end_all);
    until("the fleet is back", || {
        let policy = fleet.admin.api("GET", "/organizations/org/policy", &Value::Null);
        policy.status == 200 && fleet.proxies.iter().all(|proxy| readiness(proxy)["store"] == "up")
    });
    let polled = fleet.lags(10, "polled");
    report("polled", &polled);
    assert!(
        at(&hinted, 50) * 5 < at(&polled, 50),
        "hints make no difference: {hinted:?} {polled:?}"
    );
}

#[test]
fn an_outage_fails_no_warm_delivery_and_the_server_s_return_needs_no_restart() {
    let cluster = Cluster::start(ClusterOptions::default());
    let fleet = Fleet::start(cluster.database(), 2);
    cluster.kill();
    until("everybody sees it", || {
        fleet.proxies.iter().all(|proxy| readiness(proxy)["store"] == "down")
    });
    for _ in 0..100 {
        for proxy in &fleet.proxies {
            assert_eq!(fleet.delivered(proxy).as_deref(), Some("the first value"));
            assert_eq!(readiness(proxy)["status"], "degraded");
        }
    }
    for proxy in &fleet.proxies {
        assert_problem(&proxy.deliver("cold", b"{}"), 503, "store-unavailable", true, "cold");
    }
    cluster.start_again();
    let back = Instant::now();
    let rotate = json!({"scope": "organization", "id": "org", "value": "after", "organization_id": "org"});
    until("a rotation is taken again", || {
        fleet
            .admin
            .api("POST", "/extensions/secrets/KEY/rotate", &rotate)
            .status
            == 200
    });
    for proxy in &fleet.proxies {
        until("it is delivered", || fleet.delivered(proxy).as_deref() == Some("after"));
        assert_eq!(proxy.deliver("cold", b"{}").status, 200);
    }
    say(&format!("caught up {:?} after the server's return", back.elapsed()));
    let chain = fleet.admin.must("GET", "/secrets/audit/verify", &Value::Null);
    assert_eq!(chain["status"], "intact", "{chain}");
}

#[test]
fn a_proxy_has_no_rest_api_and_an_admin_takes_no_deliveries() {
    let fleet = Fleet::start(Database::fresh(), 1);
    let proxy = &fleet.proxies[0];
    assert_eq!((proxy.running.admin(), fleet.admin.running.proxy().len()), (None, 0));
    assert_eq!(readiness(proxy)["role"], "proxy");
    assert_eq!(readiness(&fleet.admin)["role"], "admin");
    let taken = proxy.log();
    assert!(!taken.contains("smtp_url is not set"), "a proxy tells nobody: {taken}");
}

/// What a proxy's user in the database may do, as operators are told.
const PROXY_RIGHTS: &str = include_str!("../../deploy/postgres/proxy_rights.sql");

#[test]
fn a_proxy_needs_no_more_rights_than_operators_are_told_to_give_it() {
    let cluster = Cluster::start(ClusterOptions::default()); // users belong to a whole server
    let database = cluster.database();
    database.run("CREATE ROLE kiket_proxy LOGIN");
    let url = database.url().replace("user=kiket", "user=kiket_proxy");
    let keyring = Keyring::generate(Timestamp(1)).unwrap().to_toml().to_string();
    let start = |url: &str, role: &str| {
        Instance::try_with(Options {
            settings: &[("database_url", url), ("role", role)],
            keyring: Some(Keyring::parse(&keyring).unwrap()),
            ..Options::default()
        })
    };
    let refused = |result: Result<Instance, StartError>| result.err().map(|error| error.to_string());
    let early = refused(start(&url, "proxy")).unwrap();
    assert!(
        early.contains("not of this version yet"),
        "a proxy migrates nothing: {early}"
    );
    let (admin, endpoint) = (join(&database, &keyring, "admin"), Endpoint::start());
    database.run(PROXY_RIGHTS);
    admin.simple(&endpoint.url());
    admin.set("organization", "org", "KEY", "the value");
    let proxy = start(&url, "proxy").unwrap();
    assert_eq!(proxy.deliver("ins", b"{}").status, 200);
    proxy.clock.advance(60_000); // counts are flushed
    let used = "/secrets/audit?action=secret.delivered&organization_id=org";
    until("the delivery is in the log", || {
        !admin.must("GET", used, &Value::Null)["data"]
            .as_array()
            .unwrap()
            .is_empty()
    });
    let log = proxy.log();
    assert!(!log.contains("WARN") && !log.contains("ERROR"), "{log}");
    database.run("REVOKE INSERT ON audit FROM kiket_proxy");
    let without = refused(start(&url, "proxy"));
    assert!(without.is_some(), "the rights are what it runs by");
}

#[test]
fn reads_that_only_together_are_too_many_raise_one_alert() {
    let database = Database::fresh();
    let keyring = Keyring::generate(Timestamp(1)).unwrap().to_toml().to_string();
    let both = [join(&database, &keyring, "all"), join(&database, &keyring, "all")];
    both[0].set("organization", "org", "KEY", "value");
    for _ in 0..13 {
        for instance in &both {
            instance.must("GET", "/extensions/secrets/KEY?scope=organization&id=org", &Value::Null);
        }
    }
    let alerts = || {
        both[1].must("GET", "/secrets/alerts?limit=1000", &Value::Null)["data"]
            .as_array()
            .unwrap()
            .clone()
    };
    until("an alert", || !alerts().is_empty());
    for instance in &both {
        // More of the same, at both: still the same alert.
        instance.must("GET", "/extensions/secrets/KEY?scope=organization&id=org", &Value::Null);
    }
    both[0].set("organization", "org", "SENTINEL", "value");
    for _ in 0..26 {
        both[0].must(
            "GET",
            "/extensions/secrets/SENTINEL?scope=organization&id=org",
            &Value::Null,
        );
    }
    until("the last read was looked at", || {
        alerts().iter().any(|alert| alert["key"] == "SENTINEL")
    });
    let of_key = alerts().iter().filter(|alert| alert["key"] == "KEY").count();
    assert_eq!(of_key, 1);
}

#[test]
fn a_rotation_that_thirty_proxies_pick_up_raises_no_alert() {
    let fleet = Fleet::start(Database::fresh(), 30);
    fleet.rotate("the second value");
    for proxy in &fleet.proxies {
        until("it is delivered", || {
            fleet.delivered(proxy).as_deref() == Some("the second value")
        });
    }
    let organization = &fleet.admin;
    organization.set("organization", "org", "SENTINEL", "value");
    for _ in 0..26 {
        organization.must(
            "GET",
            "/extensions/secrets/SENTINEL?scope=organization&id=org",
            &Value::Null,
        );
    }
    let alerts = || {
        organization.must("GET", "/secrets/alerts?limit=1000", &Value::Null)["data"]
            .as_array()
            .unwrap()
            .clone()
    };
    until("reads are looked at", || !alerts().is_empty());
    assert!(
        alerts().iter().all(|alert| alert["key"] == "SENTINEL"),
        "{:?}",
        alerts()
    );
}
