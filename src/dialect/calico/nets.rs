//! CIDR blocks in rules.

use std::net::IpAddr;

use ipnet::IpNet;

use super::reader::{ASIDE_NOT, Reader, repeated};
use super::wire;
use crate::dialect::cidr;
use crate::model::{AddressSet, Block, Path};

/// Maximum number of CIDRs in a list.
const MOST: usize = 256;

/// The CIDRs (`nets` and `notNets`) of a rule's source or destination.
#[derive(Debug, Default)]
pub(super) struct Nets<'a> {
    pub(super) nets: Vec<Net<'a>>,
    pub(super) not_nets: Vec<Net<'a>>,
}

/// An entry in a list of CIDRs.
#[derive(Debug)]
pub(super) struct Net<'a> {
    pub(super) path: Path,
    pub(super) text: &'a str,
    /// The CIDR. None if the text does not parse.
    pub(super) net: Option<IpNet>,
}

/// The address families that a rule applies to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Families {
    pub(super) v4: bool,
    pub(super) v6: bool,
}

impl Families {
    pub(super) const BOTH: Self = Self { v4: true, v6: true };

    pub(super) fn has(self, net: &IpNet) -> bool {
        if net.addr().is_ipv4() { self.v4 } else { self.v6 }
    }

    /// The whole address range of each family.
    pub(super) fn everywhere(self) -> impl Iterator<Item = IpNet> {
        let v4 = IpNet::new(IpAddr::from([0; 4]), 0).ok().filter(|_| self.v4);
        let v6 = IpNet::new(IpAddr::from([0_u16; 8]), 0).ok().filter(|_| self.v6);
        v4.into_iter().chain(v6)
    }

    fn of(nets: &[Net<'_>]) -> Self {
        let mut known = nets.iter().filter_map(|net| net.net);
        Self { v4: known.clone().any(|net| net.addr().is_ipv4()), v6: known.any(|net| net.addr().is_ipv6()) }
    }
}

impl Nets<'_> {
    /// Narrows `left` to the families that this side allows. Felix keeps a rule for a family only if each non-empty
    /// list has a CIDR of that family (`FilterRuleToIPVersion` in `felix/rules/policy.go`).
    pub(super) fn families(&self, mut left: Families) -> Families {
        for list in [&self.nets, &self.not_nets] {
            if list.iter().any(|net| net.net.is_some()) {
                let listed = Families::of(list);
                left = Families { v4: left.v4 && listed.v4, v6: left.v6 && listed.v6 };
            }
        }
        left
    }

    /// The CIDR, with the overlapping `notNets` as exceptions.
    pub(super) fn block(&self, net: IpNet) -> Block {
        let except = self.not_nets.iter().filter_map(|not| not.net);
        let except = except.filter(|not| net.contains(not) || not.contains(&net)).collect();
        Block { net, except, inside: true }
    }

    /// The addresses that the rule matches on this side. None if it has no CIDRs.
    pub(super) fn addresses(&self, families: Families) -> Option<AddressSet> {
        if self.nets.is_empty() && self.not_nets.is_empty() {
            return None;
        }
        let left = self.families(families);
        let listed = self.nets.iter().filter_map(|net| net.net).filter(|net| left.has(net));
        let mut set: AddressSet = if self.nets.is_empty() { left.everywhere().collect() } else { listed.collect() };
        set.subtract(&self.not_nets.iter().filter_map(|net| net.net).collect());
        Some(set)
    }
}

impl Reader {
    pub(super) fn nets<'a>(&mut self, entity: &'a wire::Entity, path: &Path) -> Nets<'a> {
        let nets = self.list(entity.nets.as_deref().unwrap_or_default(), &path.field("nets"));
        let not_nets = self.list(entity.not_nets.as_deref().unwrap_or_default(), &path.field("notNets"));
        for not in &not_nets {
            if not.net.is_some_and(|net| net.prefix_len() == 0) {
                let problem = format!("`{}` excludes every address of its family", not.text);
                self.refuse(&not.path, &problem, "Felix ignores the rule", "exclude only some of the addresses");
            }
        }
        Nets { nets, not_nets }
    }

    fn list<'a>(&mut self, list: &'a [Box<str>], path: &Path) -> Vec<Net<'a>> {
        self.at_most(list.len(), MOST, path);
        for (position, text) in repeated(list) {
            self.refuse(&path.index(position), &format!("`{text}` is repeated"), ASIDE_NOT, "list each CIDR once");
        }
        // A longer list is rejected, so entries beyond the limit are not parsed.
        let entries = list.iter().take(MOST).enumerate();
        entries
            .map(|(position, text)| {
                let path = path.index(position);
                let net = self.net(text, &path);
                Net { path, text, net }
            })
            .collect()
    }

    fn net(&mut self, text: &str, path: &Path) -> Option<IpNet> {
        if let Some(net) = cidr::parse_net(text) {
            let whole = net.trunc();
            if whole != net {
                let problem = format!("`{text}` has host bits set");
                self.refuse(path, &problem, "Felix uses the enclosing CIDR", &format!("write `{whole}`"));
            }
            return Some(whole);
        }
        if let Ok(address) = text.parse::<IpAddr>() {
            let net = IpNet::from(address);
            let problem = format!("`{text}` is an address, not a CIDR");
            self.refuse(path, &problem, "Felix accepts the address", &format!("write `{net}`"));
            return Some(net);
        }
        self.refuse(
            path,
            &format!("`{text}` is not a CIDR"),
            "Felix ignores the entry, and the rule may match any address",
            "write a CIDR, such as 10.0.0.0/8 or fd00::/8",
        );
        None
    }

    /// Checks that all CIDRs of a rule have the same family, and that it is the family of `ipVersion` if that is set.
    pub(super) fn check_families(&mut self, version: Option<i64>, source: &Nets<'_>, destination: &Nets<'_>) {
        let mut seen = Families { v4: false, v6: false };
        for list in [&source.nets, &source.not_nets, &destination.nets, &destination.not_nets] {
            let own = Families::of(list);
            let Some(path) = list.first().map(|net| net.path.parent()) else { continue };
            if let Some(version) = version
                && (own.v4 && version == 6 || own.v6 && version == 4)
            {
                let problem = format!("the rule is for IPv{version}, but its CIDRs are of the other family");
                self.refuse(
                    &path,
                    &problem,
                    "Felix ignores those CIDRs",
                    "write CIDRs of that family, or one rule per family",
                );
            }
            let before = seen;
            seen = Families { v4: seen.v4 || own.v4, v6: seen.v6 || own.v6 };
            if seen == Families::BOTH && before != Families::BOTH {
                self.refuse(
                    &path,
                    "the rule has both IPv4 and IPv6 CIDRs",
                    "Felix creates one rule per family where possible",
                    "write a rule for each family",
                );
            }
        }
    }
}

/// Lists the CIDRs for a message.
pub(super) fn described<'a>(nets: impl Iterator<Item = &'a Net<'a>>) -> String {
    nets.map(|net| net.text).collect::<Vec<_>>().join(" or ")
}

#[cfg(test)]
mod tests {
    use super::super::testing::{faults, read};
    use serde_json::{Value, json};

    /// The faults of an egress rule, without the path of the rule.
    fn wrong(mut rule: Value) -> Vec<String> {
        rule["action"] = "Allow".into();
        let faults = faults("NetworkPolicy", &json!({"egress": [rule]}));
        faults.iter().map(|fault| fault.replace("spec.egress[0].", "")).collect()
    }

    #[test]
    fn blocks_are_what_calico_takes_for_one() {
        assert_eq!(
            wrong(json!({"destination": {"nets": ["10.0.0.0/8"], "notNets": ["10.1.0.0/16"]}})),
            Vec::<String>::new()
        );
        for net in ["10.0.0.1", "10.0.0.1/8", "garbage", "10.0.0.0/33", "", "fd00::1"] {
            assert_eq!(wrong(json!({"destination": {"nets": [net]}})), ["destination.nets[0]: NeverEnforced"], "{net}");
        }
        assert_eq!(wrong(json!({"source": {"nets": ["10.0.0.0/8", "10.0.0.0/8"]}})), ["source.nets[1]: NeverEnforced"]);
        assert_eq!(wrong(json!({"source": {"notNets": ["::/0"]}})), ["source.notNets[0]: NeverEnforced"]);
        let rule = json!({"action": "Allow", "destination": {"nets": ["10.0.0.1/8"]}});
        let fault = read("NetworkPolicy", &json!({"egress": [rule]})).faults.remove(0);
        assert_eq!(
            (fault.problem.as_str(), fault.help.as_str()),
            (
                "`10.0.0.1/8` has host bits set; Calico's API server rejects it; if it is stored anyway, Felix uses \
                 the enclosing CIDR",
                "write `10.0.0.0/8`"
            )
        );
    }

    #[test]
    fn a_rule_has_blocks_of_one_family() {
        let both = json!({"source": {"nets": ["10.0.0.0/8"]}, "destination": {"notNets": ["fd00::/8"]}});
        assert_eq!(wrong(both), ["destination.notNets: NeverEnforced"]);
        let other = json!({"ipVersion": 6, "destination": {"nets": ["10.0.0.0/8"]}});
        assert_eq!(wrong(other), ["destination.nets: NeverEnforced"]);
    }
}
