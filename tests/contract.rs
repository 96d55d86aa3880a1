//! The traps of the AdmissionReview contract, each with a test of its number, over TLS against the built binary.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on says so by a panic"
)]

mod support;

#[path = "contract/bad_input.rs"]
mod bad_input;
#[path = "contract/envelope.rs"]
mod envelope;
#[path = "contract/exemptions.rs"]
mod exemptions;
#[path = "contract/guards.rs"]
mod guards;
#[path = "contract/hatch.rs"]
mod hatch;
#[path = "contract/limits.rs"]
mod limits;
#[path = "contract/patches.rs"]
mod patches;
#[path = "contract/ratchet.rs"]
mod ratchet;
#[path = "contract/registration.rs"]
mod registration;
#[path = "contract/requests.rs"]
mod requests;
#[path = "contract/stored.rs"]
mod stored;
