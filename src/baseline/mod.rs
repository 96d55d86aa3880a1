//! The policies that a namespace is due, and the controller that reconciles them.
//!
//! ```text
//! policies/ ─ PolicySet ─ Catalogue ─┐
//! View of the cluster ───────────────┴─ plan (pure) ─▶ steps ─ executor ─▶ API server
//!                                        ▲                                    │
//!                                        └── controller: queue, resync ◀──────┘ reported by watches
//! ```
//!
//! The catalogue holds the policies as they are applied: with the labels of the controller, and with the endpoints of the
//! API server where a file asks for them.
//!
//! The controller is level-triggered: it compares the stored policies with the due ones, and each step follows from the
//! state of the cluster alone. One replica works at a time, elected by a Lease.

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
mod fill;
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
