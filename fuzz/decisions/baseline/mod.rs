//! The folder of policies, without the controller that applies them.

mod policy_set;

pub use policy_set::{Error, Layer, PolicySet, Template};
