//! The book in `docs/`: links and anchors resolve, commands print what their pages show, and reference pages agree with
//! the program. `UPDATE_DOCS=1` rewrites the output of commands and the generated parts.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on says so by a panic"
)]

mod commands;
#[path = "../support/exposed.rs"]
#[allow(dead_code, reason = "a part of it is used by other tests")]
mod exposed;
mod links;
mod page;
mod reference;
mod runbooks;
mod translations;
