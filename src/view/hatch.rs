//! The escape hatch of a namespace: enforcement switched off, by somebody, for a reason, until a time.

use std::fmt;

use jiff::{SignedDuration, Timestamp};

use super::{Site, parse_rfc3339};
use crate::model::Labels;

/// What a namespace says about its hatch. It is there if enforcement is switched off, guarded or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hatch<'a> {
    /// Why it was opened.
    pub reason: &'a str,
    /// When it closes.
    pub until: Timestamp,
}

/// Why enforcement that is switched off counts as switched on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HatchFault<'a> {
    /// Nobody says why.
    NoReason,
    /// Nobody says until when.
    NoEnd,
    /// What is said is no time.
    BadEnd(&'a str),
    /// It is over.
    Over(Timestamp),
    /// It is later than the configuration allows.
    TooLate {
        /// When it would close.
        until: Timestamp,
        /// The latest time that is allowed.
        latest: Timestamp,
    },
}

impl fmt::Display for HatchFault<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoReason => f.write_str("without a reason"),
            Self::NoEnd => f.write_str("without an end"),
            Self::BadEnd(text) => write!(f, "until {text:?}, which is not a time of RFC 3339"),
            Self::Over(until) => write!(f, "until {until}, which is over"),
            Self::TooLate { until, latest } => {
                write!(f, "until {until}, and {latest:.0} is the latest that is allowed")
            }
        }
    }
}

impl Site {
    /// What a namespace with these labels and annotations says about its hatch: nothing where enforcement is not switched
    /// off, and what is wrong with it where it has no effect for that.
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
        // It was allowed when it was opened, and time has only passed since then.
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

/// How much the clocks of those who ask and of this machine may differ.
const GRACE: SignedDuration = SignedDuration::from_secs(60);
