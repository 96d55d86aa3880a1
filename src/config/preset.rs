//! Presets: the overall strictness of a configuration, as one value.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::rules::Mode;

/// The strictness of the rules whose mode the configuration file does not set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Preset {
    /// Denies nothing and shows nothing to users. Findings go to the audit log, logs and metrics.
    Observe,
    /// Turns denials into warnings.
    Warn,
    /// Keeps the mode of each rule.
    #[default]
    Enforce,
}

impl Preset {
    /// The mode of a rule under this preset, given the rule's default mode.
    #[must_use]
    pub(crate) fn limit(self, mode: Mode) -> Mode {
        match (self, mode) {
            (Self::Observe, Mode::Deny | Mode::Warn) => Mode::Audit,
            (Self::Warn, Mode::Deny) => Mode::Warn,
            (_, mode) => mode,
        }
    }
}
