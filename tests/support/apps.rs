//! Apps with Services, and the findings of a rule about what is in front of them.

use portcullis::engine::{Judgement, judge};
use portcullis::model::Object;
use portcullis::rules::{Author, Change, Occasion};
use portcullis::view::View;

use crate::objects::objects;
use crate::shipped::CONFIGURATION;

/// An object with the name x.
pub(crate) fn object(api_version: &str, kind: &str, namespace: &str, spec: &str) -> String {
    format!("apiVersion: {api_version}\nkind: {kind}\nmetadata: {{name: x, namespace: {namespace}}}\nspec: {spec}\n")
}

/// A Deployment with these container ports.
pub(crate) fn app(namespace: &str, name: &str, ports: &str) -> String {
    let template = format!(
        "{{template: {{metadata: {{labels: {{app: {name}}}}}, spec: {{containers: [{{name: c, ports: [{ports}]}}]}}}}}}"
    );
    object("apps/v1", "Deployment", namespace, &template).replace("name: x", &format!("name: {name}"))
}

/// A Service for the pods of an app.
pub(crate) fn service(namespace: &str, name: &str, more: &str) -> String {
    object("v1", "Service", namespace, &format!("{{selector: {{app: {name}}}, {more}}}"))
        .replace("name: x", &format!("name: {name}"))
}

/// The findings of a rule in the last object. The others are in manifests, or in a cluster.
pub(crate) fn judged(
    rule: &str,
    yaml: &[String],
    is_whole: bool,
    old: Option<&Object>,
    author: &dyn Author,
) -> Vec<Judgement> {
    let mut objects: Vec<Object> = yaml.iter().flat_map(|yaml| objects(yaml)).collect();
    let new = objects.pop().unwrap();
    let mut view = if is_whole { View::of_cluster() } else { View::default() };
    for object in objects {
        view.insert(object);
    }
    let occasion = Occasion { author, ..Occasion::default() };
    let change = Change::Write { new: &new, old: old.map(|old| old as _) };
    let verdict = judge(&CONFIGURATION, &view, change, occasion);
    verdict.judgements.into_iter().filter(|judgement| judgement.finding.rule == rule).collect()
}

/// A user who may list nothing.
#[derive(Debug)]
pub(crate) struct Stranger;

impl Author for Stranger {
    fn username(&self) -> Option<&str> {
        Some("stranger")
    }

    fn is_in(&self, _: &str) -> bool {
        false
    }

    fn may_bypass(&self, _: &'static str) -> Result<(), String> {
        Err("not".to_owned())
    }

    fn may_list(&self, _: &'static str, _: Option<&str>) -> bool {
        false
    }
}
