//! One case of a rule: manifests of which the last is evaluated, and builders of such manifests.

use crate::objects::objects;
use portcullis::config::Configuration;
use portcullis::engine::{Judgement, judge};
use portcullis::model::{Finding, Object};
use portcullis::rules::{Change, Occasion};
use portcullis::view::View;

/// What a rule finds in the last of the objects; the others are there already, in manifests or in a cluster.
pub(crate) fn findings(rule: &str, yaml: &[String], is_whole: bool) -> Vec<Finding> {
    let mut objects: Vec<Object> = yaml.iter().flat_map(|yaml| objects(yaml)).collect();
    let new = objects.pop().unwrap();
    let mut view = if is_whole { View::of_cluster() } else { View::default() };
    for object in objects {
        view.insert(object);
    }
    let text = format!("apiVersion: portcullis.dev/v1alpha1\nkind: Configuration\nrules: {{{rule}: warn}}\n");
    let configuration = Configuration::read(&text).unwrap();
    let verdict = judge(&configuration, &view, Change::Write { new: &new, old: None }, Occasion::default());
    let of_rule = |judgement: &Judgement| judgement.finding.rule == rule;
    let found: Vec<Judgement> = verdict.judgements.into_iter().filter(of_rule).collect();
    crate::texts::check("tests/rules/case.rs", "surroundings", &crate::texts::named(yaml), &found);
    found.into_iter().map(|judgement| judgement.finding).collect()
}

/// Where a rule finds something, in manifests.
pub(crate) fn found(rule: &str, yaml: &[String]) -> Vec<String> {
    findings(rule, yaml, false).iter().map(|finding| finding.path.to_string()).collect()
}

/// Where a rule finds something, in a cluster.
pub(crate) fn found_live(rule: &str, yaml: &[String]) -> Vec<String> {
    findings(rule, yaml, true).iter().map(|finding| finding.path.to_string()).collect()
}

pub(crate) fn object(api_version: &str, kind: &str, metadata: &str, spec: &str) -> String {
    format!("apiVersion: {api_version}\nkind: {kind}\nmetadata: {{{metadata}}}\nspec: {spec}\n")
}

pub(crate) fn np(name: &str, spec: &str) -> String {
    object("networking.k8s.io/v1", "NetworkPolicy", &format!("name: {name}, namespace: shop"), spec)
}

pub(crate) fn cnp(name: &str, spec: &str) -> String {
    object("cilium.io/v2", "CiliumNetworkPolicy", &format!("name: {name}, namespace: shop"), spec)
}

pub(crate) fn ccnp(spec: &str) -> String {
    object("cilium.io/v2", "CiliumClusterwideNetworkPolicy", "name: wide", spec)
}

pub(crate) fn calico(spec: &str) -> String {
    object("projectcalico.org/v3", "NetworkPolicy", "name: calico, namespace: shop", spec)
}

pub(crate) fn gnp(spec: &str) -> String {
    object("projectcalico.org/v3", "GlobalNetworkPolicy", "name: global", spec)
}

pub(crate) fn cluster(tier: &str, spec: &str) -> String {
    let spec = format!("{{tier: {tier}, priority: 10, {spec}}}");
    object("policy.networking.k8s.io/v1alpha2", "ClusterNetworkPolicy", "name: cluster", &spec)
}

pub(crate) fn namespace(name: &str, labels: &str) -> String {
    format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}, labels: {{{labels}}}}}\n")
}

pub(crate) fn pod(namespace: &str, name: &str, labels: &str) -> String {
    object("v1", "Pod", &format!("name: {name}, namespace: {namespace}, labels: {{{labels}}}"), "{}")
}

pub(crate) fn deployment(labels: &str, annotations: &str) -> String {
    let spec =
        format!("{{template: {{metadata: {{labels: {{{labels}}}, annotations: {{{annotations}}}}}, spec: {{}}}}}}");
    object("apps/v1", "Deployment", "name: web, namespace: shop", &spec)
}

pub(crate) const PROFILE: &str = "network-policy.portcullis.dev/profile: internal";

pub(crate) fn from(peer: &str) -> String {
    np("p", &format!("{{podSelector: {{}}, ingress: [{{from: [{peer}], ports: [{{port: 80}}]}}]}}"))
}
