//! Blocks of addresses: read as Go's `netip.ParsePrefix` reads them, and written.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::Serialize;

use crate::model::Block;

/// The block in this text, as it is written: bits of the host may be set. Leading zeros, signs and zones are not taken; the
/// parser of [`IpNet`] would take leading zeros in octets.
pub(super) fn parse(text: &str) -> Option<IpNet> {
    let (address, length) = text.split_once('/')?;
    let is_number = length.bytes().all(|byte| byte.is_ascii_digit()) && (length == "0" || !length.starts_with('0'));
    let address: IpAddr = address.parse().ok()?;
    let length = length.parse().ok().filter(|_| is_number)?;
    IpNet::new(address, length).ok()
}

/// A block and what it leaves out, as most dialects write it.
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
    use super::parse;

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
