//! The controller that reconciles the baselines of all namespaces, and the writer of the statuses of contracts.
//!
//! ```text
//! View of the cluster ─ watches ─▶ queue ─▶ reconciler ─ baseline::plan ─▶ steps ─▶ executor ─▶ API server
//!         ▲                                                                                        │
//!         └──────────────────────────── reported by watches, or found by a resync ◀────────────────┘
//! ```
//!
//! The controller is level-triggered: it compares the stored policies with the due ones, and each step follows from the
//! state of the cluster alone. One replica works at a time, elected by a Lease.

mod backoff;
mod brake;
mod claim;
mod contract_status;
mod contract_writer;
mod dry_run;
mod error;
mod events;
mod executor;
mod field_managers;
mod gates;
mod hatch;
mod lease;
mod limits;
mod objects;
mod progress;
mod queue;
mod reconciler;
mod run;
mod write_conflicts;

pub(crate) use contract_writer::ContractWriter;
pub use gates::{GatedPod, Gates, lift_gate, pods};
pub use lease::{Terms, identity};
pub use limits::{Limits, RemovalLimits};
pub use reconciler::Wanted;
pub use run::{Controller, run};
