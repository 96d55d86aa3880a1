//! The namespaces that an override applies to.

use crate::model::{Labels, Selector};
use crate::view::{NamePattern, Site};

/// The selector of an override's namespaces. All conditions have to match.
pub struct NamespaceSelector {
    /// The names.
    pub names: Option<Vec<NamePattern>>,
    /// True for platform namespaces, false for all others.
    pub platform: Option<bool>,
    /// The condition on the labels.
    pub labels: Option<Selector>,
}

impl NamespaceSelector {
    pub(super) fn matches(&self, namespace: &str, labels: Option<&Labels>, site: &Site) -> bool {
        self.names.as_ref().is_none_or(|names| names.iter().any(|pattern| pattern.matches(namespace)))
            && self.platform.is_none_or(|platform| site.is_platform(namespace) == platform)
            && self.labels.as_ref().is_none_or(|selector| labels.is_some_and(|labels| selector.matches(labels)))
    }

    /// Returns true if the override applies to all namespaces that the pattern matches, and false if it applies to
    /// none. None if it may apply to some of them.
    pub(super) fn mean(&self, pattern: &NamePattern, site: &Site) -> Option<bool> {
        let by_name = self.names.as_ref().map_or(Some(true), |names| is_among(pattern, names));
        let by_platform = self.platform.map_or(Some(true), |platform| {
            is_among(pattern, &site.platform_namespaces).map(|is_platform| is_platform == platform)
        });
        // A namespace can have any labels.
        let by_labels = self.labels.is_none().then_some(true);
        let parts = [by_name, by_platform, by_labels];
        if parts.contains(&Some(false)) {
            return Some(false);
        }
        parts.iter().all(Option::is_some).then_some(true)
    }
}

/// Returns true if the other patterns cover all names that a pattern matches, and false if they cover none. None if
/// they may cover some.
fn is_among(pattern: &NamePattern, others: &[NamePattern]) -> Option<bool> {
    if others.iter().any(|other| other.covers(pattern)) {
        return Some(true);
    }
    (!others.iter().any(|other| other.overlaps(pattern))).then_some(false)
}

#[cfg(test)]
mod tests {
    use crate::config::Configuration;
    use crate::rules::ChangeKind;
    use crate::view::NamePattern;

    /// Returns true if host-network may deny in namespaces that the pattern matches.
    fn may_deny(overrides: &str, pattern: &str) -> bool {
        let head = "apiVersion: portcullis.dev/v1alpha1\nkind: Configuration\n";
        let text = format!("{head}platformNamespaces: [kube-system, 'openshift-*']\noverrides: {overrides}\n");
        Configuration::read(&text)
            .unwrap()
            .may_deny(ChangeKind::NodeWorkloads, &NamePattern::try_from(pattern.to_owned()).unwrap())
    }

    #[test]
    fn a_pattern_is_free_of_denials_only_if_all_its_namespaces_are() {
        let platform = "{namespaces: {platform: true}, rules: {host-network: warn}}";
        for (pattern, expected) in
            [("openshift-*", false), ("openshift-dns", false), ("openshift*", true), ("shop", true)]
        {
            assert_eq!(may_deny(&format!("[{platform}]"), pattern), expected, "{pattern}");
        }
        let but = |namespaces: &str, mode: &str| {
            let other = format!("{{namespaces: {namespaces}, rules: {{host-network: {mode}}}}}");
            (may_deny(&format!("[{platform}, {other}]"), "openshift-*"), may_deny(&format!("[{other}]"), "openshift-*"))
        };
        // The later of two overrides denies in some of the namespaces.
        assert_eq!(but("{names: [openshift-web]}", "deny"), (true, true));
        assert_eq!(but("{names: ['open*']}", "deny"), (true, true));
        assert_eq!(but("{matchLabels: {team: web}}", "deny"), (true, true));
        assert_eq!(but("{platform: false}", "deny"), (false, true));
        assert_eq!(but("{platform: true, names: [shop]}", "deny"), (false, true));
        // The later of two overrides does not deny in some of the namespaces.
        assert_eq!(but("{names: [openshift-web, 'openshift-d*']}", "warn"), (false, true));
        assert_eq!(but("{matchLabels: {team: web}}", "audit"), (false, true));
        assert_eq!(but("{names: ['open*']}", "audit"), (false, false));
        assert_eq!(but("{names: ['*']}", "'off'"), (false, false));
        // Settings do not change the mode.
        assert!(!may_deny(
            &format!(
                "[{platform}, {{namespaces: {{platform: true}}, rules: {{host-network: {{settings: {{policies: false}}}}}}}}]"
            ),
            "openshift-*"
        ));
    }
}
