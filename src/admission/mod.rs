//! The AdmissionReview wire: bytes in, bytes out. No HTTP here, and nothing is ever written anywhere.
//!
//! Whatever can be read as a review is answered as a review, with its uid. What cannot is [refused](Refusal), so that
//! the API server's failurePolicy decides; nothing that is broken is ever allowed.

mod answer;
mod mutate;
mod review;
mod text;
mod validate;

pub use mutate::mutate;
pub use review::{Refusal, Request};
pub use validate::validate;

use crate::baseline::PolicySet;
use crate::config::Configuration;
use crate::engine::Judgement;
use crate::rules::Mode;
use crate::view::View;

/// All that decisions are made from.
pub struct Knowledge {
    /// What is asked, and what follows.
    pub configuration: Configuration,
    /// What is known of the cluster.
    pub view: View,
    /// The policies that namespaces are due.
    pub policies: PolicySet,
}

/// A review that was answered.
#[derive(Debug)]
pub struct Answer<'a> {
    /// The AdmissionReview to send back.
    pub body: Vec<u8>,
    /// What it says, for logs and metrics.
    pub decision: Decision<'a>,
}

/// What was decided, and why.
#[derive(Debug)]
pub struct Decision<'a> {
    /// What was asked.
    pub request: Request<'a>,
    /// Whether the request may go on.
    pub allowed: bool,
    /// Whether the object is changed on the way.
    pub patched: bool,
    /// What was found.
    pub judgements: Vec<Judgement>,
    /// Why the object could not be judged, if it could not.
    pub unreadable: Option<String>,
}

impl Decision<'_> {
    /// The decision in one word, for logs and metrics.
    #[must_use]
    pub fn word(&self) -> &'static str {
        if !self.allowed {
            "denied"
        } else if self.patched {
            "patched"
        } else if self.judgements.iter().any(|judgement| judgement.action == Mode::Warn) {
            "warned"
        } else {
            "allowed"
        }
    }
}
