//! The rules that protect Portcullis itself. Hatches, exemptions and old faults do not spare a change from them.

use serde_json::Value;

use super::cel::{self, list, text};
use super::manifest::AdmissionPolicy;
use super::settings::denies;
use super::subject::{
    CALICO_GROUPS, may_bypass, namespace_variables, namespaces, not_the_control_plane, own_variables, resources,
};
use crate::admission::FINISHERS;
use crate::config::Configuration;
use crate::rules::{ON, ask_for_bypass};
use crate::view::Site;

/// A time that CEL can parse, unless a number in it is too large.
const RFC3339: &str = r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$";

/// The policies of the guards that deny.
pub(super) fn policies(configuration: &Configuration) -> Vec<AdmissionPolicy> {
    let policies = [
        managed_policies(configuration),
        managed_labels(configuration),
        unguarded_hatch(configuration),
        isolation_downgrade(configuration),
    ];
    policies.into_iter().flatten().collect()
}

/// Every kind of network policy.
fn policy_resources() -> Vec<Value> {
    const ALL: [&str; 3] = ["CREATE", "UPDATE", "DELETE"];
    let mut all = vec![
        resources("networking.k8s.io", &ALL, &["networkpolicies"]),
        resources("cilium.io", &ALL, &["ciliumnetworkpolicies", "ciliumclusterwidenetworkpolicies"]),
        resources(
            "policy.networking.k8s.io",
            &ALL,
            &["clusternetworkpolicies", "adminnetworkpolicies", "baselineadminnetworkpolicies"],
        ),
    ];
    let of_calico = [
        "networkpolicies",
        "globalnetworkpolicies",
        "stagednetworkpolicies",
        "stagedglobalnetworkpolicies",
        "stagedkubernetesnetworkpolicies",
    ];
    all.extend(CALICO_GROUPS.map(|group| resources(group, &ALL, &of_calico)));
    all
}

/// True if the name in this expression is reserved for the baseline controller.
pub(super) fn is_reserved(site: &Site, name: &str) -> String {
    let prefix = &site.baseline.reserved_prefix;
    let groups = list(&CALICO_GROUPS);
    // Calico puts the name of its tier before names.
    let in_tier = text(&format!("default.{prefix}"));
    format!(
        "({name}.startsWith({}) || (request.resource.group in {groups} && {name}.startsWith({in_tier})))",
        text(prefix)
    )
}

/// True if Calico's API server stores an object that a user sent to it.
pub(super) fn is_passed_on(site: &Site) -> String {
    let [_, stored] = CALICO_GROUPS;
    let servers = list(&site.calico_api_servers);
    format!(r#"(request.resource.group == {} && request.userInfo.username in {servers})"#, text(stored))
}

/// `managed-policy-change`, for policies with reserved names.
fn managed_policies(configuration: &Configuration) -> Option<AdmissionPolicy> {
    let (rule, site) = ("managed-policy-change", &configuration.site);
    let enforced = denies(configuration, rule)?;
    let name = r#"dyn(request.operation == "DELETE" ? oldObject : object).metadata.?name.orValue("")"#;
    let mut variables = vec![("name", name.to_owned())];
    variables.extend(namespace_variables());
    let differs = |field: &str| format!("variables.new.?{field} != variables.old.?{field}");
    let changes = [
        differs("spec"),
        differs("specs"),
        differs("metadata.?labels"),
        differs("metadata.?annotations"),
        differs("metadata.?ownerReferences"),
    ];
    variables.extend([
        ("new", "dyn(object)".to_owned()),
        ("old", "dyn(oldObject)".to_owned()),
        // A finalizer of a reserved policy may be removed.
        ("changes", format!(r#"request.operation != "UPDATE" || {}"#, cel::any(&changes))),
    ]);
    let controller = text(&site.baseline.username);
    let finishers = list(&FINISHERS);
    let conditions = vec![
        ("not-the-controller", format!("request.userInfo.username != {controller}")),
        ("not-passed-on", format!("!{}", is_passed_on(site))),
        (
            "not-the-end-of-a-deletion",
            format!(r#"request.operation != "DELETE" || !(request.userInfo.username in {finishers})"#),
        ),
    ];
    Some(AdmissionPolicy {
        rule,
        part: Some("policies"),
        resources: policy_resources(),
        is_namespaced: true,
        conditions,
        variables,
        fault: format!("{} && variables.changes", is_reserved(site, "variables.name")),
        enforced,
        spared: may_bypass(site),
        message: format!(
            r#""only the baseline controller may write policies with names that start with `{}`: user " + request.userInfo.username + " may not change " + variables.name"#,
            site.baseline.reserved_prefix
        ),
        help: format!("leave the object to the controller, or {}", ask_for_bypass(rule)),
    })
}

/// `managed-policy-change`, for the label and the annotation that the controller writes on namespaces.
fn managed_labels(configuration: &Configuration) -> Option<AdmissionPolicy> {
    let (rule, site) = ("managed-policy-change", &configuration.site);
    let enforced = denies(configuration, rule)?;
    let (label, annotation) = (text(&site.baseline_label()), text(&site.opened_annotation()));
    let mut variables = own_variables();
    variables.extend([
        (
            "label",
            format!(
                r#"({label} in variables.now ? variables.was[?{label}] != variables.now[?{label}] : variables.was[?{label}].orValue("") == "pending")"#
            ),
        ),
        (
            "opened",
            format!("object.metadata.?annotations[?{annotation}] != oldObject.metadata.?annotations[?{annotation}]"),
        ),
    ]);
    let controller = text(&site.baseline.username);
    Some(AdmissionPolicy {
        rule,
        part: Some("namespaces"),
        resources: namespaces(),
        is_namespaced: false,
        conditions: vec![
            not_the_control_plane(site),
            // `/mutate` sets the label of a new namespace.
            ("an-update", r#"request.operation == "UPDATE""#.to_owned()),
            ("not-the-controller", format!("request.userInfo.username != {controller}")),
        ],
        variables,
        fault: "variables.label || variables.opened".to_owned(),
        enforced,
        spared: may_bypass(site),
        message: format!(
            r#""only the baseline controller may change label or annotation " + (variables.label ? {label} : {annotation}) + " of namespace " + variables.namespaceName"#
        ),
        help: format!("leave it to the controller, or {}", ask_for_bypass(rule)),
    })
}

/// `unguarded-hatch`: opening or extending a hatch without permission, and without a reason or an end.
fn unguarded_hatch(configuration: &Configuration) -> Option<AdmissionPolicy> {
    let (rule, site) = ("unguarded-hatch", &configuration.site);
    let enforced = denies(configuration, rule)?;
    let label = text(&site.enforcement_label());
    let written = |object: &str, annotation: &str| {
        format!(r#"{object}.metadata.?annotations[?{}].orValue("").trim()"#, text(annotation))
    };
    let (reason, until) = (site.reason_annotation(), site.until_annotation());
    let known = [&["disabled"], &ON[..]].concat();
    let mut variables = own_variables();
    variables.extend([
        ("value", format!(r#"variables.now[?{label}].orValue("")"#)),
        ("before", format!(r#"variables.was[?{label}].orValue("")"#)),
        ("reason", written("object", &reason)),
        ("until", written("object", &until)),
        ("end", written("oldObject", &until)),
        ("opens", r#"variables.value == "disabled" && variables.before != "disabled""#.to_owned()),
        (
            "extends",
            format!(
                r#"variables.value == "disabled" && variables.before == "disabled" && (variables.reason != {} || ([variables.until, variables.end].all(time, time.matches({time})) && timestamp(variables.until) > timestamp(variables.end)))"#,
                written("oldObject", &reason),
                time = text(RFC3339)
            ),
        ),
        (
            "incomplete",
            r#"variables.opens && (variables.reason == "" || variables.until == "")"#.to_owned(),
        ),
        (
            "unknown",
            format!(
                r#"{label} in variables.now && !(variables.value in {}) && variables.was[?{label}] != variables.now[?{label}]"#,
                list(&known)
            ),
        ),
    ]);
    Some(AdmissionPolicy {
        rule,
        part: None,
        resources: namespaces(),
        is_namespaced: false,
        conditions: vec![
            not_the_control_plane(site),
            ("has-the-label", format!("{label} in object.metadata.?labels.orValue({{}})")),
        ],
        variables,
        fault: "variables.unknown || variables.opens || variables.extends".to_owned(),
        enforced,
        spared: format!("!variables.unknown && !variables.incomplete && {}", may_bypass(site)),
        message: r#"(variables.unknown ? "`enforcement=" + variables.value + "` has no effect; enforcement stays on" : variables.incomplete ? "`enforcement=disabled` has no effect without a reason and an end" : "user " + request.userInfo.username + " may not disable enforcement of namespace " + variables.namespaceName)"#
            .to_owned(),
        help: format!("set annotations `{reason}` and `{until}`, and {}", ask_for_bypass(rule)),
    })
}

/// `isolation-downgrade`: a profile that allows more, or access that is added to the most isolated profile.
fn isolation_downgrade(configuration: &Configuration) -> Option<AdmissionPolicy> {
    let (rule, site) = ("isolation-downgrade", &configuration.site);
    let enforced = denies(configuration, rule)?;
    let label = text(&site.profile_label());
    let ranks = site.profiles.names.iter().enumerate().map(|(rank, name)| format!("{}: {rank}", text(name)));
    let ranks = format!("{{{}}}", ranks.collect::<Vec<_>>().join(", "));
    let access: Vec<String> = site.access.iter().map(|name| site.access_label(name)).collect();
    let most_isolated = site.profiles.names.first().map_or("", String::as_str);
    let mut variables = own_variables();
    variables.extend([
        ("ranks", ranks),
        ("profile", format!(r#"variables.now[?{label}].orValue("")"#)),
        ("before", format!(r#"variables.was[?{label}].orValue("")"#)),
        (
            "opens",
            "variables.before in variables.ranks && (!(variables.profile in variables.ranks) || \
             variables.ranks[variables.profile] > variables.ranks[variables.before])"
                .to_owned(),
        ),
        (
            "access",
            format!(
                r#"{label} in variables.now && variables.profile == {} && {}.exists(key, variables.now[?key].orValue("") == "true" && variables.was[?key].orValue("") != "true")"#,
                text(most_isolated),
                list(&access)
            ),
        ),
    ]);
    Some(AdmissionPolicy {
        rule,
        part: None,
        resources: namespaces(),
        is_namespaced: false,
        conditions: vec![
            not_the_control_plane(site),
            ("an-update", r#"request.operation == "UPDATE""#.to_owned()),
            ("not-of-the-platform", format!("!({})", cel::matches("object.metadata.name", &site.platform_namespaces))),
        ],
        variables,
        fault: "variables.opens || variables.access".to_owned(),
        enforced,
        spared: may_bypass(site),
        message: r#""user " + request.userInfo.username + (variables.opens ? " may not change profile `" + variables.before + "` of namespace " + variables.namespaceName + ", which would allow more" : " may not add access to namespace " + variables.namespaceName + " with profile `" + variables.profile + "`")"#
            .to_owned(),
        help: format!("keep the profile, or {}", ask_for_bypass(rule)),
    })
}
