//! The definition of a rule, with its metadata.

use std::any::Any;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::case::Case;
use super::findings::Findings;

/// A rule with its settings. It is [`Any`], so that the backstop can read the settings of the rules that it compiles.
pub trait Rule: Any + Send + Sync {
    /// Adds the problems of this case to the findings.
    fn check(&self, case: &Case<'_>, findings: &mut Findings);

    /// Returns true if `/mutate` fixes the findings of this rule.
    fn repairs(&self) -> bool {
        false
    }
}

/// The error for invalid settings of a rule, with its path.
pub(crate) type SettingsError = serde_path_to_error::Error<serde_json::Error>;

/// The metadata of a rule. Its default value is the rule with default settings.
pub(crate) trait Defined: Rule + Default + DeserializeOwned + JsonSchema + 'static {
    /// The name in configuration, messages, metrics and reports. It is stable across releases.
    const NAME: &'static str;
    /// The default mode.
    const MODE: Mode;
    /// The documentation in Markdown. Its first paragraph is the summary.
    const DOC: &'static [&'static str];
    /// True if the rule protects objects and labels of Portcullis itself. Such a rule also applies where enforcement is
    /// disabled.
    const IS_GUARD: bool = false;
    /// True if the findings can depend on other policies, so that a policy stored a moment ago may change them.
    const ADDS_UP: bool = false;
    /// The kinds of changes for which the rule is evaluated.
    const CHANGES: &'static [ChangeKind] = &[ChangeKind::Policies];
}

/// The kind of a change, as far as webhook configurations distinguish it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// Network policies and their tiers.
    Policies,
    /// Labels and annotations of Portcullis on namespaces.
    Namespaces,
    /// Other namespace labels. Their effect is reported as a warning. Such a change is denied only if it breaks a
    /// contract.
    NamespaceLabels,
    /// hostNetwork pods, and workloads with a hostNetwork pod template.
    NodeWorkloads,
    /// Services whose ports change.
    Services,
    /// Pods in a namespace whose baseline is not applied yet.
    PendingPods,
}

/// The consequence of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// The request is denied.
    Deny,
    /// The request is allowed, with a warning.
    Warn,
    /// The finding is recorded and not shown to the user.
    Audit,
    /// The rule is not evaluated.
    Off,
}

impl Mode {
    /// The name in the configuration.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Deny => "deny",
            Self::Warn => "warn",
            Self::Audit => "audit",
            Self::Off => "off",
        }
    }
}

/// The entry of a rule in the list of rules.
#[derive(Clone, Copy, Debug)]
pub struct Definition {
    /// The name of the rule.
    pub name: &'static str,
    /// The default mode.
    pub mode: Mode,
    is_guard: bool,
    adds_up: bool,
    changes: &'static [ChangeKind],
    doc: &'static [&'static str],
    configure: fn(Value) -> Result<Box<dyn Rule>, SettingsError>,
    pub(super) schema: fn(&mut SchemaGenerator) -> Schema,
}

impl Definition {
    /// Creates the entry of a rule.
    pub(crate) const fn of<R: Defined>() -> Self {
        Self {
            name: R::NAME,
            mode: R::MODE,
            is_guard: R::IS_GUARD,
            adds_up: R::ADDS_UP,
            changes: R::CHANGES,
            doc: R::DOC,
            configure: configure::<R>,
            schema: R::json_schema,
        }
    }

    /// Returns true if the rule protects objects and labels of Portcullis itself. Such a rule also applies where
    /// enforcement is disabled.
    #[must_use]
    pub(crate) fn is_guard(&self) -> bool {
        self.is_guard
    }

    /// Returns true if the findings can depend on other policies, so that a policy stored a moment ago may change them.
    #[must_use]
    pub(crate) fn adds_up(&self) -> bool {
        self.adds_up
    }

    /// Returns true if the rule is evaluated for changes of this kind.
    #[must_use]
    pub(crate) fn is_about(&self, kind: ChangeKind) -> bool {
        self.changes.contains(&kind)
    }

    /// Creates the rule with these settings.
    ///
    /// # Errors
    /// Fails on an unknown setting or an invalid value.
    pub fn configure(&self, settings: Value) -> Result<Box<dyn Rule>, SettingsError> {
        (self.configure)(settings)
    }

    /// The documentation, in Markdown.
    #[must_use]
    pub fn doc(&self) -> String {
        let lines: Vec<&str> = self.doc.iter().map(|line| line.strip_prefix(' ').unwrap_or(line)).collect();
        lines.join("\n")
    }

    /// The page of the reference in Markdown: [`Self::doc`] with the name and the mode.
    #[must_use]
    pub fn page(&self) -> String {
        format!("# {}\n\nDefault mode: {}\n\n{}", self.name, self.mode.name(), self.doc())
    }

    /// The summary of the rule, in one sentence.
    #[must_use]
    pub fn summary(&self) -> String {
        let lines: Vec<&str> = self.doc.iter().map(|line| line.trim()).take_while(|line| !line.is_empty()).collect();
        lines.join(" ")
    }
}

fn configure<R: Defined>(settings: Value) -> Result<Box<dyn Rule>, SettingsError> {
    if settings.is_null() {
        return Ok(Box::new(R::default()));
    }
    serde_path_to_error::deserialize::<_, R>(settings).map(|rule| Box::new(rule) as Box<dyn Rule>)
}

/// Defines a rule: its documentation, name, default mode, and settings. The doc comments are also kept as text, for
/// `portcullis rules` and for the pages of the reference.
macro_rules! rule {
    (
        $(#[doc = $doc:literal])+
        $name:literal, $mode:ident $(, guard = $guard:literal)? $(, adds_up = $adds_up:literal)? $(, on = [$($subject:ident),+])?,
        $(#[$attribute:meta])*
        pub struct $rule:ident { $($(#[$about:meta])* $visibility:vis $setting:ident: $type:ty),* $(,)? }
    ) => {
        $(#[doc = $doc])+
        #[derive(Debug, serde::Deserialize, schemars::JsonSchema)]
        #[serde(rename_all = "camelCase", deny_unknown_fields, default)]
        $(#[$attribute])*
        pub(crate) struct $rule { $($(#[$about])* $visibility $setting: $type),* }

        impl $crate::rules::Defined for $rule {
            const NAME: &'static str = $name;
            const MODE: $crate::rules::Mode = $crate::rules::Mode::$mode;
            const DOC: &'static [&'static str] = &[$($doc),+];
            $(const IS_GUARD: bool = $guard;)?
            $(const ADDS_UP: bool = $adds_up;)?
            $(const CHANGES: &'static [$crate::rules::ChangeKind] = &[$($crate::rules::ChangeKind::$subject),+];)?
        }
    };
}
