//! The folder of policies, without the controller that applies them.

mod due;
mod fill;
mod policy_set;

pub use due::missing;
pub use policy_set::{Error, Layer, PolicySet, Template};
