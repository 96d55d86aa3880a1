//! Validation by the agent: `Rule.Sanitize` of `pkg/policy/api/rule_validation.go`, and `pkg/labels/validation.go`.
//!
//! The agent ignores the whole object if one part is invalid.

use crate::model::{Fault, FaultKind, Path};

/// Collects the faults of an object.
#[derive(Debug, Default)]
pub(super) struct Faults(Vec<Fault>);

impl Faults {
    /// Starts with the faults found by strict parsing.
    pub(super) fn new(faults: Vec<Fault>) -> Self {
        Self(faults)
    }

    /// Reports a fault for which the agent ignores the object.
    pub(super) fn never(&mut self, path: Path, problem: &str, help: impl Into<String>) {
        self.refused(path, FaultKind::NeverEnforced, problem, help);
    }

    /// Reports a selector that does not parse.
    pub(super) fn selector(&mut self, path: Path, problem: &str, help: impl Into<String>) {
        self.refused(path, FaultKind::InvalidSelector, problem, help);
    }

    /// Reports an invalid DNS name.
    pub(super) fn fqdn(&mut self, path: Path, problem: &str, help: impl Into<String>) {
        self.refused(path, FaultKind::InvalidFqdn, problem, help);
    }

    /// Reports a part that Cilium enforces, but that the model cannot express.
    pub(super) fn not_understood(&mut self, path: Path, problem: impl Into<String>, help: impl Into<String>) {
        self.0.push(Fault::new(path, FaultKind::NotUnderstood, problem, help));
    }

    /// Returns true if the agent ignores the object.
    pub(super) fn refuse(&self) -> bool {
        self.0.iter().any(|fault| fault.kind.is_refused())
    }

    /// Returns all faults.
    pub(super) fn into_vec(self) -> Vec<Fault> {
        self.0
    }

    fn refused(&mut self, path: Path, kind: FaultKind, problem: &str, help: impl Into<String>) {
        let problem = format!("{problem}; the API server accepts the policy, but the agent does not enforce it");
        self.0.push(Fault::new(path, kind, problem, help));
    }
}

/// Describes why a text is not a valid label key of a selector, `[source:][prefix/]name`. None if it is valid.
pub(super) fn key_problem(key: &str) -> Option<String> {
    let mut parts = key.split(':');
    let (label, source) = match (parts.next(), parts.next(), parts.next()) {
        (Some(label), None, _) => (label, None),
        (Some(source), Some(label), None) => (label, Some(source)),
        _ => return Some(format!("`{key}` has more than one `:`, which separates the label source from the key")),
    };
    if source.is_some_and(|source| source.is_empty() || !source.bytes().all(|byte| byte.is_ascii_alphanumeric())) {
        return Some(format!("`{key}` has a label source with characters other than letters and digits"));
    }
    let (prefix, name) = match label.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, label),
    };
    let is_key = prefix.is_none_or(is_subdomain) && !name.is_empty() && is_value(name);
    (!is_key).then(|| format!("`{key}` is not a label key"))
}

/// Returns true if the text is a valid label value (`IsValidLabelValue` of Kubernetes).
pub(super) fn is_value(text: &str) -> bool {
    let ends = |byte: Option<&u8>| byte.is_none_or(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    bytes.len() <= 63
        && ends(bytes.first())
        && ends(bytes.last())
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte))
}

/// Returns true if the text is an RFC 1123 subdomain, by the rules of Kubernetes.
fn is_subdomain(text: &str) -> bool {
    let edge = |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    text.len() <= 253
        && text.split('.').map(str::as_bytes).all(|label| {
            edge(label.first())
                && edge(label.last())
                && label.iter().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'-')
        })
}

/// Describes why Go (RE2) does not compile a regular expression. None if no problem is found. The expression is not
/// compiled here, so some invalid expressions pass.
pub(super) fn regex_problem(text: &str) -> Option<&'static str> {
    let mut open = 0_usize;
    let mut repeatable = false;
    let mut chars = text.chars().peekable();
    while let Some(char) = chars.next() {
        match char {
            '\\' => {
                let Some(escaped) = chars.next() else { return Some("ends in a `\\`") };
                if escaped == 'Q' {
                    return None;
                }
                repeatable = true;
            }
            '[' => {
                // A leading `]` is an ordinary character of the class.
                chars.next_if_eq(&'^');
                chars.next_if_eq(&']');
                loop {
                    match chars.next() {
                        None => return Some("has an unclosed `[`"),
                        Some(']') => break,
                        Some('\\') => {
                            chars.next();
                        }
                        // A named class, such as [:alpha:].
                        Some('[') if chars.peek() == Some(&':') => {
                            if chars.by_ref().any(|char| char == ']') {
                                continue;
                            }
                            return Some("has an unclosed `[`");
                        }
                        Some(_) => {}
                    }
                }
                repeatable = true;
            }
            '(' => {
                open += 1;
                repeatable = false;
                if chars.next_if_eq(&'?').is_some() && matches!(chars.peek(), Some('=' | '!')) {
                    return Some("uses lookahead, which RE2 does not support");
                }
            }
            ')' => {
                let Some(rest) = open.checked_sub(1) else { return Some("has an unopened `)`") };
                open = rest;
                repeatable = true;
            }
            '*' | '+' | '?' if !repeatable => return Some("has a repetition without an operand"),
            '|' => repeatable = false,
            _ => repeatable = true,
        }
    }
    (open > 0).then_some("has an unclosed `(`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_may_have_one_source() {
        for key in ["app", "k8s:app", "app.kubernetes.io/name", "any:a.b/c", "reserved:host", "cidr:10.0.0.0/8"] {
            assert_eq!(key_problem(key), None, "{key}");
        }
        assert_eq!(
            key_problem("a:b:c").unwrap(),
            "`a:b:c` has more than one `:`, which separates the label source from the key"
        );
        assert_eq!(
            key_problem("k8s-x:app").unwrap(),
            "`k8s-x:app` has a label source with characters other than letters and digits"
        );
        assert_eq!(
            key_problem(":app").unwrap(),
            "`:app` has a label source with characters other than letters and digits"
        );
        for key in ["", "k8s:", "a b", "-a", "A.b/c", "a//b", "a/b/c", "a/"] {
            assert_eq!(key_problem(key).unwrap(), format!("`{key}` is not a label key"));
        }
    }

    #[test]
    fn values_are_those_of_kubernetes() {
        for value in ["", "a", "A_b.c-d", "0"] {
            assert!(is_value(value), "{value}");
        }
        let long = "a".repeat(64);
        for value in ["-a", "a-", "a b", "a/b", "é", &long] {
            assert!(!is_value(value), "{value}");
        }
    }

    #[test]
    fn expressions_that_go_does_not_compile_are_noticed() {
        for text in ["", "/a.*", "GET|POST", "/v[0-9]+/(?P<id>x)?$", "[]a]", "[[:alpha:]]*", "a\\*", "(?i)a", "/\\(a"] {
            assert_eq!(regex_problem(text), None, "{text}");
        }
        assert_eq!(regex_problem("*"), Some("has a repetition without an operand"));
        assert_eq!(regex_problem("(a"), Some("has an unclosed `(`"));
        assert_eq!(regex_problem("a)"), Some("has an unopened `)`"));
        assert_eq!(regex_problem("[a"), Some("has an unclosed `[`"));
        assert_eq!(regex_problem("a\\"), Some("ends in a `\\`"));
        assert_eq!(regex_problem("(?!a)b"), Some("uses lookahead, which RE2 does not support"));
    }
}
