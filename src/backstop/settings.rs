//! The modes and settings of a rule by namespace, as CEL expressions.

use std::any::Any;

use super::cel;
use crate::config::{Configuration, Variant};
use crate::rules::{Mode, Rule, TOO_COMPLEX};

/// The namespace that decides about modes and settings: the variables with its name and its labels.
const NAME: &str = "variables.namespaceName";
const LABELS: &str = "variables.namespaceLabels";

/// A condition that is true if this rule denies in the namespace. `None` if it denies in no namespace.
pub(super) fn denies(configuration: &Configuration, rule: &str) -> Option<String> {
    let may_deny = configuration.variants(rule).any(|variant| variant.mode == Some(Mode::Deny));
    may_deny.then(|| by_namespace(configuration, rule, |variant| Some((variant.mode? == Mode::Deny).to_string())))
}

/// The same for a rule that the engine may not evaluate if the budget of a request is exceeded. The request is then
/// denied only if `too-complex` denies. Guards are evaluated first, within any budget.
pub(super) fn denies_within_budget(configuration: &Configuration, rule: &str) -> Option<String> {
    let (own, too_complex) = (denies(configuration, rule)?, denies(configuration, TOO_COMPLEX)?);
    Some(if too_complex == "true" { own } else { cel::all(&[own, too_complex]) })
}

/// The value of a setting of a rule in the namespace.
pub(super) fn setting<R: Rule>(configuration: &Configuration, rule: &str, read: impl Fn(&R) -> String) -> String {
    by_namespace(configuration, rule, |variant| {
        let rule: &dyn Any = variant.rule?;
        rule.downcast_ref::<R>().map(&read)
    })
}

/// The last value that applies to the namespace.
fn by_namespace(configuration: &Configuration, rule: &str, value: impl Fn(&Variant<'_>) -> Option<String>) -> String {
    let mut all = String::new();
    for variant in configuration.variants(rule) {
        let Some(value) = value(&variant).filter(|value| *value != all) else { continue };
        all = match variant.namespaces {
            None => value,
            Some(namespaces) => {
                let applies = cel::applies(namespaces, &configuration.site, NAME, LABELS);
                format!("({applies} ? {value} : {all})")
            }
        };
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::any_port::AnyPort;

    fn read(rest: &str) -> Configuration {
        Configuration::read(&format!("apiVersion: portcullis.dev/v1alpha1\nkind: Configuration\n{rest}")).unwrap()
    }

    fn denies_any_port(rest: &str) -> Option<String> {
        denies(&read(rest), "any-port")
    }

    #[test]
    fn a_rule_that_denies_in_no_namespace_is_left_out() {
        assert_eq!(denies_any_port("rules: {any-port: warn}\n"), None);
        assert_eq!(denies_any_port("preset: observe\n"), None);
        assert_eq!(denies_any_port("").as_deref(), Some("true"));
    }

    #[test]
    fn the_last_override_that_applies_counts() {
        let overrides = "platformNamespaces: [kube-system, 'ops-*']\noverrides:\n\
            - {namespaces: {names: [legacy, 'old-*']}, rules: {any-port: warn}}\n\
            - {namespaces: {platform: false, matchLabels: {team: web}}, rules: {any-port: deny}}\n\
            - {namespaces: {names: [legacy]}, rules: {host-network: warn}}\n";
        let namespace = "variables.namespaceName";
        let legacy = format!(r#"({namespace} != "" && ({namespace} in ["legacy"] || {namespace}.startsWith("old-")))"#);
        let platform = format!(r#"({namespace} in ["kube-system"] || {namespace}.startsWith("ops-"))"#);
        let team = r#"("team" in variables.namespaceLabels && variables.namespaceLabels["team"] in ["web"])"#;
        let web = format!(r#"({namespace} != "" && !({platform}) && {team})"#);
        assert_eq!(denies_any_port(overrides), Some(format!("({web} ? true : ({legacy} ? false : true))")));
    }

    #[test]
    fn a_setting_follows_the_overrides() {
        let overrides =
            "overrides: [{namespaces: {names: [shop]}, rules: {any-port: {settings: {sameNamespace: true}}}}]\n";
        let same = setting(&read(overrides), "any-port", |rule: &AnyPort| rule.same_namespace.to_string());
        let shop = r#"(variables.namespaceName != "" && variables.namespaceName in ["shop"])"#;
        assert_eq!(same, format!("({shop} ? true : false)"));
        let same = setting(&read(""), "any-port", |rule: &AnyPort| rule.same_namespace.to_string());
        assert_eq!(same, "false");
    }
}
