//! The policy itself.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};

use super::{AddressSet, DomainPattern, Fault, ObjectRef, Path, Peers, Pods, Ports, Selector, Surroundings};

/// A policy as a cluster enforces it: the pods that it applies to, and its effect in each direction.
///
/// One object can hold several policies, such as a Cilium policy with `specs`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// The object that holds the policy.
    pub object: ObjectRef,
    /// The enforcement status.
    pub standing: Standing,
    /// The stage in which the policy is evaluated.
    pub stage: Stage,
    /// The position of the policy in its stage.
    pub order: Order,
    /// The pods that the policy applies to.
    pub subject: Pods,
    /// The path of their selector; if it is missing, the path where it would be.
    pub(crate) subject_path: Path,
    /// True if its selectors may also match objects other than pods: in Calico, host endpoints and network sets have
    /// labels.
    pub(crate) selects_others: bool,
    /// The origin of its policy types: whether the author declared the isolated directions.
    pub types: Types,
    /// Traffic to the subject.
    pub ingress: Side,
    /// Traffic from the subject.
    pub egress: Side,
}

/// The enforcement status of a stored policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Standing {
    /// The cluster enforces the policy.
    InForce,
    /// The policy is staged: the cluster only shows what it would do (the staged kinds of Calico).
    Staged,
    /// The policy is not valid, and its agent ignores it.
    Refused,
}

impl Standing {
    /// The status of a policy, derived from its faults alone.
    #[must_use]
    pub fn of(faults: &[Fault]) -> Self {
        if faults.iter().any(|fault| fault.kind.is_refused()) { Self::Refused } else { Self::InForce }
    }
}

/// An evaluation stage of policies. A stage decides, or passes the traffic to the next one.
///
/// The stages are those of the ClusterNetworkPolicy API and Calico's tiers, at the orders that Calico itself gives
/// them: see [`Stage::position`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    /// ClusterNetworkPolicy of the Admin tier, AdminNetworkPolicy.
    Admin,
    /// A tier of Calico other than the default tier, by name. Its position is in the [`Tier`] object.
    Tier(Box<str>),
    /// NetworkPolicy, Cilium's policies, and policies in Calico's default tier.
    Policies,
    /// ClusterNetworkPolicy of the Baseline tier, BaselineAdminNetworkPolicy.
    Baseline,
}

impl Stage {
    /// The position among the stages. For a tier of Calico it depends on `tier`, the known state of that tier.
    #[must_use]
    pub fn position(&self, tier: Option<&Tier>) -> Precedence {
        match self {
            Self::Admin => Precedence(1_000.0),
            Self::Policies => Precedence(1_000_000.0),
            Self::Baseline => Precedence(10_000_000.0),
            // Felix puts a missing tier last, and a tier without an order at the default tier.
            Self::Tier(_) => {
                tier.map_or(Precedence(f64::INFINITY), |tier| tier.order.unwrap_or(Precedence(1_000_000.0)))
            }
        }
    }

    /// The name, which orders stages of the same position.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Admin => "kube-admin",
            Self::Tier(name) => name,
            Self::Policies => "default",
            Self::Baseline => "kube-baseline",
        }
    }

    /// Returns true if the stage drops traffic that none of its policies decides, once one of them isolates the pods.
    #[must_use]
    pub fn drops(&self, tier: Option<&Tier>) -> bool {
        match self {
            Self::Admin | Self::Baseline => false,
            Self::Policies => true,
            Self::Tier(_) => tier.is_none_or(|tier| tier.drops),
        }
    }
}

/// A tier of Calico.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tier {
    /// The order among the tiers, smallest first. A tier without an order has the position of the default tier.
    pub order: Option<Precedence>,
    /// True if traffic that none of its policies decides is dropped.
    pub drops: bool,
}

/// The position of a policy in its stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Order {
    /// No position: such policies are additive. Traffic that one of them denies is denied whatever the others allow;
    /// otherwise traffic that one of them allows is allowed. Among ordered policies they have the position 1000, as in
    /// Calico.
    Additive,
    /// A position: the smallest number first.
    At(Precedence),
    /// After all policies with a number.
    Last,
}

impl Order {
    /// The position as a number.
    #[must_use]
    pub fn position(self) -> Precedence {
        match self {
            Self::Additive => Precedence(1_000.0),
            Self::At(number) => number,
            Self::Last => Precedence(f64::INFINITY),
        }
    }
}

/// An order value. The smallest comes first.
#[derive(Clone, Copy, Debug)]
pub struct Precedence(pub f64);

impl PartialEq for Precedence {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Precedence {}

impl PartialOrd for Precedence {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Precedence {
    fn cmp(&self, other: &Self) -> Ordering {
        // Adding 0.0 turns -0.0 into 0.0, so that they are equal.
        (self.0 + 0.0).total_cmp(&(other.0 + 0.0))
    }
}

impl Hash for Precedence {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.0 + 0.0).to_bits().hash(state);
    }
}

/// The origin of the policy types: whether the author of a policy declared the directions that it isolates.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Types {
    /// The author declared them.
    Declared,
    /// Inferred from the rules. The path is where the author would declare them.
    Inferred(Path),
    /// The stored object does not tell.
    Unknown,
    /// The author did not declare them, and for these directions it depends on the installation of the agent whether
    /// the policy isolates them. The path is where the author would declare them.
    Uncertain(Path, Vec<Direction>),
}

/// A direction of traffic, seen from the subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// Traffic to the subject.
    Ingress,
    /// Traffic from the subject.
    Egress,
}

impl Direction {
    /// Both directions.
    pub const ALL: [Self; 2] = [Self::Ingress, Self::Egress];

    /// The name in manifests and messages.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ingress => "ingress",
            Self::Egress => "egress",
        }
    }

    /// The preposition before the other end: `from` or `to`.
    #[must_use]
    pub(crate) fn preposition(self) -> &'static str {
        match self {
            Self::Ingress => "from",
            Self::Egress => "to",
        }
    }
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The effect of a policy in one direction.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Side {
    /// The path where its rules are written, or would be. If deny rules have a list of their own and it is the only one
    /// in the manifest, it is the path of that list.
    pub path: Path,
    /// True if it isolates the subject: traffic that no policy of its stage allows is dropped. False if that is unknown
    /// ([`Types::Uncertain`]).
    pub isolates: bool,
    /// The rules in the order of their evaluation. Rules without effect are left out.
    pub rules: Vec<Rule>,
    /// The number of rules that the author wrote. `None` if the list is missing.
    pub written: Option<usize>,
}

/// One rule of a policy.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Rule {
    /// The path of the rule.
    pub path: Path,
    /// The action for the traffic that the rule matches.
    pub action: Action,
    /// The pods of the subject that the rule applies to. `None`: all of them.
    pub only: Option<Selector>,
    /// The addresses of these pods that the rule applies to. `None`: all of them.
    pub within: Option<AddressSet>,
    /// The other side of the traffic.
    pub peers: Peers,
    /// The ports at the destination.
    pub ports: Ports,
    /// Further conditions of the rule, as text. They cannot be evaluated here, so it is unknown whether the rule
    /// matches.
    pub conditions: Vec<Box<str>>,
    /// The filter for single requests in connections that the rule allows.
    pub filter: Option<Filter>,
    /// The proxy to which the agent redirects these connections.
    pub proxy: Option<Proxy>,
}

impl Rule {
    /// Creates a rule for all pods of the subject, limited only by peers and ports.
    #[must_use]
    pub fn new(path: Path, action: Action, peers: Peers, ports: Ports) -> Self {
        let conditions = Vec::new();
        Self { path, action, only: None, within: None, peers, ports, conditions, filter: None, proxy: None }
    }
}

/// The filter for single requests in connections that a rule allows.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Filter {
    /// A DNS proxy allows lookups of these names, and records the addresses in the answers.
    Lookups(Vec<DomainPattern>),
    /// A proxy allows only some of the requests.
    Requests,
}

/// A proxy to which an agent redirects connections. All rules for one peer and port share one proxy.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Proxy {
    /// The protocol parser of the proxy.
    pub parser: Parser,
    /// True if the proxy terminates TLS.
    pub(crate) terminates_tls: bool,
    /// True if the proxy checks the server name in TLS.
    pub(crate) checks_server_names: bool,
}

/// The protocol parser of a proxy.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Parser {
    /// DNS lookups.
    Dns,
    /// HTTP requests.
    Http,
    /// TLS without a parser for its contents.
    Tls,
    /// Requests of another protocol, by its name.
    Other(Box<str>),
    /// A configured listener of the proxy.
    Listener {
        /// The name of the listener.
        name: Box<str>,
        /// The smallest priority wins.
        priority: u8,
    },
}

impl Proxy {
    /// Returns true if the agent fails to compute the policy of pods that have both proxies for the same peer and port
    /// (`mergeRedirect` and `mergePortProto` in Cilium's `pkg/policy/rule.go`).
    #[must_use]
    pub(crate) fn conflicts_with(&self, other: &Self) -> bool {
        let is_unterminated = !self.terminates_tls && !other.terminates_tls;
        match (&self.parser, &other.parser) {
            (Parser::Listener { name, priority }, Parser::Listener { name: other, priority: beside }) => {
                name != other && priority == beside
            }
            // A parser may be added to plain TLS. A server name check combines with a parser only if TLS is terminated.
            (Parser::Tls, Parser::Http | Parser::Other(_)) => self.checks_server_names && is_unterminated,
            (Parser::Http | Parser::Other(_), Parser::Tls) => other.checks_server_names && is_unterminated,
            (own, other) => own != other,
        }
    }
}

impl fmt::Display for Parser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns => f.write_str("DNS rules"),
            Self::Http => f.write_str("HTTP rules"),
            Self::Tls => f.write_str("TLS settings"),
            Self::Other(name) => write!(f, "{name} rules"),
            Self::Listener { name, .. } => write!(f, "listener {name}"),
        }
    }
}

/// The action for the traffic that a rule matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// The traffic is allowed.
    Allow,
    /// The traffic is dropped.
    Deny,
    /// The next stage decides.
    Pass,
    /// The traffic is logged, and the next rule decides.
    Log,
}

impl Rule {
    /// Returns true if the rule can apply to pods, judging by its addresses.
    #[must_use]
    pub(crate) fn is_for_pods(&self) -> bool {
        self.within.as_ref().is_none_or(AddressSet::may_be_of_pods)
    }
}

impl Policy {
    /// The effect of the policy in one direction.
    #[must_use]
    pub fn side(&self, direction: Direction) -> &Side {
        match direction {
            Direction::Ingress => &self.ingress,
            Direction::Egress => &self.egress,
        }
    }

    /// Both directions, each with the effect of the policy.
    pub fn sides(&self) -> impl Iterator<Item = (Direction, &Side)> {
        Direction::ALL.into_iter().map(|direction| (direction, self.side(direction)))
    }

    /// The position of its stage among all stages: by number, then by name.
    #[must_use]
    pub fn place<'a>(&'a self, around: &dyn Surroundings) -> (Precedence, &'a str) {
        (self.stage.position(self.tier(around)), self.stage.name())
    }

    /// Returns true if the policy can have an effect in this direction: it isolates its subject, may isolate it, or has a
    /// rule.
    #[must_use]
    pub fn concerns(&self, direction: Direction) -> bool {
        let side = self.side(direction);
        side.isolates || !side.rules.is_empty() || self.may_isolate(direction)
    }

    /// Returns true if it is unknown whether the policy isolates its subject in this direction.
    #[must_use]
    pub(crate) fn may_isolate(&self, direction: Direction) -> bool {
        matches!(&self.types, Types::Uncertain(_, directions) if directions.contains(&direction))
    }

    /// Returns true if the policy isolates its pods: traffic that no policy of its stage allows is dropped. In a stage
    /// that passes undecided traffic on, a policy does not isolate.
    #[must_use]
    pub fn isolates(&self, direction: Direction, around: &dyn Surroundings) -> bool {
        self.side(direction).isolates && self.stage.drops(self.tier(around))
    }

    /// The tier of the policy, if it is a tier of Calico and known.
    pub(super) fn tier<'a>(&self, around: &'a dyn Surroundings) -> Option<&'a Tier> {
        match &self.stage {
            Stage::Tier(name) => around.tier(name),
            Stage::Admin | Stage::Policies | Stage::Baseline => None,
        }
    }

    /// Every rule that allows traffic, with its direction.
    pub(crate) fn allow_rules(&self) -> impl Iterator<Item = (Direction, &Rule)> {
        self.sides().flat_map(|(direction, side)| {
            side.rules.iter().filter(|rule| rule.action == Action::Allow).map(move |rule| (direction, rule))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_stand_where_calico_puts_them() {
        let tier = |order| Tier { order, drops: true };
        let security = Stage::Tier("security".into());
        assert!(security.position(Some(&tier(Some(Precedence(100.0))))) < Stage::Admin.position(None));
        assert!(Stage::Admin.position(None) < Stage::Policies.position(None));
        assert!(Stage::Policies.position(None) < Stage::Baseline.position(None));
        assert!(Stage::Baseline.position(None) < security.position(None), "an unknown tier comes last");
        assert_eq!(security.position(Some(&tier(None))), Stage::Policies.position(None));
    }

    #[test]
    fn one_proxy_takes_what_another_extends() {
        let proxy = |parser, terminates_tls, checks_server_names| Proxy { parser, terminates_tls, checks_server_names };
        let of = |parser| proxy(parser, false, false);
        let listener = |name: &str, priority| of(Parser::Listener { name: name.into(), priority });
        let kafka = || of(Parser::Other("kafka".into()));
        for (one, other, conflict) in [
            (of(Parser::Dns), of(Parser::Dns), false),
            (of(Parser::Dns), of(Parser::Http), true),
            (of(Parser::Http), kafka(), true),
            (of(Parser::Dns), kafka(), true),
            (kafka(), of(Parser::Other("r2d2".into())), true),
            (of(Parser::Tls), of(Parser::Http), false),
            (of(Parser::Tls), of(Parser::Dns), true),
            (of(Parser::Tls), listener("a", 126), true),
            (of(Parser::Http), listener("a", 126), true),
            (listener("a", 126), listener("a", 1), false),
            (listener("a", 126), listener("b", 1), false),
            (listener("a", 126), listener("b", 126), true),
            (proxy(Parser::Tls, false, true), of(Parser::Http), true),
            (proxy(Parser::Tls, true, true), of(Parser::Http), false),
            (proxy(Parser::Tls, false, true), proxy(Parser::Http, true, false), false),
        ] {
            assert_eq!(one.conflicts_with(&other), conflict, "{one:?} {other:?}");
            assert_eq!(other.conflicts_with(&one), conflict, "{other:?} {one:?}");
        }
    }

    #[test]
    fn numbers_are_ordered_as_numbers() {
        assert!(Precedence(-1.0) < Precedence(0.5) && Precedence(0.5) < Precedence(f64::INFINITY));
        assert_eq!(Precedence(0.0), Precedence(-0.0));
    }
}
