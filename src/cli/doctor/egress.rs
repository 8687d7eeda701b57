//! May everything be reached that is registered, by the guard that every delivery passes?

use std::collections::BTreeMap;
use std::net::IpAddr;

use url::Host;

use super::check::{Check, UNREAD, counted, named};
use super::names::Names;
use super::registered::Registered;
use crate::config::Config;
use crate::domain::destination::{Destination, Scheme};
use crate::egress::AllowList;

const NAME: &str = "destinations";

pub(super) fn look(config: &Config, registered: Option<&Registered>, names: &Names) -> Check {
    let Some(registered) = registered else {
        return Check::not_applicable(NAME, UNREAD);
    };
    let allow = AllowList::new(config.egress_allow_cidrs.clone());
    let mut hosts: BTreeMap<String, Option<&'static str>> = BTreeMap::new();
    for destination in registered.destinations() {
        let why = refusal(config, &allow, destination, names);
        let standing = hosts.entry(destination.host.to_string()).or_default();
        *standing = standing.or(why);
    }
    if hosts.is_empty() {
        return Check::not_applicable(NAME, "no callback and no provider is registered");
    }
    let refused: Vec<String> = hosts
        .iter()
        .filter_map(|(host, why)| Some(format!("{host} ({})", (*why)?)))
        .collect();
    if refused.is_empty() {
        let hosts = counted(hosts.len(), "registered host", "registered hosts");
        return Check::ok(NAME, format!("nothing forbids to reach {hosts}"));
    }
    Check::failed(
        NAME,
        format!("refused: {}", named(&refused)),
        "where that is your own network, name it in egress_allow_cidrs; else have the callback or provider corrected",
    )
}

/// Why nothing is sent there. A name with one refused address is refused; of one without any nothing can be said.
fn refusal(config: &Config, allow: &AllowList, destination: &Destination, names: &Names) -> Option<&'static str> {
    if destination.scheme == Scheme::Http && !config.dangerous_allow_http {
        return Some("plain HTTP");
    }
    let why = |address: &IpAddr| allow.permits(*address).err().map(|refusal| refusal.name());
    match &destination.host {
        Host::Ipv4(address) => why(&IpAddr::V4(*address)),
        Host::Ipv6(address) => why(&IpAddr::V6(*address)),
        Host::Domain(name) => names.get(name)?.as_ref().ok()?.iter().find_map(why),
    }
}
