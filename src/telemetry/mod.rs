//! Metrics and logs, as values that are handed around.

mod logs;
mod metrics;

pub use logs::{Format, init};
pub use metrics::{Counted, Metrics};
