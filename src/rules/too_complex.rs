//! See [`TooComplex`].

use super::{Case, Findings, Rule};
use crate::budget::Exceeded;
use crate::model::{Finding, ObjectRef, Path};

rule! {
    /// Judging the object takes more work or memory than one request may cost.
    ///
    /// ## Why
    ///
    /// One request must not keep the others waiting. Every request has a budget, counted in steps and bytes and not in
    /// time, so that it is decided alike on a fast and on a slow machine. An object that exceeds it was not judged to the
    /// end, so nobody knows what it opens or cuts off.
    ///
    /// ## What it looks at
    ///
    /// Objects of every kind that is judged: policies of every dialect (NetworkPolicy, Cilium, Calico, ClusterNetworkPolicy),
    /// namespaces and workloads. The budget of the request counts: reading the object and its old state, every rule, the proofs, the preview and the fixes
    /// charge it. 2,000,000 steps and 64 MiB, which are about 250 ms of one core. A NetworkPolicy reaches the limit
    /// with some 20,000 rules or 30,000 CIDRs.
    ///
    /// The deletion of such an object is allowed with a warning, so that it can be removed. What the rules found before the
    /// limit was reached is reported too.
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
    /// None. `warn` lets such objects in with a warning, unjudged.
    "too-complex", Deny,
    #[derive(Default)]
    pub struct TooComplex {}
}

impl Rule for TooComplex {
    /// The engine reports it: see [`too_complex`].
    fn check(&self, _: &Case<'_>, _: &mut Findings) {}
}

/// The name of the rule.
pub const TOO_COMPLEX: &str = <TooComplex as super::Defined>::NAME;

/// The finding that judging an object exceeded the budget.
#[must_use]
pub fn too_complex(object: ObjectRef, exceeded: Exceeded) -> Finding {
    Finding {
        rule: TOO_COMPLEX,
        object,
        path: Path::root(),
        message: format!("{exceeded}; it was not judged to the end"),
        closest: None,
        help: "split the object into smaller ones".to_owned(),
        fix: None,
    }
}
