//! The dialects: the kinds of objects that Portcullis reads, and their translation to and from the model.
//!
//! Each dialect has its own module. It defines the fields of its manifests, reads them into the [model](crate::model),
//! and writes a [`Fix`] as a patch. No other module knows the names of YAML fields.

mod cidr;
mod error;
mod fingerprint;
mod int_or_string;
mod label_selector;
mod patch;
mod strict;
mod written;

pub mod calico;
pub mod cilium;
pub mod cluster;
pub mod kubernetes;
pub mod namespace;
pub mod service;
pub mod workload;

pub use error::ReadError;
pub use fingerprint::fingerprint;
pub use patch::Patch;
pub use written::{Manifest, Metadata, Origin, Written};

use crate::model::{Fix, Object};

/// All dialects.
pub const DIALECTS: &[&dyn Dialect] = &[
    &kubernetes::Kubernetes,
    &cilium::Cilium,
    &calico::Calico,
    &cluster::Cluster,
    &namespace::Namespaces,
    &workload::Workloads,
    &service::Services,
];

/// A group of kinds whose manifests are read and fixed in the same way.
pub trait Dialect: Sync {
    /// The name of the dialect in the documentation, and of its module.
    fn name(&self) -> &'static str;

    /// The kinds that the dialect reads.
    fn kinds(&self) -> &'static [Kind];

    /// Reads a manifest of one of its kinds.
    ///
    /// # Errors
    /// The first place at which the manifest does not match its kind.
    fn read(&self, manifest: &Manifest<'_>) -> Result<Object, ReadError>;

    /// Writes a fix as a JSON patch for the manifest. None if the dialect cannot express it.
    fn fix(&self, fix: &Fix, manifest: &Manifest<'_>) -> Option<Patch>;
}

/// A kind of object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    /// The API group. Empty for the core group.
    pub group: &'static str,
    /// The supported versions.
    pub versions: &'static [&'static str],
    /// The kind.
    pub kind: &'static str,
}

/// The support for a kind.
#[derive(Clone, Copy)]
pub enum Claim {
    /// This dialect reads the kind.
    Known(&'static dyn Dialect),
    /// A dialect reads the kind, but only in these versions.
    OtherVersions(&'static [&'static str]),
    /// No dialect reads the kind.
    Unknown,
}

/// Finds the dialect that reads objects of this kind.
#[must_use]
pub fn claim(api_version: &str, kind: &str) -> Claim {
    let (group, version) = api_version.rsplit_once('/').unwrap_or(("", api_version));
    for dialect in DIALECTS {
        if let Some(known) = dialect.kinds().iter().find(|known| known.kind == kind && known.group == group) {
            return if known.versions.contains(&version) {
                Claim::Known(*dialect)
            } else {
                Claim::OtherVersions(known.versions)
            };
        }
    }
    Claim::Unknown
}

/// Reads a manifest, if a dialect reads its kind.
///
/// # Errors
/// The version is not supported, or the manifest does not match its kind.
pub fn read(manifest: &Manifest<'_>) -> Result<Option<Object>, ReadError> {
    match claim(manifest.api_version, manifest.kind) {
        Claim::Known(dialect) => dialect.read(manifest).map(Some),
        Claim::OtherVersions(versions) => Err(ReadError::version(manifest.api_version, manifest.kind, versions)),
        Claim::Unknown => Ok(None),
    }
}

/// Writes a fix for a manifest as a JSON patch, if its dialect can express it.
#[must_use]
pub fn fix(fix: &Fix, manifest: &Manifest<'_>) -> Option<Patch> {
    match claim(manifest.api_version, manifest.kind) {
        Claim::Known(dialect) => dialect.fix(fix, manifest),
        Claim::OtherVersions(_) | Claim::Unknown => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_one_dialect() {
        let mut kinds: Vec<(&str, &str)> =
            DIALECTS.iter().flat_map(|dialect| dialect.kinds()).map(|kind| (kind.group, kind.kind)).collect();
        let before = kinds.len();
        kinds.sort_unstable();
        kinds.dedup();
        assert_eq!(kinds.len(), before);
    }

    #[test]
    fn a_version_that_is_not_understood_is_an_error_and_not_a_pass() {
        assert!(matches!(claim("networking.k8s.io/v1", "NetworkPolicy"), Claim::Known(_)));
        assert!(matches!(claim("networking.k8s.io/v9", "NetworkPolicy"), Claim::OtherVersions(["v1"])));
        assert!(matches!(claim("example.com/v1", "NetworkPolicy"), Claim::Unknown));
        let manifest = Manifest::read("networking.k8s.io/v9", "NetworkPolicy", "{}", Origin::Author).unwrap();
        assert_eq!(
            read(&manifest).unwrap_err().to_string(),
            "apiVersion: `networking.k8s.io/v9` of NetworkPolicy is not understood, only v1"
        );
    }
}
