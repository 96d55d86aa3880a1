//! The namespaces that an override is for.

use crate::model::{Labels, Selector};
use crate::view::{NamePattern, Site};

/// The namespaces of an override. All that is said has to hold.
pub(super) struct NamespaceSelector {
    pub(super) names: Option<Vec<NamePattern>>,
    pub(super) platform: Option<bool>,
    pub(super) labels: Option<Selector>,
}

impl NamespaceSelector {
    pub(super) fn matches(&self, namespace: &str, labels: Option<&Labels>, site: &Site) -> bool {
        self.names.as_ref().is_none_or(|names| names.iter().any(|pattern| pattern.matches(namespace)))
            && self.platform.is_none_or(|platform| site.is_platform(namespace) == platform)
            && self.labels.as_ref().is_none_or(|selector| labels.is_some_and(|labels| selector.matches(labels)))
    }

    /// Whether the override is for all namespaces that a pattern means, or for none of them. None: it may be for some.
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

/// Whether all names that a pattern means are among others, or none of them is. None: some may be.
fn is_among(pattern: &NamePattern, others: &[NamePattern]) -> Option<bool> {
    if others.iter().any(|other| other.covers(pattern)) {
        return Some(true);
    }
    (!others.iter().any(|other| other.overlaps(pattern))).then_some(false)
}

#[cfg(test)]
mod tests {
    use crate::config::Configuration;
    use crate::rules::Subject;
    use crate::view::NamePattern;

    /// Whether host-network may deny in the namespaces of a pattern.
    fn may_deny(overrides: &str, pattern: &str) -> bool {
        let head = "apiVersion: portcullis.dev/v1alpha1\nkind: Configuration\n";
        let text = format!("{head}platformNamespaces: [kube-system, 'openshift-*']\noverrides: {overrides}\n");
        Configuration::read(&text)
            .unwrap()
            .may_deny(Subject::NodeWorkloads, &NamePattern::try_from(pattern.to_owned()).unwrap())
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
        // In some of them something is denied; by the later of two overrides.
        assert_eq!(but("{names: [openshift-web]}", "deny"), (true, true));
        assert_eq!(but("{names: ['open*']}", "deny"), (true, true));
        assert_eq!(but("{matchLabels: {team: web}}", "deny"), (true, true));
        assert_eq!(but("{platform: false}", "deny"), (false, true));
        assert_eq!(but("{platform: true, names: [shop]}", "deny"), (false, true));
        // In some of them nothing is.
        assert_eq!(but("{names: [openshift-web, 'openshift-d*']}", "warn"), (false, true));
        assert_eq!(but("{matchLabels: {team: web}}", "audit"), (false, true));
        assert_eq!(but("{names: ['open*']}", "audit"), (false, false));
        assert_eq!(but("{names: ['*']}", "'off'"), (false, false));
        // Settings are no mode.
        assert!(!may_deny(
            &format!(
                "[{platform}, {{namespaces: {{platform: true}}, rules: {{host-network: {{settings: {{policies: false}}}}}}}}]"
            ),
            "openshift-*"
        ));
    }
}
