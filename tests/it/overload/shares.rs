//! That a slow endpoint and a flood of one tenant leave room for everybody else.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use super::super::support::endpoint::Endpoint;
use super::super::support::holding::Holding;
use super::super::support::http::{once, request};
use super::super::support::instance::{Instance, invocation};
use super::{assert_shed, await_nothing_held, hold, install, metric, sheds, started, tenant};

/// Room for 40 deliveries, of which a flood of one tenant to one endpoint gets 80 % of 50 %.
const ROOM: (&str, &str) = ("in_flight_max", "40");
const FLOOD: usize = 16;

const AT_DESTINATION: &str = "organization-at-destination";

/// Two tenants: `slow` and `same` are one's, `other` another's; `shared` is its installation at the slow endpoint.
struct Stage {
    instance: Instance,
    slow: Holding,
    quick: Endpoint,
}

fn stage(settings: &[(&str, &str)]) -> Stage {
    let (instance, slow, quick) = (started(settings), Holding::start(), Endpoint::start());
    tenant(&instance, "flooding", "slow", &slow.url());
    tenant(&instance, "flooding", "same", &format!("{}/same", quick.url()));
    tenant(&instance, "quiet", "other", &quick.url());
    install(&instance, "quiet", "shared", "com.example.slow");
    Stage { instance, slow, quick }
}

#[test]
fn one_tenant_floods_a_slow_endpoint_and_everybody_else_delivers_as_before() {
    let Stage { instance, slow, quick } = stage(&[ROOM]);
    let mut held = hold(&instance, "slow", &slow, FLOOD);
    for n in 1..=50 {
        assert_shed(&instance.deliver("slow", b"{}"), "the flood");
        assert_eq!(instance.deliver("other", b"{}").status, 200, "another tenant, {n}");
        assert_eq!(
            instance.deliver("same", b"{}").status,
            200,
            "the same one's other endpoint, {n}"
        );
    }
    assert!(!slow.has_more(), "what is shed does not reach the endpoint");
    assert_eq!(quick.received().len(), 100);
    // The slow endpoint is not the flooding tenant's alone.
    held.extend(hold(&instance, "shared", &slow, 3));
    assert_shed(
        &instance.deliver("shared", b"{}"),
        "80 % of the rest of the endpoint's share",
    );
    assert_eq!(sheds(&instance, AT_DESTINATION), 51);
    assert_eq!(metric(&instance, "kiket_in_flight"), FLOOD as u64 + 3);
    let line = instance.await_line("a shed delivery", |line| line["error"] == "overloaded");
    assert_eq!(
        (
            &line["outcome"],
            &line["status"],
            &line["organization_id"],
            &line["host"],
            &line["attempts"]
        ),
        (
            &"refused".into(),
            &503.into(),
            &"flooding".into(),
            &"127.0.0.1".into(),
            &0.into()
        )
    );
    slow.let_go();
    for client in &mut held {
        assert_eq!(client.answer().status, 200);
    }
    await_nothing_held(&instance);
    assert_eq!(instance.deliver("slow", b"{}").status, 200);
}

#[test]
fn without_shares_the_same_flood_takes_everything() {
    let all = [
        ROOM,
        ("organization_share_percent", "100"),
        ("destination_share_percent", "100"),
    ];
    let Stage { instance, slow, .. } = stage(&all);
    let _held = hold(&instance, "slow", &slow, 40);
    assert_shed(&instance.deliver("other", b"{}"), "another tenant");
    assert_shed(&instance.deliver("same", b"{}"), "the same tenant");
    assert_eq!(sheds(&instance, "in-flight"), 2);
}

#[test]
fn floods_of_several_tenants_leave_room_for_one_who_comes_new() {
    let (instance, quick) = (started(&[ROOM]), Endpoint::start());
    tenant(&instance, "quiet", "other", &quick.url());
    let slow: Vec<_> = (0..4).map(|_| Holding::start()).collect();
    // 80 % of 50 % of what the ones before leave.
    let mut held = Vec::new();
    for (n, (slow, takes)) in slow.iter().zip([16, 9, 5, 4]).enumerate() {
        let installation = format!("flood-{n}");
        tenant(&instance, &format!("flooding-{n}"), &installation, &slow.url());
        held.extend(hold(&instance, &installation, slow, takes));
        assert_shed(&instance.deliver(&installation, b"{}"), &installation);
    }
    for _ in 0..20 {
        assert_eq!(instance.deliver("other", b"{}").status, 200);
    }
}

#[test]
fn an_endpoint_that_many_organizations_deliver_to_takes_no_more_than_its_share() {
    let Stage { instance, slow, .. } = stage(&[ROOM]);
    let mut held = hold(&instance, "slow", &slow, FLOOD);
    // 80 % of what is left of twenty, each; and whoever has none yet gets one while there is one.
    for (n, takes) in [3, 1].into_iter().enumerate() {
        let installation = format!("more-{n}");
        install(&instance, &installation, &installation, "com.example.slow");
        held.extend(hold(&instance, &installation, &slow, takes));
    }
    install(&instance, "last", "last", "com.example.slow");
    assert_shed(&instance.deliver("last", b"{}"), "the twenty-first");
    assert_eq!(sheds(&instance, "destination"), 1);
    assert_eq!(instance.deliver("other", b"{}").status, 200);
}

#[test]
fn an_organization_with_many_slow_endpoints_takes_no_more_than_its_share() {
    let (instance, quick) = (started(&[ROOM]), Endpoint::start());
    tenant(&instance, "quiet", "other", &quick.url());
    let slow: Vec<_> = (0..4).map(|_| Holding::start()).collect();
    let mut held = Vec::new();
    for (n, (slow, takes)) in slow.iter().zip([16, 9, 5, 2]).enumerate() {
        let installation = format!("flood-{n}");
        tenant(&instance, "flooding", &installation, &slow.url());
        held.extend(hold(&instance, &installation, slow, takes));
    }
    assert_shed(&instance.deliver("flood-3", b"{}"), "the thirty-third");
    assert_eq!(sheds(&instance, "organization"), 1);
    assert_eq!(instance.deliver("other", b"{}").status, 200);
}

#[test]
fn a_flood_that_goes_on_and_on_is_shed_without_a_failure_of_another_tenant() {
    let Stage { instance, slow, quick } = stage(&[("in_flight_max", "200")]);
    let _held = hold(&instance, "slow", &slow, 80);
    let is_over = AtomicBool::new(false);
    let shed: u64 = thread::scope(|scope| {
        let floods: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| {
                    let (mut client, mut shed) = (instance.connect(), 0);
                    while !is_over.load(Ordering::Relaxed) {
                        assert_shed(&client.exchange(&invocation("slow", b"{}")), "the flood");
                        shed += 1;
                    }
                    shed
                })
            })
            .collect();
        let mut client = instance.connect();
        for n in 0..200 {
            let other = client.exchange(&invocation(["other", "same"][n % 2], b"{}"));
            assert_eq!(other.status, 200, "{n}");
        }
        is_over.store(true, Ordering::Relaxed);
        floods.into_iter().map(|flood| flood.join().unwrap()).sum()
    });
    assert!(shed > 0);
    assert_eq!((sheds(&instance, AT_DESTINATION), quick.received().len()), (shed, 200));
}

/// A hundred KiB, of which four fit into 80 % of 50 % of a MiB.
fn large(installation: Option<&str>) -> Vec<u8> {
    let body = format!(
        "{{\"extension_installation_id\":\"slow\",\"payload\":\"{}\"}}",
        "x".repeat(100 * 1024)
    );
    let mut headers = vec![("Content-Type", "application/json")];
    headers.extend(installation.map(|id| ("X-Kiket-Installation-Id", id)));
    request("POST", "/webhooks/x", &headers, body.as_bytes())
}

#[test]
fn memory_for_bodies_is_shared_alike() {
    let Stage { instance, slow, .. } = stage(&[("buffered_bytes_max", "1MiB")]);
    let mut held = Vec::new();
    for _ in 0..4 {
        let mut client = instance.connect();
        client.send(&large(None));
        slow.await_arrival();
        held.push(client);
    }
    assert_shed(
        &once(instance.proxy(), &large(None)),
        "a body that names the installation",
    );
    assert_shed(&once(instance.proxy(), &large(Some("slow"))), "a header that does");
    assert_eq!(sheds(&instance, AT_DESTINATION), 2);
    let other = String::from_utf8(large(Some("other")))
        .unwrap()
        .replace("\"slow\"", "\"othr\"");
    let other = other.replace("extension_installation_id", "extension_installation_xx");
    assert_eq!(once(instance.proxy(), other.as_bytes()).status, 200, "another tenant's");
    slow.let_go();
    held.iter_mut()
        .for_each(|client| assert_eq!(client.answer().status, 200));
    await_nothing_held(&instance);
    assert_eq!(once(instance.proxy(), &large(None)).status, 200);
}

#[test]
fn a_large_body_is_not_asked_for_where_there_is_no_room_for_it() {
    let Stage { instance, slow, .. } = stage(&[ROOM]);
    assert_eq!(instance.deliver("other", b"{}").status, 200);
    let _held = hold(&instance, "slow", &slow, FLOOD);
    for framing in ["Content-Length: 65537", "Transfer-Encoding: chunked"] {
        let head = |installation: &str| {
            format!(
                "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nExpect: 100-continue\r\n\
                 X-Kiket-Installation-Id: {installation}\r\n{framing}\r\n\r\n"
            )
        };
        let mut client = instance.connect();
        client.send(head("slow").as_bytes());
        assert_shed(&client.answer(), framing);
        let mut client = instance.connect();
        client.send(head("other").as_bytes());
        assert_eq!(client.answer().status, 100, "{framing}: there is room for another's");
    }
    let line = instance.await_line("a shed delivery", |line| line["error"] == "overloaded");
    assert_eq!(
        (&line["organization_id"], &line["bytes_in"]),
        (&"flooding".into(), &0.into())
    );
}
