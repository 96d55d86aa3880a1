//! The dialects: the kinds of objects that Portcullis reads, and their translation to and from the model.
//!
//! Each dialect has its own module. It defines the fields of its manifests, reads them into the [model](crate::model),
//! and writes a [`Fix`] as a patch. No other module knows the names of YAML fields.

mod cidr;
mod error;
mod fingerprint;
mod int_or_string;
mod label_map;
mod label_selector;
mod manifest;
mod patch;
mod stored;
mod strict;

pub mod backend;
pub mod calico;
pub mod cilium;
pub mod cluster_network_policy;
pub mod contract;
pub mod kubernetes;
pub mod namespace;
pub mod service;
pub mod workload;

pub use error::ReadError;
pub use fingerprint::fingerprint;
pub use manifest::{Manifest, Metadata, Origin, Written};
pub use patch::Patch;
pub(crate) use stored::with_update;

use serde_json::Value;

use crate::budget;
use crate::model::{Fault, FaultKind, Fix, Object, Path};

/// All dialects.
pub const DIALECTS: &[&dyn Dialect] = &[
    &kubernetes::Kubernetes,
    &cilium::Cilium,
    &calico::Calico,
    &cluster_network_policy::ClusterNetworkPolicy,
    &namespace::Namespaces,
    &workload::Workloads,
    &service::Services,
    &backend::Backends,
    &contract::Contracts,
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

    /// Returns true if unlisted versions of a kind are read like its nearest listed version. Custom resources get new
    /// versions with each release of their CRD, most of which change only the name of the version.
    fn reads_other_versions(&self) -> bool {
        false
    }
}

/// A kind of object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    /// The API group. Empty for the core group.
    pub group: &'static str,
    /// The supported versions, oldest first.
    pub versions: &'static [&'static str],
    /// The kind.
    pub kind: &'static str,
}

/// How the dialects support a kind and version.
#[derive(Clone, Copy)]
pub(crate) enum Claim {
    /// This dialect reads the kind.
    Known(&'static dyn Dialect),
    /// This dialect does not list the version, and reads the kind like its nearest listed version, which is named.
    Nearest(&'static dyn Dialect, &'static str),
    /// A dialect reads the kind, but only in these versions.
    OtherVersions(&'static [&'static str]),
    /// No dialect reads the kind.
    Unknown,
}

/// Finds the dialect that reads objects of this kind.
#[must_use]
pub(crate) fn claim(api_version: &str, kind: &str) -> Claim {
    let (group, version) = api_version.rsplit_once('/').unwrap_or(("", api_version));
    for dialect in DIALECTS {
        if let Some(known) = dialect.kinds().iter().find(|known| known.kind == kind && known.group == group) {
            return match known.versions.last() {
                _ if known.versions.contains(&version) => Claim::Known(*dialect),
                // A version that is not listed is almost always newer than the listed ones.
                Some(newest) if dialect.reads_other_versions() => Claim::Nearest(*dialect, newest),
                _ => Claim::OtherVersions(known.versions),
            };
        }
    }
    Claim::Unknown
}

/// Returns true if a dialect reads a kind of this name, in any group.
#[must_use]
pub(crate) fn reads_kind(kind: &str) -> bool {
    DIALECTS.iter().flat_map(|dialect| dialect.kinds()).any(|known| known.kind == kind)
}

/// Reads a manifest, if a dialect reads its kind.
///
/// # Errors
/// The version is not supported, or the manifest does not match its kind.
pub fn read(manifest: &Manifest<'_>) -> Result<Option<Object>, ReadError> {
    match claim(manifest.api_version, manifest.kind) {
        Claim::Known(dialect) => dialect.read(manifest).map(Some),
        Claim::Nearest(dialect, version) => read_as(dialect, version, manifest).map(Some),
        Claim::OtherVersions(versions) => Err(ReadError::version(manifest.api_version, manifest.kind, versions)),
        Claim::Unknown => Ok(None),
    }
}

/// Reads a manifest as its author wrote it, if a dialect reads its kind.
///
/// # Errors
/// `apiVersion` or `kind` is missing, the version is not supported, or the manifest does not match its kind.
pub fn read_value(manifest: &Value) -> Result<Option<Object>, ReadError> {
    let field = |name| {
        let value = manifest.get(name).and_then(Value::as_str);
        value.ok_or_else(|| ReadError::at(&Path::root().field(name), "required"))
    };
    let (api_version, kind, json) = (field("apiVersion")?, field("kind")?, manifest.to_string());
    read(&Manifest::read(api_version, kind, &json, Origin::Author)?)
}

/// Reads a manifest of an unlisted version like this listed version, and reports that as a fault.
///
/// # Errors
/// The manifest does not match the listed version. An unknown field is an error too: it may be one that only the
/// unlisted version has, and may change the meaning of all others.
fn read_as(dialect: &dyn Dialect, version: &str, manifest: &Manifest<'_>) -> Result<Object, ReadError> {
    let (api_version, kind) = (manifest.api_version, manifest.kind);
    let in_version = |path: &Path, problem: &str| {
        ReadError::at(path, format!("{problem}; `{api_version}` of {kind} is read as {version}"))
    };
    let mut object = dialect.read(manifest).map_err(|error| in_version(&error.path, &error.problem))?;
    budget::charge(object.faults.len());
    if let Some(unknown) = object.faults.iter().find(|fault| fault.kind == FaultKind::UnknownField) {
        return Err(in_version(&unknown.path, &format!("unknown field of {kind}")));
    }
    if object.faults.len() >= strict::MAX_FAULTS {
        // Not every unknown field is reported then.
        return Err(in_version(&Path::root(), "too many faults"));
    }
    object.faults.push(Fault::new(
        Path::root().field("apiVersion"),
        FaultKind::UnlistedVersion,
        format!("{kind} `{api_version}` is read as {version}, the nearest version that Portcullis knows"),
        format!("check that the policy means the same in {version}, or update Portcullis"),
    ));
    Ok(object)
}

/// Writes a fix for a manifest as a JSON patch, if its dialect can express it.
#[must_use]
pub fn fix(fix: &Fix, manifest: &Manifest<'_>) -> Option<Patch> {
    match claim(manifest.api_version, manifest.kind) {
        Claim::Known(dialect) | Claim::Nearest(dialect, _) => dialect.fix(fix, manifest),
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
            "apiVersion: `networking.k8s.io/v9` of NetworkPolicy is not supported; expected v1"
        );
    }

    fn cluster_policy(version: &str, spec: &str) -> Result<Object, ReadError> {
        let api_version = format!("policy.networking.k8s.io/{version}");
        let json = format!(r#"{{"metadata": {{"name": "p"}}, "spec": {spec}}}"#);
        let manifest = Manifest::read(&api_version, "ClusterNetworkPolicy", &json, Origin::Author).unwrap();
        read(&manifest).map(Option::unwrap)
    }

    #[test]
    fn an_unlisted_version_is_read_like_the_nearest_listed_one() {
        let spec = r#"{"tier": "Admin", "priority": 5, "subject": {"namespaces": {}},
            "ingress": [{"action": "Deny", "from": [{"namespaces": {}}]}]}"#;
        let known = cluster_policy("v1alpha2", spec).unwrap();
        assert!(known.faults.is_empty());
        for version in ["v1beta1", "v1"] {
            let object = cluster_policy(version, spec).unwrap();
            let [fault] = object.faults.as_slice() else { panic!("{:?}", object.faults) };
            assert_eq!((fault.path.to_string(), fault.kind), ("apiVersion".into(), FaultKind::UnlistedVersion));
            assert_eq!(
                fault.problem,
                format!(
                    "ClusterNetworkPolicy `policy.networking.k8s.io/{version}` is read as v1alpha2, the nearest version \
                     that Portcullis knows"
                )
            );
            let (policy, known) = (&object.policies()[0], &known.policies()[0]);
            assert_eq!((&policy.standing, &policy.ingress.rules), (&known.standing, &known.ingress.rules));
            assert!(object.id.is_same_object(&known.object), "the group identifies an object, not the version");
        }
        for dialect in DIALECTS {
            for kind in dialect.kinds() {
                let is_custom = matches!(claim(&format!("{}/v9", kind.group), kind.kind), Claim::Nearest(..));
                assert_eq!(
                    is_custom,
                    ["cilium", "calico", "cluster_network_policy"].contains(&dialect.name()),
                    "{}",
                    kind.kind
                );
            }
        }
    }

    #[test]
    fn an_unknown_field_of_an_unlisted_version_is_an_error() {
        let error = |spec: &str| cluster_policy("v1", spec).unwrap_err().to_string();
        let aside = "; `policy.networking.k8s.io/v1` of ClusterNetworkPolicy is read as v1alpha2";
        let subject = r#""priority": 5, "subject": {"namespaces": {}}"#;
        assert_eq!(
            error(&format!(r#"{{"tier": "Admin", {subject}, "mode": "Audit"}}"#)),
            format!("spec.mode: unknown field of ClusterNetworkPolicy{aside}")
        );
        let peer = r#"{"action": "Deny", "to": [{"serviceAccounts": {}}]}"#;
        assert_eq!(
            error(&format!(r#"{{"tier": "Admin", {subject}, "egress": [{peer}]}}"#)),
            format!("spec.egress[0].to[0].serviceAccounts: unknown field of ClusterNetworkPolicy{aside}")
        );
        assert_eq!(
            error(&format!(r#"{{"tier": "Cluster", {subject}}}"#)),
            format!("spec.tier: `Cluster` is neither Admin nor Baseline{aside}")
        );
        // Enough faults to hide an unknown field behind them.
        let ports = r#"{"action": "Deny", "to": [{}]},"#.repeat(strict::MAX_FAULTS);
        let rules = format!(r#"[{ports} {{"action": "Deny", "to": [{{"namespaces": {{}}}}]}}]"#);
        let error = error(&format!(r#"{{"tier": "Admin", {subject}, "egress": {rules}}}"#));
        assert_eq!(error, format!("the manifest: too many faults{aside}"));
    }
}
