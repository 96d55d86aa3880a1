//! ICMP messages: `pkg/policy/api/icmp.go`.

use super::validity::Faults;
use super::wire;
use crate::dialect::int_or_string::IntOrString;
use crate::model::{Numbers, Path, Port, Protocol};

/// Reads an ICMP message. None if it is invalid or does not exist.
pub(super) fn message(field: &wire::IcmpField, path: Path, faults: &mut Faults) -> Option<Port> {
    let protocol = match field.family.as_deref() {
        None | Some("" | "IPv4") => Protocol::Icmp,
        Some("IPv6") => Protocol::Icmpv6,
        Some(other) => {
            let help = "write IPv4 or IPv6";
            faults.never(path.field("family"), &format!("`{other}` is not an ICMP family"), help);
            return None;
        }
    };
    let number = match &field.message {
        None => {
            faults.never(path, "the entry has no `type`", "write the type, such as 8 or EchoRequest");
            return None;
        }
        // A number above 255 matches no message, but the agent does not reject it.
        Some(IntOrString::Number(number)) => u8::try_from(*number).ok()?,
        Some(IntOrString::Text(name)) => match named_message(name, protocol).or_else(|| name.parse().ok()) {
            Some(number) => number,
            None => {
                let problem = format!("`{name}` is not a message of {protocol}");
                faults.never(path.field("type"), &problem, "write its number or its name, such as 8 or EchoRequest");
                return None;
            }
        },
    };
    // Cilium stores the type as a port number, and port number 0 matches everything.
    let numbers = if number == 0 { Numbers::All } else { Numbers::Messages(number, None) };
    Some(Port { path, protocol: Some(protocol), numbers })
}

/// The numbers of message types (`icmpIpv4TypeName` and `icmpIpv6TypeName`).
fn named_message(name: &str, protocol: Protocol) -> Option<u8> {
    const V4: &[(&str, u8)] = &[
        ("EchoReply", 0),
        ("DestinationUnreachable", 3),
        ("Redirect", 5),
        ("Echo", 8),
        ("EchoRequest", 8),
        ("RouterAdvertisement", 9),
        ("RouterSelection", 10),
        ("TimeExceeded", 11),
        ("ParameterProblem", 12),
        ("Timestamp", 13),
        ("TimestampReply", 14),
        ("Photuris", 40),
        ("ExtendedEchoRequest", 42),
        ("ExtendedEchoReply", 43),
    ];
    const V6: &[(&str, u8)] = &[
        ("DestinationUnreachable", 1),
        ("PacketTooBig", 2),
        ("TimeExceeded", 3),
        ("ParameterProblem", 4),
        ("EchoRequest", 128),
        ("EchoReply", 129),
        ("MulticastListenerQuery", 130),
        ("MulticastListenerReport", 131),
        ("MulticastListenerDone", 132),
        ("RouterSolicitation", 133),
        ("RouterAdvertisement", 134),
        ("NeighborSolicitation", 135),
        ("NeighborAdvertisement", 136),
        ("RedirectMessage", 137),
        ("RouterRenumbering", 138),
        ("ICMPNodeInformationQuery", 139),
        ("ICMPNodeInformationResponse", 140),
        ("InverseNeighborDiscoverySolicitation", 141),
        ("InverseNeighborDiscoveryAdvertisement", 142),
        ("HomeAgentAddressDiscoveryRequest", 144),
        ("HomeAgentAddressDiscoveryReply", 145),
        ("MobilePrefixSolicitation", 146),
        ("MobilePrefixAdvertisement", 147),
        ("DuplicateAddressRequestCodeSuffix", 157),
        ("DuplicateAddressConfirmationCodeSuffix", 158),
        ("ExtendedEchoRequest", 160),
        ("ExtendedEchoReply", 161),
    ];
    let names = if protocol == Protocol::Icmp { V4 } else { V6 };
    names.iter().find(|(known, _)| *known == name).map(|(_, number)| *number)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{fault, rules};
    use serde_json::{Value, json};

    #[test]
    fn messages_of_icmp_have_numbers_or_names() {
        let icmp = |field: Value| rules("egress", &json!({"icmps": [{"fields": [field]}]})).remove(0).ports.to_string();
        assert_eq!(icmp(json!({"type": 8})), "ICMP type 8");
        assert_eq!(icmp(json!({"type": "EchoRequest", "family": "IPv6"})), "ICMPv6 type 128");
        assert_eq!(icmp(json!({"type": "EchoReply"})), "ICMP (every port)", "type 0 means all of them");
        assert!(rules("egress", &json!({"icmps": [{"fields": [{"type": 300}]}]})).is_empty());
        let problem = |field: Value| fault("egress", &json!({"icmps": [{"fields": [field]}]}));
        assert_eq!(
            problem(json!({"type": "PacketTooBig"})),
            "spec.egress[0].icmps[0].fields[0].type: `PacketTooBig` is not a message of ICMP"
        );
        assert_eq!(
            problem(json!({"type": 1, "family": "ipv4"})),
            "spec.egress[0].icmps[0].fields[0].family: `ipv4` is not an ICMP family"
        );
        assert_eq!(problem(json!({})), "spec.egress[0].icmps[0].fields[0]: the entry has no `type`");
    }
}
