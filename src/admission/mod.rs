//! The AdmissionReview wire: bytes in, bytes out. No HTTP here, and nothing is ever written anywhere.
//!
//! Whatever can be read as a review is answered as a review, with its uid. What cannot is [refused](Refusal), so that
//! the API server's failurePolicy decides; nothing that is broken is ever allowed.

mod answer;
mod asking;
mod cuts;
mod held;
mod mutate;
mod preview;
mod relabelled;
mod review;
mod text;
mod validate;

pub use mutate::mutate;
pub use review::{Refusal, Request};
pub use validate::validate;

use std::sync::Arc;

use crate::baseline::PolicySet;
use crate::config::Configuration;
use crate::engine::Judgement;
use crate::rules::{self, Mode};
use crate::view::{Need, View};

/// All that decisions are made from.
#[derive(Clone)]
pub struct Knowledge {
    /// What is asked, and what follows.
    pub configuration: Arc<Configuration>,
    /// What is known of the cluster.
    pub view: Arc<View>,
    /// The policies that namespaces are due.
    pub policies: Arc<PolicySet>,
    /// Why the view does not tell yet what is in the cluster, if it does not.
    pub unsynced: Option<Arc<str>>,
    /// True if a controller applies baselines, now or once a replica leads, so that due policies count before they are stored.
    pub applies_baselines: bool,
    /// Whether somebody applies baselines at present, so that it makes sense to wait for one.
    pub controller_runs: bool,
}

impl Knowledge {
    /// What is known where there is no cluster to watch.
    #[must_use]
    pub fn new(configuration: Configuration, view: View, policies: PolicySet) -> Self {
        Self {
            configuration: Arc::new(configuration),
            view: Arc::new(view),
            policies: Arc::new(policies),
            unsynced: None,
            applies_baselines: false,
            controller_runs: false,
        }
    }

    /// What is known once files have changed: of a cluster that is watched, files tell nothing.
    #[must_use]
    pub fn with_files(&self, files: &Self) -> Self {
        if !self.view.is_whole() {
            return files.clone();
        }
        let (configuration, policies) = (Arc::clone(&files.configuration), Arc::clone(&files.policies));
        Self { configuration, policies, ..self.clone() }
    }
}

/// What comes of an attempt to answer a review.
#[allow(clippy::large_enum_variant, reason = "there is one of them, on the stack, for the length of a request")]
#[derive(Debug)]
pub enum Reply<'a> {
    /// It is answered.
    Answer(Answer<'a>),
    /// The cluster has to be asked first.
    Needs(Vec<Need>),
}

impl<'a> Reply<'a> {
    /// The answer, where there is nobody to ask anything.
    ///
    /// # Errors
    /// Something would have to be asked.
    pub fn answer(self) -> Result<Answer<'a>, Refusal> {
        match self {
            Self::Answer(answer) => Ok(answer),
            Self::Needs(needs) => Err(Refusal(format!("the cluster would have to be asked: {needs:?}"))),
        }
    }
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
    /// Returns true if a policy that was stored a moment ago, of which no watch has reported yet, could change a denial.
    #[must_use]
    pub fn may_be_outdated(&self) -> bool {
        let mut denying = self.judgements.iter().filter(|judgement| judgement.denies()).peekable();
        let adds_up =
            |judgement: &Judgement| rules::find(judgement.finding.rule).is_some_and(rules::Definition::adds_up);
        !self.allowed && denying.peek().is_some() && denying.all(adds_up)
    }

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
