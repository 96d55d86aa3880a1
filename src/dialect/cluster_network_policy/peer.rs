//! Subjects and peers.

use std::net::IpAddr;

use ipnet::IpNet;

use super::read::Reader;
use super::{Which, wire};
use crate::dialect::label_selector::LabelSelector;
use crate::dialect::{ReadError, cidr};
use crate::model::{Action, Block, Direction, DomainPattern, FaultKind, Namespaces, Path, Peer, Pods, Selector, Who};

impl Reader {
    pub(super) fn subject(&mut self, subject: Option<&wire::Subject>, path: &Path) -> Result<Pods, ReadError> {
        let Some(subject) = subject else {
            return Err(ReadError::at(path, "a subject is required: namespaces or pods"));
        };
        let pods = match (&subject.namespaces, &subject.pods) {
            (Some(_), Some(_)) => return Err(both(path, "subject", &["namespaces", "pods"])),
            (Some(namespaces), None) => self.namespaces(namespaces, &path.field("namespaces")),
            (None, Some(pods)) => self.pods(pods, &path.field("pods"))?,
            (None, None) => {
                let problem = "the subject has no known field; the policy is treated as selecting no pod";
                self.fault(FaultKind::NotUnderstood, path, problem, "write `namespaces` or `pods`");
                None
            }
        };
        let nothing = || Pods { namespaces: Namespaces::Matching(Selector::Any(Vec::new())), labels: None };
        Ok(pods.unwrap_or_else(nothing))
    }

    /// Reads the peers of a rule. None if one of them is not understood.
    pub(super) fn peers(
        &mut self,
        peers: Option<&[wire::Peer]>,
        direction: Direction,
        action: Action,
        rule: &Path,
    ) -> Result<Option<Vec<Peer>>, ReadError> {
        let path = rule.field(if direction == Direction::Ingress { "from" } else { "to" });
        let peers = peers.unwrap_or_default();
        if peers.is_empty() {
            return Err(ReadError::at(&path, "a rule requires at least one peer"));
        }
        let mut all = Some(Vec::with_capacity(peers.len()));
        for (position, peer) in peers.iter().enumerate() {
            let read = self.peer(peer, direction, action, &path.index(position))?;
            all = all.zip(read).map(|(mut all, read)| {
                all.extend(read);
                all
            });
        }
        Ok(all)
    }

    fn peer(
        &mut self,
        peer: &wire::Peer,
        direction: Direction,
        action: Action,
        path: &Path,
    ) -> Result<Option<Vec<Peer>>, ReadError> {
        let fields = [
            ("namespaces", peer.namespaces.is_some()),
            ("pods", peer.pods.is_some()),
            ("networks", peer.networks.is_some()),
            ("nodes", peer.nodes.is_some()),
            ("domainNames", peer.domain_names.is_some()),
        ];
        let written = || fields.into_iter().filter_map(|(name, is_written)| is_written.then_some(name));
        if written().nth(1).is_some() {
            return Err(both(path, "peer", &written().collect::<Vec<_>>()));
        }
        let one = |who: Option<Who>, what: &str| {
            let who = who.unwrap_or_else(|| Who::Unclear(format!("{what} by a selector that does not parse").into()));
            Ok(Some(vec![Peer::new(path.clone(), who)]))
        };
        if let Some(namespaces) = &peer.namespaces {
            let pods = self.namespaces(namespaces, &path.field("namespaces"));
            one(pods.map(Who::Pods), "pods of namespaces")
        } else if let Some(pods) = &peer.pods {
            let pods = self.pods(pods, &path.field("pods"))?;
            one(pods.map(Who::Pods), "pods")
        } else if let Some(nodes) = &peer.nodes {
            let nodes = self.selector(nodes, &path.field("nodes"));
            one(nodes.map(Who::Nodes), "nodes")
        } else if let Some(networks) = &peer.networks {
            let path = path.field("networks");
            let block = |text: &str, path: &Path| network(text, path).map(|net| Who::Addresses(Block::whole(net)));
            each(networks, &path, "a CIDR", block).map(Some)
        } else if let Some(names) = &peer.domain_names {
            let path = path.field("domainNames");
            let peers = each(names, &path, "a name", |text, path| domain(text, path).map(Who::Domain))?;
            if action == Action::Allow {
                return Ok(Some(peers));
            }
            let allow = self.which.allow();
            let first = names.first().map_or("", |name| name);
            let problem = format!("domain names, such as `{first}`, are set in a rule whose action is not {allow}");
            self.closing(&path, action, &problem, format!("use domain names only in {allow} rules"));
            Ok(None)
        } else {
            let known = match (direction, self.which) {
                (Direction::Ingress, _) => "namespaces or pods",
                (Direction::Egress, Which::Baseline) => "namespaces, pods, networks or nodes",
                (Direction::Egress, _) => "namespaces, pods, networks, nodes or domainNames",
            };
            let problem = "the peer has no known field";
            self.closing(path, action, problem, format!("write one of {known}"));
            Ok(None)
        }
    }

    /// Reads a selector of namespaces, which selects all their pods. None if it does not parse.
    fn namespaces(&mut self, namespaces: &LabelSelector, path: &Path) -> Option<Pods> {
        let namespaces = Namespaces::Matching(self.selector(namespaces, path)?);
        Some(Pods { namespaces, labels: None })
    }

    /// Reads a selector of pods. None if one of its selectors does not parse.
    fn pods(&mut self, pods: &wire::NamespacedPod, path: &Path) -> Result<Option<Pods>, ReadError> {
        let namespaces = match &pods.namespace_selector {
            Some(selector) => self.selector(selector, &path.field("namespaceSelector")),
            None if self.which == Which::Cluster => Some(Selector::everything()),
            None => return Err(missing(path, "namespaceSelector", "every namespace")),
        };
        let Some(labels) = &pods.pod_selector else { return Err(missing(path, "podSelector", "every pod")) };
        let labels = self.selector(labels, &path.field("podSelector"));
        Ok(namespaces
            .zip(labels)
            .map(|(namespaces, labels)| Pods { namespaces: Namespaces::Matching(namespaces), labels: Some(labels) }))
    }

    fn selector(&mut self, selector: &LabelSelector, path: &Path) -> Option<Selector> {
        selector
            .read(path)
            .map_err(|error| {
                let help = "use In and NotIn with values, Exists and DoesNotExist without";
                self.fault(FaultKind::InvalidSelector, path, error.problem, help);
            })
            .ok()
    }
}

fn both(path: &Path, what: &str, written: &[&str]) -> ReadError {
    let written = written.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(" and ");
    ReadError::at(path, format!("{written} are combined; a {what} must have exactly one of them"))
}

fn missing(path: &Path, field: &'static str, everything: &str) -> ReadError {
    ReadError::at(&path.field(field), format!("a selector is required; `{{}}` selects {everything}"))
}

/// Reads a peer from each item of a list, which must not be empty.
fn each(
    items: &[Box<str>],
    path: &Path,
    what: &str,
    who: impl Fn(&str, &Path) -> Result<Who, ReadError>,
) -> Result<Vec<Peer>, ReadError> {
    if items.is_empty() {
        return Err(ReadError::at(path, format!("the list requires at least {what}")));
    }
    let items = items.iter().enumerate();
    items
        .map(|(position, text)| {
            let path = path.index(position);
            let who = who(text, &path)?;
            Ok(Peer::new(path, who))
        })
        .collect()
}

/// Parses a CIDR like `isCIDR` of the API server's CEL: host bits may be set; leading zeros, zones and IPv4-mapped
/// addresses are rejected (`staging/src/k8s.io/apiserver/pkg/cel/library/cidr.go` of Kubernetes).
fn network(text: &str, path: &Path) -> Result<IpNet, ReadError> {
    let is_mapped = |net: &IpNet| matches!(net.addr(), IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some());
    let net = cidr::parse(text).filter(|net| !is_mapped(net)).map(|net| net.trunc());
    net.ok_or_else(|| ReadError::at(path, format!("`{text}` is not a CIDR, such as 10.0.0.0/8 or fd00::/8")))
}

/// Parses a name by the pattern of the CRD, which has `A-z` in place of `A-Z`.
fn domain(text: &str, path: &Path) -> Result<DomainPattern, ReadError> {
    let name = text.strip_prefix("*.").unwrap_or(text);
    let labels: Vec<&str> = name.strip_suffix('.').unwrap_or(name).split('.').collect();
    let is_label = |label: &&str| match label.as_bytes() {
        [b'A'..=b'z' | b'0'..=b'9'] => true,
        [b'A'..=b'z' | b'0'..=b'9', inner @ .., last] => {
            last.is_ascii_alphanumeric()
                && inner.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
        }
        _ => false,
    };
    if labels.len() > 1 && labels.iter().all(is_label) {
        return Ok(DomainPattern::subdomains(text));
    }
    let problem = format!("`{text}` is not a domain name of two or more labels, such as example.com or *.example.com");
    Err(ReadError::at(path, problem))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::cluster_network_policy::read;
    use crate::dialect::{Manifest, Origin};
    use crate::model::{Object, Peers, Standing};
    use serde_json::{Value, json};

    fn read(spec: &Value) -> Result<Object, ReadError> {
        let json = json!({"metadata": {"name": "p"}, "spec": spec}).to_string();
        let api_version = "policy.networking.k8s.io/v1alpha2";
        read::object(&Manifest::read(api_version, "ClusterNetworkPolicy", &json, Origin::Author).unwrap())
    }

    fn to(action: &str, peers: &Value) -> Result<Object, ReadError> {
        read(&json!({
            "tier": "Admin", "priority": 1, "subject": {"namespaces": {}},
            "egress": [{"action": action, "to": peers}],
        }))
    }

    fn subject(subject: &Value) -> Result<Object, ReadError> {
        read(&json!({"tier": "Admin", "priority": 1, "subject": subject}))
    }

    fn peers(object: &Object) -> Vec<(String, String)> {
        let peers = object.policies()[0].egress.rules[0].peers.listed();
        peers.iter().map(|peer| (peer.path.to_string(), peer.who.to_string())).collect()
    }

    fn faults(object: &Object) -> Vec<String> {
        object.faults.iter().map(|fault| format!("{} {:?}: {}", fault.path, fault.kind, fault.problem)).collect()
    }

    #[test]
    fn a_subject_is_of_namespaces_or_of_pods_in_them() {
        let whom = |written: Value| subject(&written).unwrap().policies()[0].subject.clone();
        let namespaces = whom(json!({"namespaces": {"matchLabels": {"a": "b"}}}));
        assert_eq!((namespaces.to_string().as_str(), namespaces.labels), ("all pods in namespaces with a=b", None));
        let pods = whom(json!({"pods": {"namespaceSelector": {"matchLabels": {"a": "b"}}, "podSelector": {}}}));
        assert_eq!(pods.labels, Some(Selector::everything()));
        let pods = whom(json!({"pods": {"podSelector": {"matchLabels": {"a": "b"}}}}));
        assert_eq!(pods.to_string(), "pods with a=b in every namespace");
    }

    #[test]
    fn a_subject_that_is_not_understood_is_nothing() {
        let object = subject(&json!({"future": {}})).unwrap();
        assert_eq!(object.policies()[0].subject.to_string(), "all pods in namespaces with nothing");
        assert_eq!(
            faults(&object).pop().unwrap(),
            "spec.subject NotUnderstood: the subject has no known field; the policy is treated as selecting no pod"
        );
        let object = subject(&json!({"namespaces": {"matchExpressions": [{"key": "a", "operator": "Is"}]}})).unwrap();
        assert_eq!(object.policies()[0].subject.to_string(), "all pods in namespaces with nothing");
        assert_eq!(object.policies()[0].standing, Standing::Refused);
        assert_eq!(
            faults(&object),
            ["spec.subject.namespaces InvalidSelector: `Is` is not one of In, NotIn, Exists, DoesNotExist"]
        );
    }

    #[test]
    fn each_network_and_each_name_is_a_peer() {
        let object = to(
            "Accept",
            &json!([
                {"networks": ["10.1.2.3/8", "fd00::/8"]},
                {"nodes": {"matchLabels": {"a": "b"}}},
                {"nodes": {}},
                {"domainNames": ["*.example.com", "example.com."]},
                {"pods": {"namespaceSelector": {}, "podSelector": {"matchLabels": {"a": "b"}}}},
            ]),
        )
        .unwrap();
        let wanted = [
            ("spec.egress[0].to[0].networks[0]", "10.0.0.0/8"),
            ("spec.egress[0].to[0].networks[1]", "fd00::/8"),
            ("spec.egress[0].to[1]", "nodes with a=b"),
            ("spec.egress[0].to[2]", "every node"),
            ("spec.egress[0].to[3].domainNames[0]", "*.example.com"),
            ("spec.egress[0].to[3].domainNames[1]", "example.com."),
            ("spec.egress[0].to[4]", "pods with a=b in every namespace"),
        ];
        assert_eq!(peers(&object), wanted.map(|(path, who)| (path.to_owned(), who.to_owned())));
        let Who::Addresses(block) = &object.policies()[0].egress.rules[0].peers.listed()[0].who else {
            panic!("a block")
        };
        assert!(block.inside, "networks mean pods too");
        assert!(object.faults.is_empty(), "{:?}", object.faults);
    }

    #[test]
    fn names_are_for_rules_that_accept() {
        for action in ["Deny", "Pass"] {
            let object = to(action, &json!([{"domainNames": ["a.example.com"]}])).unwrap();
            assert_eq!(object.policies()[0].egress.rules[0].peers, Peers::Any);
            assert_eq!(object.policies()[0].egress.rules[0].action, Action::Deny);
            assert_eq!(
                faults(&object),
                [
                    "spec.egress[0].to[0].domainNames NotUnderstood: domain names, such as `a.example.com`, are set in a \
                     rule whose action is not Accept; such a rule denies everything"
                ]
            );
        }
    }

    #[test]
    fn a_selector_that_does_not_parse_is_an_unclear_peer() {
        let selector = json!({"matchExpressions": [{"key": "a", "operator": "In"}]});
        let object =
            to("Accept", &json!([{"pods": {"podSelector": selector}}, {"nodes": selector}, {"namespaces": {}}]))
                .unwrap();
        let described: Vec<String> = peers(&object).into_iter().map(|(_, who)| who).collect();
        assert_eq!(
            described,
            [
                "pods by a selector that does not parse",
                "nodes by a selector that does not parse",
                "all pods in every namespace"
            ]
        );
        let problem = "InvalidSelector: `In` and `NotIn` require at least one value";
        assert_eq!(
            faults(&object),
            [
                format!("spec.egress[0].to[0].pods.podSelector {problem}"),
                format!("spec.egress[0].to[1].nodes {problem}"),
            ]
        );
        assert_eq!(object.policies()[0].standing, Standing::Refused);
    }

    #[test]
    fn what_the_crd_refuses_is_named() {
        let peer = "spec.egress[0].to[0]";
        for (written, message) in [
            (
                json!({"namespaces": {}, "networks": ["::/0"]}),
                format!("{peer}: `namespaces` and `networks` are combined; a peer must have exactly one of them"),
            ),
            (json!({"networks": []}), format!("{peer}.networks: the list requires at least a CIDR")),
            (json!({"domainNames": []}), format!("{peer}.domainNames: the list requires at least a name")),
            (
                json!({"networks": ["10.0.0.0"]}),
                format!("{peer}.networks[0]: `10.0.0.0` is not a CIDR, such as 10.0.0.0/8 or fd00::/8"),
            ),
            (
                json!({"domainNames": ["localhost"]}),
                format!(
                    "{peer}.domainNames[0]: `localhost` is not a domain name of two or more labels, such as \
                     example.com or *.example.com"
                ),
            ),
            (
                json!({"pods": {"namespaceSelector": {}}}),
                format!("{peer}.pods.podSelector: a selector is required; `{{}}` selects every pod"),
            ),
        ] {
            assert_eq!(to("Accept", &json!([written])).unwrap_err().to_string(), message);
        }
        assert_eq!(
            subject(&json!({"namespaces": {}, "pods": {"podSelector": {}}})).unwrap_err().to_string(),
            "spec.subject: `namespaces` and `pods` are combined; a subject must have exactly one of them"
        );
    }

    #[test]
    fn before_v1alpha2_pods_needed_both_selectors() {
        let json = json!({"spec": {"subject": {"pods": {"podSelector": {}}}}}).to_string();
        let kind = "BaselineAdminNetworkPolicy";
        let manifest = Manifest::read("policy.networking.k8s.io/v1alpha1", kind, &json, Origin::Author).unwrap();
        assert_eq!(
            read::object(&manifest).unwrap_err().to_string(),
            "spec.subject.pods.namespaceSelector: a selector is required; `{}` selects every namespace"
        );
    }

    #[test]
    fn cidrs_are_those_that_the_api_server_takes() {
        for (text, net) in [
            ("10.0.0.1/8", Some("10.0.0.0/8")),
            ("0.0.0.0/0", Some("0.0.0.0/0")),
            ("fd00::1/64", Some("fd00::/64")),
            ("::1.2.3.4/128", Some("::1.2.3.4/128")),
            ("10.0.0.0", None),
            ("10.0.0.0/08", None),
            ("10.0.0.0/+8", None),
            ("10.0.0.0/", None),
            ("10.0.0.0/33", None),
            ("010.0.0.0/8", None),
            ("::ffff:1.2.3.4/96", None),
            ("fe80::1%eth0/64", None),
            ("", None),
        ] {
            let net = net.map(|net| net.parse::<IpNet>().unwrap());
            assert_eq!(network(text, &Path::root()).ok(), net, "{text}");
        }
    }

    #[test]
    fn names_are_those_that_the_api_server_takes() {
        for name in ["*.a.com", "a.com", "a.com.", "_x.com", "a_b.com", "a-b.c1.x"] {
            assert!(domain(name, &Path::root()).is_ok(), "{name}");
        }
        for name in ["localhost", "*", "*.com", "com.", "-a.com", "a-.com", "a.*.com", "a..com", "a.com..", "", "*."] {
            assert!(domain(name, &Path::root()).is_err(), "{name}");
        }
    }
}
