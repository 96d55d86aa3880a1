//! The canonical network policy: what a policy means, free of any dialect's spelling.
//!
//! ```text
//! Policy ── subject ─▶ Pods            whom it concerns
//!   │  └─── stage                      where it stands among the others
//!   └── ingress, egress ─▶ Side        does it isolate, and what it lets through
//!                           └─ Rule ── action, peers ─▶ Peer, ports ─▶ Port
//! ```
//!
//! Each part keeps the [`Path`] at which the author wrote it. Everything here is pure: no Kubernetes
//! types, no input or output, no clock.

mod addresses;
mod finding;
mod labels;
mod object;
mod path;
mod policy;
mod ports;
mod ranges;
mod selector;

pub use addresses::{AddressSet, Block, is_link_local};
pub use finding::{Finding, Fix};
pub use labels::Labels;
pub use object::{Body, NAME_LABEL, Namespace, Object, ObjectRef, Workload};
pub use path::{Path, Step};
pub use policy::{Action, Direction, Namespaces, Peer, Peers, Pods, Policy, Rule, Side, Stage, Types, Who};
pub use ports::{Numbers, Port, Ports, Protocol};
pub use ranges::Ranges;
pub use selector::{Operator, Requirement, Selector};
