//! Reads manifests of Cilium into the model.

use serde_json::value::RawValue;

use super::element::{Element, List};
use super::labels::Scope;
use super::validity::Faults;
use super::{CLUSTERWIDE, peers, ports, wire};
use crate::budget::{charge, hold, hold_objects};
use crate::dialect::{Manifest, ReadError, strict};
use crate::model::{
    Action, Body, Direction, Fault, Object, ObjectRef, Order, Path, Peers, Policy, Ports, Rule, Side, Stage, Standing,
    Types,
};

pub(super) fn object(manifest: &Manifest<'_>) -> Result<Object, ReadError> {
    let mut id = manifest.id()?;
    let is_clusterwide = manifest.kind == CLUSTERWIDE;
    if is_clusterwide {
        id.namespace = None;
    }
    let mut unknown = Vec::new();
    let root = Path::root();
    let mut specs: Vec<(Path, wire::Spec)> = Vec::new();
    for text in [manifest.written.spec, manifest.written.specs].into_iter().flatten() {
        hold_objects(text.get(), BYTES_PER_OBJECT);
    }
    specs.extend(manifest.strict(manifest.written.spec, "spec", &mut unknown)?.map(|spec| (root.field("spec"), spec)));
    let has_specs = read_specs(manifest, &mut specs, &mut unknown)?;

    let scope = Scope { namespace: id.namespace.clone(), is_clusterwide };
    let mut faults = Faults::new(unknown);
    if specs.is_empty() && !has_specs {
        let problem = "the policy requires `spec` or `specs`";
        faults.never(root.field("spec"), problem, "write a `spec`");
    }
    let mut policies: Vec<Policy> =
        specs.iter().filter_map(|(path, spec)| policy(spec, path, &id, &scope, &mut faults)).collect();
    if faults.refuse() {
        for policy in &mut policies {
            policy.standing = Standing::Refused;
        }
    }
    Ok(Object { id, body: Body::Policies(policies), faults: faults.into_vec(), annotations: manifest.annotations()? })
}

/// Reads `specs`. Returns true if the field is set.
fn read_specs(
    manifest: &Manifest<'_>,
    specs: &mut Vec<(Path, wire::Spec)>,
    unknown: &mut Vec<Fault>,
) -> Result<bool, ReadError> {
    let Some(written) = manifest.written.specs else { return Ok(false) };
    let path = Path::root().field("specs");
    let items: Option<Vec<&RawValue>> =
        serde_json::from_str(written.get()).map_err(|_| ReadError::at(&path, "expected a list"))?;
    for (position, item) in items.iter().flatten().enumerate() {
        let path = path.index(position);
        let spec = match item.get() {
            "null" => wire::Spec::default(),
            _ => strict::read(item, &path, manifest.kind, unknown)?,
        };
        specs.push((path, spec));
    }
    Ok(items.is_some())
}

/// Reads a `Rule` of Cilium, which is one policy of the model. None if it does not apply to pods.
fn policy(spec: &wire::Spec, path: &Path, object: &ObjectRef, scope: &Scope, faults: &mut Faults) -> Option<Policy> {
    let (endpoints_path, nodes_path) = (path.field("endpointSelector"), path.field("nodeSelector"));
    let subject = match (&spec.endpoint_selector, &spec.node_selector) {
        (Some(endpoints), None) => scope.subject(endpoints, &endpoints_path, faults),
        (Some(endpoints), Some(_)) => {
            let problem = "`endpointSelector` and `nodeSelector` are combined";
            faults.never(nodes_path, problem, "write one policy for each of them");
            scope.subject(endpoints, &endpoints_path, faults)
        }
        (None, Some(_)) if !scope.is_clusterwide => {
            let problem = format!("{} must not have a `nodeSelector`", object.kind);
            faults.never(nodes_path, &problem, format!("write a {CLUSTERWIDE}"));
            None
        }
        (None, Some(nodes)) => {
            Scope::nodes(nodes, &nodes_path, faults);
            let problem = "policies for nodes (Cilium host firewall) are not evaluated";
            faults.not_understood(nodes_path, problem, "no change is needed");
            None
        }
        (None, None) => {
            let problem = "the policy requires an `endpointSelector`";
            faults.never(path.clone(), problem, "write `endpointSelector: {}` for all pods, or select some of them");
            Some(scope.nothing())
        }
    };
    let is_for_nodes = spec.endpoint_selector.is_none() && spec.node_selector.is_some();
    let lists = [count(&spec.ingress), count(&spec.ingress_deny), count(&spec.egress), count(&spec.egress_deny)];
    if lists.iter().all(|count| *count == 0) {
        let problem = "the policy has no rule in `ingress`, `ingressDeny`, `egress` or `egressDeny`";
        let help = "write `- {}` into `ingress` or `egress` to isolate that direction and allow nothing";
        faults.never(path.clone(), problem, help);
    }

    let mut reader = Reader { scope, is_for_nodes, faults };
    let defaults =
        |read: fn(&wire::DefaultDeny) -> Option<bool>| spec.enable_default_deny.as_ref().and_then(read).unwrap_or(true);
    let [ingress, ingress_deny, egress, egress_deny] = lists;
    // A finding about a direction points to a list that exists.
    let place = |allow, deny, [allowing, denying]: [&'static str; 2]| {
        path.field(if allow == 0 && deny > 0 { denying } else { allowing })
    };
    let mut ingress_rules =
        reader.list(spec.ingress.as_deref(), Direction::Ingress, Action::Allow, &path.field("ingress"));
    ingress_rules.extend(reader.list(
        spec.ingress_deny.as_deref(),
        Direction::Ingress,
        Action::Deny,
        &path.field("ingressDeny"),
    ));
    let mut egress_rules = reader.list(spec.egress.as_deref(), Direction::Egress, Action::Allow, &path.field("egress"));
    egress_rules.extend(reader.list(
        spec.egress_deny.as_deref(),
        Direction::Egress,
        Action::Deny,
        &path.field("egressDeny"),
    ));
    Some(Policy {
        object: object.clone(),
        standing: Standing::InForce,
        stage: Stage::Policies,
        order: Order::Additive,
        subject: subject?,
        subject_path: endpoints_path,
        selects_others: false,
        types: Types::Declared,
        // Cilium attaches the flag to the rules of a direction, so it has no effect on a direction without rules.
        ingress: Side {
            path: place(ingress, ingress_deny, ["ingress", "ingressDeny"]),
            isolates: ingress + ingress_deny > 0 && defaults(|deny| deny.ingress),
            rules: ingress_rules,
            written: spec.ingress.as_ref().map(Vec::len),
        },
        egress: Side {
            path: place(egress, egress_deny, ["egress", "egressDeny"]),
            isolates: egress + egress_deny > 0 && defaults(|deny| deny.egress),
            rules: egress_rules,
            written: spec.egress.as_ref().map(Vec::len),
        },
    })
}

fn count<T>(list: &Option<Vec<T>>) -> usize {
    list.as_ref().map_or(0, Vec::len)
}

/// Bytes charged for each JSON object in a spec, in addition to the charge of [`crate::budget::charge_json`].
const BYTES_PER_OBJECT: usize = 600;

/// Budget steps charged per element, besides those for its text.
const STEPS_PER_ELEMENT: usize = 12;

/// Memory charged for a copy of a peer with its path and selector, in bytes.
const BYTES_PER_PEER: usize = 512;

/// Reads the elements of a policy.
struct Reader<'a> {
    scope: &'a Scope,
    is_for_nodes: bool,
    faults: &'a mut Faults,
}

impl Reader<'_> {
    fn list<'w, W>(&mut self, items: Option<&'w [W]>, direction: Direction, action: Action, path: &Path) -> Vec<Rule>
    where
        Element<'w>: From<&'w W>,
    {
        let list = List::of(direction, action);
        let mut rules = Vec::with_capacity(items.map_or(0, <[_]>::len));
        for (position, item) in items.unwrap_or_default().iter().enumerate() {
            self.element(&Element::from(item), list, path.index(position), &mut rules);
        }
        rules
    }

    /// Adds the rules of an element. An element that matches nothing adds no rule. If its entries of `toPorts` differ
    /// in more than their ports, it adds one rule per entry.
    fn element(&mut self, element: &Element<'_>, list: List, path: Path, rules: &mut Vec<Rule>) {
        charge(STEPS_PER_ELEMENT);
        let peers = peers::read(element, list, self.scope, &path, self.faults);
        let mut entries = ports::read(element, list, self.is_for_nodes, &path, self.faults);
        let conditions = self.conditions(element, list, &path);

        let speaks_of_ports = !entries.is_empty();
        let peers = match peers {
            None => return,
            Some(peers) if peers.is_empty() && !speaks_of_ports => return,
            // An element with ports and without peers matches every peer.
            Some(peers) if peers.is_empty() => Peers::Any,
            Some(peers) => Peers::Only(peers),
        };
        let rule = |path, peers, ports, conditions, (filter, proxy)| Rule {
            path,
            action: list.action,
            only: None,
            within: None,
            peers,
            ports,
            conditions,
            filter,
            proxy,
        };
        if !speaks_of_ports {
            rules.push(rule(path, peers, Ports::Any, conditions, (None, None)));
            return;
        }
        entries.retain(|entry| !entry.ports.is_empty());
        let mut entries = entries.into_iter();
        let Some(mut first) = entries.next() else { return };
        let says_the_same = |entry: &ports::Entry| {
            entry.conditions == first.conditions && entry.filter == first.filter && entry.proxy == first.proxy
        };
        let all = |own: Vec<Box<str>>| conditions.iter().cloned().chain(own).collect::<Vec<_>>();
        if entries.as_slice().iter().all(says_the_same) {
            for entry in entries {
                first.ports.extend(entry.ports);
            }
            let handling = (first.filter, first.proxy);
            rules.push(rule(path, peers, Ports::Only(first.ports), all(first.conditions), handling));
            return;
        }
        for entry in std::iter::once(first).chain(entries) {
            charge(peers.listed().len());
            hold(peers.listed().len() * BYTES_PER_PEER);
            let conditions = all(entry.conditions);
            let handling = (entry.filter, entry.proxy);
            rules.push(rule(entry.path, peers.clone(), Ports::Only(entry.ports), conditions, handling));
        }
    }

    /// The conditions that apply to all traffic of an element.
    fn conditions(&mut self, element: &Element<'_>, list: List, path: &Path) -> Vec<Box<str>> {
        let mut conditions: Vec<Box<str>> = Vec::new();
        if !element.requires.is_empty() {
            let field = list.requires;
            let problem = format!("Cilium no longer supports `{field}` since 1.20");
            let help = "add the labels to the selectors of the peers";
            self.faults.never(path.field(field), &problem, help);
            conditions.push(format!("the peers match `{field}`").into());
        }
        match element.authentication.and_then(|authentication| authentication.mode.as_deref()) {
            None | Some("disabled") => {}
            Some("required") => conditions.push("mutual authentication succeeds".into()),
            Some(mode) => conditions.push(format!("authentication succeeds (mode {mode})").into()),
        }
        conditions
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{NAMESPACED, fault, faults, faults_of, object, object_of, policy, read_fields, rules};
    use super::*;
    use crate::dialect::Origin;
    use crate::model::{FaultKind, Filter};
    use serde_json::{Value, json};

    fn isolates(spec: &Value) -> (bool, bool) {
        let policy = policy(spec);
        (policy.ingress.isolates, policy.egress.isolates)
    }

    #[test]
    fn a_direction_with_elements_is_isolated_unless_it_is_said() {
        assert_eq!(isolates(&json!({"ingress": [{}]})), (true, false));
        assert_eq!(isolates(&json!({"ingress": [], "egress": [{}]})), (false, true));
        assert_eq!(isolates(&json!({"ingressDeny": [{}], "egressDeny": [{}]})), (true, true));
        assert_eq!(isolates(&json!({"ingress": [{}], "enableDefaultDeny": {"ingress": false}})), (false, false));
        assert_eq!(
            isolates(&json!({"ingress": [{}], "egress": [{}], "enableDefaultDeny": {"ingress": false}})),
            (false, true)
        );
        let deny = json!({"ingressDeny": [{}], "enableDefaultDeny": {"ingress": true, "egress": true}});
        assert_eq!(isolates(&deny), (true, false), "a flag for a direction without elements does nothing");
    }

    #[test]
    fn an_element_with_nothing_in_it_isolates_and_allows_nothing() {
        for list in ["ingress", "ingressDeny", "egress", "egressDeny"] {
            assert!(rules(list, &json!({})).is_empty(), "{list}");
            assert!(rules(list, &json!(null)).is_empty(), "{list}");
        }
        let policy = policy(&json!({"ingress": [{}], "ingressDeny": [{}]}));
        assert_eq!((policy.ingress.written, policy.egress.written), (Some(1), None));
        assert_eq!(policy.ingress.path.to_string(), "spec.ingress");
    }

    #[test]
    fn a_direction_is_found_where_it_is_written() {
        for (spec, ingress, egress) in [
            (json!({"ingressDeny": [{}]}), "spec.ingressDeny", "spec.egress"),
            (json!({"egress": [], "egressDeny": [{}]}), "spec.ingress", "spec.egressDeny"),
            (json!({"egress": [{}], "egressDeny": [{}]}), "spec.ingress", "spec.egress"),
        ] {
            let policy = policy(&spec);
            assert_eq!(
                (policy.ingress.path.to_string(), policy.egress.path.to_string()),
                (ingress.into(), egress.into())
            );
        }
    }

    #[test]
    fn what_denies_stands_beside_what_allows() {
        let policy = policy(&json!({
            "egress": [{"toEntities": ["world"]}],
            "egressDeny": [{"toCIDR": ["10.0.0.0/8"]}],
        }));
        let rules: Vec<(String, Action)> =
            policy.egress.rules.iter().map(|rule| (rule.path.to_string(), rule.action)).collect();
        assert_eq!(rules, [("spec.egress[0]".into(), Action::Allow), ("spec.egressDeny[0]".into(), Action::Deny)]);
        assert_eq!((policy.stage, policy.order), (Stage::Policies, Order::Additive));
    }

    #[test]
    fn entries_that_say_the_same_are_one_rule() {
        let dns = json!({"dns": [{"matchPattern": "*"}]});
        let port = |port: &str| json!([{"port": port, "protocol": "TCP"}]);
        let alike = rules(
            "egress",
            &json!({"toEntities": ["world"], "toPorts": [{"ports": port("80")}, {}, {"ports": port("443")}]}),
        );
        assert_eq!(alike.len(), 1);
        assert_eq!(
            (alike[0].path.to_string(), alike[0].ports.to_string()),
            ("spec.egress[0]".into(), "TCP 80, TCP 443".into())
        );
        let apart = json!({"toEntities": ["world"], "toPorts": [
            {"ports": port("53"), "rules": dns}, {"ports": port("80")}, {"ports": port("443"), "serverNames": ["a.com"]},
        ]});
        let apart = rules("egress", &apart);
        let paths: Vec<String> = apart.iter().map(|rule| rule.path.to_string()).collect();
        assert_eq!(paths, ["spec.egress[0].toPorts[0]", "spec.egress[0].toPorts[1]", "spec.egress[0].toPorts[2]"]);
        assert!(matches!(apart[0].filter, Some(Filter::Lookups(_))) && apart[1].filter.is_none());
        assert_eq!((apart[1].conditions.len(), apart[2].conditions.len()), (0, 1));
        let only = rules("egress", &json!({"toEntities": ["world"], "toPorts": [{"ports": port("53"), "rules": dns}]}));
        assert_eq!(only[0].path.to_string(), "spec.egress[0]");
    }

    #[test]
    fn authentication_is_a_condition() {
        let conditions = |mode: &str| {
            rules("ingress", &json!({"fromEntities": ["all"], "authentication": {"mode": mode}})).remove(0).conditions
        };
        assert_eq!(conditions("disabled").len(), 0);
        assert_eq!(*conditions("required")[0], *"mutual authentication succeeds");
        assert_eq!(*conditions("test-always-fail")[0], *"authentication succeeds (mode test-always-fail)");
    }

    #[test]
    fn a_list_of_requirements_is_rejected() {
        let object =
            object(&json!({"ingress": [{"fromEntities": ["all"], "fromRequires": [{"matchLabels": {"a": "b"}}]}]}));
        assert_eq!(
            (object.faults[0].path.to_string(), object.faults[0].kind),
            ("spec.ingress[0].fromRequires".into(), FaultKind::NeverEnforced)
        );
        assert_eq!(*object.policies()[0].ingress.rules[0].conditions[0], *"the peers match `fromRequires`");
    }

    #[test]
    fn specs_are_policies_beside_the_spec() {
        let spec = |app: &str| json!({"endpointSelector": {"matchLabels": {"app": app}}, "ingress": [{"fromEntities": ["world"]}]});
        let object = read_fields(NAMESPACED, &json!({"spec": spec("a"), "specs": [spec("b"), spec("c")]})).unwrap();
        let paths: Vec<String> =
            object.policies().iter().map(|policy| policy.ingress.rules[0].path.to_string()).collect();
        assert_eq!(paths, ["spec.ingress[0]", "specs[0].ingress[0]", "specs[1].ingress[0]"]);
        assert!(object.faults.is_empty());
        let none = read_fields(NAMESPACED, &json!({"specs": []})).unwrap();
        assert!(none.policies().is_empty() && none.faults.is_empty());
        let error = |fields: Value| read_fields(NAMESPACED, &fields).unwrap_err().to_string();
        assert_eq!(error(json!({"specs": {}})), "specs: expected a list");
        assert_eq!(error(json!({"specs": [{"ingress": 5}]})), "specs[0].ingress: `5` is a number; expected a list");
        assert_eq!(
            error(json!({"spec": {"egress": [{"toPorts": [{"ports": [{"port": 53}]}]}]}})),
            "spec.egress[0].toPorts[0].ports[0].port: `53` is a number; expected a string; write it in quotes"
        );
    }

    #[test]
    fn one_bad_rule_refuses_the_whole_object() {
        let good = json!({"endpointSelector": {}, "ingress": [{"fromEntities": ["all"]}]});
        let bad = json!({"endpointSelector": {}, "egress": [{"toCIDR": ["x"]}]});
        let object = read_fields(NAMESPACED, &json!({"specs": [good, bad]})).unwrap();
        assert!(object.policies().iter().all(|policy| policy.standing == Standing::Refused));
        assert_eq!(faults_of(&object), ["specs[1].egress[0].toCIDR[0]: `x` is not a CIDR"]);
    }

    #[test]
    fn specs_that_say_nothing_or_too_much() {
        let of = |fields: Value| faults_of(&read_fields(NAMESPACED, &fields).unwrap());
        assert_eq!(of(json!({})), ["spec: the policy requires `spec` or `specs`"]);
        assert_eq!(
            of(json!({"spec": {}})),
            [
                "spec: the policy requires an `endpointSelector`",
                "spec: the policy has no rule in `ingress`, `ingressDeny`, `egress` or `egressDeny`"
            ]
        );
        assert_eq!(
            faults(&json!({"endpointSelector": {}, "nodeSelector": {}, "ingress": [{}]})),
            ["spec.nodeSelector: `endpointSelector` and `nodeSelector` are combined"]
        );
        assert_eq!(
            faults(&json!({"nodeSelector": {}, "ingress": [{}]})),
            ["spec.nodeSelector: CiliumNetworkPolicy must not have a `nodeSelector`"]
        );
    }

    #[test]
    fn policies_for_nodes_are_not_judged() {
        let object = object_of(CLUSTERWIDE, &json!({"nodeSelector": {}, "ingress": [{"fromEntities": ["world"]}]}));
        assert!(object.policies().is_empty());
        assert_eq!(
            faults_of(&object),
            ["spec.nodeSelector: policies for nodes (Cilium host firewall) are not evaluated"]
        );
    }

    #[test]
    fn fields_that_mean_nothing_here_are_known_and_others_are_not() {
        let meta = json!({
            "description": "a", "labels": [{"key": "a", "value": "b", "source": "k8s"}], "log": {"value": "x"},
            "ingress": [{"fromEntities": ["world"]}],
        });
        assert_eq!(faults(&meta), Vec::<String>::new());
        let unknown = |list: &str, element: Value| {
            let object = object(&json!({list: [element]}));
            object.faults.iter().map(|fault| (fault.path.to_string(), fault.kind)).collect::<Vec<_>>()
        };
        for (list, element, place) in [
            ("egressDeny", json!({"toEntities": ["all"], "toFQDNs": [{"matchName": "a"}]}), "toFQDNs"),
            ("ingress", json!({"fromEntities": ["all"], "toCIDR": ["10.0.0.0/8"]}), "toCIDR"),
            (
                "ingressDeny",
                json!({"toPorts": [{"ports": [{"port": "80"}], "rules": {"http": []}}]}),
                "toPorts[0].rules",
            ),
        ] {
            assert_eq!(unknown(list, element), [(format!("spec.{list}[0].{place}"), FaultKind::UnknownField)]);
        }
    }

    #[test]
    fn reviews_of_a_real_control_plane_are_read() {
        for (review, wanted) in [
            (include_str!("../../../tests/admission-reviews/ciliumclusterwidenetworkpolicy-create.json"), vec![]),
            (
                include_str!("../../../tests/admission-reviews/ciliumnetworkpolicy-create.json"),
                vec![(FaultKind::InvalidFqdn, "spec.egress[1].toFQDNs[1].matchName".to_owned())],
            ),
        ] {
            let review: Value = serde_json::from_str(review).unwrap();
            let request = &review["request"];
            let json = request["object"].to_string();
            let kind = request["kind"]["kind"].as_str().unwrap();
            let origin = Origin::Server { namespace: request["namespace"].as_str() };
            let object = super::object(&Manifest::read("cilium.io/v2", kind, &json, origin).unwrap()).unwrap();
            let faults: Vec<_> = object.faults.iter().map(|fault| (fault.kind, fault.path.to_string())).collect();
            assert_eq!(faults, wanted);
            assert_eq!(object.policies().len(), 1);
        }
    }

    #[test]
    fn a_faulty_name_is_judged_as_it_was_meant() {
        let element = json!({"toFQDNs": [{"matchName": "*.google.com"}]});
        assert_eq!(
            fault("egress", &element),
            "spec.egress[0].toFQDNs[0].matchName: `*.google.com` is a pattern; `matchName` requires one name"
        );
        let object = object(&json!({"egress": [element]}));
        assert_eq!(object.policies()[0].egress.rules[0].peers.to_string(), "*.google.com");
    }
}
