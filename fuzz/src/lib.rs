//! What the fuzz targets share: one module for each target, the grammar of their inputs and the oracles.
//!
//! `CONTRIBUTING.md` says how to run a target and what to do about a crash.

#![forbid(unsafe_code)]
#![allow(clippy::missing_panics_doc, reason = "a panic is how a target reports a finding")]

mod answers;
mod cost;
mod grammar;
mod kinds;
mod surroundings;

pub mod configuration;
pub mod decision;
pub mod dialects;
pub mod differential;
pub mod patches;
pub mod review;
pub mod selectors;
pub mod time;
pub mod yaml;

#[path = "../../tests/support/comparison.rs"]
mod comparison;
#[path = "../../tests/support/crowd.rs"]
mod crowd;
#[path = "../../tests/oracle/mod.rs"]
mod oracle;

#[global_allocator]
static ALLOCATOR: peak_alloc::PeakAlloc = peak_alloc::PeakAlloc;
