//! The state shared by all parts of the reader: the policy's scope, and the faults found so far.

use std::collections::HashSet;

use super::selector::{self, SelectorError};
use crate::budget::{charge, hold};
use crate::model::{Fault, FaultKind, Namespaces, Path, Selector};

/// The effect of a policy that fails Felix's own checks (`felix/calc/validation_filter.go`).
pub(super) const ASIDE: &str = "Felix ignores the whole policy";

/// The effect of an invalid value that only Calico's API server rejects.
pub(super) const ASIDE_NOT: &str = "Felix applies what it can";

/// Maximum length of a selector, in characters.
const LONGEST_SELECTOR: usize = 1024;

/// Bytes of selector text parsed per budget step, and memory charged per byte of that text. A short term becomes a
/// requirement with a key and a list of values.
const BYTES_PER_STEP: usize = 8;
const BYTES_PER_CHARACTER: usize = 8;

/// Reads the parts of one policy.
#[derive(Debug)]
pub(super) struct Reader {
    /// The namespace of the policy, if the manifest has one.
    pub(super) namespace: Option<Box<str>>,
    /// True if the policy is cluster-scoped.
    pub(super) is_global: bool,
    pub(super) faults: Vec<Fault>,
}

/// An optional selector.
#[derive(Debug)]
pub(super) enum Parsed<'a> {
    /// The field is missing or empty.
    Absent,
    /// The parsed selector. Its keys are as written.
    Is(Selector),
    /// `global()` in the `namespaceSelector` of a rule.
    Global,
    /// The selector does not parse.
    Broken(&'a str),
}

impl Parsed<'_> {
    /// Converts the keys of a parsed selector.
    pub(super) fn map(self, owned: impl FnOnce(Selector) -> Selector) -> Self {
        match self {
            Self::Is(selector) => Self::Is(owned(selector)),
            other => other,
        }
    }
}

/// The field that holds a selector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// `selector` of the policy or of a rule.
    Pods,
    /// `namespaceSelector` or `serviceAccountSelector` of the policy.
    Narrowing,
    /// `namespaceSelector` of a rule.
    Namespaces,
    /// `notSelector` of a rule.
    Not,
    /// `serviceAccounts.selector` of a rule. Its length is not limited.
    Accounts,
}

impl Reader {
    /// The namespaces that the policy applies to without a namespace selector.
    pub(super) fn own(&self) -> Namespaces {
        if self.is_global {
            Namespaces::Matching(Selector::everything())
        } else {
            Namespaces::Own(self.namespace.clone())
        }
    }

    /// Reports a value that Calico rejects. `then` is what Felix does if the value is stored anyway: the CRD accepts
    /// more than Calico's API server and `calicoctl`.
    pub(super) fn refuse(&mut self, path: &Path, what: &str, then: &str, help: &str) {
        let problem = format!("{what}; Calico's API server rejects it; if it is stored anyway, {then}");
        self.fault(path, FaultKind::NeverEnforced, problem, help);
    }

    pub(super) fn fault(&mut self, path: &Path, kind: FaultKind, problem: String, help: &str) {
        self.faults.push(Fault::new(path.clone(), kind, problem, help));
    }

    /// Checks the maximum length of a list.
    pub(super) fn at_most(&mut self, length: usize, most: usize, path: &Path) {
        if length > most {
            let problem = format!("the list has {length} entries; the maximum is {most}");
            self.refuse(path, &problem, ASIDE_NOT, "split them over several rules or policies");
        }
    }

    pub(super) fn selector<'a>(&mut self, text: Option<&'a str>, path: &Path, role: Role) -> Parsed<'a> {
        let Some(text) = text.filter(|text| !text.is_empty()) else { return Parsed::Absent };
        if role != Role::Accounts && text.len() > LONGEST_SELECTOR && text.chars().nth(LONGEST_SELECTOR).is_some() {
            let problem = format!("the selector has {} characters; the maximum is 1024", text.chars().count());
            self.refuse(path, &problem, ASIDE_NOT, "shorten it, for example with `in {…}`, or split the rule");
        }
        charge(text.len() / BYTES_PER_STEP);
        hold(text.len() * BYTES_PER_CHARACTER);
        let selector = match selector::parse(text) {
            Ok(selector) => selector,
            Err(error) => {
                self.broken(path, role, &error);
                return Parsed::Broken(text);
            }
        };
        if text.contains("global(") {
            match role {
                Role::Namespaces if selector::is_global(text) => return Parsed::Global,
                Role::Namespaces => self.refuse(
                    path,
                    &format!("`{text}` combines `global()` with other terms"),
                    ASIDE_NOT,
                    "write `global()` alone, in a rule of its own",
                ),
                Role::Pods | Role::Narrowing => self.refuse(
                    path,
                    &format!("`{text}` uses `global()`, which is valid only in the namespaceSelector of a rule"),
                    "Felix treats it as `all()`",
                    "remove `global()`",
                ),
                Role::Not | Role::Accounts => {}
            }
        }
        Parsed::Is(selector)
    }

    fn broken(&mut self, path: &Path, role: Role, error: &SelectorError) {
        let then = match role {
            Role::Narrowing => "Felix ignores the selector, and the policy selects more pods than written",
            _ => ASIDE,
        };
        let problem = format!("{error}; Calico's API server rejects it; if it is stored anyway, {then}");
        self.fault(path, FaultKind::InvalidSelector, problem, &error.hint);
    }
}

/// The repeated texts of a list, each with the position of the repetition.
pub(super) fn repeated(list: &[Box<str>]) -> Vec<(usize, &str)> {
    let mut seen: HashSet<&str> = HashSet::with_capacity(list.len());
    list.iter().map(|text| &**text).enumerate().filter(|(_, text)| !seen.insert(text)).collect()
}
