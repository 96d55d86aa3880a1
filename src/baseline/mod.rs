//! Which policies a namespace is due, and the controller that keeps them there.
//!
//! ```text
//! policies/ ─ PolicySet ─ Catalogue ─┐
//! View of the cluster ───────────────┴─ plan (pure) ─▶ steps ─ executor ─▶ API server
//!                                        ▲                                    │
//!                                        └── controller: queue, resync ◀──────┘ what the watches tell
//! ```
//!
//! The controller is level-triggered: it holds what is there against what is due, and remembers nothing that the cluster
//! does not say. One replica works at a time, by a Lease.

mod brake;
mod catalogue;
mod claim;
mod contest;
mod controller;
mod domain_change;
mod due;
mod error;
mod events;
mod executor;
mod field_managers;
mod gates;
mod hatch;
mod learning;
mod lease;
mod objects;
mod pace;
mod plan;
mod policy_set;
mod queue;
mod request;
mod standings;
mod worker;

pub use catalogue::{Catalogue, Entry};
pub use controller::{Controller, Wanted, run};
pub use due::{complete, give_profile, missing};
pub use gates::{GatedPod, Gates, lift_gate, pods};
pub use lease::{Terms, identity};
pub use pace::{Brake, Pace};
pub use plan::{Label, Plan, Standing, Step, kept_in_cluster, plan, plan_cluster};
pub use policy_set::{Error, Layer, PolicySet, Template};
