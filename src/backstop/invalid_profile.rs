//! `invalid-profile`: profile and access labels that select nothing.

use super::cel::{self, list, text};
use super::manifest::AdmissionPolicy;
use super::settings::denies_within_budget;
use super::subject::{exemptions, may_be_exempt, namespaces, not_the_control_plane, own_variables};
use crate::config::Configuration;

const RULE: &str = "invalid-profile";

/// The policy for namespaces.
pub(super) fn policy(configuration: &Configuration) -> Option<AdmissionPolicy> {
    let site = &configuration.site;
    let enforced = denies_within_budget(configuration, RULE)?;
    let label = text(&site.profile_label());
    let prefix = site.access_label("");
    let access: Vec<String> = site.access.iter().map(|name| site.access_label(name)).collect();
    let left_alone = [&site.platform_namespaces[..], &site.excluded_namespaces].concat();
    let left_alone = cel::matches("variables.namespaceName", &left_alone);
    let mut variables = own_variables();
    variables.extend([
        (
            "profile",
            format!(
                "{label} in variables.now && variables.was[?{label}] != variables.now[?{label}] && \
                 ({left_alone} || !(variables.now[{label}] in {}))",
                list(&site.profiles.names)
            ),
        ),
        (
            "access",
            // The fault of an unknown name does not depend on the value.
            format!(
                r#"variables.now.exists(key, key.startsWith({}) && (key in {} ? variables.now[key] != "true" && variables.was[?key] != variables.now[?key] : !(key in variables.was)))"#,
                text(&prefix),
                list(&access)
            ),
        ),
    ]);
    let exempt = may_be_exempt(configuration, RULE, &format!("({})", exemptions(site, "dyn(object)")), "false");
    Some(AdmissionPolicy {
        rule: RULE,
        part: None,
        resources: namespaces(),
        is_namespaced: false,
        conditions: vec![
            not_the_control_plane(site),
            // A loop over more labels takes the API server too long.
            ("few-labels", "object.metadata.?labels.orValue({}).size() <= 1000".to_owned()),
        ],
        variables,
        fault: "variables.profile || variables.access".to_owned(),
        enforced,
        spared: exempt,
        message: r#""namespace " + variables.namespaceName + (variables.profile ? " has a profile that is unknown, or that has no effect there" : " has an unknown access label, or one whose value is not `true`")"#.to_owned(),
        help: format!(
            "known profiles: {}; known access labels: {}",
            site.profiles.names.join(", "),
            site.access.join(", ")
        ),
    })
}
