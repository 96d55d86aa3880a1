//! What a rule has to say.

use super::{Direction, ObjectRef, Path, Peer, Port, Protocol};

/// Something that a rule found wrong. Data, not an error: all of them are reported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The rule's name.
    pub rule: &'static str,
    /// The object that it is about.
    pub object: ObjectRef,
    /// The place in the object.
    pub path: Path,
    /// What is wrong and why it hurts. It names the values and never a position in a list, so that the same fault reads the
    /// same after the lists around it have moved: a fault is known again by its rule and this.
    pub message: String,
    /// The near miss: what was meant to prevent this, and the one thing that is wrong with it.
    pub closest: Option<String>,
    /// What to write instead.
    pub help: String,
    /// How to put it right mechanically, where that is possible.
    pub fix: Option<Fix>,
}

/// A change that puts a fault right, in the model's terms. The object's dialect turns it into a JSON patch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fix {
    /// Allow this traffic by a rule of its own.
    Allow {
        /// Where the rules of the direction are, or would be, written.
        rules: Path,
        /// Whether rules of the direction are written there already.
        has_rules: bool,
        /// The direction.
        direction: Direction,
        /// The other side. Paths in it mean nothing.
        peers: Vec<Peer>,
        /// The ports. Paths in it mean nothing.
        ports: Vec<Port>,
    },
    /// Repeat a port entry for another protocol.
    RepeatPort {
        /// The entry.
        port: Path,
        /// The protocol to repeat it for.
        protocol: Protocol,
    },
    /// Make one peer of two, so that both have to be met.
    JoinPeers {
        /// The entry with the namespaces.
        namespaces: Path,
        /// The entry with the pods.
        pods: Path,
    },
    /// Leave an address out of a block.
    LeaveOut {
        /// The entry with the block.
        peer: Path,
        /// What to leave out.
        net: ipnet::IpNet,
    },
    /// Send the lookups that some rules allow through the proxy that learns names.
    WatchLookups {
        /// The lists of their ports. Each is for lookups and nothing else.
        lists: Vec<Path>,
    },
    /// Write down which directions the policy isolates.
    DeclareTypes {
        /// The directions.
        directions: Vec<Direction>,
    },
}
