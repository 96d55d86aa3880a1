//! The labels of an object.

use std::fmt;

/// Labels, sorted by key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Labels(Box<[(Box<str>, Box<str>)]>);

impl Labels {
    /// The value of a label.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        let at = self.0.binary_search_by(|(other, _)| (**other).cmp(key)).ok()?;
        self.0.get(at).map(|(_, value)| &**value)
    }

    /// The number of labels.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns true if there are no labels.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All labels, sorted by key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (&**key, &**value))
    }

    /// The same labels with one label added or replaced.
    #[must_use]
    pub fn with(&self, key: &str, value: &str) -> Self {
        self.iter().chain([(key, value)]).collect()
    }
}

impl<K: Into<Box<str>>, V: Into<Box<str>>> FromIterator<(K, V)> for Labels {
    /// Collects labels. Of two values for one key the later one wins.
    fn from_iter<I: IntoIterator<Item = (K, V)>>(labels: I) -> Self {
        let mut labels: Vec<(Box<str>, Box<str>)> =
            labels.into_iter().map(|(key, value)| (key.into(), value.into())).collect();
        labels.reverse();
        labels.sort_by(|(a, _), (b, _)| a.cmp(b));
        labels.dedup_by(|(a, _), (b, _)| a == b);
        Self(labels.into_boxed_slice())
    }
}

impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, (key, value)) in self.iter().enumerate() {
            let comma = if position == 0 { "" } else { "," };
            write!(f, "{comma}{key}={value}")?;
        }
        Ok(())
    }
}

/// Returns true if controllers, schedulers or service meshes add a label with this key to pods of a template.
#[must_use]
pub(crate) fn is_added_to_pods(key: &str) -> bool {
    const KEYS: [&str; 6] = [
        "controller-revision-hash",
        "controller-uid",
        "job-name",
        "pod-template-generation",
        "pod-template-hash",
        "rollouts-pod-template-hash",
    ];
    const DOMAINS: [&str; 9] = [
        "apps.kubernetes.io",
        "batch.kubernetes.io",
        "jobset.sigs.k8s.io",
        "leaderworkerset.sigs.k8s.io",
        "statefulset.kubernetes.io",
        "topology.kubernetes.io",
        "istio.io",
        "linkerd.io",
        "ray.io",
    ];
    let prefix = key.split_once('/').map(|(prefix, _)| prefix).unwrap_or_default();
    let is_of = |domain: &str| prefix.strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
    KEYS.contains(&key) || DOMAINS.into_iter().any(is_of)
}

/// The keys of labels that every pod of a controller of this kind has, beside those of its template.
#[must_use]
pub(crate) fn always_added_to_pods(kind: &str) -> &'static [&'static str] {
    match kind {
        "Deployment" => &["pod-template-hash"],
        "DaemonSet" => &["controller-revision-hash", "pod-template-generation"],
        "StatefulSet" => &["controller-revision-hash", "statefulset.kubernetes.io/pod-name"],
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_later_of_two_values_stays() {
        let labels: Labels = [("b", "1"), ("a", "2"), ("b", "3")].into_iter().collect();
        assert_eq!(labels.get("b"), Some("3"));
        assert_eq!(labels.with("a", "4").to_string(), "a=4,b=3");
        assert_eq!(labels.get("c"), None);
    }
}
