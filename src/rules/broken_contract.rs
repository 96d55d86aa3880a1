//! See [`BrokenContract`].

use serde::Deserialize;

use super::{Case, Change, Findings, Rule};
use crate::budget::{self, charge};
use crate::contract::{self, Cause, Counterexample, Doubt, Scope, Status};
use crate::model::{Body, Contract, Enforcement, Namespaces, Object, Path};

rule! {
    /// The change breaks a contract: a statement about which pods must, or must never, reach which others.
    ///
    /// ## Why
    ///
    /// Policies are written one by one, and no policy says what all of them together must guarantee: that only the
    /// payment API reaches the card database, or that every pod reaches the cluster DNS. A contract says it once. From
    /// then on the next policy, label or tier that breaks it is denied, with the connection that it would open or cut.
    ///
    /// ## What it checks
    ///
    /// Every contract, before and after the change, with the policies of all dialects together: NetworkPolicy, Cilium,
    /// Calico and ClusterNetworkPolicy. A contract with `pods: Any` covers every pod that could be created
    /// in its namespaces, with any labels: it holds only if that is proved. The finding names a connection that breaks
    /// it. Only connections that did not break the contract before the change count. A contract with
    /// `enforcement: Warn` is reported as a warning.
    ///
    /// A new namespace is evaluated as a source: its labels may match a rule of another namespace. Its own policies are
    /// evaluated when they are created.
    ///
    /// A contract is read from the manifests of the run, from `serve --contracts`, or from the cluster, if the
    /// CustomResourceDefinition is installed. `portcullis test` checks contracts without a change.
    ///
    /// hostNetwork pods are not covered: policies do not apply to them, and other pods see them as their node.
    ///
    /// ## Fires
    ///
    /// ```yaml
    /// apiVersion: portcullis.dev/v1alpha1
    /// kind: Contract
    /// metadata:
    ///   name: card-database
    /// spec:
    ///   reason: Only the payment API handles card data (PCI DSS 1.3).
    ///   owner: team-payments
    ///   mustNotReach:
    ///     from:
    ///     - allPodsExcept:
    ///       - namespaces: [payments]
    ///         podSelector: {matchLabels: {app: api}}
    ///     to:
    ///     - namespaces: [payments]
    ///       podSelector: {matchLabels: {app: db}}
    /// ---
    /// apiVersion: networking.k8s.io/v1
    /// kind: NetworkPolicy
    /// metadata:
    ///   name: db-from-api
    ///   namespace: payments
    /// spec:
    ///   podSelector: {matchLabels: {app: db}}
    ///   policyTypes: [Ingress]
    ///   ingress:
    ///   - from:
    ///     - podSelector: {matchLabels: {app: api}}
    ///     ports: [{port: 5432, protocol: TCP}]
    /// ---
    /// apiVersion: networking.k8s.io/v1
    /// kind: NetworkPolicy
    /// metadata:
    ///   name: allow-partners
    ///   namespace: payments
    /// spec:
    ///   podSelector: {}
    ///   policyTypes: [Ingress]
    ///   ingress:
    ///   - from:
    ///     - namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: shop}}
    ///     ports: [{port: 5432, protocol: TCP}]
    /// ```
    ///
    /// ## Passes
    ///
    /// ```yaml
    /// apiVersion: portcullis.dev/v1alpha1
    /// kind: Contract
    /// metadata:
    ///   name: card-database
    /// spec:
    ///   reason: Only the payment API handles card data (PCI DSS 1.3).
    ///   owner: team-payments
    ///   mustNotReach:
    ///     from:
    ///     - allPodsExcept:
    ///       - namespaces: [payments]
    ///         podSelector: {matchLabels: {app: api}}
    ///     to:
    ///     - namespaces: [payments]
    ///       podSelector: {matchLabels: {app: db}}
    /// ---
    /// apiVersion: networking.k8s.io/v1
    /// kind: NetworkPolicy
    /// metadata:
    ///   name: db-from-api
    ///   namespace: payments
    /// spec:
    ///   podSelector: {matchLabels: {app: db}}
    ///   policyTypes: [Ingress]
    ///   ingress:
    ///   - from:
    ///     - podSelector: {matchLabels: {app: api}}
    ///     ports: [{port: 5432, protocol: TCP}]
    /// ```
    ///
    /// ## Settings
    ///
    /// - `undecided`: `warn` (default) or `deny`: the action if it cannot be decided whether the change breaks a
    ///   contract, for example because the proof exceeds the limit of one request or depends on the addresses of pods.
    "broken-contract", Deny, adds_up = true, on = [Policies, NamespaceLabels],
    #[derive(Default)]
    pub struct BrokenContract {
        undecided: OnDoubt,
    }
}

/// The action if it is unknown whether a contract holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
enum OnDoubt {
    #[default]
    Warn,
    Deny,
}

/// Maximum number of contracts that one change is reported to break.
const MAX_BROKEN: usize = 20;

/// Maximum number of steps of all proofs for one change. The rest of the budget is left to the other rules.
const STEPS: usize = 1_000_000;

impl Rule for BrokenContract {
    fn check(&self, case: &Case<'_>, findings: &mut Findings) {
        let Some(scope) = scope(case) else { return };
        let (worlds, started) = ((case.before(), case.after()), budget::spent().steps);
        let mut broken = 0;
        for contract in case.view.contracts() {
            charge(1);
            let left = STEPS.saturating_sub(budget::spent().steps.saturating_sub(started));
            let steps = contract::REQUEST_STEPS.min(left);
            match contract::verify_change(contract, worlds, case.site, scope, steps) {
                Status::Holds => continue,
                Status::Broken(found) => report_broken(case, contract, &found, findings),
                Status::Undecided(doubt) => self.report_undecided(case, contract, &doubt, findings),
            }
            broken += 1;
            if broken == MAX_BROKEN {
                return;
            }
        }
    }
}

impl BrokenContract {
    fn report_undecided(&self, case: &Case<'_>, contract: &Contract, doubt: &Doubt, findings: &mut Findings) {
        let name = &contract.name;
        let message = text!("it cannot be decided whether this breaks contract {name} ({contract}): {doubt}");
        let help = text!("run `portcullis test`, which has a higher limit{}", about(contract));
        let advises = self.undecided == OnDoubt::Warn || contract.enforcement == Enforcement::Warn;
        findings.add_advice::<Self>(case, place(case), message, help, advises);
    }
}

/// Reports a contract that the change breaks.
fn report_broken(case: &Case<'_>, contract: &Contract, found: &Counterexample, findings: &mut Findings) {
    let (sentence, why, name) = (found.sentence(contract), found.why(), &contract.name);
    let message = text!("this breaks contract {name}: {sentence}, because {why}");
    let help = text!("change it so that the contract holds{}", about(contract));
    let is_own = |cause: &&Cause| {
        let policy = cause.policy.as_ref();
        policy.is_some_and(|policy| case.written().is_some_and(|object| object.id.is_same_object(policy)))
    };
    let own = found.causes.iter().find(is_own).and_then(|cause| cause.path.clone());
    let advises = contract.enforcement == Enforcement::Warn;
    findings.add_advice::<BrokenContract>(case, own.unwrap_or_else(|| place(case)), message, help, advises);
}

/// The reason for a contract and its owner, as the end of a help text.
fn about(contract: &Contract) -> String {
    let mut text = String::new();
    for (name, value) in [("reason", &contract.reason), ("owner", &contract.owner)] {
        if !value.is_empty() {
            text.push_str(&text!("; {name}: {}", value.trim_end_matches('.')));
        }
    }
    text
}

/// The path of the object as a whole.
fn place(case: &Case<'_>) -> Path {
    match case.written().map(|object| &object.body) {
        Some(Body::Namespace(namespace)) => namespace.labels_path.clone(),
        Some(_) => Path::root().field("spec"),
        None => Path::root(),
    }
}

/// The connections that the change can affect. None if it affects no policy and no label of a namespace.
fn scope<'a>(case: &Case<'a>) -> Option<Scope<'a>> {
    let object = case.change.object();
    match &object.body {
        Body::Policies(_) => {
            let is_of_namespace = |object: &Object| {
                let is_own = |namespaces: &Namespaces| matches!(namespaces, Namespaces::Own(Some(_)));
                object.policies().iter().all(|policy| is_own(&policy.subject.namespaces))
            };
            let are_of_namespace = is_of_namespace(object) && case.change.old().is_none_or(is_of_namespace);
            Some(match object.namespace() {
                Some(namespace) if are_of_namespace => Scope::PoliciesOf(namespace),
                _ => Scope::All,
            })
        }
        Body::Tier(_) => Some(Scope::All),
        Body::Namespace(_) => match case.change {
            Change::Write { old: Some(_), .. } => Some(Scope::Namespace(&object.id.name)),
            Change::Write { old: None, .. } => Some(Scope::NewNamespace(&object.id.name)),
            Change::Delete { .. } => None,
        },
        Body::Workload(_) | Body::Service(_) | Body::Backends(_) | Body::Contract(_) => None,
    }
}
