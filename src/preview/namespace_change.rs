//! The preview of a change of namespace labels, as warnings:
//!
//! - pods that lose the cluster DNS;
//! - pods that a profile does not isolate, or isolates for the first time;
//! - traffic that a profile cuts off, and traffic that other policies still allow;
//! - policies that still deny traffic while the hatch is open.
//!
//! The preview is part of the response to the request, so a dry run shows it too. It does not affect the decision.

use jiff::Timestamp;

use super::affected_pods::{pods_that_escape, pods_that_it_closes, templates_that_stop};
use super::dns_loss::pods_that_lose_dns;
use super::hatch::what_stays_shut;
use super::profile_diff::{cuts, what_stays_open};
use super::scope::isolates;
use crate::baseline::PolicySet;
use crate::config::Configuration;
use crate::model::{Direction, Namespace, Object, Policy};
use crate::rules::{self, Change};
use crate::view::{Scene, SetName, Site, View};

/// Maximum number of lines of a preview.
const LINES: usize = 5;

/// The lines of the preview, the most important first. Empty unless the labels of an existing namespace change, or its
/// hatch is opened.
pub(super) fn lines(
    configuration: &Configuration,
    policies: &PolicySet,
    view: &View,
    change: Change<'_>,
    now: Timestamp,
) -> Vec<String> {
    let Change::Write { new, .. } = change else { return Vec::new() };
    // Checked first, because parsing the old object is rarely necessary.
    let Some(after) = new.as_namespace() else { return Vec::new() };
    let Some((old, before)) = change.old().and_then(|old| Some((old, old.as_namespace()?))) else { return Vec::new() };
    let site = &configuration.site;
    let will_be_open = is_open(site, new, after, now);
    let mut lines = Vec::new();
    if will_be_open && !is_open(site, old, before, now) {
        lines.extend(what_stays_shut(configuration, policies, view, new));
    }
    let mut asked = configuration.asked(Some(&new.id.name), Some(&after.labels));
    if asked.any(|asked| asked.definition.name == rules::DNS_BLOCKED) {
        lines.extend(pods_that_lose_dns(site, view, old, new));
    }
    let label = site.profile_label();
    let is_known = |profile: &&str| site.profiles.names.iter().any(|known| known == profile);
    let profiles = (before.labels.get(&label), after.labels.get(&label));
    let due = |labels| policies.meant_for(site, &new.id.name, labels);
    match profiles {
        (before, after) if before == after => {}
        // The policies of the old profile stay in the namespace until the controller applies those of another profile.
        (_, after) if site.policy_set == SetName::Kubernetes && after.filter(is_known).is_none() => {}
        (Some(profile), None) => {
            let scene = Scene::with(view, new);
            lines.extend(what_opens(profile, &due(&before.labels), &due(&after.labels), &scene));
        }
        (_, None) => {}
        (profile, Some(other)) => {
            let due_before = due(&before.labels);
            let due = due(&after.labels);
            // An open hatch allows everything until it is closed.
            let when = if will_be_open { "once the hatch closes, " } else { "" };
            lines.extend(pods_that_escape(view, &new.id.name, other));
            lines.extend(templates_that_stop(configuration, view, new));
            match profile.filter(is_known) {
                None => lines.extend(pods_that_it_closes(view, old, (when, other), &due)),
                Some(profile) => {
                    let cuts = cuts(site, view, new, (when, profile, other), &due_before, &due);
                    lines.extend(cuts.unwrap_or_else(|| vec![too_much(&format!("profile {other} cuts"))]));
                }
            }
            let open = what_stays_open(site, view, new, &due);
            lines.extend(
                open.unwrap_or_else(|| vec![too_much(&format!("other policies still allow under profile {other}"))]),
            );
        }
    }
    let more = lines.len().saturating_sub(LINES);
    if more > 0 {
        lines.truncate(LINES - 1);
        lines.push(format!("and {} more lines", more + 1));
    }
    lines
}

/// The line for a comparison that exceeded its limit.
fn too_much(what: &str) -> String {
    format!("unknown traffic that {what}: too many policies and rules to compare")
}

fn is_open(site: &Site, object: &Object, namespace: &Namespace, now: Timestamp) -> bool {
    matches!(site.hatch(&namespace.labels, &object.annotations, now), Some(Ok(_)))
}

/// Reports the directions that are no longer isolated, because without a profile label the cluster-scoped policies no
/// longer select the namespace.
fn what_opens(profile: &str, before: &[&Policy], after: &[&Policy], around: &Scene<'_>) -> Option<String> {
    let opened: Vec<&str> = Direction::ALL
        .into_iter()
        .filter(|direction| isolates(before, *direction, around) && !isolates(after, *direction, around))
        .map(Direction::name)
        .collect();
    let opened = (!opened.is_empty()).then(|| opened.join(" and "))?;
    Some(format!("without profile {profile}, the namespace is no longer isolated for {opened}"))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::dialect::{self, Manifest, Origin};
    use crate::model::{Body, Labels, ObjectRef, Path, Workload};

    const DOMAIN: &str = "network-policy.portcullis.dev";

    fn namespace(labels: &[(&str, &str)], annotations: &[(&str, &str)]) -> Object {
        let labels: Labels =
            labels.iter().map(|(key, value)| (format!("{DOMAIN}/{key}"), (*value).to_owned())).fold(
                [("kubernetes.io/metadata.name", "shop")].into_iter().collect(),
                |labels: Labels, (key, value)| labels.with(&key, &value),
            );
        let annotations =
            annotations.iter().fold(Labels::default(), |all, (key, value)| all.with(&format!("{DOMAIN}/{key}"), value));
        Object {
            id: ObjectRef { api_version: "v1".into(), kind: "Namespace".into(), namespace: None, name: "shop".into() },
            body: Body::Namespace(Namespace {
                labels,
                labels_path: Path::root(),
                uid: "".into(),
                terminating: false,
                created: None,
            }),
            faults: Vec::new(),
            annotations,
        }
    }

    fn told(view: &View, old: &Object, new: &Object) -> Vec<String> {
        told_by(&Configuration::shipped().unwrap(), view, old, new)
    }

    fn told_by(configuration: &Configuration, view: &View, old: &Object, new: &Object) -> Vec<String> {
        let policies = PolicySet::shipped(&configuration.site.label_domain).unwrap();
        let now = "2026-11-21T12:00:00Z".parse().unwrap();
        lines(configuration, &policies, view, Change::Write { new, old: Some(old) }, now)
    }

    fn read(api_version: &str, kind: &str, text: &str) -> Object {
        let manifest = Manifest::read(api_version, kind, text, Origin::Author);
        dialect::read(&manifest.unwrap()).unwrap().unwrap()
    }

    #[test]
    fn ten_thousand_pods_are_not_all_looked_at() {
        let mut view = View::default();
        let on_the_node = Workload { host_network: Some(Path::root()), ..Workload::default() };
        let on_the_node = Arc::new(on_the_node);
        for number in 0..10_000 {
            let name = format!("agent-{number:05}").into();
            let id = ObjectRef { api_version: "v1".into(), kind: "Pod".into(), namespace: Some("shop".into()), name };
            view.insert_workload(&id, on_the_node.clone(), None);
        }
        let lines =
            told(&view, &namespace(&[("profile", "standard")], &[]), &namespace(&[("profile", "isolated")], &[]));
        assert_eq!(
            lines[0],
            "at least 5000 hostNetwork pods are not isolated by profile isolated: agent-00000, agent-00001 and 4998 \
             more"
        );
        assert!(lines.len() <= LINES, "{lines:#?}");
    }

    #[test]
    fn what_a_profile_cuts_is_what_the_other_one_allows_besides() {
        let profile = |name| namespace(&[("profile", name)], &[]);
        let cuts = |from, to| told(&View::default(), &profile(from), &profile(to));
        assert_eq!(cuts("isolated", "standard"), Vec::<String>::new(), "nothing is taken away");
        assert_eq!(cuts("internal", "internal-egress"), Vec::<String>::new());
        assert_eq!(
            cuts("internal-egress", "internal"),
            ["profile internal cuts egress to anywhere except some CIDRs on TCP 443, which internal-egress allows"]
        );
        assert_eq!(
            cuts("standard", "isolated"),
            [
                "profile isolated cuts ingress from pods in istio-gateway on TCP 8080, TCP 8443, TCP \"http\", \
                 which standard allows",
                "profile isolated cuts egress to anywhere except some CIDRs on TCP 443, which standard allows",
            ]
        );
    }

    #[test]
    fn without_a_profile_what_is_there_stays_unless_policies_of_the_cluster_select_it() {
        let (none, bogus) = (namespace(&[], &[]), namespace(&[("profile", "bogus")], &[]));
        let standard = namespace(&[("profile", "standard")], &[]);
        let told = |set: &str, new: &Object| {
            let text = format!("apiVersion: portcullis.dev/v1alpha1\nkind: Configuration\npolicySet: {set}\n");
            told_by(&Configuration::read(&text).unwrap(), &View::default(), &standard, new)
        };
        assert_eq!(told("kubernetes", &none), Vec::<String>::new());
        assert_eq!(told("kubernetes", &bogus), Vec::<String>::new());
        for set in ["cilium", "calico"] {
            assert_eq!(
                told(set, &none),
                ["without profile standard, the namespace is no longer isolated for ingress and egress"],
                "{set}"
            );
            assert!(told(set, &bogus)[0].starts_with("profile bogus cuts "), "{set}");
        }
    }

    #[test]
    fn what_others_go_on_allowing_is_not_cut() {
        let (standard, isolated) =
            (namespace(&[("profile", "standard")], &[]), namespace(&[("profile", "isolated")], &[]));
        let policy = |text: &str| read("networking.k8s.io/v1", "NetworkPolicy", text);
        let https = r#"{"metadata": {"name": "https", "namespace": "shop"}, "spec": {"podSelector": {}, "egress": [{"to":
            [{"ipBlock": {"cidr": "0.0.0.0/0", "except": ["169.254.169.254/32"]}}], "ports": [{"port": 443}]}], "ingress":
            [{"from": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "istio-gateway"}}}], "ports":
            [{"port": 8000, "endPort": 9000}, {"port": "http"}]}], "policyTypes": ["Ingress", "Egress"]}}"#;
        let some = https.replace(r#""podSelector": {}"#, r#""podSelector": {"matchLabels": {"app": "a"}}"#);
        let lines = told(&View::of([policy(https)]), &standard, &isolated);
        assert_eq!(
            lines,
            ["profile isolated cuts egress to anywhere in IPv6 except some CIDRs on TCP 443, which standard allows"]
        );
        assert_eq!(told(&View::of([policy(&some)]), &standard, &isolated).len(), 2, "for some of the pods");
        let open = r#"{"metadata": {"name": "open", "namespace": "shop"}, "spec": {"podSelector": {}, "egress": [{}],
            "ingress": [{}], "policyTypes": ["Ingress", "Egress"]}}"#;
        assert_eq!(
            told(&View::of([policy(open)]), &standard, &isolated),
            ["NetworkPolicy shop/open still allows ingress from anywhere on every port"]
        );
    }

    /// Deny rules and other stages apply under every profile.
    #[test]
    fn what_single_policies_deny_or_pass_on_is_no_matter_of_profiles() {
        let profile = |name| namespace(&[("profile", name)], &[]);
        let plain = told(&View::default(), &profile("standard"), &profile("isolated"));
        let calico = |kind: &str, name: &str, spec: &str| {
            let place = if kind == "NetworkPolicy" { r#", "namespace": "shop""# } else { "" };
            let text = format!(r#"{{"metadata": {{"name": "{name}"{place}}}, "spec": {spec}}}"#);
            read("projectcalico.org/v3", kind, &text)
        };
        let denies = r#"{"types": ["Egress"], "egress": [{"action": "Deny", "destination": {"nets": ["169.254.169.254/32"]}},
            {"action": "Pass"}]}"#;
        let tier = r#"{"tier": "security", "types": ["Ingress", "Egress"], "egress": [{"action": "Deny", "destination":
            {"nets": ["169.254.169.254/32"]}}, {"action": "Pass"}], "ingress": [{"action": "Pass"}]}"#;
        let cilium = r#"{"metadata": {"name": "denies", "namespace": "shop"}, "spec": {"endpointSelector": {},
            "egressDeny": [{"toEntities": ["world"]}], "ingressDeny": [{"fromEntities": ["world"]}]}}"#;
        for object in [
            calico("NetworkPolicy", "default.metadata", denies),
            calico("GlobalNetworkPolicy", "security.metadata", tier),
            read("cilium.io/v2", "CiliumNetworkPolicy", cilium),
        ] {
            let name = object.id.to_string();
            assert_eq!(told(&View::of([object]), &profile("standard"), &profile("isolated")), plain, "{name}");
        }
    }

    #[test]
    fn a_namespace_with_many_policies_is_told_of_or_told_that_it_is_not() {
        let (standard, isolated) =
            (namespace(&[("profile", "standard")], &[]), namespace(&[("profile", "isolated")], &[]));
        let plain = told(&View::default(), &standard, &isolated);
        let policy = |number: usize, from: &str| {
            let text = format!(
                r#"{{"metadata": {{"name": "p{number}", "namespace": "shop"}}, "spec": {{"podSelector": {{"matchLabels":
                {{"app": "a{number}"}}}}, "policyTypes": ["Ingress"], "ingress": [{{"from": [{from}], "ports": [{{"port": 80}},
                {{"port": 81}}]}}]}}}}"#
            );
            read("networking.k8s.io/v1", "NetworkPolicy", &text)
        };
        let many = View::of((0..150).map(|number| policy(number, r#"{"podSelector": {}}"#)));
        assert_eq!(told(&many, &standard, &isolated), plain);

        // Policies that are not open do not hide one that is.
        let blocks: Vec<String> = (0..300)
            .map(|number| format!(r#"{{"ipBlock": {{"cidr": "10.{}.{}.0/24"}}}}"#, number / 200, number % 200))
            .collect();
        let mut wide: Vec<Object> = (0..20).map(|number| policy(number, &blocks.join(","))).collect();
        wide.push(policy(20, r#"{"ipBlock": {"cidr": "0.0.0.0/0"}}, {"ipBlock": {"cidr": "::/0"}}"#));
        let told = told(&View::of(wide), &standard, &isolated);
        assert!(told.iter().any(|line| line.contains("shop/p20 still allows ingress from anywhere")), "{told:#?}");

        // A comparison that exceeded its limit is reported.
        let cidrs = blocks.join(",");
        let out = |number: usize| {
            let text = format!(
                r#"{{"metadata": {{"name": "p{number}", "namespace": "shop"}}, "spec": {{"podSelector": {{}}, "policyTypes":
                ["Egress"], "egress": [{{"to": [{cidrs}], "ports": [{{"port": 443}}]}}]}}}}"#
            );
            read("networking.k8s.io/v1", "NetworkPolicy", &text)
        };
        assert_eq!(
            self::told(&View::of((0..150).map(out)), &standard, &isolated),
            ["unknown traffic that profile isolated cuts: too many policies and rules to compare"]
        );
    }

    #[test]
    fn under_an_open_hatch_it_is_told_for_later() {
        let hatch = |profile| {
            let annotations = [("reason", "x"), ("until", "2026-11-21T12:30:00Z")];
            namespace(&[("profile", profile), ("enforcement", "disabled")], &annotations)
        };
        let lines = told(&View::default(), &hatch("internal-egress"), &hatch("internal"));
        assert!(lines[0].starts_with("once the hatch closes, profile internal cuts egress to "), "{lines:#?}");
    }

    #[test]
    fn the_first_profile_tells_whom_it_closes() {
        let mut view = View::default();
        let mut run = |name: &str, app: &str, host_network: Option<Path>| {
            let labels = [("app", app)].into_iter().collect();
            let id = ObjectRef {
                api_version: "v1".into(),
                kind: "Pod".into(),
                namespace: Some("shop".into()),
                name: name.into(),
            };
            view.insert_workload(&id, Workload { labels, host_network, ..Workload::default() }.into(), None);
        };
        for name in ["a", "b", "c"] {
            run(name, "web", None);
        }
        run("db", "db", None);
        run("node", "web", Some(Path::root()));
        let (none, isolated) = (namespace(&[], &[]), namespace(&[("profile", "isolated")], &[]));
        let escapes = "1 hostNetwork pod is not isolated by profile isolated: node";
        let closes = |view: &View, old: &Object| told(view, old, &isolated);
        let all = [escapes, "profile isolated isolates 4 pods for the first time: a, b and 2 more"];
        assert_eq!(closes(&view, &none), all);
        assert_eq!(closes(&view, &namespace(&[("profile", "bogus")], &[])), all);
        let isolate = |selector: &str, types: &str| {
            let text = format!(
                r#"{{"metadata": {{"name": "p", "namespace": "shop"}}, "spec": {{"podSelector": {selector}, "policyTypes": {types}}}}}"#
            );
            let mut view = view.clone();
            view.insert(read("networking.k8s.io/v1", "NetworkPolicy", &text));
            view
        };
        let web = isolate(r#"{"matchLabels": {"app": "web"}}"#, r#"["Ingress", "Egress"]"#);
        assert_eq!(closes(&web, &none)[1], "profile isolated isolates 1 pod for the first time: db");
        let ingress = isolate("{}", r#"["Ingress"]"#);
        assert_eq!(
            closes(&ingress, &none)[1],
            "profile isolated isolates 4 pods for egress for the first time: a, b and 2 more"
        );
        assert_eq!(closes(&isolate("{}", r#"["Ingress", "Egress"]"#), &none), [escapes]);
        let in_a_tier = |default: &str| {
            let mut view = view.clone();
            let tier =
                format!(r#"{{"metadata": {{"name": "t"}}, "spec": {{"order": 1, "defaultAction": "{default}"}}}}"#);
            view.insert(read("projectcalico.org/v3", "Tier", &tier));
            let text = r#"{"metadata": {"name": "t.p"}, "spec": {"tier": "t", "types": ["Ingress", "Egress"]}}"#;
            view.insert(read("projectcalico.org/v3", "GlobalNetworkPolicy", text));
            view
        };
        assert_eq!(closes(&in_a_tier("Deny"), &none), [escapes]);
        assert_eq!(closes(&in_a_tier("Pass"), &none), all, "what a tier passes on is not isolated");
    }

    #[test]
    fn other_labels_and_hatches_without_effect_are_not_previewed() {
        let plain = namespace(&[("profile", "standard")], &[]);
        let other = namespace(&[("profile", "standard"), ("team", "web")], &[]);
        assert_eq!(told(&View::default(), &plain, &other), Vec::<String>::new());
        let unguarded = namespace(&[("profile", "standard"), ("enforcement", "disabled")], &[]);
        assert_eq!(told(&View::default(), &plain, &unguarded), Vec::<String>::new());
    }
}
