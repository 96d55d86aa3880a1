//! How strict a whole configuration is, in one line.

use serde::Deserialize;

use crate::rules::Mode;

/// How strict the rules are whose mode the configuration file does not give itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Preset {
    /// Nothing is denied and nothing is shown to users: findings go to the audit log, logs and metrics.
    Observe,
    /// What would be denied is a warning.
    Warn,
    /// Each rule has its own mode.
    #[default]
    Enforce,
}

impl Preset {
    /// The mode of a rule that has this one by itself.
    #[must_use]
    pub fn limit(self, mode: Mode) -> Mode {
        match (self, mode) {
            (Self::Observe, Mode::Deny | Mode::Warn) => Mode::Audit,
            (Self::Warn, Mode::Deny) => Mode::Warn,
            (_, mode) => mode,
        }
    }
}
