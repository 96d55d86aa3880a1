//! The effect of a change on the pods and the traffic of a namespace, before the change is made.
//!
//! A preview is a list of lines for the user. It does not affect the decision.

mod affected_pods;
pub mod connections;
mod dns_loss;
mod hatch;
mod namespace_change;
mod profile_diff;
mod scope;

pub use namespace_change::preview;
pub use scope::is_only_previewed;
