//! Reads manifests of Calico into the model.

use std::collections::BTreeMap;

use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use super::labels::{conjunction, of_accounts, of_namespaces, of_pods, pods};
use super::reader::{ASIDE_NOT, Parsed, Reader, Role};
use super::{stored, tier, wire};
use crate::budget::hold_objects;
use crate::dialect::kubernetes::Kubernetes;
use crate::dialect::{Dialect, Manifest, ReadError, strict};
use crate::model::{
    Body, Direction, Fault, FaultKind, Namespaces, Object, Order, Path, Pods, Policy, Precedence, Selector, Side,
    Stage, Standing, Types,
};

pub(super) fn object(manifest: &Manifest<'_>) -> Result<Object, ReadError> {
    match manifest.kind {
        "Tier" => tier::object(manifest),
        "StagedKubernetesNetworkPolicy" => staged_kubernetes(manifest),
        _ => policy(manifest),
    }
}

/// Reads a StagedKubernetesNetworkPolicy. Its spec is that of a Kubernetes NetworkPolicy plus `stagedAction`.
fn staged_kubernetes(manifest: &Manifest<'_>) -> Result<Object, ReadError> {
    let mut object = Kubernetes.read(manifest)?;
    object.annotations = stored::annotations(manifest)?;
    let place = Path::root().field("spec").field("stagedAction");
    object.faults.retain(|fault| match fault.kind {
        FaultKind::UnknownField => fault.path.to_string() != place.to_string(),
        // That is checked by the validation of built-in kinds.
        FaultKind::Nonstandard => false,
        _ => true,
    });
    let written: StagedKubernetes = manifest.spec()?;
    let mut reader = Reader { namespace: None, is_global: false, faults: std::mem::take(&mut object.faults) };
    let deletes = reader.staged_action(written.staged_action.as_deref(), &place);
    if deletes && written.says_something() {
        reader.refuse_staged_delete(&Path::root().field("spec"), "remove all other fields");
    }
    object.faults = reader.faults;
    let standing = standing(&object.faults, true);
    if let Body::Policies(policies) = &mut object.body {
        if deletes {
            policies.clear();
        }
        for policy in policies {
            policy.standing = standing;
        }
    }
    Ok(object)
}

/// Bytes charged for each JSON object in a spec, in addition to the charge of [`crate::budget::charge_json`].
const BYTES_PER_OBJECT: usize = 1200;

/// The fields of a StagedKubernetesNetworkPolicy that must be empty if `stagedAction` is Delete.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct StagedKubernetes {
    staged_action: Option<Box<str>>,
    pod_selector: Option<PodSelector>,
    ingress: Option<Vec<IgnoredAny>>,
    egress: Option<Vec<IgnoredAny>>,
    policy_types: Option<Vec<IgnoredAny>>,
}

#[derive(Debug, Default, serde::Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PodSelector {
    match_labels: Option<BTreeMap<Box<str>, IgnoredAny>>,
    match_expressions: Option<Vec<IgnoredAny>>,
}

impl StagedKubernetes {
    /// Returns true if a field is not empty. Calico's validator compares the spec with one that has no fields.
    fn says_something(&self) -> bool {
        let lists = [&self.ingress, &self.egress, &self.policy_types];
        let selector = self.pod_selector.as_ref();
        lists.into_iter().flatten().any(|list| !list.is_empty())
            || selector.and_then(|selector| selector.match_labels.as_ref()).is_some_and(|labels| !labels.is_empty())
            || selector.and_then(|selector| selector.match_expressions.as_ref()).is_some_and(|list| !list.is_empty())
    }
}

fn policy(manifest: &Manifest<'_>) -> Result<Object, ReadError> {
    let mut id = manifest.id()?;
    let is_global = manifest.kind.contains("Global");
    if is_global {
        id.namespace = None;
    }
    let is_staged = manifest.kind.starts_with("Staged");
    let is_defaulted = manifest.api_version.starts_with("projectcalico.org/");
    let mut reader = Reader { namespace: id.namespace.clone(), is_global, faults: Vec::new() };
    // A rule has two sides with a dozen fields each, even if most are not set.
    hold_objects(manifest.written.spec.map_or("", RawValue::get), BYTES_PER_OBJECT);
    let mut spec: wire::Spec = manifest.strict_spec(&mut reader.faults)?;
    let path = Path::root().field("spec");
    reader.leave_out_foreign(&mut spec, manifest.kind, is_staged, &path);
    if is_defaulted {
        reader.check_name(&id.name);
    }
    reader.check_spec(&spec, &path);

    let deletes = is_staged && reader.staged_action(spec.staged_action.as_deref(), &path.field("stagedAction"));
    if deletes && says_something(&spec) {
        reader.refuse_staged_delete(&path, "remove all other fields but `tier`");
    }
    let is_for_hosts = reader.is_for_hosts(&spec, &path);
    let subject = reader.subject(&spec, &path);
    // Calico fills in `types` as it stores an object of its API. Felix reads what is stored.
    let is_filled = is_defaulted && !manifest.is_stored();
    let (isolates, types) = reader.types(&spec, is_filled, &path);
    let ingress = reader.side(spec.ingress.as_deref(), Direction::Ingress, isolates, &path)?;
    let egress = reader.side(spec.egress.as_deref(), Direction::Egress, isolates, &path)?;
    let policy = Policy {
        object: id.clone(),
        standing: standing(&reader.faults, is_staged),
        stage: stage(spec.tier.as_deref().unwrap_or_default()),
        order: spec.order.map_or(Order::Last, |order| Order::At(Precedence(order))),
        subject,
        subject_path: path.field("selector"),
        selects_others: true,
        types,
        ingress,
        egress,
    };
    let policies = if deletes || is_for_hosts { Vec::new() } else { vec![policy] };
    Ok(Object {
        id,
        body: Body::Policies(policies),
        faults: reader.faults,
        annotations: stored::annotations(manifest)?,
    })
}

fn standing(faults: &[Fault], is_staged: bool) -> Standing {
    match Standing::of(faults) {
        Standing::InForce if is_staged => Standing::Staged,
        standing => standing,
    }
}

/// Maps a tier to a stage. Calico's tiers for Kubernetes policies share the stage of those policies. Before v3.32 they
/// had other names.
fn stage(tier: &str) -> Stage {
    match tier {
        "" | "default" => Stage::Policies,
        "kube-admin" | "adminnetworkpolicy" => Stage::Admin,
        "kube-baseline" | "baselineadminnetworkpolicy" => Stage::Baseline,
        other => Stage::Tier(other.into()),
    }
}

/// Returns true if the spec sets anything besides `tier` and `stagedAction`.
fn says_something(spec: &wire::Spec) -> bool {
    let is_written = |text: &Option<Box<str>>| text.as_ref().is_some_and(|text| !text.is_empty());
    let lists =
        [spec.ingress.as_ref().map(Vec::len), spec.egress.as_ref().map(Vec::len), spec.types.as_ref().map(Vec::len)];
    [&spec.selector, &spec.service_account_selector, &spec.namespace_selector].into_iter().any(is_written)
        || lists.into_iter().flatten().any(|length| length > 0)
        || spec.order.is_some()
        || [spec.do_not_track, spec.pre_dnat, spec.apply_on_forward].contains(&Some(true))
        || spec.performance_hints.as_ref().is_some_and(|hints| !hints.is_empty())
}

impl Reader {
    /// Reports and clears fields that exist only in other kinds.
    fn leave_out_foreign(&mut self, spec: &mut wire::Spec, kind: &str, is_staged: bool, path: &Path) {
        let mut foreign = Vec::new();
        if !self.is_global {
            foreign.extend(spec.namespace_selector.take().map(|_| "namespaceSelector"));
            foreign.extend(spec.do_not_track.take().map(|_| "doNotTrack"));
            foreign.extend(spec.pre_dnat.take().map(|_| "preDNAT"));
            foreign.extend(spec.apply_on_forward.take().map(|_| "applyOnForward"));
        }
        if !is_staged {
            foreign.extend(spec.staged_action.take().map(|_| "stagedAction"));
        }
        self.faults.extend(foreign.into_iter().map(|field| strict::unknown(kind, path.field(field))));
    }

    /// Reports a policy with `stagedAction: Delete` that has other fields.
    fn refuse_staged_delete(&mut self, path: &Path, help: &str) {
        self.refuse(path, "`stagedAction: Delete` is combined with other fields", ASIDE_NOT, help);
    }

    /// Returns true if `stagedAction` is Delete.
    fn staged_action(&mut self, written: Option<&str>, path: &Path) -> bool {
        match written {
            Some("Delete") => true,
            None | Some("" | "Set" | "Learn" | "Ignore") => false,
            Some(other) => {
                let problem = format!("`{other}` is not one of Set, Delete, Learn, Ignore");
                self.refuse(path, &problem, "Felix treats it as Set", "write one of them");
                false
            }
        }
    }

    /// Returns true if the policy applies only to host endpoints (`tierInfoToProtoTierInfo` in
    /// `felix/calc/event_sequencer.go`). A policy with only `applyOnForward` also applies to pods.
    fn is_for_hosts(&mut self, spec: &wire::Spec, path: &Path) -> bool {
        let fields = [(spec.do_not_track, "doNotTrack"), (spec.pre_dnat, "preDNAT")];
        let Some((_, field)) = fields.into_iter().find(|(set, _)| *set == Some(true)) else { return false };
        let problem = format!(
            "a policy with `{field}` applies to host endpoints, which Portcullis does not read; it is not evaluated"
        );
        let help = "no change is needed; remove the field if the policy is meant for pods";
        self.fault(&path.field(field), FaultKind::NotUnderstood, problem, help);
        true
    }

    fn subject(&mut self, spec: &wire::Spec, path: &Path) -> Pods {
        let nothing = || Selector::Any(Vec::new());
        let mut labels = Vec::new();
        let own = self.selector(spec.selector.as_deref(), &path.field("selector"), Role::Pods);
        let place = path.field("serviceAccountSelector");
        let accounts = self.selector(spec.service_account_selector.as_deref(), &place, Role::Narrowing);
        for parsed in [own.map(of_pods), accounts.map(of_accounts)] {
            match parsed {
                Parsed::Is(selector) => labels.push(selector),
                Parsed::Broken(_) => labels.push(nothing()),
                Parsed::Absent | Parsed::Global => {}
            }
        }
        let place = path.field("namespaceSelector");
        let namespaces = match self.selector(spec.namespace_selector.as_deref(), &place, Role::Narrowing) {
            Parsed::Is(selector) => Namespaces::Matching(of_namespaces(selector)),
            Parsed::Broken(_) => Namespaces::Matching(nothing()),
            Parsed::Absent | Parsed::Global => self.own(),
        };
        pods(namespaces, conjunction(labels))
    }

    /// The directions that the policy isolates.
    ///
    /// Calico fills in `types` as it stores an object of `projectcalico.org/v3`. There are two ways, and a manifest does
    /// not tell which one its cluster has:
    /// - Calico's API server counts rules (`api/pkg/defaults/networkpolicy.go`): Ingress unless only egress has rules,
    ///   Egress if it has rules. An empty list of types counts as a missing one.
    /// - Without that server, a MutatingAdmissionPolicy does it (`api/admission/networkpolicy.mutatingadmissionpolicy.yaml`).
    ///   It checks whether the fields are present, and an empty list is present. The schema of that installation
    ///   rejects an empty list of types.
    ///
    /// If a stored object has no types, Felix isolates both directions, whatever rules there are
    /// (`felix/calc/policy_sorter.go`).
    fn types(&mut self, spec: &wire::Spec, is_filled: bool, path: &Path) -> ([bool; 2], Types) {
        let has_rules = |rules: &Option<Vec<wire::Rule>>| rules.as_ref().is_some_and(|rules| !rules.is_empty());
        let written = spec.types.as_deref().unwrap_or_default();
        if written.is_empty() {
            let place = path.field("types");
            if !is_filled {
                return ([true, true], Types::Inferred(place));
            }
            let (ingress, egress) = (has_rules(&spec.ingress), has_rules(&spec.egress));
            let by_server = [ingress || !egress, egress];
            let (ingress, egress) = (spec.ingress.is_some(), spec.egress.is_some());
            let by_policy = if spec.types.is_some() { by_server } else { [ingress || !egress, egress] };
            let both = by_server.into_iter().zip(by_policy);
            let uncertain =
                Direction::ALL.into_iter().zip(both.clone()).filter(|(_, (server, policy))| server != policy);
            let uncertain: Vec<Direction> = uncertain.map(|(direction, _)| direction).collect();
            // The rest follows from the author's text.
            let types = if uncertain.is_empty() { Types::Declared } else { Types::Uncertain(place, uncertain) };
            let [ingress, egress] = [0, 1].map(|at| both.clone().nth(at) == Some((true, true)));
            return ([ingress, egress], types);
        }
        let mut isolates = [false, false];
        for (position, text) in written.iter().enumerate() {
            let path = path.field("types").index(position);
            let known = [("Ingress", 0), ("Egress", 1)].into_iter().find(|(name, _)| name.eq_ignore_ascii_case(text));
            let Some((name, at)) = known else {
                let problem = format!("`{text}` is neither Ingress nor Egress");
                self.refuse(&path, &problem, "Felix ignores it", "write Ingress or Egress");
                continue;
            };
            if name != &**text {
                let problem = format!("`{text}` is neither Ingress nor Egress");
                self.refuse(&path, &problem, "Felix accepts it", &format!("write `{name}`"));
            }
            if let Some(isolated) = isolates.get_mut(at) {
                if *isolated {
                    self.refuse(&path, &format!("`{text}` is repeated"), ASIDE_NOT, "write it once");
                }
                *isolated = true;
            }
        }
        (isolates, Types::Declared)
    }

    fn side(
        &mut self,
        written: Option<&[wire::Rule]>,
        direction: Direction,
        [ingress, egress]: [bool; 2],
        path: &Path,
    ) -> Result<Side, ReadError> {
        let path = path.field(direction.name());
        let isolates = if direction == Direction::Ingress { ingress } else { egress };
        let mut rules = Vec::new();
        for (position, rule) in written.unwrap_or_default().iter().enumerate() {
            rules.push(self.rule(rule, direction, path.index(position))?);
        }
        if !isolates {
            // Calico checks and stores these rules, but they have no effect.
            rules.clear();
        }
        Ok(Side { path, isolates, rules, written: written.map(<[_]>::len) })
    }
}

#[cfg(test)]
mod tests {
    use super::super::Calico;
    use super::super::testing::{faults, policy, read, try_read};
    use super::*;
    use crate::dialect::Origin;
    use serde_json::{Value, json};

    const KIND: &str = "NetworkPolicy";
    const GLOBAL: &str = "GlobalNetworkPolicy";

    fn isolates(api_version: &str, spec: &Value) -> (bool, bool, Types) {
        let object = try_read(api_version, KIND, spec).unwrap();
        let policy = &object.policies()[0];
        (policy.ingress.isolates, policy.egress.isolates, policy.types.clone())
    }

    #[test]
    fn types_are_filled_in_by_the_api_server_and_by_felix() {
        let rules = json!([{"action": "Allow"}]);
        let filled = |spec: Value| isolates("projectcalico.org/v3", &spec);
        let uncertain =
            |directions: &[Direction]| Types::Uncertain(Path::root().field("spec").field("types"), directions.to_vec());
        assert_eq!(filled(json!({})), (true, false, Types::Declared));
        assert_eq!(filled(json!({"ingress": rules})), (true, false, Types::Declared));
        assert_eq!(filled(json!({"egress": rules})), (false, true, Types::Declared));
        // The API server counts rules, and the admission policy counts lists.
        let (ingress, egress) = (Direction::Ingress, Direction::Egress);
        assert_eq!(filled(json!({"ingress": []})), (true, false, Types::Declared));
        assert_eq!(filled(json!({"egress": []})), (false, false, uncertain(&[ingress, egress])));
        assert_eq!(filled(json!({"ingress": [], "egress": []})), (true, false, uncertain(&[egress])));
        assert_eq!(filled(json!({"ingress": rules, "egress": []})), (true, false, uncertain(&[egress])));
        assert_eq!(filled(json!({"ingress": [], "egress": rules})), (false, true, uncertain(&[ingress])));
        // The schema that comes with the admission policy rejects an empty list of types.
        assert_eq!(filled(json!({"egress": [], "types": []})), (true, false, Types::Declared));
        assert_eq!(filled(json!({"ingress": [], "egress": rules, "types": []})), (false, true, Types::Declared));
        assert_eq!(filled(json!({"ingress": rules, "egress": rules})), (true, true, Types::Declared));
        assert_eq!(filled(json!({"types": ["Egress"]})), (false, true, Types::Declared));
        let raw = |spec: Value| isolates("crd.projectcalico.org/v1", &spec);
        assert_eq!(
            raw(json!({"ingress": rules})),
            (true, true, Types::Inferred(Path::root().field("spec").field("types")))
        );
        assert_eq!(raw(json!({"types": ["Ingress"]})), (true, false, Types::Declared));
        assert_eq!(
            faults(KIND, &json!({"types": ["Ingress", "Ingress", "All"]})),
            ["spec.types[1]: NeverEnforced", "spec.types[2]: NeverEnforced"]
        );
    }

    #[test]
    fn felix_isolates_both_directions_of_a_stored_policy_without_types() {
        let spec = json!({"ingress": [{"action": "Allow"}]});
        let isolates = |metadata: Value, origin: Origin<'_>| {
            let json = json!({"metadata": metadata, "spec": spec}).to_string();
            let object = Calico.read(&Manifest::read("projectcalico.org/v3", KIND, &json, origin).unwrap()).unwrap();
            let policy = &object.policies()[0];
            (policy.ingress.isolates, policy.egress.isolates)
        };
        let namespace = Some("shop");
        let (written, stored) = (json!({"name": "p"}), json!({"name": "p", "uid": "6c53"}));
        assert_eq!(isolates(written.clone(), Origin::Author), (true, false));
        assert_eq!(isolates(stored.clone(), Origin::Author), (true, true), "an export of what is stored");
        // The API server sets the UID before admission, and Calico's API server fills in `types` after it.
        assert_eq!(isolates(stored, Origin::Server { namespace }), (true, false));
        assert_eq!(isolates(written, Origin::Stored { namespace }), (true, true));
    }

    #[test]
    fn rules_of_a_direction_that_is_not_isolated_are_checked_and_have_no_effect() {
        let spec =
            json!({"types": ["Ingress"], "egress": [{"action": "Allow", "destination": {"selector": "a = 'b'"}}]});
        let policy = policy(KIND, &spec);
        assert!(policy.egress.rules.is_empty() && !policy.egress.isolates);
        assert_eq!((policy.egress.written, policy.egress.path.to_string()), (Some(1), "spec.egress".into()));
        assert_eq!(faults(KIND, &spec), ["spec.egress[0].destination.selector: InvalidSelector"]);
    }

    #[test]
    fn the_subject_is_in_the_namespace_or_where_it_says() {
        let subject = |kind: &str, spec: Value| policy(kind, &spec).subject.to_string();
        assert_eq!(subject(KIND, json!({"selector": "app == 'web'"})), "pods with app=web in namespace shop");
        assert_eq!(subject(GLOBAL, json!({"selector": "app == 'web'"})), "pods with app=web in every namespace");
        assert_eq!(policy(KIND, &json!({})).subject.labels, None);
        assert_eq!(policy(KIND, &json!({"selector": "all()"})).subject.labels, Some(Selector::everything()));
        assert_eq!(
            subject(
                GLOBAL,
                json!({
                    "selector": "projectcalico.org/namespace not in {'kube-system'} && has(app)",
                    "namespaceSelector": "env == 'prod'",
                    "serviceAccountSelector": "role == 'x'",
                })
            ),
            "pods with app,service account label role=x in namespaces with env=prod,kubernetes.io/metadata.name!=kube-system"
        );
        assert_eq!(subject(KIND, json!({"selector": "a"})), "pods with nothing in namespace shop");
        assert_eq!(subject(GLOBAL, json!({"namespaceSelector": "a"})), "all pods in namespaces with nothing");
    }

    #[test]
    fn a_policy_stands_in_its_tier() {
        let place = |spec: Value| {
            let policy = policy(KIND, &spec);
            (policy.stage, policy.order)
        };
        assert_eq!(place(json!({})), (Stage::Policies, Order::Last));
        assert_eq!(place(json!({"tier": "default", "order": -1.5})), (Stage::Policies, Order::At(Precedence(-1.5))));
        assert_eq!(
            place(json!({"tier": "security", "order": 100})),
            (Stage::Tier("security".into()), Order::At(Precedence(100.0)))
        );
        assert_eq!(place(json!({"tier": "kube-admin"})).0, Stage::Admin);
        assert_eq!(place(json!({"tier": "baselineadminnetworkpolicy"})).0, Stage::Baseline);
    }

    #[test]
    fn staged_policies_are_not_in_force() {
        for kind in ["StagedNetworkPolicy", "StagedGlobalNetworkPolicy", "StagedKubernetesNetworkPolicy"] {
            for (action, standing) in
                [("Set", Standing::Staged), ("Learn", Standing::Staged), ("set", Standing::Refused)]
            {
                assert_eq!(policy(kind, &json!({"stagedAction": action})).standing, standing, "{kind} {action}");
            }
            assert!(read(kind, &json!({"stagedAction": "Delete"})).policies().is_empty(), "{kind}");
            assert_eq!(faults(kind, &json!({"stagedAction": "Set"})), Vec::<String>::new(), "{kind}");
        }
        let spec = json!({"stagedAction": "Delete", "types": ["Ingress"]});
        assert_eq!(faults("StagedNetworkPolicy", &spec), ["spec: NeverEnforced"]);
        for (spec, faulty) in [
            (json!({"ingress": [{}]}), true),
            (json!({"policyTypes": ["Egress"]}), true),
            (json!({"podSelector": {"matchLabels": {"app": "web"}}}), true),
            (json!({"podSelector": {"matchExpressions": [{"key": "app", "operator": "Exists"}]}}), true),
            (json!({"podSelector": {}, "ingress": [], "egress": null}), false),
        ] {
            let mut spec = spec;
            spec["stagedAction"] = "Delete".into();
            let expected = if faulty { vec!["spec: NeverEnforced"] } else { vec![] };
            assert_eq!(faults("StagedKubernetesNetworkPolicy", &spec), expected, "{spec}");
        }
        let kubernetes = policy("StagedKubernetesNetworkPolicy", &json!({"podSelector": {}, "egress": [{}]}));
        assert_eq!((kubernetes.order, kubernetes.egress.isolates), (Order::Additive, true));
    }

    #[test]
    fn policies_for_hosts_are_not_judged() {
        for field in ["doNotTrack", "preDNAT"] {
            let object = read(GLOBAL, &json!({field: true, "applyOnForward": true}));
            assert!(object.policies().is_empty());
            let fault = &object.faults[0];
            assert_eq!((fault.path.to_string(), fault.kind), (format!("spec.{field}"), FaultKind::NotUnderstood));
        }
        let forwarded = read(GLOBAL, &json!({"applyOnForward": true, "doNotTrack": false}));
        assert!(forwarded.faults.is_empty() && forwarded.policies().len() == 1, "it is for pods too");
    }

    #[test]
    fn a_kind_has_its_own_fields_only() {
        let spec = json!({"namespaceSelector": "all()", "doNotTrack": true, "stagedAction": "Set", "podSelector": {}});
        assert_eq!(
            faults(KIND, &spec),
            [
                "spec.podSelector: UnknownField",
                "spec.namespaceSelector: UnknownField",
                "spec.doNotTrack: UnknownField",
                "spec.stagedAction: UnknownField",
            ]
        );
        assert_eq!(policy(KIND, &spec).standing, Standing::InForce);
        let rule = json!({"action": "Log", "metadata": {"annotations": {"a": "b"}}, "source": {"domains": ["a.b"]}});
        assert_eq!(faults(GLOBAL, &json!({"ingress": [rule]})), ["spec.ingress[0].source.domains: UnknownField"]);
        assert_eq!(
            try_read("projectcalico.org/v3", KIND, &json!({"order": "first"})).unwrap_err().path.to_string(),
            "spec.order",
            "a wrong type is an error"
        );
    }

    /// The object of a recorded admission review.
    fn reviewed(json: &str) -> Object {
        let review: Value = serde_json::from_str(json).unwrap();
        let request = &review["request"];
        let object = &request["object"];
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let (api_version, kind) = (text(&object["apiVersion"]).unwrap(), text(&object["kind"]).unwrap());
        let namespace = text(&request["namespace"]);
        let origin = Origin::Server { namespace: namespace.as_deref() };
        let object = object.to_string();
        Calico.read(&Manifest::read(&api_version, &kind, &object, origin).unwrap()).unwrap()
    }

    #[test]
    fn real_reviews_are_read() {
        let object = reviewed(include_str!("../../../tests/admission-reviews/calico-v3-networkpolicy-create.json"));
        let fault = &object.faults[0];
        assert_eq!(
            (object.faults.len(), fault.path.to_string(), fault.kind),
            (1, "spec.selector".into(), FaultKind::InvalidSelector)
        );
        assert_eq!(
            fault.problem,
            "cannot parse selector `app = 'Web'` at `= 'Web'` (expected `==`); Calico's API server rejects it; if it is \
             stored anyway, Felix ignores the whole policy"
        );
        assert_eq!(fault.help, "write == instead of =");
        assert_eq!(object.policies()[0].standing, Standing::Refused);
        assert_eq!(object.id.to_string(), "NetworkPolicy shop/wrong-selector");

        let object =
            reviewed(include_str!("../../../tests/admission-reviews/calico-v1-globalnetworkpolicy-create.json"));
        let fault = &object.faults[0];
        assert_eq!(fault.path.to_string(), "spec.ingress[0].destination.ports");
        assert_eq!((object.faults.len(), fault.kind), (1, FaultKind::PortWithoutProtocol));
    }
}
