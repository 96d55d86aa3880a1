//! The commands: what they print, where, and how they end.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on says so by a panic"
)]

mod audit;
mod audit_page;
mod changed_since;
mod cli;
mod config;
mod contracts;
mod fix;
mod init;
mod pipelines;
mod promote;
mod propose;
mod reports;
mod trace;

#[path = "../support/layout.rs"]
mod layout;
#[path = "../support/objects.rs"]
#[allow(dead_code, reason = "shared with other tests")]
mod objects;
#[path = "../oracle/mod.rs"]
mod oracle;
#[path = "../support/shipped.rs"]
mod shipped;
#[path = "../support/mod.rs"]
mod support;
