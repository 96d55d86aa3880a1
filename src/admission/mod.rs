//! The AdmissionReview protocol, from request bytes to response bytes. No HTTP, and no writes to the cluster.
//!
//! Every body that can be parsed as a review is answered as a review, with its uid. Any other body is
//! [rejected](Refusal), so that the failurePolicy of the API server decides. A malformed request is never allowed.

mod answer;
mod attempt;
mod fix;
mod mutate;
mod review;
mod text;
mod validate;

pub use mutate::mutate;
pub use review::{Refusal, Request};
pub(crate) use validate::FINISHERS;
pub use validate::validate;

use std::sync::Arc;

use crate::baseline::PolicySet;
use crate::config::Configuration;
use crate::engine::Judgement;
use crate::rules::{self, Mode};
use crate::view::{Need, View};

/// The state from which decisions are made.
#[derive(Clone)]
pub struct Knowledge {
    /// The configuration.
    pub configuration: Arc<Configuration>,
    /// The known state of the cluster.
    pub view: Arc<View>,
    /// The baseline policies of namespaces.
    pub policies: Arc<PolicySet>,
    /// The reason why the view does not contain the whole cluster yet; none once it does.
    pub unsynced: Option<Arc<str>>,
    /// True if a controller applies baselines, now or once a replica leads. The policies of a baseline then count before
    /// they are stored.
    pub applies_baselines: bool,
    /// True if a controller applies baselines at present, so that a pod can wait for one.
    pub controller_runs: bool,
}

impl Knowledge {
    /// The state without a watched cluster.
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

    /// The state after a change of the files. If a cluster is watched, the view stays, because files do not describe
    /// it.
    #[must_use]
    pub(crate) fn with_files(&self, files: &Self) -> Self {
        if !self.view.is_whole() {
            return files.clone();
        }
        let (configuration, policies) = (Arc::clone(&files.configuration), Arc::clone(&files.policies));
        Self { configuration, policies, view: files.given_contracts_in(&self.view), ..self.clone() }
    }

    /// A view of the cluster with the contracts that were read from files.
    #[must_use]
    pub(crate) fn given_contracts_in(&self, view: &Arc<View>) -> Arc<View> {
        let contracts = self.view.given_contracts();
        if Arc::ptr_eq(contracts, view.given_contracts()) || contracts.is_empty() && view.given_contracts().is_empty() {
            return Arc::clone(view);
        }
        Arc::new(View::clone(view).with_given_contracts(Arc::clone(contracts)))
    }
}

/// The result of an attempt to answer a review.
#[allow(clippy::large_enum_variant, reason = "there is one of them, on the stack, for the length of a request")]
#[derive(Debug)]
pub enum Reply<'a> {
    /// The response.
    Answer(Answer<'a>),
    /// The decision requires lookups in the cluster first.
    Needs(Vec<Need>),
}

impl<'a> Reply<'a> {
    /// Returns the response, for callers without a cluster.
    ///
    /// # Errors
    /// Fails if the decision requires lookups.
    pub fn answer(self) -> Result<Answer<'a>, Refusal> {
        match self {
            Self::Answer(answer) => Ok(answer),
            Self::Needs(needs) => Err(Refusal(format!("the decision needs lookups in the cluster: {needs:?}"))),
        }
    }
}

/// The response to a review.
#[derive(Debug)]
pub struct Answer<'a> {
    /// The AdmissionReview to send back.
    pub body: Vec<u8>,
    /// The decision in the response, for logs and metrics.
    pub decision: Decision<'a>,
}

/// A decision with its reasons.
#[derive(Debug)]
pub struct Decision<'a> {
    /// The request.
    pub request: Request<'a>,
    /// True if the request is allowed.
    pub allowed: bool,
    /// True if the response contains a patch.
    pub patched: bool,
    /// The findings, with their effect.
    pub judgements: Vec<Judgement>,
    /// The reason why the object could not be checked; none if it was.
    pub unreadable: Option<String>,
}

impl Decision<'_> {
    /// Returns true if a policy stored a moment ago, which the watches have not reported yet, might turn the denial
    /// into an allowance.
    #[must_use]
    pub(crate) fn may_be_outdated(&self) -> bool {
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
