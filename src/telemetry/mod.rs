//! Metrics and logs. Metrics are values that are passed along, not globals.

mod baseline;
mod cluster;
mod contracts;
mod exposition;
mod logs;
mod metrics;
mod webhooks;

pub use baseline::BaselineMetrics;
pub use cluster::{ClusterMetrics, Lookup};
pub use contracts::ContractMetrics;
pub use exposition::Exposition;
pub use logs::{Format, init};
pub use metrics::{Counted, Metrics};
pub use webhooks::WebhookMetrics;
