//! See [`BrokenContract`].

use serde::Deserialize;

use super::{Case, Change, Findings, Rule};
use crate::budget::charge;
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
    /// it. A contract that connections of the same namespace already broke before the change is reported as a warning,
    /// and so is one with `enforcement: Warn`.
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

impl Rule for BrokenContract {
    fn check(&self, case: &Case<'_>, findings: &mut Findings) {
        let Some(scope) = scope(case) else { return };
        let mut broken = 0;
        for contract in case.view.contracts() {
            charge(1);
            let verify = |scene| contract::verify(contract, scene, case.site, scope, contract::REQUEST_STEPS);
            let after = verify(case.after());
            if after == Status::Holds {
                continue;
            }
            let before = verify(case.before());
            let difference = Difference { case, contract, before: &before };
            broken += usize::from(match &after {
                Status::Holds => false,
                Status::Broken(found) => difference.report_broken(found, findings),
                Status::Undecided(doubt) => difference.report_undecided(doubt, self.undecided, findings),
            });
            if broken == MAX_BROKEN {
                return;
            }
        }
    }
}

/// A contract that does not hold, or may not hold, after the change.
struct Difference<'c, 'a> {
    case: &'c Case<'a>,
    contract: &'c Contract,
    before: &'c Status,
}

impl Difference<'_, '_> {
    /// Reports a contract that is broken after the change. Returns false if the change has no part in it.
    fn report_broken(&self, found: &Counterexample, findings: &mut Findings) -> bool {
        let Self { case, contract, before } = self;
        let was_broken = matches!(before, Status::Broken(_));
        let own = self.own_rule(found);
        if was_broken && own.is_none() {
            return false;
        }
        let (sentence, why, name) = (found.sentence(contract), found.why(), &contract.name);
        let message = if was_broken {
            text!("contract {name} was already broken: {sentence}, because {why}")
        } else {
            text!("this breaks contract {name}: {sentence}, because {why}")
        };
        let reason = contract.reason.trim_end_matches('.');
        let reason = if reason.is_empty() { String::new() } else { text!(": {reason}") };
        let help = text!("change it so that the contract holds{reason}{}", ask(contract));
        let advises = was_broken || contract.enforcement == Enforcement::Warn;
        findings.add_advice::<BrokenContract>(case, own.unwrap_or_else(|| place(case)), message, help, advises);
        true
    }

    /// Reports a contract that may be broken after the change. Returns false if that was unknown before, too.
    fn report_undecided(&self, doubt: &Doubt, on_doubt: OnDoubt, findings: &mut Findings) -> bool {
        let Self { case, contract, before } = self;
        if **before != Status::Holds {
            return false;
        }
        let name = &contract.name;
        let message = text!("it cannot be decided whether this breaks contract {name} ({contract}): {doubt}");
        let help = text!("run `portcullis test`, which has no limit for one proof{}", ask(contract));
        let advises = on_doubt == OnDoubt::Warn || contract.enforcement == Enforcement::Warn;
        findings.add_advice::<BrokenContract>(case, place(case), message, help, advises);
        true
    }

    /// The path of the new object's part in a connection.
    fn own_rule(&self, found: &Counterexample) -> Option<Path> {
        let written = self.case.written()?;
        let is_own = |cause: &&Cause| cause.policy.as_ref().is_some_and(|policy| written.id.is_same_object(policy));
        let cause = found.causes.iter().find(is_own)?;
        Some(cause.path.clone().unwrap_or_else(|| place(self.case)))
    }
}

/// The owner of a contract, as the end of a help text.
fn ask(contract: &Contract) -> String {
    if contract.owner.is_empty() { String::new() } else { text!("; ask {}", contract.owner) }
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
        // A new namespace has no pods. Its policies follow, and are evaluated one by one.
        Body::Namespace(_) => match case.change {
            Change::Write { old: Some(_), .. } => Some(Scope::Namespace(&object.id.name)),
            Change::Write { old: None, .. } | Change::Delete { .. } => None,
        },
        Body::Workload(_) | Body::Service(_) | Body::Backends(_) | Body::Contract(_) => None,
    }
}
