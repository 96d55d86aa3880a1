//! The traps of the AdmissionReview contract, each with a test of its number, over TLS against the built binary.

mod bad_input;
mod envelope;
mod exemptions;
mod guards;
mod hatch;
mod limits;
mod patches;
mod ratchet;
mod registration;
mod requests;
mod stored;
