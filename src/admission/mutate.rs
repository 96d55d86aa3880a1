//! `/mutate`: labels for new namespaces, DNS rules for policies without them, and scheduling gates for pods that wait
//! for their baseline.
//!
//! Patches are computed on the original JSON, so that unknown fields are kept. They are idempotent: a patch is empty if
//! nothing is missing.

use jiff::Timestamp;
use serde_json::Value;

use super::answer::Outcome;
use super::attempt::Attempt;
use super::review::{Refusal, Request, whole_object};
use super::validate::{Judged, RequestedChange, answer, answer_malformed, is_mirror_pod, manifest, subject};
use super::{Knowledge, Reply};
use crate::budget;
use crate::dialect::{self, Patch};
use crate::engine;
use crate::model::{Body, Labels, Object, Path, Workload};
use crate::rules;
use crate::view::{Facts, Site, View};

/// Answers a review with the patch that the object requires, or with the lookups that the decision requires.
///
/// # Errors
/// Fails if the body is not a review that can be answered.
pub fn mutate<'a>(knowledge: &Knowledge, facts: &Facts, body: &'a [u8]) -> Result<Reply<'a>, Refusal> {
    let request = match Request::read(body)? {
        Ok(request) => request,
        Err(malformed) => return Ok(Reply::Answer(answer_malformed(malformed))),
    };
    let api_version = request.kind.api_version().into_owned();
    let read = budget::attempt(|| subject(&knowledge.configuration.site, &request, &api_version));
    let judged = match read.unwrap_or_else(|_| Err(Box::default())) {
        Ok(subject) => {
            let attempt = Attempt::new(knowledge, facts, &request);
            // An object that is too complex is not patched: `/validate` denies it with the reason.
            let patch = budget::attempt(|| patch(knowledge, &attempt, &request, body, &subject)).unwrap_or_default();
            let needs = attempt.into_needs();
            if !needs.is_empty() {
                return Ok(Reply::Needs(needs));
            }
            Judged { outcome: Outcome { patch, ..Outcome::default() }, ..Judged::default() }
        }
        Err(judged) => *judged,
    };
    Ok(Reply::Answer(answer(request, judged)))
}

fn patch(
    knowledge: &Knowledge,
    attempt: &Attempt<'_>,
    request: &Request<'_>,
    body: &[u8],
    subject: &RequestedChange<'_>,
) -> Option<Patch> {
    // A patch on a DELETE fails the request, regardless of failurePolicy.
    let RequestedChange::Write { new, .. } = subject else { return None };
    // The patch of a new namespace does not depend on the state of the cluster.
    if let Body::Namespace(namespace) = &new.body {
        let (site, is_new) = (&knowledge.configuration.site, request.operation == "CREATE");
        let object = whole_object(request, body)?;
        let mut patch =
            if is_new { labels(knowledge, &new.id.name, &namespace.labels, &object) } else { Patch::default() };
        let (old, now) = (subject.change().old(), attempt.occasion().now);
        patch.extend(opened_by(site, old, new, &request.user_info.username, now, &object));
        // A patch that cannot be applied fails the request too, so it is tried here.
        patch.applied_to(&object)?;
        return (!patch.is_empty()).then_some(patch);
    }
    // An object that cannot be decided is not patched: `/validate` is called next and gives the reason.
    let own = attempt.view().ok()?;
    let view = own.as_ref().unwrap_or(&knowledge.view);
    let patch = match &new.body {
        Body::Policies(_) => {
            let fixes = engine::repairs(&knowledge.configuration, view, subject.change(), attempt.occasion());
            if fixes.is_empty() {
                return None;
            }
            let mut patched = whole_object(request, body)?;
            let mut all = Patch::default();
            for fix in &fixes {
                // Each fix is computed on the result of the previous ones.
                let text = patched.to_string();
                let api_version = request.kind.api_version();
                let written = serde_json::from_str(&text).ok()?;
                let patch = dialect::fix(fix, &manifest(request, &api_version, written))?;
                patched = patch.applied_to(&patched)?;
                all.extend(patch);
            }
            all
        }
        Body::Workload(pod) if request.operation == "CREATE" && request.kind.kind == "Pod" => {
            if !waits(knowledge, view, request, pod) {
                return None;
            }
            let object = whole_object(request, body)?;
            let patch = gate(&knowledge.configuration.site.gate_name(), &object);
            patch.applied_to(&object)?;
            patch
        }
        Body::Namespace(_)
        | Body::Tier(_)
        | Body::Workload(_)
        | Body::Service(_)
        | Body::Backends(_)
        | Body::Contract(_) => return None,
    };
    (!patch.is_empty()).then_some(patch)
}

/// Returns true if a pod should wait for the baseline of its namespace. A pod that is already assigned to a node cannot
/// wait, and without a running controller it would wait forever.
fn waits(knowledge: &Knowledge, view: &View, request: &Request<'_>, pod: &Workload) -> bool {
    let site = &knowledge.configuration.site;
    let namespace = request.namespace.as_deref().filter(|name| !site.is_left_alone(name));
    let labels = namespace.and_then(|name| view.all_labels(name));
    site.baseline.gate
        && knowledge.controller_runs
        && !pod.is_assigned
        && !is_mirror_pod(request)
        && labels.is_some_and(|labels| labels.get(&site.baseline_label()) == Some("pending"))
        && !pod.gates.iter().any(|gate| **gate == *site.gate_name())
}

/// Sets the annotation for the user that opens a hatch, and replaces any value from the request.
fn opened_by(site: &Site, old: Option<&Object>, new: &Object, username: &str, now: Timestamp, object: &Value) -> Patch {
    let mut patch = Patch::default();
    let annotation = site.opened_by_annotation();
    let written = new.annotations.get(&annotation);
    let opener = rules::opener(site, old, new, username, now);
    // The controller only closes hatches.
    if opener == written || username == site.baseline.username {
        return patch;
    }
    let annotations = Path::root().field("metadata").field("annotations");
    match opener {
        Some(opener) => {
            if object.pointer(&annotations.pointer()).is_none_or(Value::is_null) {
                patch.add(&annotations, &serde_json::Map::new());
            }
            patch.add(&annotations.key(&annotation), opener);
        }
        None => patch.remove(&annotations.key(&annotation)),
    }
    patch
}

/// Adds a scheduling gate.
fn gate(name: &str, object: &Value) -> Patch {
    let mut patch = Patch::default();
    let gates = Path::root().field("spec").field("schedulingGates");
    let gate = serde_json::json!({ "name": name });
    match object.pointer(&gates.pointer()).and_then(Value::as_array) {
        Some(others) => patch.add(&gates.index(others.len()), &gate),
        None => patch.add(&gates, &[gate]),
    }
    patch
}

/// Adds the labels that a new namespace lacks.
fn labels(knowledge: &Knowledge, name: &str, written: &Labels, object: &Value) -> Patch {
    let mut patch = Patch::default();
    let site = &knowledge.configuration.site;
    if site.is_left_alone(name) {
        return patch;
    }
    let mut missing: Vec<(String, &str)> = Vec::new();
    let mut after = written.clone();
    let (profile, baseline) = (site.profile_label(), site.baseline_label());
    if let Some(default) = site.profiles.default.as_deref().filter(|_| written.get(&profile).is_none()) {
        after = after.with(&profile, default);
        missing.push((profile, default));
    }
    // The baseline label of a new namespace is always `pending`, whatever the author sets. Cluster-wide policies count
    // too: they may not exist yet, because their kind is not served.
    let is_due = !knowledge.policies.meant_for(site, name, &after).is_empty();
    if is_due && written.get(&baseline) != Some("pending") {
        missing.push((baseline, "pending"));
    }
    if missing.is_empty() {
        return patch;
    }
    let metadata = Path::root().field("metadata");
    let labels = metadata.field("labels");
    for parent in [&metadata, &labels] {
        if object.pointer(&parent.pointer()).is_none_or(Value::is_null) {
            patch.add(parent, &serde_json::Map::new());
        }
    }
    for (label, value) in missing {
        patch.add(&labels.key(&label), &value);
    }
    patch
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::baseline::PolicySet;
    use crate::config::Configuration;
    use crate::dialect::{Manifest, Origin};
    use serde_json::json;

    const GATE: &str = "network-policy.portcullis.dev/baseline";

    fn knowledge(rest: &str, baseline: &str) -> Knowledge {
        let text = format!("apiVersion: portcullis.dev/v1alpha1\nkind: Configuration\n{rest}");
        let mut view = View::default();
        let namespace = json!({"metadata": {"name": "shop", "labels": {GATE: baseline}}}).to_string();
        let manifest = Manifest::read("v1", "Namespace", &namespace, Origin::Author).unwrap();
        view.insert(dialect::read(&manifest).unwrap().unwrap());
        Knowledge {
            controller_runs: true,
            ..Knowledge::new(Configuration::read(&text).unwrap(), view, PolicySet::default())
        }
    }

    /// The scheduling gates after the patch.
    fn gates(knowledge: &Knowledge, spec: &Value) -> Option<Value> {
        let pod =
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web", "namespace": "shop"}, "spec": spec});
        let body = json!({
            "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
            "request": {
                "uid": "1", "kind": {"group": "", "version": "v1", "kind": "Pod"},
                "resource": {"group": "", "version": "v1", "resource": "pods"},
                "name": "web", "namespace": "shop", "operation": "CREATE", "userInfo": {"username": "ada"},
                "object": pod.clone(), "oldObject": null, "dryRun": false,
            },
        })
        .to_string();
        let body = body.as_bytes();
        let request = Request::read(body).unwrap().unwrap();
        let facts = Facts::default();
        let attempt = Attempt::new(knowledge, &facts, &request);
        let subject = subject(&knowledge.configuration.site, &request, "v1").unwrap_or_else(|_| panic!("a subject"));
        let patched = patch(knowledge, &attempt, &request, body, &subject)?.applied_to(&pod).unwrap();
        Some(patched["spec"]["schedulingGates"].clone())
    }

    /// Cluster-wide policies may not exist yet, because their kind is not served.
    #[test]
    fn a_new_namespace_is_pending_in_every_policy_set() {
        for set in ["kubernetes", "cilium", "calico"] {
            let text = format!("apiVersion: portcullis.dev/v1alpha1\nkind: Configuration\npolicySet: {set}\n");
            let configuration = Configuration::read(&text).unwrap();
            let policies = PolicySet::shipped(&configuration.site.label_domain).unwrap();
            let knowledge = Knowledge::new(configuration, View::default(), policies);
            let object = json!({"metadata": {"name": "new"}});
            let patched = labels(&knowledge, "new", &Labels::default(), &object).applied_to(&object).unwrap();
            assert_eq!(patched["metadata"]["labels"][GATE], "pending", "{set}");
        }
    }

    #[test]
    fn a_pod_waits_only_where_a_controller_will_remove_its_gate() {
        let gated = "baseline: {gate: true}\n";
        let (pod, ours) = (json!({"containers": []}), json!({"name": GATE}));
        let pending = knowledge(gated, "pending");
        assert_eq!(gates(&pending, &pod), Some(json!([ours])));
        let other = json!({"name": "example.com/other"});
        let with = |gates: Value| json!({"containers": [], "schedulingGates": gates});
        assert_eq!(gates(&pending, &with(json!([other]))), Some(json!([other, ours])));
        assert_eq!(gates(&pending, &with(json!([ours]))), None, "it waits already");
        assert_eq!(gates(&pending, &json!({"containers": [], "nodeName": "n"})), None, "it has its node");
        assert_eq!(gates(&knowledge(gated, "applied"), &pod), None, "everything is there");
        assert_eq!(gates(&knowledge("", "pending"), &pod), None, "gates are off");
        for left_alone in ["excludedNamespaces: [shop]\n", "platformNamespaces: [shop]\n"] {
            let knowledge = knowledge(&format!("{left_alone}{gated}"), "pending");
            assert_eq!(gates(&knowledge, &pod), None, "no controller will apply anything there");
        }
        let alone = Knowledge { controller_runs: false, ..pending };
        assert_eq!(gates(&alone, &pod), None, "no controller would lift it");
    }
}
