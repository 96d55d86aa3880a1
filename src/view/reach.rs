//! Whether policies are sure to let pods reach something.

use super::{Scene, View};
use crate::model::{
    AddressSet, Direction, Labels, Namespaces, Peers, Pods, Policy, Protocol, Rule, Selector, Stage, Who, is_link_local,
};

/// Something that pods want to reach, on one port.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// The pods, or the addresses.
    pub place: Place<'a>,
    /// The protocol.
    pub protocol: Protocol,
    /// The port, as the policy sees it: after the Service's address has been translated.
    pub port: u16,
    /// The names that the pods there give to their ports.
    pub port_names: &'a [Box<str>],
}

/// Where a [`Target`] is.
#[derive(Clone, Copy, Debug)]
pub enum Place<'a> {
    /// On pods with these labels, and maybe others, in this namespace.
    Pods {
        /// The namespace.
        namespace: &'a str,
        /// What is known of the pods' labels.
        labels: &'a Labels,
    },
    /// At these addresses, which are not those of pods.
    Addresses(&'a AddressSet),
}

/// Whether it is sure that, with all the policies of the scene added up, every pod of the subject may send to the target.
///
/// `counts` picks the policies whose allowances count.
pub fn lets_through<'a>(
    scene: Scene<'a>,
    subject: &Pods,
    target: &Target<'_>,
    counts: impl Fn(&Policy) -> bool,
) -> bool {
    let Namespaces::Own(namespace) = &subject.namespaces else { return false };
    let namespace = namespace.as_deref().unwrap_or_default();
    let mut selectors: Vec<&Selector> = Vec::new();
    for policy in scene.policies(namespace) {
        if policy.stage != Stage::Policies || !counts(policy) || !allows(policy, target, scene.view()) {
            continue;
        }
        match &policy.subject.labels {
            // The two that need no proof: a policy for every pod, and one for just these.
            None => return true,
            Some(labels) if labels.is_empty() || subject.labels.as_ref() == Some(labels) => return true,
            // One that means none of these pods would only lengthen the proof.
            Some(labels) if subject.labels.as_ref().is_some_and(|subject| labels.excludes(subject)) => {}
            Some(labels) => selectors.push(labels),
        }
    }
    Selector::cover_together(&selectors, &subject.selector())
}

/// Whether one of the policy's egress rules is sure to let its subject send to the target.
#[must_use]
pub fn allows(policy: &Policy, target: &Target<'_>, view: &View) -> bool {
    policy.allow_rules().filter(|(direction, _)| *direction == Direction::Egress).any(|(_, rule)| {
        rule.has_port(target.protocol, target.port, target.port_names) && means(rule, target.place, view)
    })
}

fn means(rule: &Rule, place: Place<'_>, view: &View) -> bool {
    let peers = match &rule.peers {
        Peers::Any => return true,
        Peers::Only(peers) => peers,
    };
    match place {
        Place::Pods { namespace, labels } => peers.iter().any(|peer| match &peer.who {
            Who::Pods(pods) => {
                let there = match &pods.namespaces {
                    Namespaces::Own(own) => own.as_deref() == Some(namespace),
                    Namespaces::Matching(selector) => view.surely_means(selector, namespace),
                };
                there && pods.labels.as_ref().is_none_or(|selector| selector.matches_all_with(labels))
            }
            // The addresses of pods are not known. A block that holds every IPv4 address holds theirs too, in every
            // implementation that compares a pod's address with blocks (Cilium does not, for its own policies); parts that
            // no pod can have may be missing. In a cluster of IPv6 alone, `clusterDNS` has to name addresses.
            Who::Addresses(block) => {
                block.net.addr().is_ipv4()
                    && block.net.prefix_len() == 0
                    && block.except.iter().all(|net| is_link_local(*net))
            }
        }),
        Place::Addresses(wanted) => {
            let mut reached = AddressSet::default();
            for (_, block) in rule.blocks() {
                reached.extend(&block.addresses());
            }
            reached.covers(wanted)
        }
    }
}
