//! Does the resolver answer, for this host and for those that are delivered to?

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::time::Duration;

use futures_util::stream::{self, StreamExt};
use tokio::runtime::Handle;
use tokio::time::timeout;
use url::Host;

use super::check::{Check, counted, named};
use super::registered::Registered;
use crate::egress::{Resolver, SystemResolver};

const NAME: &str = "names";

/// A name that every host knows.
const LOCAL: &str = "localhost";

/// For one name.
const LOOKUP_WAIT: Duration = Duration::from_secs(5);

/// Names that are asked for at a time.
const AT_ONCE: usize = 8;

/// The addresses of each name, or why there are none.
pub(super) type Names = BTreeMap<String, Result<Vec<IpAddr>, io::ErrorKind>>;

/// Looks up this host and all that is registered.
pub(super) async fn looked_up(registered: &Registered) -> Names {
    let mut names = BTreeSet::from([String::from(LOCAL)]);
    for destination in registered.destinations() {
        if let Host::Domain(name) = &destination.host {
            names.insert(name.clone());
        }
    }
    let resolver = SystemResolver::new(Handle::current());
    let lookups = names.into_iter().map(|name| {
        let resolver = resolver.clone();
        async move {
            let answer = match timeout(LOOKUP_WAIT, resolver.lookup(&name)).await {
                Ok(answer) => answer.map_err(|error| error.kind()),
                Err(_) => Err(io::ErrorKind::TimedOut),
            };
            (name, answer.and_then(some))
        }
    });
    stream::iter(lookups).buffer_unordered(AT_ONCE).collect().await
}

fn some(addresses: Vec<IpAddr>) -> Result<Vec<IpAddr>, io::ErrorKind> {
    if addresses.is_empty() {
        Err(io::ErrorKind::NotFound)
    } else {
        Ok(addresses)
    }
}

pub(super) fn look(names: &Names) -> Check {
    let unknown: Vec<&String> = names
        .iter()
        .filter(|(_, answer)| answer.is_err())
        .map(|(name, _)| name)
        .collect();
    if unknown.is_empty() {
        let others = counted(names.len().saturating_sub(1), "registered host", "registered hosts");
        return Check::ok(NAME, format!("{LOCAL} and {others} have addresses"));
    }
    let seen = format!("no address for {}", named(&unknown));
    if unknown.iter().any(|name| *name == LOCAL) {
        return Check::failed(
            NAME,
            seen,
            "look at /etc/hosts and /etc/resolv.conf: the resolver does not even know this host",
        );
    }
    Check::warning(
        NAME,
        seen,
        "look at /etc/resolv.conf and its servers; else have the callback or provider corrected, nothing is delivered there",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resolver_that_does_not_know_this_host_is_a_failure_and_one_that_lacks_another_a_warning() {
        let found = || Ok(vec![IpAddr::from([127, 0, 0, 1])]);
        let lost = || Err(io::ErrorKind::NotFound);
        let of = |local, other| {
            look(&Names::from([
                (LOCAL.to_owned(), local),
                (String::from("ext.example"), other),
            ]))
        };
        assert_eq!(
            of(found(), found()),
            Check::ok(NAME, "localhost and 1 registered host have addresses")
        );
        for (local, other, seen) in [
            (found(), lost(), "no address for ext.example"),
            (lost(), found(), "no address for localhost"),
            (lost(), lost(), "no address for ext.example, localhost"),
        ] {
            let is_local_lost = local.is_err();
            let check = of(local, other);
            assert!(check.is_finding());
            let failed = Check::failed(NAME, seen, "");
            assert!(check.says_as(&failed) == is_local_lost, "{seen}");
            assert!(
                check.says_as(&Check::warning(NAME, seen, "")) != is_local_lost,
                "{seen}"
            );
        }
        assert_eq!(some(Vec::new()), Err(io::ErrorKind::NotFound));
    }
}
