//! The server: the built binary over real TLS.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on says so by a panic"
)]

mod admin;
mod certificates;
mod clients;
mod contract;
mod lookup;
mod reload;
mod requests;
mod reviews;
mod shutdown;
mod telemetry;

#[path = "../support/mod.rs"]
mod support;
