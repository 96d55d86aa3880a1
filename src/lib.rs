//! Admission control for Kubernetes network policy.

#[macro_use]
mod json;

pub mod admission;
pub mod audit;
pub mod backstop;
pub mod baseline;
pub mod budget;
pub mod cli;
pub mod cluster;
pub mod config;
pub mod contract;
pub mod controller;
pub mod dialect;
pub mod engine;
pub mod model;
pub mod pki;
pub mod preview;
pub mod recommendation;
pub mod rules;
pub mod server;
pub mod telemetry;
pub mod trace;
pub mod view;
pub mod yaml;
