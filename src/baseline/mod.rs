//! The policies that a namespace is due, and the plan that leads there from the stored ones. Pure.
//!
//! ```text
//! policies/ ─ PolicySet ─ Catalogue ─┐
//! View of the cluster ───────────────┴─ plan ─▶ steps, which the controller carries out
//! ```
//!
//! The catalogue holds the policies as they are applied: with the labels of the controller, and with the endpoints of the
//! API server where a file requests them.

mod catalogue;
pub(crate) mod domain_change;
mod due;
mod fill;
mod note;
mod plan;
mod policy_set;
pub(crate) mod request;

pub use catalogue::{Catalogue, Entry};
pub(crate) use due::give_profile;
pub use due::{complete, missing};
pub(crate) use note::{CONTESTED, truncate_note};
pub(crate) use plan::by_kind;
pub use plan::{Label, Plan, PlanState, Step, kept_in_cluster, plan, plan_cluster};
pub use policy_set::{Error, Layer, PolicySet, Template};
