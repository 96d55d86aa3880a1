//! The escape hatch of a namespace: a user switches enforcement off, with a reason and an end time.

use std::fmt;

use jiff::{SignedDuration, Timestamp};

use super::{Site, parse_rfc3339};
use crate::model::Labels;

/// An open hatch: enforcement is switched off, with a reason and an end time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hatch<'a> {
    /// The reason.
    pub reason: &'a str,
    /// The time at which it closes.
    pub until: Timestamp,
}

/// The reason why a hatch does not take effect, although enforcement is labelled as disabled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HatchFault<'a> {
    /// The reason is missing.
    NoReason,
    /// The end time is missing.
    NoEnd,
    /// The end time does not parse.
    BadEnd(&'a str),
    /// The end time is past.
    Over(Timestamp),
    /// The end time is later than the configuration allows.
    TooLate {
        /// The end time.
        until: Timestamp,
        /// The latest end time that is allowed.
        latest: Timestamp,
    },
}

impl fmt::Display for HatchFault<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoReason => f.write_str("no reason is given"),
            Self::NoEnd => f.write_str("no end time is given"),
            Self::BadEnd(text) => write!(f, "the end time {text:?} is invalid (expected RFC 3339)"),
            Self::Over(until) => write!(f, "the end time {until} is past"),
            Self::TooLate { until, latest } => {
                write!(f, "the end time {until} is after the latest allowed, {latest:.0}")
            }
        }
    }
}

impl Site {
    /// The hatch that these labels and annotations of a namespace open.
    ///
    /// Returns `None` if enforcement is not switched off, and the fault if it is switched off without effect.
    pub fn hatch<'a>(
        &self,
        labels: &Labels,
        annotations: &'a Labels,
        now: Timestamp,
    ) -> Option<Result<Hatch<'a>, HatchFault<'a>>> {
        (labels.get(&self.enforcement_label()) == Some("disabled")).then(|| self.guarded_hatch(annotations, now))
    }

    fn guarded_hatch<'a>(&self, annotations: &'a Labels, now: Timestamp) -> Result<Hatch<'a>, HatchFault<'a>> {
        let written = |key: &str| annotations.get(key).map(str::trim).filter(|text| !text.is_empty());
        let reason = written(&self.reason_annotation()).ok_or(HatchFault::NoReason)?;
        let until = written(&self.until_annotation()).ok_or(HatchFault::NoEnd)?;
        let until = parse_rfc3339(until).ok_or(HatchFault::BadEnd(until))?;
        // The limit was checked when the hatch was opened, and `now` has only moved on since.
        let in_time = |time: SignedDuration| now.saturating_add(time).unwrap_or(Timestamp::MAX);
        let latest = in_time(self.hatch_max_duration);
        if until <= now {
            Err(HatchFault::Over(until))
        } else if until > in_time(self.hatch_max_duration + GRACE) {
            Err(HatchFault::TooLate { until, latest })
        } else {
            Ok(Hatch { reason, until })
        }
    }
}

/// Maximum clock skew between clients and this machine.
const GRACE: SignedDuration = SignedDuration::from_secs(60);
