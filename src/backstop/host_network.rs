//! `host-network`: hostNetwork pods and templates in a namespace whose profile isolates it. The profile is a label of the
//! namespace, which the API server gives to the expression. Isolation by policies needs the view and is not compiled.

use super::cel::{self, any, list, text};
use super::manifest::AdmissionPolicy;
use super::settings::{denies_within_budget, setting};
use super::subject::{WRITES, exemptions, may_be_exempt, may_have_open_hatch, namespace_variables, resources};
use crate::config::Configuration;
use crate::engine::WORKLOAD_CONTROLLERS;
use crate::rules::host_network::HostNetwork;

const RULE: &str = "host-network";

/// The policies for pods and for workloads.
pub(super) fn policies(configuration: &Configuration) -> Vec<AdmissionPolicy> {
    let Some(enforced) = denies_within_budget(configuration, RULE) else { return Vec::new() };
    vec![pods(configuration, &enforced), workloads(configuration, &enforced)]
}

fn pods(configuration: &Configuration, enforced: &str) -> AdmissionPolicy {
    let variables = vec![
        ("pod", "dyn(object).spec".to_owned()),
        ("before", "false".to_owned()),
        ("exemptions", exemptions(&configuration.site, "dyn(object)")),
    ];
    let mirror = r#"request.userInfo.username.startsWith("system:node:") && "kubernetes.io/config.mirror" in object.metadata.?annotations.orValue({})"#;
    let conditions = vec![
        // A pod cannot change to or from hostNetwork.
        ("uses-the-network-of-the-node", "object.?spec.?hostNetwork.orValue(false) == true".to_owned()),
        ("not-a-mirror-pod", format!("!({mirror})")),
    ];
    let resources = vec![resources("", &["CREATE"], &["pods"])];
    policy(configuration, enforced, ("pods", "Pod"), resources, conditions, variables)
}

fn workloads(configuration: &Configuration, enforced: &str) -> AdmissionPolicy {
    let site = &configuration.site;
    let template = |object: &str| {
        format!(
            r#"request.resource.resource == "cronjobs" ? {object}.?spec.?jobTemplate.?spec.?template.orValue({{}}) : request.resource.resource == "podtemplates" ? {object}.?template.orValue({{}}) : {object}.?spec.?template.orValue({{}})"#
        )
    };
    // Pods get the annotations of their template. Those of the Job that a CronJob creates come next.
    let annotations = ["variables.template", "dyn(object).?spec.?jobTemplate.orValue({})", "dyn(object)"]
        .map(|part| exemptions(site, part))
        .join(" + ");
    let variables = vec![
        ("template", template("dyn(object)")),
        ("templateBefore", template("dyn(oldObject)")),
        ("before", "oldObject != null && variables.templateBefore.?spec.?hostNetwork.orValue(false)".to_owned()),
        ("pod", "variables.template.?spec.orValue({})".to_owned()),
        ("exemptions", annotations),
    ];
    let resources = vec![
        resources("apps", &WRITES, &["daemonsets", "deployments", "replicasets", "statefulsets"]),
        resources("batch", &WRITES, &["cronjobs", "jobs"]),
        resources("", &WRITES, &["podtemplates", "replicationcontrollers"]),
    ];
    policy(configuration, enforced, ("workloads", "workload"), resources, Vec::new(), variables)
}

fn policy(
    configuration: &Configuration,
    enforced: &str,
    (part, kind): (&'static str, &str),
    resources: Vec<serde_json::Value>,
    conditions: Vec<(&'static str, String)>,
    own: Vec<(&'static str, String)>,
) -> AdmissionPolicy {
    let site = &configuration.site;
    let profiles =
        setting(configuration, RULE, |rule: &HostNetwork| list(rule.profiles.as_ref().unwrap_or(&site.profiles.names)));
    let accounts = setting(configuration, RULE, |rule: &HostNetwork| list(&rule.exempt_service_accounts));
    // Both names of the field. The API server fills in one from the other.
    let account = |field: &str| {
        format!(r#"(variables.namespaceName + "/" + variables.pod.?{field}.orValue("default")) in {accounts}"#)
    };
    let mut variables = namespace_variables();
    variables.extend(own);
    variables.extend([
        ("profile", format!(r#"variables.namespaceLabels[?{}].orValue("")"#, text(&site.profile_label()))),
        ("isolates", format!("variables.profile in {profiles}")),
    ]);
    let left_alone = [&site.platform_namespaces[..], &site.excluded_namespaces].concat();
    let copies = format!("request.userInfo.username in {}", list(&WORKLOAD_CONTROLLERS));
    let mut spared = vec![cel::matches("variables.namespaceName", &left_alone), may_have_open_hatch(site)];
    if accounts != "[]" {
        spared.extend(["serviceAccountName", "serviceAccount"].map(account));
    }
    spared.push(may_be_exempt(configuration, RULE, "variables.exemptions", &copies));
    AdmissionPolicy {
        rule: RULE,
        part: Some(part),
        resources,
        is_namespaced: true,
        conditions,
        variables,
        fault: "variables.pod.?hostNetwork.orValue(false) && !variables.before && variables.isolates".to_owned(),
        enforced: enforced.to_owned(),
        spared: any(&spared),
        message: format!(
            r#""the {kind} uses `hostNetwork` and bypasses the isolation of namespace " + variables.namespaceName + " by profile " + variables.profile"#
        ),
        help: "remove `hostNetwork`, or use a platform namespace".to_owned(),
    }
}
