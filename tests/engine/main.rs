//! The engine: dialects, connectivity beside an oracle, patches, files, growth, and the module table.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on says so by a panic"
)]

mod architecture;
mod connection_preview;
mod connectivity;
mod contract_states;
mod contracts;
mod dialects;
mod feed;
mod growth;
mod layouts;
mod patches;
mod properties;

#[path = "../support/comparison.rs"]
mod comparison;
#[path = "../support/crowd.rs"]
mod crowd;
#[path = "../support/objects.rs"]
#[allow(dead_code, reason = "shared with other tests")]
mod objects;
#[path = "../oracle/mod.rs"]
mod oracle;
#[path = "../oracle/tests.rs"]
mod oracle_by_hand;
#[path = "../support/shapes.rs"]
mod shapes;
#[path = "../support/shipped.rs"]
mod shipped;
