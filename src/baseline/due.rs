//! The desired policies of a namespace. They are evaluated before the controller has applied them, because a namespace
//! is evaluated in its future state.

use super::fill::fill;
use super::policy_set::{PolicySet, Template};
use crate::dialect;
use crate::model::{ApiServer, Body, Labels, Object, ObjectRef};
use crate::view::{NamespaceFacts, Site, View};

/// Returns the desired policies of a namespace that the view lacks, as the controller will apply them.
///
/// If the endpoints of the API server are unknown, policies that name them are evaluated as in their files.
///
/// A stored policy that differs from its template is evaluated as stored. The policies of an open hatch are omitted,
/// because the hatch closes again.
#[must_use]
pub fn missing(policies: &PolicySet, site: &Site, view: &View, namespace: &str) -> Vec<Object> {
    let Some(facts) = view.namespace(namespace) else { return Vec::new() };
    let Some(labels) = facts.labels.as_ref().filter(|labels| is_due(site, namespace, labels)) else {
        return Vec::new();
    };
    let lacks = |template: &&Template| !is_stored(view, facts, template);
    let object = |template| object(template, site, namespace, view.api_server());
    policies.templates(site, labels).filter(lacks).filter_map(object).collect()
}

/// Adds the desired policies of the namespaces of a view.
pub fn complete(view: &mut View, policies: &PolicySet, site: &Site) {
    let names: Vec<String> = view.namespaces().map(|(name, _)| name.to_string()).collect();
    for name in names {
        for object in missing(policies, site, view, &name) {
            view.insert(object);
        }
    }
}

/// Gives a namespace the default profile if no API server has stored it yet, as `/mutate` does when it is created.
pub(crate) fn give_profile(object: &mut Object, site: &Site) {
    let (name, label) = (&object.id.name, site.profile_label());
    let (Some(profile), Body::Namespace(namespace)) = (&site.profiles.default, &mut object.body) else { return };
    let is_new = namespace.uid.is_empty() && !site.is_left_alone(name);
    if is_new && namespace.labels.get(&label).is_none() {
        namespace.labels = namespace.labels.with(&label, profile);
    }
}

/// Returns true if the controller gives a namespace its baseline, or will, because `/mutate` marks it.
fn is_due(site: &Site, namespace: &str, labels: &Labels) -> bool {
    !site.is_left_alone(namespace) && site.wants_baseline(labels)
}

fn is_stored(view: &View, facts: &NamespaceFacts, template: &Template) -> bool {
    let is_it = |other: &ObjectRef| {
        let id = &template.object.id;
        id.name == other.name && id.kind == other.kind && id.group() == other.group()
    };
    if template.is_of_cluster() {
        view.cluster_wide_policies().any(|policy| is_it(&policy.object))
    } else {
        facts.policies.iter().any(|policy| is_it(&policy.object))
    }
}

/// Returns a template as an object, in a namespace unless it is cluster-wide.
fn object(template: &Template, site: &Site, namespace: &str, api_server: Option<&ApiServer>) -> Option<Object> {
    if template.is_of_cluster() {
        return Some(template.object.clone());
    }
    let mut value = template.in_namespace(namespace);
    fill(site, &mut value, api_server);
    dialect::read_value(&value).ok().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Configuration;
    use crate::dialect::{Manifest, Origin};

    const PROFILE: &str = "network-policy.portcullis.dev/profile";
    const ACCESS: &str = "access.network-policy.portcullis.dev/postgres";

    fn read(api_version: &str, kind: &str, manifest: &str) -> Object {
        let manifest = Manifest::read(api_version, kind, manifest, Origin::Author).unwrap();
        dialect::read(&manifest).unwrap().unwrap()
    }

    fn namespace(name: &str, labels: &str) -> Object {
        read("v1", "Namespace", &format!(r#"{{"metadata": {{"name": "{name}", "labels": {{{labels}}}}}}}"#))
    }

    fn names(view: &View, namespace: &str) -> Vec<String> {
        let site = Configuration::shipped().unwrap().site;
        let policies = PolicySet::shipped(&site.label_domain).unwrap();
        let missing = missing(&policies, &site, view, namespace);
        assert!(missing.iter().all(|object| object.namespace() == Some(namespace)));
        missing.iter().map(|object| object.id.name.to_string()).collect()
    }

    #[test]
    fn what_is_stored_is_not_missing() {
        let mut view = View::of([namespace("shop", &format!(r#""{PROFILE}": "isolated", "{ACCESS}": "true""#))]);
        let all = names(&view, "shop");
        assert!(all.contains(&"portcullis-baseline-allow-dns".to_owned()) && all.len() > 2, "{all:?}");
        let stored = r#"{"metadata": {"name": "portcullis-baseline-allow-dns", "namespace": "shop"}, "spec": {"podSelector": {}}}"#;
        view.insert(read("networking.k8s.io/v1", "NetworkPolicy", stored));
        let rest: Vec<String> = all.iter().filter(|name| *name != "portcullis-baseline-allow-dns").cloned().collect();
        assert_eq!(names(&view, "shop"), rest);
        let site = Configuration::shipped().unwrap().site;
        complete(&mut view, &PolicySet::shipped(&site.label_domain).unwrap(), &site);
        assert!(names(&view, "shop").is_empty());
        assert_eq!(view.own_policies("shop").count(), all.len());
    }

    #[test]
    fn policies_that_name_the_api_server_are_filled_in_once_it_is_known() {
        let label = "access.network-policy.portcullis.dev/kube-api";
        let mut view = View::of([namespace("shop", &format!(r#""{PROFILE}": "isolated", "{label}": "true""#))]);
        let site = Configuration::shipped().unwrap().site;
        let policies = PolicySet::shipped(&site.label_domain).unwrap();
        let blocks = |view: &View| -> Vec<String> {
            let due = missing(&policies, &site, view, "shop");
            let object = due.iter().find(|object| *object.id.name == *"portcullis-access-kube-api").unwrap();
            let [policy] = object.policies() else { panic!("{object:?}") };
            assert!(policy.egress.isolates);
            let blocks = policy.egress.rules.iter().flat_map(crate::model::Rule::blocks);
            blocks.map(|(_, block)| block.net.to_string()).collect()
        };
        assert!(blocks(&view).is_empty(), "it allows nothing");
        let mut api_server = ApiServer::default();
        api_server.insert("10.0.0.1".parse().unwrap(), &[(crate::model::Protocol::Tcp, 6443)].into());
        view.set_api_server(api_server.into());
        assert_eq!(blocks(&view), ["10.0.0.1/32"]);
    }

    #[test]
    fn nothing_is_due_without_a_profile_a_mark_or_the_right_to_one() {
        let pending = r#""network-policy.portcullis.dev/baseline": "pending""#;
        let profile = format!(r#""{PROFILE}": "isolated""#);
        for (name, labels, is_due) in [
            ("shop", "", false),
            ("shop", &*format!(r#""{ACCESS}": "true""#), false),
            ("shop", &*format!(r#""{PROFILE}": "unknown""#), false),
            ("shop", pending, true),
            ("shop", &*profile, true),
            ("kube-system", &*profile, false),
            ("default", &*profile, false),
        ] {
            let view = View::of([namespace(name, labels)]);
            assert_eq!(!names(&view, name).is_empty(), is_due, "{name} {labels}");
        }
        assert!(names(&View::default(), "shop").is_empty(), "its labels are unknown");
    }

    #[test]
    fn a_new_namespace_gets_the_default_profile() {
        let site = Configuration::shipped().unwrap().site;
        let profile = |object: &Object| object.as_namespace().unwrap().labels.get(PROFILE).map(str::to_owned);
        for (name, manifest, expected) in [
            ("shop", r#"{"metadata": {"name": "shop"}}"#.to_owned(), Some("standard")),
            (
                "shop",
                format!(r#"{{"metadata": {{"name": "shop", "labels": {{"{PROFILE}": "isolated"}}}}}}"#),
                Some("isolated"),
            ),
            ("shop", r#"{"metadata": {"name": "shop", "uid": "b1946ac9"}}"#.to_owned(), None),
            ("kube-system", r#"{"metadata": {"name": "kube-system"}}"#.to_owned(), None),
        ] {
            let mut object = read("v1", "Namespace", &manifest);
            give_profile(&mut object, &site);
            assert_eq!(profile(&object).as_deref(), expected, "{name}");
        }
    }
}
