//! The rules: what each finds, what it must not find, its texts and its documentation.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on says so by a panic"
)]

mod across_dialects;
mod any_port;
mod baseline_plan;
mod case;
mod cases;
mod changes_across_dialects;
mod corpus;
mod dangling_selector;
mod dissolved_baseline;
mod dns_blocked;
mod examples;
mod explicit_default_deny;
mod golden_texts;
mod host_policies;
mod monitoring_blocked;
mod open_ingress;
mod policies;
mod policy_cover;
mod ports_of_services;
mod redundant_policy;
mod reference;
mod unreachable_backend;

#[path = "../support/apps.rs"]
mod apps;
#[path = "../support/golden.rs"]
mod golden;
#[path = "../support/manifests.rs"]
#[allow(dead_code, reason = "shared with other tests")]
mod manifests;
#[path = "../support/objects.rs"]
mod objects;
#[path = "../support/shipped.rs"]
mod shipped;
#[path = "../support/texts.rs"]
#[allow(dead_code, reason = "shared with other tests")]
mod texts;
