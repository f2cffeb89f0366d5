//! Which addresses a check may reach. Judged on the address itself, after a name was resolved
//! and again at every redirect, so that no name leads around it.

use std::net::{IpAddr, Ipv6Addr};

use ipnet::IpNet;

/// Addresses that no check may reach.
#[derive(Debug, Clone)]
pub struct TargetRules {
    forbidden: Vec<IpNet>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no range of addresses: wanted an address, address/bits, or one of loopback, private, link-local, metadata"
)]
pub struct UnknownRange(pub String);

/// Ranges by name.
fn named(name: &str) -> Option<&'static [&'static str]> {
    Some(match name {
        // The unspecified address leads to this machine as well.
        "loopback" => &["127.0.0.0/8", "::1/128", "0.0.0.0/32", "::/128"],
        "private" => &["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7"],
        "link-local" => &["169.254.0.0/16", "fe80::/10"],
        // Where clouds hand out credentials to whoever asks from inside.
        "metadata" => &[
            "169.254.169.254/32",
            "169.254.42.42/32",
            "100.100.100.200/32",
            "192.0.0.192/32",
            "fd00:ec2::254/128",
            "fd00:42::42/128",
            "fd20:ce::254/128",
        ],
        _ => return None,
    })
}

impl Default for TargetRules {
    /// Link-local addresses and those of clouds' metadata; watching oneself is the point, so
    /// loopback and private ones are allowed.
    fn default() -> Self {
        let names = ["link-local", "metadata"].into_iter().filter_map(named).flatten();
        Self { forbidden: names.filter_map(|range| range.parse().ok()).collect() }
    }
}

impl TargetRules {
    /// From ranges and names; these stand in place of the default.
    pub fn forbidding<'a>(ranges: impl IntoIterator<Item = &'a str>) -> Result<Self, UnknownRange> {
        let mut forbidden = Vec::new();
        for range in ranges {
            match named(range) {
                Some(known) => forbidden.extend(known.iter().filter_map(|r| r.parse::<IpNet>().ok())),
                None => forbidden.push(read_range(range)?),
            }
        }
        Ok(Self { forbidden })
    }

    /// An IPv4 address inside an IPv6 one counts as itself.
    pub fn allow(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        let inner = embedded(address);
        !self
            .forbidden
            .iter()
            .any(|range| range.contains(&address) || inner.is_some_and(|inner| range.contains(&inner)))
    }
}

fn read_range(text: &str) -> Result<IpNet, UnknownRange> {
    let single = text.parse::<IpAddr>().map(IpNet::from);
    single.or_else(|_| text.parse()).map_err(|_| UnknownRange(text.to_owned()))
}

/// The IPv4 address that a translated one (NAT64, 6to4, Teredo) leads to.
fn embedded(address: IpAddr) -> Option<IpAddr> {
    let IpAddr::V6(v6) = address else { return None };
    let s = v6.segments();
    let v4 = |high: u16, low: u16| {
        let [a, b] = high.to_be_bytes();
        let [c, d] = low.to_be_bytes();
        IpAddr::from([a, b, c, d])
    };
    // The well-known prefix, and the one for use within a network (RFC 8215).
    if s[..6] == [0x64, 0xff9b, 0, 0, 0, 0] || s[..3] == [0x64, 0xff9b, 1] {
        return Some(v4(s[6], s[7]));
    }
    if s[0] == 0x2002 {
        return Some(v4(s[1], s[2]));
    }
    if s[..2] == [0x2001, 0] {
        return Some(v4(!s[6], !s[7]));
    }
    // The old form `::a.b.c.d`, which some systems still translate.
    (s[..6] == [0; 6] && v6 != Ipv6Addr::LOCALHOST && !v6.is_unspecified()).then(|| v4(s[6], s[7]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_keeps_to_what_is_dangerous() {
        let rules = TargetRules::default();
        for (address, allowed) in [
            ("127.0.0.1", true),
            ("::1", true),
            ("10.1.2.3", true),
            ("8.8.8.8", true),
            ("169.254.169.254", false),
            ("::ffff:169.254.169.254", false),
            ("64:ff9b::a9fe:a9fe", false),
            ("64:ff9b:1::a9fe:a9fe", false),
            ("2001:0:4136:e378:8000:63bf:5601:5601", false),
            ("::169.254.169.254", false),
            ("0.0.0.0", true),
            ("2002:a9fe:a9fe::1", false),
            ("fe80::1", false),
            ("fd00:ec2::254", false),
            ("100.100.100.200", false),
        ] {
            assert_eq!(rules.allow(address.parse().unwrap()), allowed, "{address}");
        }
    }

    #[test]
    fn ranges_are_read_by_name_and_number() {
        let rules = TargetRules::forbidding(["loopback", "203.0.113.0/24", "2001:db8::1"]).unwrap();
        assert!(!rules.allow("127.9.9.9".parse().unwrap()));
        assert!(!rules.allow("0.0.0.0".parse().unwrap()) && !rules.allow("::".parse().unwrap()));
        assert!(!rules.allow("203.0.113.7".parse().unwrap()));
        assert!(!rules.allow("2001:db8::1".parse().unwrap()));
        assert!(rules.allow("169.254.0.1".parse().unwrap()));
        assert_eq!(TargetRules::forbidding(["nowhere"]).unwrap_err(), UnknownRange("nowhere".into()));
    }
}
