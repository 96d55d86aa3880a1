//! DNS names: `toFQDNs` and `rules.dns` (`pkg/policy/api/fqdn.go`, `pkg/fqdn/matchpattern/matchpattern.go`).

use super::validity::Faults;
use super::wire::FqdnSelector;
use crate::model::{DomainPattern, Path};

/// Reads the names that an entry matches. Empty if the entry has no name. Only an entry of `rules.dns` may have both
/// fields; it matches the names of both.
pub(super) fn patterns(
    selector: &FqdnSelector,
    may_have_both: bool,
    path: &Path,
    faults: &mut Faults,
) -> Vec<DomainPattern> {
    let given = |field: &Option<Box<str>>| field.clone().filter(|text| !text.is_empty());
    let (name, pattern) = (given(&selector.match_name), given(&selector.match_pattern));
    if name.is_none() && pattern.is_none() {
        faults.never(path.clone(), "the entry has neither `matchName` nor `matchPattern`", "write one of them");
        return Vec::new();
    }
    if let (false, Some(name), Some(pattern)) = (may_have_both, &name, &pattern) {
        let problem = format!("`matchName` `{name}` and `matchPattern` `{pattern}` are combined in one entry");
        faults.never(path.clone(), &problem, "write two entries");
    }
    if let Some(name) = &name
        && let Some(bad) = name.chars().find(|char| !is_of_name(*char))
    {
        let (problem, help) = if bad == '*' {
            (
                format!("`{name}` is a pattern; `matchName` requires one name"),
                format!("write it as `matchPattern: \"{name}\"`"),
            )
        } else {
            (
                format!("`{name}` is not a DNS name; `{bad}` is not allowed in it"),
                "write a name such as example.com".into(),
            )
        };
        faults.fqdn(path.field("matchName"), &problem, help);
    }
    if let Some(pattern) = &pattern {
        let problem = match pattern.chars().find(|char| *char != '*' && !is_of_name(*char)) {
            Some(bad) => Some(format!("`{pattern}` is not a DNS name pattern; `{bad}` is not allowed in it")),
            None if pattern.trim().len() > 255 => Some(format!("`{pattern}` is longer than 255 characters")),
            None => None,
        };
        if let Some(problem) = problem {
            let help = "write a name in which `*` matches any part of a label, such as *.example.com";
            faults.fqdn(path.field("matchPattern"), &problem, help);
        }
    }
    // A pattern in `matchName` is read as a pattern, which is what the author meant.
    let name = name.map(|name| if name.contains('*') { glob(&name) } else { DomainPattern::name(&name) });
    name.into_iter().chain(pattern.map(|pattern| glob(&pattern))).collect()
}

/// Parses a pattern. Only `*`, however often, with or without a dot, matches every name; `.` matches the root. A leading `**.` matches one or more labels (since 1.19). Any other run of `*` matches a part of
/// one label.
fn glob(text: &str) -> DomainPattern {
    let name = text.strip_suffix('.').unwrap_or(text);
    if !name.is_empty() && name.bytes().all(|byte| byte == b'*') {
        return DomainPattern::glob("*");
    }
    if !text.contains("**") {
        return DomainPattern::glob(text);
    }
    let rest = text.trim_start_matches('*');
    let (start, rest) = if text.starts_with("**") && rest.starts_with('.') { ("**", rest) } else { ("", text) };
    let mut pattern = String::from(start);
    for char in rest.chars() {
        if char != '*' || !pattern.ends_with('*') {
            pattern.push(char);
        }
    }
    DomainPattern::glob(&pattern)
}

fn is_of_name(char: char) -> bool {
    char.is_ascii_alphanumeric() || matches!(char, '-' | '_' | '.')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::FaultKind;

    fn read(name: Option<&str>, pattern: Option<&str>) -> (Vec<DomainPattern>, Vec<String>) {
        let selector = FqdnSelector { match_name: name.map(Into::into), match_pattern: pattern.map(Into::into) };
        let mut faults = Faults::default();
        let path = Path::root().field("spec").field("toFQDNs").index(0);
        let read = patterns(&selector, false, &path, &mut faults);
        let faults = faults.into_vec();
        for fault in &faults {
            let kind = if fault.path == path { FaultKind::NeverEnforced } else { FaultKind::InvalidFqdn };
            assert_eq!(fault.kind, kind, "{fault:?}");
        }
        (read, faults.iter().map(|fault| format!("{}: {} ({})", fault.path, fault.problem, fault.help)).collect())
    }

    #[test]
    fn a_name_is_no_pattern() {
        let (names, faults) = read(Some("*.google.com"), None);
        assert!(names[0].overlaps(&DomainPattern::name("www.google.com")), "what was meant");
        assert_eq!(
            faults,
            ["spec.toFQDNs[0].matchName: `*.google.com` is a pattern; `matchName` requires one name; the API server \
                 accepts the policy, but the agent does not enforce it (write it as `matchPattern: \
                 \"*.google.com\"`)"]
        );
    }

    #[test]
    fn a_dot_is_the_root_and_no_wildcard() {
        let matches = |pattern, name| {
            let (patterns, faults) = read(None, Some(pattern));
            assert!(faults.is_empty(), "{faults:?}");
            patterns[0].overlaps(&DomainPattern::name(name))
        };
        for everything in ["*", "*.", "**", "***."] {
            assert!(matches(everything, "www.example.com"), "{everything}");
        }
        for nothing in [".", "..", "*..", "example.com.."] {
            assert!(!matches(nothing, "example.com") && !matches(nothing, "com"), "{nothing}");
        }
        assert!(matches(".", ".") && matches("example.com.", "example.com"));
    }

    #[test]
    fn other_faults_of_names() {
        let fault = |name, pattern| {
            let mut faults = read(name, pattern).1;
            assert_eq!(faults.len(), 1, "{faults:?}");
            faults.remove(0)
        };
        assert!(
            fault(Some("a b.com"), None).starts_with("spec.toFQDNs[0].matchName: `a b.com` is not a DNS name; ` `")
        );
        assert!(
            fault(None, Some("(a).com"))
                .starts_with("spec.toFQDNs[0].matchPattern: `(a).com` is not a DNS name pattern")
        );
        assert!(fault(Some("a.com"), Some("*.com")).starts_with("spec.toFQDNs[0]: `matchName` `a.com` and"));
        assert!(fault(None, None).starts_with("spec.toFQDNs[0]: the entry has neither `matchName` nor `matchPattern`"));
        assert!(fault(None, Some(&"a".repeat(256))).contains("longer than 255"));
        assert_eq!(read(Some("a_b.example.com."), None).1, Vec::<String>::new());
    }

    #[test]
    fn stars_stay_in_their_label_but_at_the_start() {
        let fits = |pattern: &str, name: &str| {
            let (read, faults) = read(None, Some(pattern));
            assert_eq!(faults, Vec::<String>::new());
            read[0].overlaps(&DomainPattern::name(name))
        };
        assert!(fits("*", "a.b.c") && fits("**", "a.b.c") && fits("*.", "a.b"));
        assert!(fits("*.cilium.io", "a.cilium.io") && !fits("*.cilium.io", "a.b.cilium.io"));
        assert!(fits("*cilium.io", "subcilium.io") && !fits("*cilium.io", "a.cilium.io"));
        assert!(fits("**.cilium.io", "a.b.cilium.io") && !fits("**.cilium.io", "cilium.io"));
        assert!(fits("a.**.b", "a.x.b") && !fits("a.**.b", "a.x.y.b"));
    }
}
