//! Reads manifests of Kubernetes into the model.

use std::borrow::Cow;
use std::cell::RefCell;
use std::net::IpAddr;

use ipnet::IpNet;

use super::wire;
use crate::dialect::int_or_string::{IntOrString, is_port_name};
use crate::dialect::label_selector::LabelSelector;
use crate::dialect::{Manifest, Origin, ReadError, cidr};
use crate::model::{
    Action, Block, Body, Direction, Fault, FaultKind, Namespaces, Numbers, Object, Order, Path, Peer, Peers, Pods,
    Policy, Port, Ports, Protocol, Rule, Selector, Sets, Side, Stage, Standing, Types, Who,
};

pub(super) fn object(manifest: &Manifest<'_>) -> Result<Object, ReadError> {
    let id = manifest.id()?;
    let mut faults = Vec::new();
    let spec: wire::Spec = manifest.strict_spec(&mut faults)?;
    let path = Path::root().field("spec");
    let reader = Reader { namespace: id.namespace.clone(), faults: RefCell::new(faults) };

    let subject_path = path.field("podSelector");
    let subject = Pods {
        namespaces: reader.own(),
        labels: spec.pod_selector.as_ref().map(|selector| selector.read(&subject_path)).transpose()?,
    };
    let isolates = isolated(&spec, &path)?;
    let (types, written_egress) = authored(manifest, &spec);
    // Rules of a direction that is not isolated are stored, but have no effect.
    let effective = |direction| isolates.contains(&direction);
    let ingress = if effective(Direction::Ingress) { spec.ingress.as_deref().unwrap_or_default() } else { &[] };
    let ingress_path = path.field("ingress");
    let ingress = Side {
        rules: each(ingress, &ingress_path, |rule, path| reader.rule(&rule.from, "from", &rule.ports, path))?,
        isolates: effective(Direction::Ingress),
        path: ingress_path,
        written: spec.ingress.as_ref().map(Vec::len),
    };
    let egress = if effective(Direction::Egress) { spec.egress.as_deref().unwrap_or_default() } else { &[] };
    let egress_path = path.field("egress");
    let egress = Side {
        rules: each(egress, &egress_path, |rule, path| reader.rule(&rule.to, "to", &rule.ports, path))?,
        isolates: effective(Direction::Egress),
        path: egress_path,
        written: written_egress,
    };
    let policy = Policy {
        ingress,
        egress,
        object: id.clone(),
        standing: Standing::InForce,
        stage: Stage::Policies,
        order: Order::Additive,
        subject,
        subject_path,
        selects_others: false,
        types,
    };
    let faults = reader.faults.into_inner();
    Ok(Object { id, body: Body::Policies(vec![policy]), faults, annotations: manifest.annotations()? })
}

/// The directions that the policy isolates, with the API server's defaults.
fn isolated(spec: &wire::Spec, path: &Path) -> Result<Vec<Direction>, ReadError> {
    let declared = spec.policy_types.as_deref().unwrap_or_default();
    if declared.is_empty() {
        return Ok(inferred(spec));
    }
    declared
        .iter()
        .enumerate()
        .map(|(position, direction)| match &**direction {
            "Ingress" => Ok(Direction::Ingress),
            "Egress" => Ok(Direction::Egress),
            other => Err(ReadError::at(
                &path.field("policyTypes").index(position),
                format!("`{other}` is neither Ingress nor Egress"),
            )),
        })
        .collect()
}

/// The path at which the author would set `policyTypes`.
fn types_path() -> Path {
    Path::root().field("spec").field("policyTypes")
}

fn inferred(spec: &wire::Spec) -> Vec<Direction> {
    let mut directions = vec![Direction::Ingress];
    if spec.egress.as_ref().is_some_and(|rules| !rules.is_empty()) {
        directions.push(Direction::Egress);
    }
    directions
}

/// Returns how the author set `policyTypes`, and the number of egress rules that the author wrote. The API server fills
/// in `policyTypes` and drops an empty `egress`. In a request, both are therefore recovered from the records of
/// `kubectl apply` and of server-side apply.
fn authored(manifest: &Manifest<'_>, spec: &wire::Spec) -> (Types, Option<usize>) {
    let as_read = spec.egress.as_ref().map(Vec::len);
    let declares = |spec: &wire::Spec| spec.policy_types.as_ref().is_some_and(|types| !types.is_empty());
    if manifest.origin == Origin::Author {
        return (if declares(spec) { Types::Declared } else { Types::Inferred(types_path()) }, as_read);
    }
    // The author must have set a value that differs from the default.
    if isolated(spec, &Path::root()).ok() != Some(inferred(spec)) {
        return (Types::Declared, as_read);
    }
    let annotations = manifest.metadata().annotations;
    let annotations = annotations.and_then(|text| serde_json::from_str::<wire::Annotations>(text.get()).ok());
    let last_applied = annotations.and_then(|annotations| annotations.last_applied);
    if let Some(Ok(applied)) = last_applied.map(|json| serde_json::from_str::<wire::Applied>(&json)) {
        let applied = applied.spec.unwrap_or_default();
        let types = if declares(&applied) { Types::Declared } else { Types::Inferred(types_path()) };
        let dropped = applied.egress.filter(Vec::is_empty).map(|_| 0);
        return (types, as_read.or(dropped));
    }
    // Server-side apply owns only the fields that the author set. Other write operations own the defaulted fields too.
    let managed = manifest.metadata().managed_fields;
    let managed = managed.and_then(|text| serde_json::from_str::<Vec<wire::ManagedFields<'_>>>(text.get()).ok());
    let applied: Vec<wire::OwnedSpec<'_>> = managed
        .iter()
        .flatten()
        .filter(|entry| &*entry.operation == "Apply")
        .filter_map(|entry| serde_json::from_str::<wire::OwnedFields<'_>>(entry.fields_v1?.get()).ok()?.spec)
        .collect();
    if applied.is_empty() {
        return (Types::Unknown, as_read);
    }
    let declared = applied.iter().any(|owned| owned.policy_types.is_some());
    let dropped = applied.iter().any(|owned| owned.egress.is_some()).then_some(0);
    (if declared { Types::Declared } else { Types::Inferred(types_path()) }, as_read.or(dropped))
}

/// Reads the parts of the spec of a policy in this namespace.
struct Reader {
    namespace: Option<Box<str>>,
    faults: RefCell<Vec<Fault>>,
}

impl Reader {
    fn own(&self) -> Namespaces {
        Namespaces::Own(self.namespace.clone())
    }

    fn rule(
        &self,
        peers: &Option<Vec<wire::Peer>>,
        field: &'static str,
        ports: &Option<Vec<wire::Port>>,
        path: Path,
    ) -> Result<Rule, ReadError> {
        // "If this field is empty or missing, this rule matches all sources" (and all ports).
        let peers = match peers.as_deref() {
            None | Some([]) => Peers::Any,
            Some(peers) => Peers::Only(each(peers, &path.field(field), |peer, path| self.peer(peer, path))?),
        };
        let ports = match ports.as_deref() {
            None | Some([]) => Ports::Any,
            Some(ports) => Ports::Only(each(ports, &path.field("ports"), port)?),
        };
        Ok(Rule::new(path, Action::Allow, peers, ports))
    }

    fn peer(&self, peer: &wire::Peer, path: Path) -> Result<Peer, ReadError> {
        let read = |selector: &Option<LabelSelector>, field| {
            selector.as_ref().map(|selector| selector.read(&path.field(field))).transpose()
        };
        let pods: Option<Selector> = read(&peer.pod_selector, "podSelector")?;
        let namespaces: Option<Selector> = read(&peer.namespace_selector, "namespaceSelector")?;
        let who = match (&peer.ip_block, namespaces, pods) {
            (Some(block), None, None) => Who::Addresses(self.ip_block(block, &path.field("ipBlock"))?),
            (Some(_), _, _) => {
                return Err(ReadError::at(&path, "a peer must not combine `ipBlock` with a selector"));
            }
            (None, None, None) => {
                return Err(ReadError::at(&path, "a peer requires a podSelector, a namespaceSelector or an ipBlock"));
            }
            (None, Some(namespaces), labels) => {
                Who::Pods(Pods { namespaces: Namespaces::Matching(namespaces), labels })
            }
            (None, None, labels) => Who::Pods(Pods { namespaces: self.own(), labels }),
        };
        // No charge here: the charge for the text covers each of its objects.
        Ok(Peer { path, who, sets: Sets::None })
    }

    fn ip_block(&self, block: &wire::IpBlock, path: &Path) -> Result<Block, ReadError> {
        let outer = self.cidr(&block.cidr, &path.field("cidr"))?;
        let except = each(block.except.as_deref().unwrap_or_default(), &path.field("except"), |inner, path| {
            let net = self.cidr(inner, &path)?;
            if outer.contains(&net) && outer != net {
                Ok(net)
            } else {
                Err(ReadError::at(&path, format!("`{inner}` is not strictly within `{}`", block.cidr)))
            }
        })?;
        Ok(Block { net: outer, except, inside: true })
    }

    /// Reads a CIDR, without the bits after its prefix. Reports a form that kube-apiserver rejects by its feature gate
    /// `StrictIPCIDRValidation`, which is on by default since Kubernetes 1.36: such bits, leading zeros, and IPv4-mapped
    /// addresses (KEP-4858; `staging/src/k8s.io/apimachinery/pkg/util/validation/ip.go`).
    fn cidr(&self, text: &str, path: &Path) -> Result<IpNet, ReadError> {
        let written = parse_cidr(text, path)?;
        let net = written.trunc();
        // The strict form has IPv4-mapped addresses too, which are already IPv4 here.
        let problem = if written != net {
            format!("`{text}` has bits set after its prefix, which Kubernetes 1.36 rejects; it is read as {net}")
        } else if cidr::parse(text) != Some(net) {
            format!("`{text}` is not in standard form, which Kubernetes 1.36 rejects; it is read as {net}")
        } else {
            return Ok(net);
        };
        let help = if written == net {
            format!("write {net}")
        } else {
            format!("write {net}, or {} for the single address", IpNet::from(written.addr()))
        };
        self.faults.borrow_mut().push(Fault::new(path.clone(), FaultKind::Nonstandard, problem, help));
        Ok(net)
    }
}

fn each<W, M>(items: &[W], path: &Path, read: impl Fn(&W, Path) -> Result<M, ReadError>) -> Result<Vec<M>, ReadError> {
    items.iter().enumerate().map(|(position, item)| read(item, path.index(position))).collect()
}

/// Parses a CIDR as written, like an API server before Kubernetes 1.36, which accepts leading zeros in IPv4 octets and
/// IPv4-mapped IPv6 addresses.
fn parse_cidr(text: &str, path: &Path) -> Result<IpNet, ReadError> {
    let fault = || ReadError::at(path, format!("`{text}` is not a CIDR, such as 10.0.0.0/8 or fd00::/8"));
    let (address, length) = text.split_once('/').ok_or_else(fault)?;
    let octet = |octet: &str| match octet.trim_start_matches('0') {
        "" => "0".to_owned(),
        rest => rest.to_owned(),
    };
    let address: Cow<'_, str> = if address.contains(':') || !address.contains('0') {
        address.into()
    } else {
        address.split('.').map(octet).collect::<Vec<_>>().join(".").into()
    };
    let (address, length): (IpAddr, u8) = address.parse().ok().zip(length.parse().ok()).ok_or_else(fault)?;
    let (address, length) = match (address, address.to_canonical()) {
        (IpAddr::V6(_), mapped @ IpAddr::V4(_)) if length >= 96 => (mapped, length - 96),
        _ => (address, length),
    };
    IpNet::new(address, length).map_err(|_| fault())
}

fn port(port: &wire::Port, path: Path) -> Result<Port, ReadError> {
    let protocol = match port.protocol.as_deref() {
        None | Some("TCP") => Protocol::Tcp,
        Some("UDP") => Protocol::Udp,
        Some("SCTP") => Protocol::Sctp,
        Some(other) => {
            return Err(ReadError::at(&path.field("protocol"), format!("`{other}` is not one of TCP, UDP, SCTP")));
        }
    };
    let number = |number: i64, field: &'static str| match u16::try_from(number) {
        Ok(number @ 1..) => Ok(number),
        _ => Err(ReadError::at(&path.field(field), format!("`{number}` is not a port number from 1 to 65535"))),
    };
    let numbers = match (&port.port, port.end_port) {
        (None, None) => Numbers::All,
        (Some(IntOrString::Number(first)), None) => {
            let first = number(*first, "port")?;
            Numbers::Range(first, first)
        }
        (Some(IntOrString::Number(first)), Some(last)) => {
            let (first, last) = (number(*first, "port")?, number(last, "endPort")?);
            if last < first {
                return Err(ReadError::at(&path.field("endPort"), format!("`{last}` is less than port `{first}`")));
            }
            Numbers::Range(first, last)
        }
        (Some(IntOrString::Text(name)), None) if is_port_name(name) => Numbers::Named(name.clone()),
        (Some(IntOrString::Text(name)), None) => {
            let problem = if !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit()) {
                format!("`\"{name}\"` is a string; write a port number without quotes")
            } else {
                format!(
                    "`{name}` is not a port name; expected at most 15 lower-case letters, digits and single `-`, with \
                     at least one letter"
                )
            };
            return Err(ReadError::at(&path.field("port"), problem));
        }
        (None | Some(IntOrString::Text(_)), Some(_)) => {
            return Err(ReadError::at(&path.field("endPort"), "`endPort` requires a numeric `port`"));
        }
    };
    // No charge here: the charge for the text covers each of its objects.
    Ok(Port { path, protocol: Some(protocol), numbers })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn read_from(spec: &Value, origin: Origin<'_>) -> Result<Policy, ReadError> {
        let json = json!({"metadata": {"name": "p", "namespace": "shop"}, "spec": spec}).to_string();
        read_json(&json, origin)
    }

    fn read_json(json: &str, origin: Origin<'_>) -> Result<Policy, ReadError> {
        let manifest = Manifest::read("networking.k8s.io/v1", "NetworkPolicy", json, origin).unwrap();
        object(&manifest).map(|object| object.policies()[0].clone())
    }

    fn policy(spec: &Value) -> Policy {
        read_from(spec, Origin::Author).unwrap()
    }

    fn fault(spec: &Value) -> String {
        read_from(spec, Origin::Author).unwrap_err().to_string()
    }

    fn isolates(policy: &Policy) -> (bool, bool) {
        (policy.ingress.isolates, policy.egress.isolates)
    }

    #[test]
    fn policy_types_default_as_in_the_api_server() {
        assert_eq!(isolates(&policy(&json!({}))), (true, false));
        assert_eq!(isolates(&policy(&json!({"ingress": []}))), (true, false));
        assert_eq!(isolates(&policy(&json!({"egress": []}))), (true, false));
        assert_eq!(isolates(&policy(&json!({"egress": [{}]}))), (true, true));
        assert_eq!(isolates(&policy(&json!({"policyTypes": ["Egress"]}))), (false, true));
        assert_eq!(isolates(&policy(&json!({"policyTypes": []}))), (true, false));
    }

    #[test]
    fn rules_of_a_direction_that_is_not_isolated_have_no_effect() {
        let policy = policy(&json!({"policyTypes": ["Ingress"], "egress": [{}]}));
        assert!(policy.egress.rules.is_empty());
        assert_eq!(policy.egress.written, Some(1));
    }

    #[test]
    fn empty_and_missing_lists_mean_anything() {
        for rule in [json!({}), json!({"from": [], "ports": []}), json!({"from": null, "ports": null}), json!(null)] {
            let policy = policy(&json!({"ingress": [rule]}));
            assert_eq!(policy.ingress.rules[0].peers, Peers::Any, "{rule}");
            assert_eq!(policy.ingress.rules[0].ports, Ports::Any, "{rule}");
        }
    }

    #[test]
    fn an_ingress_rule_has_no_to() {
        let spec =
            json!({"ingress": [{"to": [{"podSelector": {"matchLabels": {"a": "b"}}}]}], "egress": [{"from": null}]});
        assert_eq!(policy(&spec).ingress.rules[0].peers, Peers::Any);
        let json = json!({"spec": spec}).to_string();
        let manifest = Manifest::read("networking.k8s.io/v1", "NetworkPolicy", &json, Origin::Author).unwrap();
        let faults: Vec<String> =
            object(&manifest).unwrap().faults.iter().map(|fault| format!("{} {:?}", fault.path, fault.kind)).collect();
        assert_eq!(faults, ["spec.egress[0].from UnknownField", "spec.ingress[0].to UnknownField"]);
    }

    #[test]
    fn ports_are_tcp_unless_told_and_keep_their_place() {
        let spec = json!({"egress": [{"ports": [{"port": 53}, {"protocol": "UDP"}, {"port": 1, "endPort": 9}, {"port": "web"}]}]});
        let Ports::Only(ports) = policy(&spec).egress.rules[0].ports.clone() else { panic!("a list") };
        assert_eq!(ports[0].to_string(), "TCP 53");
        assert_eq!(ports[1].to_string(), "UDP (every port)");
        assert_eq!(ports[2].to_string(), "TCP 1-9");
        assert_eq!(ports[3].to_string(), "TCP \"web\"");
        assert_eq!(ports[3].path.to_string(), "spec.egress[0].ports[3]");
    }

    #[test]
    fn a_bare_pod_selector_means_the_own_namespace() {
        let spec = json!({"ingress": [{"from": [
            {"podSelector": {}}, {"namespaceSelector": {}}, {"namespaceSelector": {}, "podSelector": {}},
        ]}]});
        let rule = policy(&spec).ingress.rules.remove(0);
        let described: Vec<String> = rule.peers.listed().iter().map(|peer| peer.who.to_string()).collect();
        assert_eq!(
            described,
            ["all pods in namespace shop", "all pods in every namespace", "all pods in every namespace"]
        );
    }

    #[test]
    fn cidrs_are_read_as_the_api_server_reads_them() {
        let net = |text: &str| parse_cidr(text, &Path::root()).map(|net| net.trunc().to_string());
        assert_eq!(net("10.1.2.3/8").unwrap(), "10.0.0.0/8");
        assert_eq!(net("010.000.0.0/8").unwrap(), "10.0.0.0/8");
        assert_eq!(net("::ffff:10.0.0.0/104").unwrap(), "10.0.0.0/8");
        assert_eq!(net("::/0").unwrap(), "::/0");
        for bad in ["10.0.0.0", "10.0.0.0/33", "10.0.0/8", "", "/", "fd00::/129", "a/8"] {
            assert!(net(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn blocks_that_kubernetes_rejects_since_1_36_are_reported() {
        for (cidr, except, faults) in [
            ("10.0.0.0/8", "10.1.0.0/16", vec![]),
            ("FD00:0::/8", "fd00::1/128", vec![]),
            (
                "10.0.0.5/8",
                "10.1.2.3/16",
                vec![
                    "ipBlock.cidr: `10.0.0.5/8` has bits set after its prefix, which Kubernetes 1.36 rejects; it is read as \
                     10.0.0.0/8 (write 10.0.0.0/8, or 10.0.0.5/32 for the single address)",
                    "ipBlock.except[0]: `10.1.2.3/16` has bits set after its prefix, which Kubernetes 1.36 rejects; it is \
                     read as 10.1.0.0/16 (write 10.1.0.0/16, or 10.1.2.3/32 for the single address)",
                ],
            ),
            (
                "010.0.0.0/8",
                "::ffff:10.1.0.0/112",
                vec![
                    "ipBlock.cidr: `010.0.0.0/8` is not in standard form, which Kubernetes 1.36 rejects; it is read as \
                     10.0.0.0/8 (write 10.0.0.0/8)",
                    "ipBlock.except[0]: `::ffff:10.1.0.0/112` is not in standard form, which Kubernetes 1.36 rejects; it is \
                     read as 10.1.0.0/16 (write 10.1.0.0/16)",
                ],
            ),
        ] {
            let peer = json!({"ipBlock": {"cidr": cidr, "except": [except]}});
            let json = json!({"metadata": {"name": "p"}, "spec": {"ingress": [{"from": [peer]}]}}).to_string();
            let manifest = Manifest::read("networking.k8s.io/v1", "NetworkPolicy", &json, Origin::Author).unwrap();
            let object = object(&manifest).unwrap();
            assert_eq!(object.faults.len(), faults.len(), "{cidr}");
            for (fault, expected) in object.faults.iter().zip(faults) {
                let text = format!("{}: {} ({})", fault.path, fault.problem, fault.help);
                assert_eq!(text, format!("spec.ingress[0].from[0].{expected}"));
                assert_eq!(fault.kind, FaultKind::Nonstandard);
            }
            assert_eq!(object.policies()[0].standing, Standing::InForce);
        }
    }

    #[test]
    fn faults_name_place_and_value() {
        assert_eq!(
            fault(&json!({"ingress": [{"from": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["11.0.0.0/16"]}}]}]})),
            "spec.ingress[0].from[0].ipBlock.except[0]: `11.0.0.0/16` is not strictly within `10.0.0.0/8`"
        );
        assert_eq!(
            fault(&json!({"policyTypes": ["ingress"]})),
            "spec.policyTypes[0]: `ingress` is neither Ingress nor Egress"
        );
        assert_eq!(
            fault(&json!({"ingress": [{"ports": [{"port": 9, "endPort": 1}]}]})),
            "spec.ingress[0].ports[0].endPort: `1` is less than port `9`"
        );
        assert_eq!(
            fault(&json!({"ingress": [{"from": [{}]}]})),
            "spec.ingress[0].from[0]: a peer requires a podSelector, a namespaceSelector or an ipBlock"
        );
        assert_eq!(
            fault(&json!({"ingress": [{"ports": [{"port": 0}]}]})),
            "spec.ingress[0].ports[0].port: `0` is not a port number from 1 to 65535"
        );
        assert_eq!(
            fault(&json!({"ingress": [{"ports": 5}]})),
            "spec.ingress[0].ports: `5` is a number; expected a list"
        );
        assert_eq!(fault(&json!({"ingress": {}})), "spec.ingress: `{}` is an object; expected a list");
    }

    #[test]
    fn what_the_author_wrote_is_found_in_what_kubectl_left_behind() {
        let server = Origin::Server { namespace: Some("shop") };
        let spec = json!({"egress": [{}], "policyTypes": ["Ingress", "Egress"]});
        let object = |metadata: Value| json!({"metadata": metadata, "spec": spec}).to_string();
        let types = |metadata: Value| read_json(&object(metadata), server).unwrap().types;
        let last_applied = |spec: Value| json!({"annotations": {"kubectl.kubernetes.io/last-applied-configuration": json!({"spec": spec}).to_string()}});
        assert_eq!(types(json!({})), Types::Unknown);
        assert_eq!(types(last_applied(json!({"egress": [{}]}))), Types::Inferred(types_path()));
        assert_eq!(types(last_applied(json!({"egress": [{}], "policyTypes": ["Ingress", "Egress"]}))), Types::Declared);
        let managed = |operation: &str, fields: Value| json!({"managedFields": [{"operation": operation, "fieldsV1": {"f:spec": fields}}]});
        assert_eq!(types(managed("Apply", json!({"f:egress": {}}))), Types::Inferred(types_path()));
        assert_eq!(types(managed("Apply", json!({"f:egress": {}, "f:policyTypes": {}}))), Types::Declared);
        assert_eq!(types(managed("Update", json!({"f:egress": {}}))), Types::Unknown);
        assert_eq!(read_from(&json!({"policyTypes": ["Egress"]}), server).unwrap().types, Types::Declared);
    }

    #[test]
    fn an_empty_egress_that_the_api_server_dropped_is_remembered() {
        let applied = json!({"spec": {"podSelector": {}, "egress": []}}).to_string();
        let stored = json!({
            "metadata": {"annotations": {"kubectl.kubernetes.io/last-applied-configuration": applied}},
            "spec": {"podSelector": {}, "policyTypes": ["Ingress"]},
        });
        let policy = read_json(&stored.to_string(), Origin::Server { namespace: Some("shop") }).unwrap();
        assert_eq!(
            (policy.types, policy.egress.isolates, policy.egress.written),
            (Types::Inferred(types_path()), false, Some(0))
        );
        assert_eq!(policy.object.namespace.as_deref(), Some("shop"), "a request knows the namespace");
    }
}
