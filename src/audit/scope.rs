//! The namespaces that an audit reports on.

use std::collections::BTreeSet;

/// The namespaces that an audit reports on. The other namespaces still count for the answers.
#[derive(Clone, Debug, Default)]
pub struct Scope(BTreeSet<String>);

impl Scope {
    /// Only these namespaces; all of them if there are none.
    #[must_use]
    pub fn of(namespaces: impl IntoIterator<Item = String>) -> Self {
        Self(namespaces.into_iter().collect())
    }

    /// Returns true if the audit reports on every namespace, and on objects outside of namespaces.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns true if the audit reports on a namespace.
    #[must_use]
    pub fn includes(&self, namespace: &str) -> bool {
        self.is_whole() || self.0.contains(namespace)
    }

    /// Returns true if the audit reports on an object of this namespace, or outside of namespaces.
    #[must_use]
    pub fn includes_object(&self, namespace: Option<&str>) -> bool {
        namespace.map_or_else(|| self.is_whole(), |namespace| self.includes(namespace))
    }

    /// The namespaces, if the audit does not report on every one.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }
}
