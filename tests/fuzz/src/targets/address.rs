//! Whether an address is refused exactly where a table of networks, looked through bit by bit, says so.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::LazyLock;

use ipnet::IpNet;

use super::input::Input;
use crate::egress::{AllowList, Refusal, classify};

/// The special-purpose registries of IANA (IPv4, then IPv6), row by row, and what the contract adds: multicast,
/// site-local, and the forms that carry an IPv4 address.
const SPECIAL: &str = "
    0.0.0.0/8 0.0.0.0/32 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.0.0.0/24 192.0.0.0/29
    192.0.0.8/32 192.0.0.9/32 192.0.0.10/32 192.0.0.170/32 192.0.0.171/32 192.0.2.0/24 192.31.196.0/24 192.52.193.0/24
    192.88.99.0/24 192.88.99.2/32 192.168.0.0/16 192.175.48.0/24 198.18.0.0/15 198.51.100.0/24 203.0.113.0/24
    240.0.0.0/4 255.255.255.255/32 224.0.0.0/4
    ::1/128 ::/128 ::ffff:0:0/96 64:ff9b::/96 64:ff9b:1::/48 100::/64 100:0:0:1::/64 2001::/23 2001::/32 2001:1::1/128
    2001:1::2/128 2001:1::3/128 2001:2::/48 2001:3::/32 2001:4:112::/48 2001:10::/28 2001:20::/28 2001:30::/28
    2001:db8::/32 2002::/16 2620:4f:8000::/48 3fff::/20 5f00::/16 fc00::/7 fe80::/10
    ff00::/8 fec0::/10 ::/96 ::ffff:0:0:0/96";

/// Not assigned to anyone, and refused with the forms that it surrounds.
const UNASSIGNED: &str = "::/32";

const METADATA: &str = "169.254.169.254/32 169.254.170.2/32 169.254.170.23/32 100.100.100.200/32 168.63.129.16/32
    fd00:ec2::254/128 fd20:ce::254/128";

/// A network: its family, the bits that count, and how many they are.
#[derive(Clone, Copy)]
struct Network {
    is_v6: bool,
    bits: u128,
    length: u32,
}

impl Network {
    fn parse(text: &str) -> Self {
        let (address, length) = text.split_once('/').expect("a network has a length");
        let address: IpAddr = address.parse().expect("an address");
        Self::new(address, length.parse().expect("a number"))
    }

    fn new(address: IpAddr, length: u32) -> Self {
        let (is_v6, bits) = wide(address);
        Self { is_v6, bits, length }
    }

    fn contains(self, address: IpAddr) -> bool {
        let (is_v6, bits) = wide(address);
        let rest = (if self.is_v6 { 128 } else { 32 }) - self.length;
        is_v6 == self.is_v6 && bits.checked_shr(rest).unwrap_or(0) == self.bits.checked_shr(rest).unwrap_or(0)
    }
}

fn wide(address: IpAddr) -> (bool, u128) {
    match address {
        IpAddr::V4(v4) => (false, u128::from(v4.to_bits())),
        IpAddr::V6(v6) => (true, v6.to_bits()),
    }
}

fn networks(list: &str) -> Vec<Network> {
    list.split_whitespace().map(Network::parse).collect()
}

static REFUSED: LazyLock<Vec<Network>> = LazyLock::new(|| networks(&[SPECIAL, UNASSIGNED, METADATA].join(" ")));
static CLOUDS: LazyLock<Vec<Network>> = LazyLock::new(|| networks(METADATA));

/// Every IPv4 address that anyone could read out of an IPv6 address.
fn carried(v6: Ipv6Addr) -> Vec<Ipv4Addr> {
    let bits = v6.to_bits();
    let begins = |text: &str| Network::parse(text).contains(v6.into());
    let at = |from_the_right: u32| Ipv4Addr::from_bits((bits >> from_the_right) as u32);
    let mut all = Vec::new();
    if ["::/96", "::ffff:0:0/96", "::ffff:0:0:0/96", "64:ff9b::/96"]
        .into_iter()
        .any(begins)
        && bits > 1
    {
        all.push(at(0));
    }
    if begins("64:ff9b:1::/48") {
        // RFC 6052, section 2.2: behind 48, 56, 64 and 96 bits, and around bits 64 to 71.
        let [.., a, b, _, c, d, _, _, _, _, _] = v6.octets();
        let [.., e, _, f, g, h, _, _, _, _] = v6.octets();
        let [.., i, j, k, l, _, _, _] = v6.octets();
        all.extend([[a, b, c, d], [e, f, g, h], [i, j, k, l]].map(Ipv4Addr::from));
        all.push(at(0));
    }
    if begins("2002::/16") {
        all.push(at(80));
    }
    if begins("2001::/32") {
        all.push(Ipv4Addr::from_bits(!at(0).to_bits()));
    }
    if matches!(bits >> 32 & 0xffff_ffff, 0x5efe | 0x0200_5efe) {
        all.push(at(0));
    }
    all
}

/// Whether an address, or one that it carries, is in one of these networks.
fn is_in(list: &[Network], address: IpAddr) -> bool {
    let inner = match address {
        IpAddr::V4(_) => Vec::new(),
        IpAddr::V6(v6) => carried(v6),
    };
    let mut all = inner.into_iter().map(IpAddr::V4).chain([address]);
    all.any(|one| list.iter().any(|network| network.contains(one)))
}

/// Whether the naive table refuses an address where nothing is open.
pub(super) fn is_refused(address: IpAddr) -> bool {
    is_in(&REFUSED, address)
}

/// An address, one of the table's as often as not, with some bytes changed.
fn address(input: &mut Input<'_>) -> IpAddr {
    let table = &*REFUSED;
    let kind = input.below(table.len() * 2);
    let changes: [u8; 16] = input.array();
    let Some(network) = table.get(kind) else {
        let bits = u128::from_be_bytes(changes);
        return if kind.is_multiple_of(2) {
            Ipv4Addr::from_bits(bits as u32).into()
        } else {
            Ipv6Addr::from_bits(bits).into()
        };
    };
    let bits = network.bits ^ u128::from_be_bytes(changes);
    if network.is_v6 {
        Ipv6Addr::from_bits(bits).into()
    } else {
        Ipv4Addr::from_bits(bits as u32).into()
    }
}

/// Reads: an address, then networks that an operator opened.
pub fn hold(data: &[u8]) {
    let mut input = Input::new(data);
    let address = address(&mut input);
    let is_metadata = is_in(&CLOUDS, address);
    let verdict = classify(address);
    assert_eq!(verdict.is_some(), is_refused(address), "{address}: {verdict:?}");
    assert_eq!(
        verdict == Some(Refusal::Metadata),
        is_metadata,
        "{address}: {verdict:?}"
    );

    let (mut opened, mut open) = (Vec::new(), Vec::new());
    while !input.is_empty() && open.len() < 4 {
        let near = if input.byte().is_multiple_of(2) {
            address
        } else {
            self::address(&mut input)
        };
        let longest = if near.is_ipv6() { 128 } else { 32 };
        let length = input.byte() % (longest + 1);
        opened.push(IpNet::new(near, length).expect("a length within bounds"));
        open.push(Network::new(near, length.into()));
    }
    let is_open = open.iter().any(|network| network.contains(address));
    let expected = match verdict {
        Some(Refusal::Metadata) => Err(Refusal::Metadata),
        Some(why) if !is_open => Err(why),
        _ => Ok(()),
    };
    assert_eq!(AllowList::new(opened).permits(address), expected, "{address}");
}
