//! See [`DissolvedBaseline`].

use super::any_port::AnyPort;
use super::profiled::profiled;
use super::{Case, Findings, Rule};
use crate::model::{AddressSet, Filter, ObjectRef, Peers, Policy, Rule as TrafficRule, Stage, Who};

rule! {
    /// A rule allows everything in a direction that the profile of the namespace isolates.
    ///
    /// ## Why
    ///
    /// Policies add up: one that allows everything leaves nothing of all the others. The namespace still carries the label
    /// of its profile, its baseline is still there, and neither does anything. Whoever looks at the label believes it.
    ///
    /// ## What it looks at
    ///
    /// Rules that allow any peer, or all addresses of a family, on every port of every protocol or of one, in policies for
    /// pods of a namespace that carries the label of a known profile. A profile denies what it does not allow, in both
    /// directions. A rule for some of the pods is one too: for those the baseline is gone.
    ///
    /// - NetworkPolicy: `ingress: [{}]`, `egress: [{}]`; `ipBlock` of `0.0.0.0/0` or `::/0`, or blocks that make up all of
    ///   IPv4, without ports. Leaving out link-local addresses changes nothing.
    /// - Cilium: `fromEntities` and `toEntities` of `all` or `world`, CIDRs as above, without `toPorts`. A rule that only
    ///   lets single requests through (`rules`) is none.
    /// - Calico: an Allow rule without peers or with all nets, and without ports.
    /// - ClusterNetworkPolicy: an Accept (Allow) rule for all `networks`, without `protocols`, in the Admin tier. What the
    ///   Baseline tier accepts is asked only where nothing isolates.
    ///
    /// A policy of the cluster is judged where its selector is known to mean a namespace with a profile, or can mean no
    /// other. A namespace whose labels are not known has no profile here. Policies whose names are reserved for the
    /// baseline controller are not judged: `enforcement: disabled` is its own way to open a namespace, and has an end.
    ///
    /// ## Fires
    ///
    /// ```yaml
    /// apiVersion: v1
    /// kind: Namespace
    /// metadata:
    ///   name: shop
    ///   labels:
    ///     network-policy.portcullis.dev/profile: internal
    /// ---
    /// apiVersion: networking.k8s.io/v1
    /// kind: NetworkPolicy
    /// metadata:
    ///   name: allow-all
    ///   namespace: shop
    /// spec:
    ///   podSelector: {}
    ///   policyTypes: [Egress]
    ///   egress:
    ///   - {}
    /// ```
    ///
    /// ## Passes
    ///
    /// ```yaml
    /// apiVersion: v1
    /// kind: Namespace
    /// metadata:
    ///   name: shop
    ///   labels:
    ///     network-policy.portcullis.dev/profile: internal
    /// ---
    /// apiVersion: networking.k8s.io/v1
    /// kind: NetworkPolicy
    /// metadata:
    ///   name: https-out
    ///   namespace: shop
    /// spec:
    ///   podSelector: {}
    ///   policyTypes: [Egress]
    ///   egress:
    ///   - to:
    ///     - ipBlock:
    ///         cidr: 0.0.0.0/0
    ///         except: [169.254.169.254/32]
    ///     ports:
    ///     - protocol: TCP
    ///       port: 443
    /// ```
    ///
    /// ## Settings
    ///
    /// - `profiles`: the profiles that count. Where it is left out all of `profiles.names` do.
    "dissolved-baseline", Deny,
    #[derive(Default)]
    pub struct DissolvedBaseline {
        profiles: Option<Vec<String>>,
    }
}

impl Rule for DissolvedBaseline {
    fn check(&self, case: &Case<'_>, findings: &mut Findings) {
        if case.written().is_none_or(|object| is_reserved(case, &object.id)) {
            return;
        }
        let profiles = self.profiles.as_ref().unwrap_or(&case.site.profiles.names);
        for policy in case.policies().iter().filter(|policy| !comes_too_late(case, policy)) {
            let mut wide = policy.allow_rules().filter_map(|(direction, rule)| Some((direction, rule, opens(rule)?)));
            // What is wide is rare, and looking for namespaces is not free.
            let Some(first) = wide.next() else { continue };
            let Some(profiled) = profiled(case, policy, profiles) else { continue };
            for (direction, rule, ports) in std::iter::once(first).chain(wide) {
                let mut whom = policy.subject.to_string();
                if let Some(only) = &rule.only {
                    whom.push_str(&format!(", those with {only}"));
                }
                if rule.within.is_some() {
                    whom.push_str(", those with some addresses");
                }
                let preposition = if direction == crate::model::Direction::Ingress { "from" } else { "to" };
                let message = format!(
                    "{direction} {preposition} {} is allowed on {ports} for {whom}: nothing is left there of what isolates \
                     {profiled}",
                    rule.peers
                );
                let help = "allow the peers and the ports that are needed, or give the namespace a profile that fits";
                findings.add::<Self>(case, rule.path.clone(), message, help.into(), None);
            }
        }
    }
}

/// Whether the name of an object is reserved for the baseline controller.
pub(super) fn is_reserved(case: &Case<'_>, object: &ObjectRef) -> bool {
    let prefix = &case.site.baseline.reserved_prefix;
    !prefix.is_empty() && object.name.starts_with(prefix.as_str())
}

/// Whether a policy is asked only after what isolates the namespace.
fn comes_too_late(case: &Case<'_>, policy: &Policy) -> bool {
    use crate::model::Surroundings;
    let tier = match &policy.stage {
        Stage::Tier(name) => case.view.tier(name),
        Stage::Admin | Stage::Policies | Stage::Baseline => None,
    };
    policy.stage.position(tier) > Stage::Policies.position(None)
}

/// On which ports, in words, a rule lets everything through, if it does.
fn opens(rule: &TrafficRule) -> Option<String> {
    let is_filtered = matches!(rule.filter, Some(Filter::Requests | Filter::Lookups(_)));
    let is_plain = rule.conditions.is_empty() && !is_filtered;
    if is_plain && are_anything(&rule.peers) { AnyPort::default().every_port(&rule.ports) } else { None }
}

/// Whether these are any peer, or all addresses of a family.
fn are_anything(peers: &Peers) -> bool {
    let Peers::Only(peers) = peers else { return true };
    if peers.iter().any(|peer| peer.who.is_anywhere()) {
        return true;
    }
    let blocks = peers.iter().filter_map(|peer| match &peer.who {
        Who::Addresses(block) => Some(block.addresses()),
        _ => None,
    });
    AddressSet::union(blocks).covers(&AddressSet::every_v4_of_pods())
}
