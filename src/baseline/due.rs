//! The policies that a namespace is due. They count before the controller has applied them, because a namespace is
//! evaluated as it will be.

use super::policy_set::{PolicySet, Template};
use crate::dialect::{self, Manifest, Origin};
use crate::model::{Body, Labels, Object, ObjectRef};
use crate::view::{NamespaceFacts, Site, View};

/// Returns the policies that a namespace is due and that the view lacks, as the controller will apply them.
///
/// A stored policy that differs from its template counts as it is stored. The policies of an open hatch are left out,
/// because the hatch closes again.
#[must_use]
pub fn missing(policies: &PolicySet, site: &Site, view: &View, namespace: &str) -> Vec<Object> {
    let Some(facts) = view.namespace(namespace) else { return Vec::new() };
    let Some(labels) = facts.labels.as_ref().filter(|labels| is_due(site, namespace, labels)) else {
        return Vec::new();
    };
    let lacks = |template: &&Template| !is_stored(view, facts, template);
    policies.templates(site, labels).filter(lacks).filter_map(|template| object(template, namespace)).collect()
}

/// Adds the policies that the namespaces of a view are due.
pub fn complete(view: &mut View, policies: &PolicySet, site: &Site) {
    let names: Vec<String> = view.namespaces().map(|(name, _)| name.to_string()).collect();
    for name in names {
        for object in missing(policies, site, view, &name) {
            view.insert(object);
        }
    }
}

/// Gives a namespace the default profile if no API server has stored it yet, as `/mutate` does when it is created.
pub fn give_profile(object: &mut Object, site: &Site) {
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
fn object(template: &Template, namespace: &str) -> Option<Object> {
    if template.is_of_cluster() {
        return Some(template.object.clone());
    }
    let id = &template.object.id;
    let text = template.in_namespace(namespace).to_string();
    let manifest = Manifest::read(&id.api_version, &id.kind, &text, Origin::Author).ok()?;
    dialect::read(&manifest).ok().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Configuration;

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
