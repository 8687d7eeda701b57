//! That tenants with different client certificates on one host and port are never mixed.

use std::collections::HashSet;
use std::thread;

use bytes::Bytes;
use http::Response;
use serde_json::json;

use super::support::instance::{Instance, invocation};
use super::support::pki::{Authority, Identity};
use super::support::tenant::{Tenant, mutual_callback};
use super::support::tls_endpoint::{H1, H2, Reply, Setup, ok};

const EXTENSION: &str = "com.example.shared";
const THREADS: usize = 6;
const ROUNDS: usize = 60;

#[test]
fn tenants_on_one_host_and_port_never_share_a_connection_or_a_session() {
    for (alpn, workers) in [(H1, "1"), (H1, "2"), (H2, "1"), (H2, "2")] {
        let authority = Authority::new("dev CA");
        let instance = Instance::with(super::support::instance::Options {
            settings: &[("workers", workers)],
            ..Default::default()
        });
        // Connections end now and then, so that sessions are resumed.
        let endpoint = Setup::mutual(&authority, alpn)
            .script(|seen| match seen.header("x-last") {
                Some(_) => Reply::Last(Response::new(Bytes::from_static(b"{}"))),
                None => ok(),
            })
            .start();
        let configuration = json!({"TENANT": {"secret": true}});
        instance.register(EXTENSION, mutual_callback(&endpoint.url()), configuration);
        let identities = [authority.client("red"), authority.client("blue")];
        for (tenant, identity) in ["red", "blue"].into_iter().zip(&identities) {
            let installed = Tenant::enabled(&instance, EXTENSION, [tenant, tenant], identity, &authority);
            installed.set("TENANT", tenant);
        }
        thread::scope(|scope| {
            for n in 0..THREADS {
                let instance = &instance;
                scope.spawn(move || interleave(instance, n, alpn, workers));
            }
        });
        let sessions = endpoint.sessions();
        let seen = endpoint.seen();
        assert_eq!(seen.len(), THREADS * ROUNDS);
        for request in &seen {
            let tenant = request.json()["secrets"]["TENANT"].as_str().unwrap().to_owned();
            let told = request.header("x-tenant").unwrap();
            let shown = sessions[request.connection].certificate.unwrap();
            assert_eq!((told, owner(&identities, shown)), (tenant.as_str(), tenant.as_str()));
        }
        let used: HashSet<_> = seen.iter().map(|request| request.connection).collect();
        assert!(
            used.len() >= 2 && sessions.iter().any(|session| session.resumed),
            "{sessions:?}"
        );
        assert!(sessions.iter().all(|session| session.h2 == (alpn == H2)));
    }
}

/// Deliveries of one dispatcher over one connection, now for one tenant and now for the other.
fn interleave(instance: &Instance, thread: usize, alpn: &[&str], workers: &str) {
    let mut client = instance.connect();
    for round in 0..ROUNDS {
        let tenant = if (thread + round).is_multiple_of(2) {
            "red"
        } else {
            "blue"
        };
        let mut request = invocation(tenant, b"{}");
        let mark = format!(
            "X-Tenant: {tenant}\r\n{}",
            if round % 8 == 7 { "X-Last: 1\r\n" } else { "" }
        );
        let end = request.len() - "\r\n{}".len();
        request.splice(end..end, mark.into_bytes());
        let answer = client.exchange(&request);
        let text = String::from_utf8_lossy(&answer.body);
        assert_eq!(answer.status, 200, "{alpn:?} {workers} {text}");
    }
}

fn owner(identities: &[Identity; 2], shown: [u8; 32]) -> &'static str {
    match identities.iter().position(|identity| identity.fingerprint() == shown) {
        Some(0) => "red",
        Some(1) => "blue",
        _ => "nobody",
    }
}
