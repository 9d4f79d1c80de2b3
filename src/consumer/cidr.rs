//! Blocks of addresses (RFC 4632, RFC 4291).

use core::net::{IpAddr, SocketAddr};

/// Addresses that share a prefix. IPv4 also where it is mapped into IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cidr {
    network: IpAddr,
    /// Bits of the prefix; at most those of the address.
    prefix: u32,
}

impl Cidr {
    /// `10.0.0.0/8`, `2001:db8::/32`, or one address. `None` also where bits are set behind the prefix: that
    /// is hardly meant.
    pub fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let written: IpAddr = address.parse().ok()?;
        let network = written.to_canonical();
        let width = width(network);
        let prefix = match prefix {
            Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => {
                // A prefix of a mapped address counts the 96 bits before it.
                digits.parse::<u32>().ok()?.checked_sub(self::width(written) - width)?
            }
            Some(_) => return None,
            None => width,
        };
        let cidr = Self { network, prefix };
        (prefix <= width && bits(network) & !cidr.mask() == 0).then_some(cidr)
    }

    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.network.is_ipv4()
            && bits(address) & self.mask() == bits(self.network)
    }

    /// Of the address as the high bits of 128.
    fn mask(&self) -> u128 {
        // Shifting by all bits is not defined.
        u128::MAX.checked_shl(128 - self.prefix).unwrap_or_default()
    }
}

fn width(address: IpAddr) -> u32 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits()) << 96,
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

/// An address as Envoy's `source.address` tells it, with or without a port.
pub fn parse_address(text: &str) -> Option<IpAddr> {
    let with_port = text.parse::<SocketAddr>().map(|socket| socket.ip());
    with_port.or_else(|_| text.parse()).ok().map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_holds_what_shares_its_prefix() {
        for (block, inside, outside) in [
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.0"),
            ("10.0.0.0/8", "::ffff:10.1.2.3", "::10.1.2.3"),
            ("::ffff:10.0.0.0/104", "10.1.2.3", "11.1.2.3"),
            ("192.168.1.128/25", "192.168.1.128", "192.168.1.127"),
            ("203.0.113.7", "203.0.113.7", "203.0.113.8"),
            ("0.0.0.0/0", "255.255.255.255", "::1"),
            ("::/0", "2001:db8::1", "0.0.0.0"),
            ("2001:db8::/33", "2001:db8:7fff::", "2001:db8:8000::"),
            ("::1/128", "::1", "::2"),
        ] {
            let cidr = Cidr::parse(block).expect(block);
            assert!(cidr.contains(inside.parse().unwrap()), "{block} {inside}");
            assert!(!cidr.contains(outside.parse().unwrap()), "{block} {outside}");
        }
    }

    #[test]
    fn what_is_no_block_is_refused() {
        for text in [
            "",
            "/8",
            "10.0.0.0/",
            "10.0.0.0/33",
            "10.0.0.0/+8",
            "10.0.0.1/8",
            "10.0.0/8",
            "::ffff:10.0.0.0/8",
            "2001:db8::1/32",
            "::/129",
            "host/8",
            "10.0.0.0/8/8",
        ] {
            assert_eq!(Cidr::parse(text), None, "{text}");
        }
    }

    #[test]
    fn envoy_tells_an_address_with_its_port() {
        for (text, expected) in [
            ("192.0.2.1:443", Some("192.0.2.1")),
            ("[2001:db8::1]:443", Some("2001:db8::1")),
            ("[::ffff:192.0.2.1]:1", Some("192.0.2.1")),
            ("192.0.2.1", Some("192.0.2.1")),
            // The zone of a link-local address tells the interface, not who it is.
            ("[fe80::1%2]:443", Some("fe80::1")),
            ("@/socket", None),
            ("", None),
        ] {
            assert_eq!(parse_address(text), expected.map(|a| a.parse().unwrap()), "{text}");
        }
    }
}
