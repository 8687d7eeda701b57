//! Which addresses deliveries must not reach.
//!
//! Every block of the IANA IPv4 and IPv6 special-purpose address registries (RFC 6890), whatever its reachability
//! column says, multicast, site-local, and cloud metadata. An IPv6 address that carries an IPv4 address is judged by
//! that one too.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// Why an address is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// A cloud's metadata service: nothing re-opens it.
    Metadata,
    /// This host.
    Loopback,
    /// A private, shared or site-local network.
    Private,
    /// The link only.
    LinkLocal,
    /// Multicast or broadcast.
    Multicast,
    /// Reserved, for documentation, benchmarks, translation or another special purpose.
    Special,
}

impl Refusal {
    /// The word in logs and on metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Metadata => "metadata",
            Self::Loopback => "loopback",
            Self::Private => "private",
            Self::LinkLocal => "link-local",
            Self::Multicast => "multicast",
            Self::Special => "special",
        }
    }
}

const fn v4(a: u8, b: u8, c: u8, d: u8, prefix: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix)
}

const fn v6(head: [u16; 4], prefix: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(head[0], head[1], head[2], head[3], 0, 0, 0, 0), prefix)
}

/// Where clouds answer questions about the machine.
const METADATA: [IpAddr; 7] = [
    IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)), // AWS, Azure, Google, Oracle, DigitalOcean
    IpAddr::V4(Ipv4Addr::new(169, 254, 170, 2)),   // AWS containers
    IpAddr::V4(Ipv4Addr::new(169, 254, 170, 23)),  // AWS pods
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)), // Alibaba
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),   // Azure's host
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)), // AWS
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)), // Google
];

const IPV4: [(Ipv4Net, Refusal); 20] = [
    (v4(0, 0, 0, 0, 8), Refusal::Special),
    (v4(10, 0, 0, 0, 8), Refusal::Private),
    (v4(100, 64, 0, 0, 10), Refusal::Private),
    (v4(127, 0, 0, 0, 8), Refusal::Loopback),
    (v4(169, 254, 0, 0, 16), Refusal::LinkLocal),
    (v4(172, 16, 0, 0, 12), Refusal::Private),
    (v4(192, 0, 0, 0, 24), Refusal::Special),
    (v4(192, 0, 2, 0, 24), Refusal::Special),
    (v4(192, 31, 196, 0, 24), Refusal::Special),
    (v4(192, 52, 193, 0, 24), Refusal::Special),
    (v4(192, 88, 99, 0, 24), Refusal::Special),
    (v4(192, 168, 0, 0, 16), Refusal::Private),
    (v4(192, 175, 48, 0, 24), Refusal::Special),
    (v4(198, 18, 0, 0, 15), Refusal::Special),
    (v4(198, 51, 100, 0, 24), Refusal::Special),
    (v4(203, 0, 113, 0, 24), Refusal::Special),
    (v4(224, 0, 0, 0, 4), Refusal::Multicast),
    (v4(255, 255, 255, 255, 32), Refusal::Multicast),
    (v4(240, 0, 0, 0, 4), Refusal::Special),
    (v4(168, 63, 129, 16, 32), Refusal::Metadata),
];

const IPV6: [(Ipv6Net, Refusal); 21] = [
    (Ipv6Net::new_assert(Ipv6Addr::LOCALHOST, 128), Refusal::Loopback),
    (v6([0, 0, 0, 0], 32), Refusal::Special), // unspecified, IPv4-compatible, IPv4-mapped, IPv4-translated
    (v6([0x64, 0xff9b, 0, 0], 96), Refusal::Special),
    (v6([0x64, 0xff9b, 1, 0], 48), Refusal::Special),
    (v6([0x100, 0, 0, 0], 64), Refusal::Special),
    (v6([0x100, 0, 0, 1], 64), Refusal::Special),
    (v6([0x2001, 0, 0, 0], 32), Refusal::Special), // Teredo
    (v6([0x2001, 0, 0, 0], 23), Refusal::Special),
    (v6([0x2001, 2, 0, 0], 48), Refusal::Special),
    (v6([0x2001, 0xdb8, 0, 0], 32), Refusal::Special),
    (v6([0x2002, 0, 0, 0], 16), Refusal::Special), // 6to4
    (v6([0x2620, 0x4f, 0x8000, 0], 48), Refusal::Special),
    (v6([0x3fff, 0, 0, 0], 20), Refusal::Special),
    (v6([0x5f00, 0, 0, 0], 16), Refusal::Special),
    (v6([0xfc00, 0, 0, 0], 7), Refusal::Private),
    (v6([0xfe80, 0, 0, 0], 10), Refusal::LinkLocal),
    (v6([0xfec0, 0, 0, 0], 10), Refusal::Private),
    (v6([0xff00, 0, 0, 0], 8), Refusal::Multicast),
    (v6([0x2001, 0x10, 0, 0], 28), Refusal::Special),
    (v6([0x2001, 0x20, 0, 0], 28), Refusal::Special),
    (v6([0x2001, 0x30, 0, 0], 28), Refusal::Special),
];

/// Why an address must not be reached; `None` where it may. Metadata comes first, also within IPv6.
#[must_use]
pub fn classify(address: IpAddr) -> Option<Refusal> {
    if is_metadata(address) {
        return Some(Refusal::Metadata);
    }
    match address {
        IpAddr::V4(v4) => IPV4.iter().find(|(block, _)| block.contains(&v4)).map(|(_, why)| *why),
        IpAddr::V6(v6) => {
            let inner = carried(v6).find_map(|v4| classify(IpAddr::V4(v4)));
            let outer = || IPV6.iter().find(|(block, _)| block.contains(&v6)).map(|(_, why)| *why);
            inner.or_else(outer)
        }
    }
}

fn is_metadata(address: IpAddr) -> bool {
    METADATA.contains(&address)
        || match address {
            IpAddr::V4(_) => false,
            IpAddr::V6(v6) => carried(v6).any(|v4| METADATA.contains(&IpAddr::V4(v4))),
        }
}

/// The IPv4 addresses that can be read out of an IPv6 address: mapped, compatible, translated (RFC 2765, 6052, 8215),
/// 6to4 (RFC 3056), Teredo (RFC 4380), ISATAP (RFC 5214).
///
/// One address can be of several kinds: an identifier of ISATAP can stand behind any prefix. And translators of the
/// local prefix may use any prefix within it; RFC 6052 has a layout for each length.
fn carried(v6: Ipv6Addr) -> impl Iterator<Item = Ipv4Addr> {
    let s = v6.segments();
    let o = v6.octets();
    let in_last = match s {
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => false, // unspecified and loopback are IPv6's own
        [0, 0, 0, 0, 0, 0 | 0xffff, ..] | [0, 0, 0, 0, 0xffff, 0, ..] => true,
        [0x64, 0xff9b, 0, 0, 0, 0, ..] | [0x64, 0xff9b, 1, ..] => true,
        _ => matches!(s, [_, _, _, _, 0 | 0x200, 0x5efe, ..]),
    };
    let is_local = matches!(s, [0x64, 0xff9b, 1, ..]);
    let kinds = [
        (in_last, [o[12], o[13], o[14], o[15]]),
        (is_local, [o[6], o[7], o[9], o[10]]),
        (is_local, [o[7], o[9], o[10], o[11]]),
        (is_local, [o[9], o[10], o[11], o[12]]),
        (matches!(s, [0x2002, ..]), [o[2], o[3], o[4], o[5]]),
        (matches!(s, [0x2001, 0, ..]), [!o[12], !o[13], !o[14], !o[15]]),
    ];
    kinds
        .into_iter()
        .filter(|(is, _)| *is)
        .map(|(_, bytes)| Ipv4Addr::from(bytes))
}

/// The internal networks that an operator opened. Metadata stays closed.
#[derive(Debug, Clone, Default)]
pub struct AllowList(Vec<IpNet>);

impl AllowList {
    /// Opens these networks.
    #[must_use]
    pub const fn new(networks: Vec<IpNet>) -> Self {
        Self(networks)
    }

    /// Whether an address may be reached.
    ///
    /// # Errors
    /// [`Refusal`] says why not.
    pub fn permits(&self, address: IpAddr) -> Result<(), Refusal> {
        match classify(address) {
            None => Ok(()),
            Some(Refusal::Metadata) => Err(Refusal::Metadata),
            Some(why) => {
                let is_open = self.0.iter().any(|network| network.contains(&address));
                if is_open { Ok(()) } else { Err(why) }
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn verdict(address: &str) -> Option<Refusal> {
        classify(address.parse().unwrap())
    }

    #[test]
    fn every_special_block_is_refused_at_both_ends_and_its_neighbours_are_not() {
        for (first, last, why) in [
            ("0.0.0.0", "0.255.255.255", Refusal::Special),
            ("10.0.0.0", "10.255.255.255", Refusal::Private),
            ("100.64.0.0", "100.127.255.255", Refusal::Private),
            ("127.0.0.0", "127.255.255.255", Refusal::Loopback),
            ("169.254.0.0", "169.254.255.255", Refusal::LinkLocal),
            ("172.16.0.0", "172.31.255.255", Refusal::Private),
            ("192.0.0.0", "192.0.0.255", Refusal::Special),
            ("192.0.2.0", "192.0.2.255", Refusal::Special),
            ("192.88.99.0", "192.88.99.255", Refusal::Special),
            ("192.168.0.0", "192.168.255.255", Refusal::Private),
            ("198.18.0.0", "198.19.255.255", Refusal::Special),
            ("203.0.113.0", "203.0.113.255", Refusal::Special),
            ("224.0.0.0", "239.255.255.255", Refusal::Multicast),
            ("240.0.0.0", "255.255.255.254", Refusal::Special),
            ("255.255.255.255", "255.255.255.255", Refusal::Multicast),
            ("::", "::", Refusal::Special),
            ("::1", "::1", Refusal::Loopback),
            ("100::", "100::ffff:ffff:ffff:ffff", Refusal::Special),
            ("2001:db8::", "2001:db8:ffff::1", Refusal::Special),
            ("3fff::", "3fff:fff::1", Refusal::Special),
            ("5f00::", "5f00:ffff::1", Refusal::Special),
            ("fc00::", "fdff:ffff::1", Refusal::Private),
            ("fe80::", "febf::1", Refusal::LinkLocal),
            ("fec0::", "feff::1", Refusal::Private),
            ("ff00::", "ffff::1", Refusal::Multicast),
        ] {
            assert_eq!(verdict(first), Some(why), "{first}");
            assert_eq!(verdict(last), Some(why), "{last}");
        }
        for public in [
            "1.0.0.0",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.0",
            "169.253.255.255",
            "169.255.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "192.0.1.0",
            "192.167.255.255",
            "192.169.0.0",
            "198.17.255.255",
            "198.20.0.0",
            "223.255.255.255",
            "8.8.8.8",
            "2606:4700::1",
            "2a00::1",
            "2003::1",
            "2001:200::1",
            "fbff::1",
            "64:ff9b::1:0:127.0.0.1", // behind the well-known translation prefix, not within
        ] {
            assert_eq!(verdict(public), None, "{public}");
        }
    }

    #[test]
    fn an_ipv4_address_within_ipv6_is_judged_as_itself() {
        for carrier in [
            "::ffff:127.0.0.1",
            "::127.0.0.1",
            "::ffff:0:127.0.0.1",
            "64:ff9b::127.0.0.1",
            "64:ff9b:1::127.0.0.1",
            "2002:7f00:1::",
            "2001::80ff:fffe",
            "fe80::5efe:7f00:1",
            "2a00::200:5efe:127.0.0.1",
        ] {
            assert_eq!(verdict(carrier), Some(Refusal::Loopback), "{carrier}");
        }
        // A public address does not make a translation prefix public.
        for carrier in ["::ffff:8.8.8.8", "64:ff9b::8.8.8.8", "2002:808:808::"] {
            assert_eq!(verdict(carrier), Some(Refusal::Special), "{carrier}");
        }
    }

    #[test]
    fn metadata_is_refused_even_where_everything_is_open() {
        let open = AllowList::new(vec!["0.0.0.0/0".parse().unwrap(), "::/0".parse().unwrap()]);
        for address in [
            "169.254.169.254",
            "169.254.170.2",
            "100.100.100.200",
            "168.63.129.16",
            "fd00:ec2::254",
            "fd20:ce::254",
            "::ffff:169.254.169.254",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b:1::a9fe:a9fe",
            "64:ff9b:1:a9fe:a9:fe00::",
            "64:ff9b:1:a9:fe:a9fe::",
            "64:ff9b:1:0:a9:fea9:fe00:0",
            "2002:a9fe:a9fe::",
            "2001::5efe:a9fe:a9fe",
            "2002:808:808::200:5efe:a9fe:a9fe",
            "64:ff9b:1:808:8:800:6464:64c8",
        ] {
            assert_eq!(
                open.permits(address.parse().unwrap()),
                Err(Refusal::Metadata),
                "{address}"
            );
        }
        assert_eq!(open.permits("10.1.2.3".parse().unwrap()), Ok(()));
    }

    #[test]
    fn an_allow_list_opens_its_networks_only() {
        let allow = AllowList::new(vec!["127.0.0.0/8".parse().unwrap()]);
        assert_eq!(allow.permits("127.0.0.1".parse().unwrap()), Ok(()));
        assert_eq!(allow.permits("10.0.0.1".parse().unwrap()), Err(Refusal::Private));
        assert_eq!(
            allow.permits("::ffff:127.0.0.1".parse().unwrap()),
            Err(Refusal::Loopback)
        );
        assert_eq!(
            AllowList::default().permits("127.0.0.1".parse().unwrap()),
            Err(Refusal::Loopback)
        );
    }
}
