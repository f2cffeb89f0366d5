//! Addresses in text, for `ip("…")` in line and label filters.

use std::net::IpAddr;

#[derive(Debug, Clone)]
enum Wanted {
    One(IpAddr),
    /// Both ends inclusive, of one family.
    Range(IpAddr, IpAddr),
}

/// Finds addresses that equal one, or lie in a CIDR block or a range `a-b`.
#[derive(Debug, Clone)]
pub(crate) struct IpFilter(Wanted);

impl IpFilter {
    pub(crate) fn new(pattern: &str) -> Result<Self, String> {
        Self::read(pattern)
            .map(Self)
            .ok_or_else(|| format!("ip: invalid pattern: {}", pilothouse_model::labels::quote(pattern)))
    }

    fn read(pattern: &str) -> Option<Wanted> {
        if let Ok(address) = pattern.parse() {
            return Some(Wanted::One(address));
        }
        if let Some((address, bits)) = pattern.split_once('/') {
            return block(address.parse().ok()?, bits.parse().ok()?);
        }
        let (from, to) = pattern.split_once('-')?;
        let (from, to): (IpAddr, IpAddr) = (from.parse().ok()?, to.parse().ok()?);
        (from.is_ipv4() == to.is_ipv4() && from <= to).then_some(Wanted::Range(from, to))
    }

    fn wants(&self, address: IpAddr) -> bool {
        match &self.0 {
            Wanted::One(one) => *one == address,
            Wanted::Range(from, to) => {
                from.is_ipv4() == address.is_ipv4() && *from <= address && address <= *to
            }
        }
    }

    /// Whether any address in the text is wanted. Where a word looks like the start of an
    /// address but is none, the search goes on behind it, as in Loki.
    pub(crate) fn finds(&self, text: &str) -> bool {
        let bytes = text.as_bytes();
        let mut i = 0;
        while i < bytes.len() {
            let rest = &bytes[i..];
            let accept: fn(&u8) -> bool = if starts_v4(rest) {
                |b| b.is_ascii_digit() || *b == b'.'
            } else if starts_v6(rest) {
                |b| b.is_ascii_hexdigit() || matches!(b, b':' | b'.')
            } else {
                i += 1;
                continue;
            };
            let length = rest.iter().take_while(|b| accept(b)).count();
            let word = std::str::from_utf8(&rest[..length]).unwrap_or("");
            if word.parse().is_ok_and(|address| self.wants(address)) {
                return true;
            }
            i += length + 1;
        }
        false
    }
}

fn block(address: IpAddr, bits: u32) -> Option<Wanted> {
    Some(match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32u32.checked_sub(bits)?).unwrap_or(0);
            let first = u32::from(v4) & mask;
            Wanted::Range(IpAddr::V4(first.into()), IpAddr::V4((first | !mask).into()))
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128u32.checked_sub(bits)?).unwrap_or(0);
            let first = u128::from(v6) & mask;
            Wanted::Range(IpAddr::V6(first.into()), IpAddr::V6((first | !mask).into()))
        }
    })
}

fn starts_v4(rest: &[u8]) -> bool {
    rest.len() > 3 && rest[0].is_ascii_digit() && rest[1..4].contains(&b'.')
}

fn starts_v6(rest: &[u8]) -> bool {
    let hex = rest.iter().take(4).take_while(|b| b.is_ascii_hexdigit()).count();
    let at = |i: usize| rest.get(i).copied().unwrap_or(0);
    (hex > 0 && at(hex) == b':') || (at(0) == b':' && at(1) == b':' && at(2).is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_found_in_text() {
        for (pattern, text, found) in [
            ("192.168.4.5", "from 192.168.4.5:8080 to 10.1.2.3", true),
            ("192.168.4.5", "from 192.168.4.55", false),
            ("192.168.0.0/16", "x 192.168.4.77 y", true),
            ("192.168.4.5-192.168.4.20", "192.168.4.12", true),
            ("192.168.4.5-192.168.4.20", "192.168.4.21", false),
            ("2001:db8::/32", "from 2001:db8::1 closed", true),
            ("2001:db8::1", "2001:db8:0:1::5", false),
            ("10.0.0.0/8", "no address", false),
            ("0.0.0.0/0", "1.2.3.4", true),
            ("0.0.0.0/0", "2001:db8::1", false),
        ] {
            let filter = IpFilter::new(pattern).unwrap_or_else(|e| panic!("{e}"));
            assert_eq!(filter.finds(text), found, "{pattern} in {text}");
        }
        for bad in ["", "x", "10.0.0.0/33", "10.0.0.9-10.0.0.1", "10.0.0.1-::1"] {
            assert!(IpFilter::new(bad).is_err(), "{bad}");
        }
    }
}
