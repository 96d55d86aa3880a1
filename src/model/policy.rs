//! The policy itself.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};

use super::{AddressSet, DomainPattern, Fault, ObjectRef, Path, Peers, Pods, Ports, Selector, Surroundings};

/// One policy as it counts in a cluster: whom it concerns, and what it does in each direction.
///
/// One object can hold several (a Cilium policy with `specs`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// The object that it stands in.
    pub object: ObjectRef,
    /// Whether the cluster enforces it.
    pub standing: Standing,
    /// Where it stands among other policies.
    pub stage: Stage,
    /// Where it stands among those of its stage.
    pub order: Order,
    /// The pods that it concerns.
    pub subject: Pods,
    /// Where they are selected, or would be.
    pub subject_path: Path,
    /// Whether its selectors may mean what is no pod too: in Calico, host endpoints and sets of networks have labels.
    pub selects_others: bool,
    /// Whether its author said which directions it isolates.
    pub types: Types,
    /// Traffic to the subject.
    pub ingress: Side,
    /// Traffic from the subject.
    pub egress: Side,
}

/// Whether a cluster enforces a policy that it stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Standing {
    /// It does.
    InForce,
    /// It only shows what the policy would do (the staged kinds of Calico).
    Staged,
    /// It does not: the policy is not valid, and its agent leaves it aside.
    Refused,
}

impl Standing {
    /// That of a policy of which nothing else is known than what is wrong with it.
    #[must_use]
    pub fn of(faults: &[Fault]) -> Self {
        if faults.iter().any(|fault| fault.kind.is_refused()) { Self::Refused } else { Self::InForce }
    }
}

/// Which of two policies is asked first. A stage decides, or leaves the traffic to the next one.
///
/// They are those of the ClusterNetworkPolicy API, with Calico's tiers among them at the orders that Calico itself gives to
/// the others: see [`Stage::position`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    /// ClusterNetworkPolicy of the Admin tier, AdminNetworkPolicy.
    Admin,
    /// A tier of Calico other than the default one, by its name. Where it stands, the tier itself says.
    Tier(Box<str>),
    /// NetworkPolicy, Cilium's policies, and those of Calico's default tier.
    Policies,
    /// ClusterNetworkPolicy of the Baseline tier, BaselineAdminNetworkPolicy.
    Baseline,
}

impl Stage {
    /// Where it stands among the stages, if its tier says so there.
    #[must_use]
    pub fn position(&self, tier: Option<&Tier>) -> Precedence {
        match self {
            Self::Admin => Precedence(1_000.0),
            Self::Policies => Precedence(1_000_000.0),
            Self::Baseline => Precedence(10_000_000.0),
            // Felix puts a tier that does not exist last, and one without an order beside the default tier.
            Self::Tier(_) => {
                tier.map_or(Precedence(f64::INFINITY), |tier| tier.order.unwrap_or(Precedence(1_000_000.0)))
            }
        }
    }

    /// The name, by which stages of the same position are put in order.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Admin => "kube-admin",
            Self::Tier(name) => name,
            Self::Policies => "default",
            Self::Baseline => "kube-baseline",
        }
    }

    /// Whether traffic that none of its policies decides is dropped, if one of them isolates the pods.
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
    /// Where it stands among the tiers: the smallest first. Without one it stands beside the default tier.
    pub order: Option<Precedence>,
    /// Whether traffic that none of its policies decides is dropped.
    pub drops: bool,
}

/// Where a policy stands among those of its stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Order {
    /// Nowhere: such policies add up. What one of them denies is denied whatever the others allow, and what one of them
    /// allows is allowed. Where others have an order, these stand at 1000, as in Calico.
    Additive,
    /// The smallest number first.
    At(Precedence),
    /// After those with a number.
    Last,
}

impl Order {
    /// Where it stands.
    #[must_use]
    pub fn position(self) -> Precedence {
        match self {
            Self::Additive => Precedence(1_000.0),
            Self::At(number) => number,
            Self::Last => Precedence(f64::INFINITY),
        }
    }
}

/// A number that things are ordered by. The smallest comes first.
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
        // So that -0 is 0, as everywhere else.
        (self.0 + 0.0).total_cmp(&(other.0 + 0.0))
    }
}

impl Hash for Precedence {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.0 + 0.0).to_bits().hash(state);
    }
}

/// Whether the author of a policy said which directions it isolates.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Types {
    /// It is written down.
    Declared,
    /// It is not, and follows from the rules that there are; here it would be written.
    Inferred(Path),
    /// What is stored does not tell.
    Unknown,
}

/// Seen from the subject: traffic that comes, or traffic that goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// Traffic to the subject.
    Ingress,
    /// Traffic from the subject.
    Egress,
}

impl Direction {
    /// Both of them.
    pub const ALL: [Self; 2] = [Self::Ingress, Self::Egress];

    /// The name in manifests and messages.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ingress => "ingress",
            Self::Egress => "egress",
        }
    }
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a policy does in one direction.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Side {
    /// Where its rules are, or would be, written. Where what denies has a list of its own, and only that one is there, it is
    /// that one.
    pub path: Path,
    /// Whether it isolates the subject: what no policy of its stage allows is dropped.
    pub isolates: bool,
    /// What it lets through, or stops, in the order in which they are asked. Rules that have no effect are not here.
    pub rules: Vec<Rule>,
    /// How many rules the author wrote; none where the list is not there at all.
    pub written: Option<usize>,
}

/// One rule of a policy.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Rule {
    /// Where it is written.
    pub path: Path,
    /// What happens to the traffic that it means.
    pub action: Action,
    /// Which pods of the subject it is for, if not for all of them.
    pub only: Option<Selector>,
    /// Which addresses of these pods it is for, if not for all of them.
    pub within: Option<AddressSet>,
    /// The other side of the traffic.
    pub peers: Peers,
    /// The ports at the destination.
    pub ports: Ports,
    /// What else has to hold for the rule to mean some traffic, in words: nothing here can tell whether it does.
    pub conditions: Vec<Box<str>>,
    /// What becomes of single requests in connections that the rule allows.
    pub filter: Option<Filter>,
    /// The proxy to which the agent redirects these connections.
    pub proxy: Option<Proxy>,
}

impl Rule {
    /// Creates a rule for all pods of the subject, that nothing but peers and ports limits.
    #[must_use]
    pub fn new(path: Path, action: Action, peers: Peers, ports: Ports) -> Self {
        let conditions = Vec::new();
        Self { path, action, only: None, within: None, peers, ports, conditions, filter: None, proxy: None }
    }
}

/// What becomes of single requests in connections that a rule allows.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Filter {
    /// A proxy lets lookups of these names through, and learns the addresses from the answers.
    Lookups(Vec<DomainPattern>),
    /// A proxy lets some requests through.
    Requests,
}

/// A proxy to which an agent redirects connections. All rules for one peer and port share one proxy.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Proxy {
    /// What the proxy parses.
    pub parser: Parser,
    /// Whether the proxy terminates TLS.
    pub terminates_tls: bool,
    /// Whether the proxy compares the name of the server in TLS.
    pub checks_server_names: bool,
}

/// What a proxy parses.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Parser {
    /// Lookups in DNS.
    Dns,
    /// Requests of HTTP.
    Http,
    /// TLS alone.
    Tls,
    /// Requests of another protocol, by its name.
    Other(Box<str>),
    /// What a listener of the proxy is configured for.
    Listener {
        /// Its name.
        name: Box<str>,
        /// The smallest priority wins.
        priority: u8,
    },
}

impl Proxy {
    /// Returns true if an agent fails to compute the policy of pods that have both for one peer and port (`mergeRedirect` and
    /// `mergePortProto` in Cilium's `pkg/policy/rule.go`).
    #[must_use]
    pub fn conflicts_with(&self, other: &Self) -> bool {
        let is_unterminated = !self.terminates_tls && !other.terminates_tls;
        match (&self.parser, &other.parser) {
            (Parser::Listener { name, priority }, Parser::Listener { name: other, priority: beside }) => {
                name != other && priority == beside
            }
            // TLS alone is extended by what is parsed in it. A name is compared and a request parsed only in terminated TLS.
            (Parser::Tls, Parser::Http | Parser::Other(_)) => self.checks_server_names && is_unterminated,
            (Parser::Http | Parser::Other(_), Parser::Tls) => other.checks_server_names && is_unterminated,
            (own, other) => own != other,
        }
    }
}

impl fmt::Display for Parser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns => f.write_str("rules for DNS"),
            Self::Http => f.write_str("rules for HTTP"),
            Self::Tls => f.write_str("settings for TLS"),
            Self::Other(name) => write!(f, "rules for {name}"),
            Self::Listener { name, .. } => write!(f, "the listener {name}"),
        }
    }
}

/// What happens to the traffic that a rule means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// It may pass.
    Allow,
    /// It is dropped.
    Deny,
    /// The next stage decides.
    Pass,
    /// It is noted, and the next rule decides.
    Log,
}

impl Rule {
    /// Whether pods can be among those that the rule is for, as far as their addresses tell.
    #[must_use]
    pub fn is_for_pods(&self) -> bool {
        self.within.as_ref().is_none_or(AddressSet::may_be_of_pods)
    }
}

impl Policy {
    /// What the policy does in one direction.
    #[must_use]
    pub fn side(&self, direction: Direction) -> &Side {
        match direction {
            Direction::Ingress => &self.ingress,
            Direction::Egress => &self.egress,
        }
    }

    /// Both directions, each with what the policy does there.
    pub fn sides(&self) -> impl Iterator<Item = (Direction, &Side)> {
        Direction::ALL.into_iter().map(|direction| (direction, self.side(direction)))
    }

    /// Where its stage stands among all of them: by its position, and of the same position by its name.
    #[must_use]
    pub fn place<'a>(&'a self, around: &dyn Surroundings) -> (Precedence, &'a str) {
        (self.stage.position(self.tier(around)), self.stage.name())
    }

    /// Whether what no policy of its stage allows is dropped because of it. In a tier that passes on what it does not decide a
    /// policy isolates nothing.
    #[must_use]
    pub fn isolates(&self, direction: Direction, around: &dyn Surroundings) -> bool {
        self.side(direction).isolates && self.stage.drops(self.tier(around))
    }

    /// The tier that it stands in, if it is one of Calico and known.
    pub(super) fn tier<'a>(&self, around: &'a dyn Surroundings) -> Option<&'a Tier> {
        match &self.stage {
            Stage::Tier(name) => around.tier(name),
            Stage::Admin | Stage::Policies | Stage::Baseline => None,
        }
    }

    /// Every rule that lets traffic through, with its direction.
    pub fn allow_rules(&self) -> impl Iterator<Item = (Direction, &Rule)> {
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
        assert!(Stage::Baseline.position(None) < security.position(None), "a tier that nobody knows comes last");
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
