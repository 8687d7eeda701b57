//! Whether any delivery reaches an address that deliveries must not reach: as a literal, by its name, among others, after
//! it was a good one, or by way of a redirect.

use std::io;
use std::net::{IpAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use kiket_sidecar::egress::Resolver;
use serde_json::json;

use super::support::endpoint::{Endpoint, answer};
use super::support::http::request;
use super::support::instance::{Instance, Options};
use super::support::problem::assert_problem;

/// How many deliveries, where long runs are asked for and elsewhere.
const DELIVERIES_FULL: usize = 5_000;
const DELIVERIES: usize = 300;

/// The one address that is opened.
const GOOD: &str = "127.0.0.1";

/// One address of every kind that is refused, and the ways to write an IPv4 address within IPv6.
const INTERNAL: [&str; 40] = [
    "0.0.0.0",
    "0.1.2.3",
    "10.0.0.1",
    "100.64.0.1",
    "127.0.0.2",
    "127.255.255.254",
    "169.254.1.1",
    "169.254.169.254",
    "169.254.170.2",
    "100.100.100.200",
    "168.63.129.16",
    "172.16.0.1",
    "172.31.255.254",
    "192.0.0.1",
    "192.0.2.1",
    "192.31.196.1",
    "192.52.193.1",
    "192.88.99.1",
    "192.168.0.1",
    "192.175.48.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::ffff:127.0.0.1",
    "::127.0.0.1",
    "64:ff9b::7f00:1",
    "2002:7f00:1::",
    "2001::80ff:fffe",
    "fe80::1",
    "fec0::1",
    "fc00::1",
    "fd00:ec2::254",
    "ff02::1",
    "2001:db8::1",
    "100::1",
];

/// What names resolve to.
struct Names {
    asked: AtomicUsize,
}

#[async_trait::async_trait]
impl Resolver for Names {
    async fn lookup(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        let (kind, number) = host.split_once('-').unwrap();
        let number: usize = number.trim_end_matches(".example").parse().unwrap();
        let internal = address(INTERNAL[number]);
        Ok(match kind {
            "only" => vec![internal],
            "first" => vec![internal, address(GOOD)],
            "last" => vec![address(GOOD), address("127.0.0.1"), internal],
            "flips" if self.asked.fetch_add(1, Ordering::SeqCst).is_multiple_of(2) => vec![address(GOOD)],
            _ => vec![internal],
        })
    }
}

/// Counts who comes to any address of this host but the good one, at the good one's port or another.
struct Tripwire(Arc<AtomicUsize>);

impl Tripwire {
    fn stretch(listeners: Vec<TcpListener>) -> Self {
        let count = Arc::new(AtomicUsize::new(0));
        for listener in listeners {
            let counted = Arc::clone(&count);
            thread::spawn(move || {
                for _ in listener.incoming() {
                    counted.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        Self(count)
    }

    fn touched(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

fn installed(instance: &Instance, name: &str, url: &str) {
    let extension = format!("com.example.{name}");
    instance.register(&extension, json!({"url": url}), json!({"KEY": {"secret": true}}));
    instance.install(name, &extension);
    instance.enable(name);
}

fn deliver(instance: &Instance, installation: &str, path: &str) -> super::support::http::Answer {
    let headers = [
        ("Content-Type", "application/json"),
        ("X-Kiket-Installation-Id", installation),
    ];
    super::support::http::once(instance.proxy(), &request("POST", path, &headers, b"{}"))
}

#[test]
fn no_delivery_reaches_an_internal_address_by_name_among_others_after_rebinding_or_by_a_redirect() {
    let is_full = std::env::var("KIKET_TEST_SCALE").is_ok_and(|scale| scale == "full");
    let total = if is_full { DELIVERIES_FULL } else { DELIVERIES };
    // On every address of this host, at a port that the internal names have; beside the good one, at its own.
    let everywhere = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = everywhere.local_addr().unwrap().port();
    let redirect = format!("Location: http://127.0.0.2:{port}/\r\n");
    let endpoint = Endpoint::scripted(Arc::new(move |received| match received.target.as_str() {
        "/redirect" => Some(answer(307, &redirect, b"")),
        // One connection each: a name is looked up for every delivery.
        _ => Some(answer(200, "Connection: close\r\n", b"{}")),
    }));
    let good_port = endpoint.address().port();
    let mut listeners = vec![everywhere, TcpListener::bind(("127.0.0.2", good_port)).unwrap()];
    listeners.extend(TcpListener::bind(("::1", port)).ok()); // where the host has IPv6
    let tripwire = Tripwire::stretch(listeners);
    let instance = Instance::with(Options {
        settings: &[("egress_allow_cidrs", "127.0.0.1/32")],
        resolver: Some(Arc::new(Names {
            asked: AtomicUsize::new(0),
        })),
        ..Options::default()
    });
    instance.set("project", "proj", "KEY", "secret-value-for-nobody");
    for number in 0..INTERNAL.len() {
        for kind in ["only", "first", "last"] {
            let name = format!("{kind}-{number}");
            installed(&instance, &name, &format!("http://{name}.example:{port}"));
        }
    }
    let flipping = INTERNAL.iter().position(|address| *address == "127.0.0.2").unwrap();
    installed(
        &instance,
        "flips",
        &format!("http://flips-{flipping}.example:{good_port}"),
    );
    installed(&instance, "good", &format!("http://{GOOD}:{good_port}"));

    let (mut delivered, mut refused) = (0, 0);
    for n in 0..total {
        let number = n / 5 % INTERNAL.len();
        let kind = ["only", "first", "last", "flips", "good"][n % 5];
        let answer = match kind {
            "flips" => deliver(&instance, "flips", "/x"),
            "good" => deliver(&instance, "good", "/redirect"),
            kind => deliver(&instance, &format!("{kind}-{number}"), "/x"),
        };
        match kind {
            "good" => assert_problem(&answer, 502, "endpoint-redirected", false, kind),
            "flips" if answer.status == 200 => delivered += 1,
            _ => {
                assert_problem(
                    &answer,
                    502,
                    "destination-refused",
                    false,
                    &format!("{kind} {}", INTERNAL[number]),
                );
                assert_eq!(answer.header("x-kiket-attempts"), Some("1"));
                refused += 1;
            }
        }
    }
    assert!(
        delivered >= total / 15 && refused >= total * 3 / 5,
        "{delivered} delivered, {refused} refused"
    );
    assert_eq!(tripwire.touched(), 0);
    // It would have noticed.
    let _ = std::net::TcpStream::connect(("127.0.0.3", port)).unwrap();
    while tripwire.touched() == 0 {
        thread::yield_now();
    }
}

#[test]
fn no_internal_address_can_be_written_into_a_manifest_or_an_installation() {
    let instance = Instance::with(Options {
        settings: &[("egress_allow_cidrs", "127.0.0.1/32")],
        ..Options::default()
    });
    let endpoint = Endpoint::start();
    installed(&instance, "good", &endpoint.url());
    for address in INTERNAL {
        let host = if address.contains(':') {
            format!("[{address}]")
        } else {
            address.to_owned()
        };
        for url in [format!("https://{host}/x"), format!("http://{host}:8080")] {
            let manifest = json!({"id": "com.example.literal", "callback": {"url": url}});
            let refused = instance.api("PUT", "/extensions/com.example.literal", &manifest);
            assert_eq!(
                (refused.status, refused.problem().as_str()),
                (422, "destination-refused"),
                "{url}"
            );
            let patch = json!({"callback_url": url});
            let refused = instance.api("PATCH", "/marketplace/installations/good", &patch);
            assert_eq!(
                (refused.status, refused.problem().as_str()),
                (422, "destination-refused"),
                "{url}"
            );
        }
    }
    assert_eq!(deliver(&instance, "good", "/x").status, 200);
}
