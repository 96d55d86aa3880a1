//! Reads manifests of cluster-scoped policies into the model.

use super::Which;
use super::spec::{self, Spec};
use crate::dialect::{Manifest, ReadError};
use crate::model::{
    Action, Body, Direction, Fault, FaultKind, Object, ObjectRef, Path, Peers, Policy, Ports, Rule, Side, Standing,
    Types,
};

pub(super) fn object(manifest: &Manifest<'_>) -> Result<Object, ReadError> {
    // The kinds are cluster-scoped, even if the manifest has a namespace.
    let id = ObjectRef { namespace: None, ..manifest.id()? };
    let which = Which::of(manifest);
    let mut faults = Vec::new();
    let spec = Spec::read(which, manifest, &mut faults)?;
    let mut reader = Reader { which, faults };
    if which == Which::Baseline {
        reader.check_name(&id.name);
    }

    let path = Path::root().field("spec");
    let subject_path = path.field("subject");
    let subject = reader.subject(spec.subject.as_ref(), &subject_path)?;
    let ingress = reader.side(spec.ingress, Direction::Ingress, &path)?;
    let egress = reader.side(spec.egress, Direction::Egress, &path)?;
    let policy = Policy {
        object: id.clone(),
        standing: Standing::of(&reader.faults),
        stage: spec.stage,
        order: spec.order,
        subject,
        subject_path,
        selects_others: false,
        types: Types::Declared,
        ingress,
        egress,
    };
    Ok(Object { id, body: Body::Policies(vec![policy]), faults: reader.faults, annotations: manifest.annotations()? })
}

/// Reads the parts of a spec.
pub(super) struct Reader {
    pub(super) which: Which,
    pub(super) faults: Vec<Fault>,
}

impl Reader {
    pub(super) fn fault(&mut self, kind: FaultKind, path: &Path, problem: impl Into<String>, help: impl Into<String>) {
        self.faults.push(Fault::new(path.clone(), kind, problem, help));
    }

    /// Reports a part of a rule that is not understood. The whole rule fails closed.
    pub(super) fn closing(&mut self, path: &Path, action: Action, problem: &str, help: impl Into<String>) {
        let what = if action == Action::Allow {
            format!("such a rule {}s nothing", self.which.allow().to_lowercase())
        } else {
            "such a rule denies everything".to_owned()
        };
        self.fault(FaultKind::NotUnderstood, path, format!("{problem}; {what}"), help);
    }

    /// Reports a name that the CRD of BaselineAdminNetworkPolicy rejects: a cluster has at most one, which is named
    /// `default`.
    fn check_name(&mut self, name: &str) {
        if !name.is_empty() && name != "default" {
            let path = Path::root().field("metadata").field("name");
            let problem =
                format!("a BaselineAdminNetworkPolicy named `{name}` is rejected: only the name `default` is valid");
            self.fault(
                FaultKind::NeverEnforced,
                &path,
                problem,
                "name it `default`, and merge it with the existing one",
            );
        }
    }

    fn side(&mut self, rules: Option<Vec<spec::Rule>>, direction: Direction, path: &Path) -> Result<Side, ReadError> {
        let path = path.field(direction.name());
        let written = rules.as_ref().map(Vec::len);
        let rules = rules.into_iter().flatten().enumerate();
        let rules = rules.map(|(position, rule)| self.rule(&rule, direction, path.index(position)));
        Ok(Side { isolates: false, rules: rules.collect::<Result<_, _>>()?, written, path })
    }

    fn rule(&mut self, rule: &spec::Rule, direction: Direction, path: Path) -> Result<Rule, ReadError> {
        let action = self.action(rule.action.as_deref(), &path.field("action"))?;
        let peers = self.peers(rule.peers.as_deref(), direction, action, &path)?;
        let ports = self.ports(&rule.ports, action, &path)?;
        self.check_names(rule, &path);
        let (action, peers, ports) = match (peers, ports) {
            (Some(peers), Some(ports)) => (action, Peers::Only(peers), ports),
            // Fails closed, as documented at ClusterNetworkPolicyEgressPeer in clusternetworkpolicy_types.go.
            _ if action == Action::Allow => (action, Peers::Only(Vec::new()), Ports::Only(Vec::new())),
            _ => (Action::Deny, Peers::Any, Ports::Any),
        };
        Ok(Rule::new(path, action, peers, ports))
    }

    fn action(&self, action: Option<&str>, path: &Path) -> Result<Action, ReadError> {
        let problem = match (action, self.which) {
            (Some(allow), which) if allow == which.allow() => return Ok(Action::Allow),
            (Some("Deny"), _) => return Ok(Action::Deny),
            (Some("Pass"), Which::Cluster | Which::Admin) => return Ok(Action::Pass),
            (Some("Allow"), Which::Cluster) => "`Allow` is called Accept in a ClusterNetworkPolicy".to_owned(),
            (Some("Accept"), which) => format!("`Accept` is called Allow in {} {}", which.article(), which.name()),
            (Some(other), Which::Baseline) => format!("`{other}` is neither Allow nor Deny"),
            (Some(other), which) => format!("`{other}` is not one of {}, Deny, Pass", which.allow()),
            (None, which) => format!("an action is required, such as {}", which.allow()),
        };
        Err(ReadError::at(path, problem))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::Origin;
    use crate::model::{Order, Precedence, Stage};
    use serde_json::{Value, json};

    fn read(version: &str, kind: &str, spec: &Value) -> Result<Object, ReadError> {
        let json = json!({"metadata": {"name": "default"}, "spec": spec}).to_string();
        let api_version = format!("policy.networking.k8s.io/{version}");
        object(&Manifest::read(&api_version, kind, &json, Origin::Author).unwrap())
    }

    fn cluster(fields: &Value) -> Result<Object, ReadError> {
        let mut spec = json!({"tier": "Admin", "priority": 10, "subject": {"namespaces": {}}});
        spec.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        read("v1alpha2", "ClusterNetworkPolicy", &spec)
    }

    fn admin(fields: &Value) -> Result<Object, ReadError> {
        let mut spec = json!({"priority": 10, "subject": {"namespaces": {}}});
        spec.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        read("v1alpha1", "AdminNetworkPolicy", &spec)
    }

    fn baseline(fields: &Value) -> Result<Object, ReadError> {
        let mut spec = json!({"subject": {"namespaces": {}}});
        spec.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        read("v1alpha1", "BaselineAdminNetworkPolicy", &spec)
    }

    fn fault(read: Result<Object, ReadError>) -> String {
        read.unwrap_err().to_string()
    }

    fn faults(object: &Object) -> Vec<String> {
        object.faults.iter().map(|fault| format!("{} {:?}: {}", fault.path, fault.kind, fault.problem)).collect()
    }

    /// The action, peers and ports of a rule, as messages show them.
    fn described(rule: &Rule) -> String {
        format!("{:?} {} on {}", rule.action, rule.peers, rule.ports)
    }

    #[test]
    fn each_kind_has_its_stage_and_its_order() {
        let place = |object: Object| {
            let policy = object.policies()[0].clone();
            assert_eq!((policy.standing, policy.types), (Standing::InForce, Types::Declared));
            (policy.stage, policy.order)
        };
        let at = |priority: u16| Order::At(Precedence(priority.into()));
        assert_eq!(place(cluster(&json!({})).unwrap()), (Stage::Admin, at(10)));
        assert_eq!(place(cluster(&json!({"tier": "Baseline", "priority": 0})).unwrap()), (Stage::Baseline, at(0)));
        assert_eq!(place(admin(&json!({"priority": 1000})).unwrap()), (Stage::Admin, at(1000)));
        assert_eq!(place(baseline(&json!({})).unwrap()), (Stage::Baseline, at(0)));
    }

    #[test]
    fn rules_keep_their_order_and_their_places_and_isolate_no_pod() {
        let peers = json!([{"namespaces": {}}]);
        let object = cluster(&json!({"ingress": [
            {"name": "a", "action": "Accept", "from": peers},
            {"action": "Deny", "from": peers},
            {"action": "Pass", "from": peers},
        ], "egress": []}))
        .unwrap();
        let policy = &object.policies()[0];
        let rules: Vec<(String, Action)> =
            policy.ingress.rules.iter().map(|rule| (rule.path.to_string(), rule.action)).collect();
        assert_eq!(
            rules,
            [
                ("spec.ingress[0]".to_owned(), Action::Allow),
                ("spec.ingress[1]".to_owned(), Action::Deny),
                ("spec.ingress[2]".to_owned(), Action::Pass),
            ]
        );
        assert_eq!(described(&policy.ingress.rules[0]), "Allow all pods in every namespace on every port");
        assert_eq!((policy.ingress.written, policy.egress.written), (Some(3), Some(0)));
        assert!(!policy.ingress.isolates && !policy.egress.isolates);
        assert_eq!(policy.egress.path.to_string(), "spec.egress");
        assert!(object.faults.is_empty(), "{:?}", object.faults);
    }

    #[test]
    fn a_namespace_that_is_written_does_not_count() {
        let json = json!({"metadata": {"name": "p", "namespace": "shop"}, "spec": {"subject": {"namespaces": {}}}});
        let json = json.to_string();
        let kind = "BaselineAdminNetworkPolicy";
        let manifest = Manifest::read("policy.networking.k8s.io/v1alpha1", kind, &json, Origin::Author).unwrap();
        assert_eq!(object(&manifest).unwrap().id.namespace, None);
    }

    #[test]
    fn only_the_baseline_named_default_has_an_effect() {
        for (kind, name, refused) in [
            ("BaselineAdminNetworkPolicy", "default", false),
            ("BaselineAdminNetworkPolicy", "shop", true),
            ("BaselineAdminNetworkPolicy", "", false),
            ("AdminNetworkPolicy", "shop", false),
        ] {
            let json = json!({"metadata": {"name": name}, "spec": {"priority": 1, "subject": {"namespaces": {}}}});
            let json = json.to_string();
            let manifest = Manifest::read("policy.networking.k8s.io/v1alpha1", kind, &json, Origin::Author).unwrap();
            let object = object(&manifest).unwrap();
            let is_refused = object.policies()[0].standing == Standing::Refused;
            let is_named = object.faults.iter().any(|fault| {
                (fault.path.to_string(), fault.kind) == ("metadata.name".to_owned(), FaultKind::NeverEnforced)
            });
            assert_eq!((is_refused, is_named), (refused, refused), "{kind} {name}");
        }
    }

    #[test]
    fn the_kinds_have_different_words_and_different_fields() {
        let rule = |action: &str| json!({"ingress": [{"action": action, "from": [{"namespaces": {}}]}]});
        for (read, message) in [
            (cluster(&rule("Allow")), "`Allow` is called Accept in a ClusterNetworkPolicy"),
            (cluster(&rule("accept")), "`accept` is not one of Accept, Deny, Pass"),
            (admin(&rule("Accept")), "`Accept` is called Allow in an AdminNetworkPolicy"),
            (baseline(&rule("Accept")), "`Accept` is called Allow in a BaselineAdminNetworkPolicy"),
            (baseline(&rule("Pass")), "`Pass` is neither Allow nor Deny"),
        ] {
            assert_eq!(fault(read), format!("spec.ingress[0].action: {message}"));
        }
        assert_eq!(
            fault(cluster(&json!({"ingress": [{"from": [{"namespaces": {}}]}]}))),
            "spec.ingress[0].action: an action is required, such as Accept"
        );
        let unknown = |object: Object| -> Vec<String> {
            object.faults.iter().map(|fault| format!("{} {:?}", fault.path, fault.kind)).collect()
        };
        let peers = json!([{"namespaces": {}}]);
        let object =
            admin(&json!({"tier": "Admin", "egress": [{"action": "Deny", "to": peers, "protocols": []}]})).unwrap();
        assert_eq!(unknown(object), ["spec.egress[0].protocols UnknownField", "spec.tier UnknownField"]);
        let object =
            cluster(&json!({"ingress": [{"action": "Deny", "from": peers, "to": peers, "ports": []}]})).unwrap();
        assert_eq!(unknown(object), ["spec.ingress[0].ports UnknownField", "spec.ingress[0].to UnknownField"]);
        let object = baseline(&json!({"priority": 1, "egress": [
            {"action": "Deny", "to": [{"domainNames": ["a.example.com"]}]},
        ]}))
        .unwrap();
        assert_eq!(
            unknown(object),
            [
                "spec.egress[0].to[0].domainNames UnknownField",
                "spec.priority UnknownField",
                "spec.egress[0].to[0] NotUnderstood"
            ]
        );
    }

    #[test]
    fn what_leaves_no_reading_is_an_error_with_its_value() {
        for (fields, message) in [
            (json!({"tier": null}), "spec.tier: a tier is required: Admin or Baseline"),
            (json!({"tier": "admin"}), "spec.tier: `admin` is neither Admin nor Baseline"),
            (json!({"priority": null}), "spec.priority: a priority from 0 to 1000 is required"),
            (json!({"priority": 1001}), "spec.priority: `1001` is not a priority from 0 to 1000"),
            (json!({"priority": -1}), "spec.priority: `-1` is not a priority from 0 to 1000"),
            (json!({"subject": null}), "spec.subject: a subject is required: namespaces or pods"),
            (
                json!({"ingress": [{"action": "Deny", "from": []}]}),
                "spec.ingress[0].from: a rule requires at least one peer",
            ),
            (json!({"egress": [{"action": "Deny"}]}), "spec.egress[0].to: a rule requires at least one peer"),
        ] {
            assert_eq!(fault(cluster(&fields)), message);
        }
    }

    #[test]
    fn a_peer_that_is_not_known_closes_the_whole_rule() {
        let rule = |action: &str| json!({"action": action, "to": [{"namespaces": {}}, {"future": {}}]});
        let object = cluster(&json!({"egress": [rule("Accept"), rule("Deny"), rule("Pass")]})).unwrap();
        let rules: Vec<String> = object.policies()[0].egress.rules.iter().map(described).collect();
        assert_eq!(rules, ["Allow nowhere on no port", "Deny anywhere on every port", "Deny anywhere on every port"]);
        let none = "the peer has no known field";
        let closing: Vec<String> =
            faults(&object).into_iter().filter(|fault| fault.contains("NotUnderstood")).collect();
        assert_eq!(
            closing,
            [
                format!("spec.egress[0].to[1] NotUnderstood: {none}; such a rule accepts nothing"),
                format!("spec.egress[1].to[1] NotUnderstood: {none}; such a rule denies everything"),
                format!("spec.egress[2].to[1] NotUnderstood: {none}; such a rule denies everything"),
            ]
        );
        assert_eq!(object.faults.last().unwrap().help, "write one of namespaces, pods, networks, nodes or domainNames");
        assert_eq!(object.policies()[0].standing, Standing::InForce);
        let object = admin(&json!({"ingress": [{"action": "Allow", "from": [null]}]})).unwrap();
        assert_eq!(
            faults(&object),
            [format!("spec.ingress[0].from[0] NotUnderstood: {none}; such a rule allows nothing")]
        );
    }
}
