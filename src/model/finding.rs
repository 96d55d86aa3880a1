//! The findings of rules.

use super::{Direction, ObjectRef, Path, Peer, Port, Protocol};

/// A problem that a rule found in an object. It is data and not an error, because all findings are reported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The rule's name.
    pub rule: &'static str,
    /// The object.
    pub object: ObjectRef,
    /// The path in the object.
    pub path: Path,
    /// The problem and its effect. It names values and never a list index, so that it stays the same if the lists
    /// around it change. A fault is identified by its rule and this message.
    pub message: String,
    /// The near miss: the closest rule or policy that almost prevents this, and the one mismatch.
    pub closest: Option<String>,
    /// The action that solves the problem.
    pub help: String,
    /// A fix that can be applied mechanically, if there is one.
    pub fix: Option<Fix>,
    /// True if it warns at most, whatever the mode of its rule is.
    pub is_advice: bool,
}

/// A fix in terms of the model. The object's dialect turns it into a JSON patch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fix {
    /// Adds a rule that allows this traffic.
    Allow {
        /// The path where the rules of the direction are written, or would be.
        rules: Path,
        /// True if the direction already has rules there.
        has_rules: bool,
        /// The direction.
        direction: Direction,
        /// The peers. Their paths are unused.
        peers: Vec<Peer>,
        /// The ports. Their paths are unused.
        ports: Vec<Port>,
    },
    /// Repeats a port entry for another protocol.
    RepeatPort {
        /// The entry.
        port: Path,
        /// The protocol to repeat it for.
        protocol: Protocol,
    },
    /// Joins two peers into one, so that both must match.
    JoinPeers {
        /// The entry with the namespaces.
        namespaces: Path,
        /// The entry with the pods.
        pods: Path,
    },
    /// Excludes a CIDR from a CIDR.
    LeaveOut {
        /// The entry with the CIDR.
        peer: Path,
        /// The excluded CIDR.
        net: ipnet::IpNet,
    },
    /// Sends the DNS lookups that some rules allow through the DNS proxy, which records the addresses in the answers.
    WatchLookups {
        /// The paths of their port lists. Each list allows only DNS lookups.
        lists: Vec<Path>,
    },
    /// Declares the directions that the policy isolates.
    DeclareTypes {
        /// The directions.
        directions: Vec<Direction>,
    },
}
