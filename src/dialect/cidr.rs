//! CIDRs, parsed like Go's `netip.ParsePrefix` or `net.ParseCIDR`, and written.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::Serialize;

use crate::model::Block;

/// Parses a CIDR as written: host bits may be set. Leading zeros, signs and zones are rejected. The parser of
/// [`IpNet`] would accept leading zeros in octets.
pub(super) fn parse(text: &str) -> Option<IpNet> {
    let (address, length) = text.split_once('/')?;
    let is_number = length.bytes().all(|byte| byte.is_ascii_digit()) && (length == "0" || !length.starts_with('0'));
    let address: IpAddr = address.parse().ok()?;
    let length = length.parse().ok().filter(|_| is_number)?;
    IpNet::new(address, length).ok()
}

/// Parses a CIDR like `net.ParseCIDR`, which accepts leading zeros in the prefix length.
pub(super) fn parse_net(text: &str) -> Option<IpNet> {
    let (address, length) = text.split_once('/')?;
    let length = match length.trim_start_matches('0') {
        "" if !length.is_empty() => "0",
        length => length,
    };
    parse(&format!("{address}/{length}"))
}

/// A CIDR with its exceptions, as most dialects write it.
#[derive(Serialize)]
pub(super) struct Written {
    pub(super) cidr: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) except: Vec<String>,
}

impl From<&Block> for Written {
    fn from(block: &Block) -> Self {
        Self { cidr: block.net.to_string(), except: block.except.iter().map(ToString::to_string).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::{parse, parse_net};

    #[test]
    fn zeros_before_the_length_are_a_matter_of_the_parser() {
        for (text, block) in [
            ("10.0.0.0/08", "10.0.0.0/8"),
            ("10.0.0.0/0000016", "10.0.0.0/16"),
            ("10.0.0.0/00", "10.0.0.0/0"),
            ("fd00::/008", "fd00::/8"),
        ] {
            assert_eq!(parse_net(text), parse(block), "{text}");
            assert!(parse(text).is_none() && parse(block).is_some(), "{text}");
        }
        for text in [
            "10.0.0.0/",
            "10.0.0.0/+8",
            "10.0.0.0/-0",
            "010.0.0.0/8",
            "10.0.0.0/033",
            "fe80::1%eth0/64",
            "10.0.0.0/0x8",
        ] {
            assert!(parse_net(text).is_none(), "{text}");
        }
    }

    #[test]
    fn blocks_are_what_go_takes_for_one() {
        for text in ["10.0.0.0/8", "10.0.0.1/8", "0.0.0.0/0", "fd00::/8", "::/0", "::ffff:1.2.3.4/96"] {
            assert!(parse(text).is_some(), "{text}");
        }
        for text in [
            "10.0.0.0",
            "10.0.0.0/08",
            "10.0.0.0/+8",
            "10.0.0.0/",
            "10.0.0.0/33",
            "010.0.0.0/8",
            "10.0.0.0.0/8",
            "fe80::1%eth0/64",
            "fd00::/129",
            "",
            "/",
        ] {
            assert!(parse(text).is_none(), "{text}");
        }
    }
}
