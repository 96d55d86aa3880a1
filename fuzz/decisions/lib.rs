//! The modules of Portcullis that decide, without those that talk to a network.

#![forbid(unsafe_code)]
#![allow(dead_code, unused_imports, reason = "the modules that are missing here use the rest")]

#[macro_use]
#[path = "../../src/json.rs"]
mod json;

#[path = "../../src/admission/mod.rs"]
pub mod admission;
#[path = "../../src/budget.rs"]
pub mod budget;
#[path = "../../src/config/mod.rs"]
pub mod config;
#[path = "../../src/contract/mod.rs"]
pub mod contract;
#[path = "../../src/dialect/mod.rs"]
pub mod dialect;
#[path = "../../src/engine/mod.rs"]
pub mod engine;
#[path = "../../src/model/mod.rs"]
pub mod model;
#[path = "../../src/preview/mod.rs"]
pub mod preview;
#[path = "../../src/rules/mod.rs"]
pub mod rules;
#[path = "../../src/view/mod.rs"]
pub mod view;
#[path = "../../src/yaml/mod.rs"]
pub mod yaml;

pub mod baseline;
