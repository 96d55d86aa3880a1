//! Parts of CEL expressions.

use serde_json::json;

use crate::config::NamespaceSelector;
use crate::model::{Operator, Requirement, Selector};
use crate::view::{NamePattern, Site};

/// A literal of a string. JSON has the same syntax.
pub(super) fn text(text: &str) -> String {
    json!(text).to_string()
}

/// A literal of a list of strings. JSON has the same syntax.
pub(super) fn list<T: AsRef<str>>(items: &[T]) -> String {
    json!(items.iter().map(AsRef::as_ref).collect::<Vec<&str>>()).to_string()
}

/// True if a part is true. Like `exists` in CEL, it is also true if another part fails.
pub(super) fn any(parts: &[String]) -> String {
    joined(parts, "||", "false")
}

/// True if all parts are true.
pub(super) fn all(parts: &[String]) -> String {
    joined(parts, "&&", "true")
}

fn joined(parts: &[String], operator: &str, neutral: &str) -> String {
    match parts {
        [] => neutral.to_owned(),
        [only] => only.clone(),
        parts => format!("({})", parts.join(&format!(" {operator} "))),
    }
}

/// True if the name matches one of the patterns.
pub(super) fn matches(name: &str, patterns: &[NamePattern]) -> String {
    let exact: Vec<&str> = patterns.iter().filter_map(NamePattern::name).collect();
    let starts =
        patterns.iter().filter_map(NamePattern::start).map(|start| format!("{name}.startsWith({})", text(start)));
    let exact = (!exact.is_empty()).then(|| format!("{name} in {}", list(&exact)));
    any(&exact.into_iter().chain(starts).collect::<Vec<_>>())
}

/// True if an override applies to the namespace with this name and these labels. Cluster-scoped objects have no
/// namespace, and no override applies to them.
pub(super) fn applies(selector: &NamespaceSelector, site: &Site, name: &str, labels: &str) -> String {
    let names = selector.names.as_ref().map(|names| matches(name, names));
    let platform = selector.platform.map(|platform| {
        let is_platform = matches(name, &site.platform_namespaces);
        if platform { is_platform } else { format!("!({is_platform})") }
    });
    let by_labels = selector.labels.as_ref().map(|selector| selected(selector, labels));
    let parts = [Some(format!(r#"{name} != """#)), names, platform, by_labels];
    all(&parts.into_iter().flatten().collect::<Vec<_>>())
}

/// True if the selector matches the labels.
fn selected(selector: &Selector, labels: &str) -> String {
    let each = |parts: &[Selector]| parts.iter().map(|part| selected(part, labels)).collect::<Vec<_>>();
    match selector {
        Selector::All(parts) => all(&each(parts)),
        Selector::Any(parts) => any(&each(parts)),
        Selector::Not(part) => format!("!({})", selected(part, labels)),
        Selector::Label(Requirement { key, operator, .. }) => {
            let key = text(key);
            let value = format!("{labels}[{key}]");
            let has = |condition: String| format!("({key} in {labels} && {condition})");
            match operator {
                Operator::Exists => format!("({key} in {labels})"),
                Operator::Absent => format!("!({key} in {labels})"),
                Operator::In(values) => has(format!("{value} in {}", list(values))),
                Operator::NotIn(values) => format!("!{}", has(format!("{value} in {}", list(values)))),
                Operator::Contains(part) => has(format!("{value}.contains({})", text(part))),
                Operator::StartsWith(part) => has(format!("{value}.startsWith({})", text(part))),
                Operator::EndsWith(part) => has(format!("{value}.endsWith({})", text(part))),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_escaped() {
        assert_eq!(text("a\"b\\c"), r#""a\"b\\c""#);
        assert_eq!(list(&["a", "b\n"]), r#"["a","b\n"]"#);
    }

    #[test]
    fn an_empty_combination_is_its_neutral_value() {
        assert_eq!((any(&[]), all(&[])), ("false".to_owned(), "true".to_owned()));
        assert_eq!(any(&["a".to_owned(), "b".to_owned()]), "(a || b)");
        assert_eq!(matches("n", &[]), "false");
    }
}
