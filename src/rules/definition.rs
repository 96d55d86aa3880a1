//! What a rule is, and what is said about it.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Case, Findings};

/// A rule with its settings.
pub trait Rule: Send + Sync {
    /// Adds what is wrong in this case.
    fn check(&self, case: &Case<'_>, findings: &mut Findings);

    /// Whether `/mutate` is to put right what this rule finds.
    fn repairs(&self) -> bool {
        false
    }
}

/// Why settings cannot be those of a rule, and where in them.
pub type SettingsError = serde_path_to_error::Error<serde_json::Error>;

/// What a rule says of itself. Its value with default settings is the rule as shipped.
pub trait Defined: Rule + Default + DeserializeOwned + 'static {
    /// The name in configuration, messages, metrics and reports. It never changes.
    const NAME: &'static str;
    /// What follows from a finding, as shipped.
    const MODE: Mode;
    /// The documentation, in Markdown, of which the first paragraph is the summary.
    const DOC: &'static [&'static str];
    /// Whether it guards what Portcullis itself puts there, so that it holds even where enforcement is switched off.
    const IS_GUARD: bool = false;
    /// Whether what it finds can depend on other policies, so that one that was stored a moment ago may change it.
    const ADDS_UP: bool = false;
    /// Changes of what it is asked about.
    const SUBJECTS: &'static [Subject] = &[Subject::Policies];
}

/// What a change is a change of, as far as webhooks tell that apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// Network policies, and tiers of them.
    Policies,
    /// Labels of Portcullis on namespaces, and its annotations.
    Namespaces,
    /// Other labels of namespaces. Of these it is told what they take away, and nothing is refused.
    NamespaceLabels,
    /// Pods, and what makes pods, that use the network of their node.
    NodeWorkloads,
    /// Pods in a namespace whose baseline is not there yet.
    PendingPods,
}

/// What follows from a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// The request is refused.
    Deny,
    /// The request is answered with a warning.
    Warn,
    /// It is recorded, and not shown.
    Audit,
    /// The rule is not asked.
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

/// A rule's entry in the list of rules.
#[derive(Clone, Copy, Debug)]
pub struct Definition {
    /// Its name.
    pub name: &'static str,
    /// What follows from a finding, as shipped.
    pub mode: Mode,
    is_guard: bool,
    adds_up: bool,
    subjects: &'static [Subject],
    doc: &'static [&'static str],
    configure: fn(Value) -> Result<Box<dyn Rule>, SettingsError>,
}

impl Definition {
    /// The entry of a rule.
    pub(super) const fn of<R: Defined>() -> Self {
        Self {
            name: R::NAME,
            mode: R::MODE,
            is_guard: R::IS_GUARD,
            adds_up: R::ADDS_UP,
            subjects: R::SUBJECTS,
            doc: R::DOC,
            configure: configure::<R>,
        }
    }

    /// Whether it guards what Portcullis itself puts there, so that it holds even where enforcement is switched off.
    #[must_use]
    pub fn is_guard(&self) -> bool {
        self.is_guard
    }

    /// Whether what it finds can depend on other policies, so that one that was stored a moment ago may change it.
    #[must_use]
    pub fn adds_up(&self) -> bool {
        self.adds_up
    }

    /// Whether it has anything to say of changes of this.
    #[must_use]
    pub fn is_about(&self, subject: Subject) -> bool {
        self.subjects.contains(&subject)
    }

    /// The rule with these settings.
    ///
    /// # Errors
    /// A setting that the rule does not have, or a value that it cannot have.
    pub fn configure(&self, settings: Value) -> Result<Box<dyn Rule>, SettingsError> {
        (self.configure)(settings)
    }

    /// The documentation, in Markdown.
    #[must_use]
    pub fn doc(&self) -> String {
        let lines: Vec<&str> = self.doc.iter().map(|line| line.strip_prefix(' ').unwrap_or(line)).collect();
        lines.join("\n")
    }

    /// The page of the reference, in Markdown: [`Self::doc`] with its name and its mode.
    #[must_use]
    pub fn page(&self) -> String {
        format!("# {}\n\nMode as shipped: {}\n\n{}", self.name, self.mode.name(), self.doc())
    }

    /// What the rule is about, in one sentence.
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

/// Defines a rule: its documentation, its name, its mode as shipped, and its settings. The documentation comments are
/// kept as text too, for `portcullis rules` and for the pages of the reference.
macro_rules! rule {
    (
        $(#[doc = $doc:literal])+
        $name:literal, $mode:ident $(, guard = $guard:literal)? $(, adds_up = $adds_up:literal)? $(, on = [$($subject:ident),+])?,
        $(#[$attribute:meta])*
        pub struct $rule:ident { $($(#[$about:meta])* $setting:ident: $type:ty),* $(,)? }
    ) => {
        $(#[doc = $doc])+
        #[derive(Debug, serde::Deserialize)]
        #[serde(rename_all = "camelCase", deny_unknown_fields, default)]
        $(#[$attribute])*
        pub(super) struct $rule { $($(#[$about])* $setting: $type),* }

        impl $crate::rules::Defined for $rule {
            const NAME: &'static str = $name;
            const MODE: $crate::rules::Mode = $crate::rules::Mode::$mode;
            const DOC: &'static [&'static str] = &[$($doc),+];
            $(const IS_GUARD: bool = $guard;)?
            $(const ADDS_UP: bool = $adds_up;)?
            $(const SUBJECTS: &'static [$crate::rules::Subject] = &[$($crate::rules::Subject::$subject),+];)?
        }
    };
}
