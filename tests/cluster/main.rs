//! Watches, discovery, certificates and webhook configurations, on a control plane or on a played one.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on says so by a panic"
)]

mod certificate_rotation;
mod discovery;
mod live;
mod watch;
mod webhook_keeper;

#[path = "../support/mod.rs"]
mod support;
