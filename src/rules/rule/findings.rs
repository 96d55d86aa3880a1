//! The findings of a rule.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use super::case::Case;
use super::definition::Defined;
use crate::budget;
use crate::model::{FaultKind, Finding, Fix, Path};

/// Maximum number of findings of one rule in one object that are kept. All of them are counted.
pub(crate) const MAX_FINDINGS: usize = 1000;

/// The findings of one rule, in the order of discovery.
#[derive(Debug, Default)]
pub struct Findings {
    kept: Vec<Finding>,
    left_out: usize,
    /// A hash of the messages beyond the maximum. The ratchet compares it to tell whether these findings changed.
    digest: DefaultHasher,
}

impl Findings {
    /// Adds a finding of rule `R` about the object of the case.
    pub(crate) fn add<R: Defined>(
        &mut self,
        case: &Case<'_>,
        path: Path,
        message: String,
        help: String,
        fix: Option<Fix>,
    ) {
        self.add_with_closest::<R>(case, path, message, None, help, fix);
    }

    /// Adds a finding that may warn at most.
    pub(crate) fn add_advice<R: Defined>(
        &mut self,
        case: &Case<'_>,
        path: Path,
        message: String,
        help: String,
        is_advice: bool,
    ) {
        let known = self.kept.len();
        self.add::<R>(case, path, message, help, None);
        if let Some(added) = self.kept.get_mut(known) {
            added.is_advice = is_advice;
        }
    }

    /// Adds a finding with its near miss.
    pub(crate) fn add_with_closest<R: Defined>(
        &mut self,
        case: &Case<'_>,
        path: Path,
        message: String,
        closest: Option<String>,
        help: String,
        fix: Option<Fix>,
    ) {
        if self.kept.len() >= MAX_FINDINGS {
            self.left_out += 1;
            message.hash(&mut self.digest);
            return;
        }
        let closest_len = closest.as_ref().map_or(0, String::len);
        budget::hold(size_of::<Finding>() + message.len() + closest_len + help.len());
        let object = case.change.object().id.clone();
        self.kept.push(Finding { rule: R::NAME, object, path, message, closest, help, fix, is_advice: false });
    }

    /// Adds the faults that the dialect found in the object, as findings of rule `R`.
    pub(crate) fn add_faults<R: Defined>(&mut self, case: &Case<'_>, kinds: &[FaultKind]) {
        let faults = case.written().map(|object| object.faults.as_slice()).unwrap_or_default();
        for fault in faults.iter().filter(|fault| kinds.contains(&fault.kind)) {
            budget::charge(1);
            self.add::<R>(case, fault.path.clone(), fault.problem.clone(), fault.help.clone(), None);
        }
    }

    /// The findings. One additional finding stands for those beyond the maximum.
    #[must_use]
    pub(crate) fn into_vec(self) -> Vec<Finding> {
        let Self { mut kept, left_out, digest } = self;
        if left_out > 0
            && let Some(last) = kept.last().cloned()
        {
            let message = text!("{left_out} more findings of this rule in this object ({:016x})", digest.finish());
            // Placed at the path of the last finding, so that it is reported after the individual findings.
            kept.push(Finding {
                message,
                closest: None,
                help: "split the object into smaller ones".to_owned(),
                fix: None,
                ..last
            });
        }
        kept
    }
}
