//! The canonical network policy: the effect of a policy, independent of its dialect.
//!
//! ```text
//! Policy ── subject ─▶ Pods            the pods that it applies to
//!   │  └─── stage, order               its position among the other policies
//!   └── ingress, egress ─▶ Side        isolation, and the rules that allow or stop traffic
//!                           └─ Rule ── action, peers ─▶ Peer, ports ─▶ Port
//! ```
//!
//! [`ask`] is the one place where policies are combined: it evaluates a connection.
//!
//! Each part keeps the [`Path`] at which the author wrote it. The module is pure: it has no Kubernetes types, does no
//! I/O and reads no clock.

mod addresses;
mod api_server;
mod backend;
mod connection;
mod connectivity;
mod contract;
mod cover;
mod domain;
mod endpoint;
mod everywhere;
mod fault;
mod finding;
mod labels;
mod layers;
mod network_set;
mod object;
mod path;
mod peer;
mod policy;
mod port_spans;
mod ports;
mod ranges;
mod selector;
mod service;
mod ternary;
mod witness;

pub(crate) use addresses::is_link_local;
pub use addresses::{AddressSet, Block};
pub use api_server::{ApiServer, PortSet};
pub use backend::{Backend, BackendPort, Caller};
pub use connection::{Connection, Ends, Outcome, Policies, PortRange, Relation, connect, names, reach};
pub use connectivity::{Answer, Assumption, Decision, Question, Subject, ask};
pub(crate) use connectivity::{ask_within, concern_all};
pub use contract::{Contract, Demand, Enforcement, Extent, Party, PortSpan};
pub(crate) use cover::BUDGET;
pub use cover::{Allowance, uncovered};
pub use domain::DomainPattern;
#[cfg(test)]
pub(crate) use endpoint::Nowhere;
pub use endpoint::{End, Endpoint, Surroundings};
pub(crate) use everywhere::Family;
pub use fault::{Fault, FaultKind};
pub use finding::{Finding, Fix};
pub use labels::Labels;
pub(crate) use labels::{always_added_to_pods, is_added_to_pods};
pub(crate) use layers::{Layers, sweep};
pub use network_set::{NetworkSet, Sets};
pub use object::{Body, ContainerPort, Namespace, Object, ObjectRef, Scrape, Workload};
pub(crate) use object::{NAME_LABEL, bare_name, is_stored_by_calico};
pub use path::{Path, Step};
pub use peer::{Entity, Namespaces, Peer, Peers, Pods, ServicePeer, Who};
pub use policy::{
    Action, Direction, Filter, Order, Parser, Policy, Precedence, Proxy, Rule, Side, Stage, Standing, Tier, Types,
};
pub(crate) use port_spans::PortSpans;
pub use ports::{Names, Numbers, Port, Ports, Protocol, Traffic};
pub(crate) use ranges::Number;
pub use ranges::Ranges;
pub use selector::{Fact, Operator, Owner, Requirement, Selector};
pub use service::{Service, ServicePort, TargetPort};
pub(crate) use witness::Witness;
