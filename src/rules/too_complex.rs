//! See [`TooComplex`].

use super::{Case, Findings, Rule};
use crate::budget::Exceeded;
use crate::model::{Finding, ObjectRef, Path};

rule! {
    /// Checking the object exceeds the work or memory limit of one request.
    ///
    /// ## Why
    ///
    /// One request must not delay the others. Every request has a budget in steps and bytes. It is not counted in time,
    /// so that the result is the same on fast and slow machines. An object that exceeds the budget was not fully
    /// checked, so it is unknown what it allows or blocks.
    ///
    /// ## What it checks
    ///
    /// Objects of every kind: policies of every dialect (NetworkPolicy, Cilium, Calico, ClusterNetworkPolicy),
    /// namespaces and workloads. Parsing the object and its old state, every rule, the proofs, the preview and the
    /// fixes charge the budget of the request.
    ///
    /// **Limits.** 2,000,000 steps and 64 MiB per request, about 250 ms of one core. A NetworkPolicy reaches the limit
    /// with about 20,000 rules or 30,000 CIDRs.
    ///
    /// The deletion of such an object is allowed with a warning, so that it can be removed. Findings from before the
    /// limit was reached are reported too.
    ///
    /// ## Fires
    ///
    /// The rule in `ingress`, repeated 100,000 times.
    ///
    /// ```yaml
    /// apiVersion: networking.k8s.io/v1
    /// kind: NetworkPolicy
    /// metadata:
    ///   name: allow-everything-often
    ///   namespace: shop
    /// spec:
    ///   podSelector: {}
    ///   policyTypes: [Ingress]
    ///   ingress:
    ///   - {}
    /// ```
    ///
    /// ## Passes
    ///
    /// ```yaml
    /// apiVersion: networking.k8s.io/v1
    /// kind: NetworkPolicy
    /// metadata:
    ///   name: allow-everything
    ///   namespace: shop
    /// spec:
    ///   podSelector: {}
    ///   policyTypes: [Ingress]
    ///   ingress:
    ///   - {}
    /// ```
    ///
    /// ## Settings
    ///
    /// None. With mode `warn` such objects are allowed unchecked, with a warning.
    "too-complex", Deny,
    #[derive(Default)]
    pub struct TooComplex {}
}

impl Rule for TooComplex {
    /// The engine reports it: see [`too_complex`].
    fn check(&self, _: &Case<'_>, _: &mut Findings) {}
}

/// The name of the rule.
pub(crate) const TOO_COMPLEX: &str = <TooComplex as super::Defined>::NAME;

/// The finding for an object that exceeded the budget.
#[must_use]
pub(crate) fn too_complex(object: ObjectRef, exceeded: Exceeded) -> Finding {
    Finding {
        rule: TOO_COMPLEX,
        object,
        path: Path::root(),
        message: format!("{exceeded}; the object was not checked completely"),
        closest: None,
        help: "split the object into smaller ones".to_owned(),
        fix: None,
        is_advice: false,
    }
}
