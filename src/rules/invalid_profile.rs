//! See [`InvalidProfile`].

use super::{Case, Findings, Rule};

rule! {
    /// A namespace has a profile or access label with an unknown or forbidden value.
    ///
    /// ## Why
    ///
    /// These labels select the policies of a namespace. With an unknown value the namespace gets no policies at all,
    /// although its label suggests that it has some.
    ///
    /// ## What it checks
    ///
    /// Labels of namespaces:
    ///
    /// - a profile that is not in the configuration;
    /// - a profile on a platform namespace, which has policies of its own, or on an excluded namespace, which gets
    ///   none;
    /// - an access label with a name that is not in the configuration, or with a value other than `"true"`.
    ///
    /// Policies are not checked, so the dialects make no difference.
    ///
    /// ## Fires
    ///
    /// ```yaml
    /// apiVersion: v1
    /// kind: Namespace
    /// metadata:
    ///   name: shop
    ///   labels:
    ///     network-policy.portcullis.dev/profile: standart
    /// ```
    ///
    /// ## Passes
    ///
    /// ```yaml
    /// apiVersion: v1
    /// kind: Namespace
    /// metadata:
    ///   name: shop
    ///   labels:
    ///     network-policy.portcullis.dev/profile: standard
    ///     access.network-policy.portcullis.dev/postgres: "true"
    /// ```
    ///
    /// ## Settings
    ///
    /// None. The names are `profiles.names`, `access`, `platformNamespaces` and `excludedNamespaces` of the
    /// configuration.
    "invalid-profile", Deny, on = [Namespaces],
    #[derive(Default)]
    pub struct InvalidProfile {}
}

impl Rule for InvalidProfile {
    fn check(&self, case: &Case<'_>, findings: &mut Findings) {
        let Some((name, namespace)) = case.namespace() else { return };
        let site = case.site;
        let mut add = |label: &str, message: String, help: String| {
            findings.add::<Self>(case, namespace.labels_path.key(label), message, help, None);
        };
        let label = site.profile_label();
        if let Some(profile) = namespace.labels.get(&label) {
            let known = &site.profiles.names;
            if site.is_platform(name) {
                let message = text!("platform namespace {name} cannot have profile `{profile}`");
                add(&label, message, "remove the label; platform namespaces have their own policies".into());
            } else if site.is_excluded(name) {
                let message =
                    text!("profile `{profile}` has no effect, because namespace {name} is in `excludedNamespaces`");
                add(&label, message, "remove the label, or remove the namespace from `excludedNamespaces`".into());
            } else if !known.iter().any(|other| other == profile) {
                let message = text!("unknown profile `{profile}`; the namespace would get no profile policies");
                add(&label, message, choose(profile, known));
            }
        }
        for (label, value) in namespace.labels.iter() {
            let Some(access) = site.access_name(label) else { continue };
            if !site.access.iter().any(|other| other == access) {
                add(label, text!("unknown access `{access}`; the label grants nothing"), choose(access, &site.access));
            } else if value != "true" {
                let message = text!("access `{access}` has the value `{value}`, which grants nothing");
                add(label, message, "set the label to `true`, or remove it".into());
            }
        }
    }
}

/// The help text that lists the known names, with the closest one first if one is close.
fn choose(written: &str, known: &[String]) -> String {
    let nearest = known
        .iter()
        .map(|name| (strsim::damerau_levenshtein(written, name), name))
        .filter(|(distance, name)| *distance <= 2.max(name.len() / 3))
        .min();
    let all = known.join(", ");
    match nearest {
        Some((_, name)) => text!("did you mean `{name}`? Expected one of: {all}"),
        None if known.is_empty() => "remove the label".to_owned(),
        None => text!("use one of: {all}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_near_name_is_proposed() {
        let known = ["isolated", "internal", "standard"].map(String::from);
        assert!(choose("standart", &known).starts_with("did you mean `standard`?"));
        assert_eq!(choose("open", &known), "use one of: isolated, internal, standard");
    }
}
