//! Variables that a tool has to replace before a manifest is applied: `${NAME}` of Flux and envsubst, `$(NAME)` of
//! kustomize, `{{ … }}` of Helm and Argo CD, `{% … %}` of Jinja, `<path:…>` of the Vault plugin of Argo CD, `#{NAME}#`
//! of Azure Pipelines, `((NAME))` of Concourse.

use serde_json::Value;

use crate::model::{Path, Step};

/// A value that contains a variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unresolved {
    pub(super) path: Path,
    pub(super) variable: String,
}

/// Fields that are not searched: Kubernetes itself expands `$(NAME)` below them, or their text does not affect a
/// finding.
const LEFT_OUT: [&str; 12] = [
    "affinity",
    "annotations",
    "containers",
    "description",
    "ephemeralContainers",
    "initContainers",
    "log",
    "managedFields",
    "tolerations",
    "topologySpreadConstraints",
    "volumeClaimTemplates",
    "volumes",
];

/// Returns true if a text may contain a variable.
pub(super) fn may_have_some(text: &str) -> bool {
    text.contains(['$', '<', '#']) || ["{{", "{%", "(("].iter().any(|start| text.contains(start))
}

/// Returns the values of a manifest that contain a variable. The annotations of a Namespace are searched too, because
/// Portcullis reads them.
pub(super) fn find(manifest: &Value) -> Vec<Unresolved> {
    let mut found = Vec::new();
    for part in ["metadata", "spec", "specs"] {
        if let Some(value) = manifest.get(part) {
            walk(value, &Path::root().field(part), &mut found);
        }
    }
    let is_namespace = manifest.get("kind").is_some_and(|kind| kind == "Namespace");
    if let Some(annotations) = manifest.pointer("/metadata/annotations").filter(|_| is_namespace) {
        walk(annotations, &Path::root().field("metadata").field("annotations"), &mut found);
    }
    found
}

fn walk(value: &Value, path: &Path, found: &mut Vec<Unresolved>) {
    match value {
        Value::String(text) => {
            if let Some(variable) = first(text) {
                found.push(Unresolved { path: path.clone(), variable: variable.to_owned() });
            }
        }
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(position, item)| walk(item, &path.index(position), found));
        }
        Value::Object(fields) => {
            for (name, value) in fields.iter().filter(|(name, _)| !LEFT_OUT.contains(&name.as_str())) {
                walk(value, &path.unknown_field(name), found);
            }
        }
        _ => {}
    }
}

/// Returns true if two paths are equal or one is a prefix of the other.
pub(super) fn overlap(a: &Path, b: &Path) -> bool {
    let name = |step: &Step| match step {
        Step::Field(name) => name.to_string(),
        Step::Key(key) => key.to_string(),
        Step::Index(index) => format!("[{index}]"),
    };
    a.steps().iter().zip(b.steps()).all(|(a, b)| a == b || name(a) == name(b))
}

/// Maximum length of a variable, which keeps the search linear in the length of the text.
const MAX_VARIABLE_BYTES: usize = 256;

/// Returns the first variable in a text.
pub(super) fn first(text: &str) -> Option<&str> {
    if is_whole(text) {
        return Some(text);
    }
    let mut start = 0;
    while let Some(rest) = text.get(start..) {
        let position = rest.find(['$', '{', '<', '#'])?;
        let rest = rest.get(position..)?;
        let end = (0..=MAX_VARIABLE_BYTES.min(rest.len())).rfind(|end| rest.is_char_boundary(*end))?;
        let rest = rest.get(..end)?;
        let length = match rest.as_bytes() {
            // Both escape a dollar sign.
            [b'$', b'$', ..] => {
                start += position + 2;
                continue;
            }
            [b'$', b'{', ..] => braced(rest),
            [b'$', b'(', ..] => rest.find(')').filter(|end| rest.get(2..*end).is_some_and(is_name)).map(|end| end + 1),
            [b'$', ..] if start + position == 0 => bare(rest),
            [b'{', b'{', ..] => rest.find("}}").map(|end| end + 2),
            [b'{', b'%', ..] => rest.find("%}").map(|end| end + 2),
            [b'<', b'p', b'a', b't', b'h', b':', ..] => rest.find('>').map(|end| end + 1),
            [b'#', b'{', ..] => rest.find("}#").filter(|end| rest.get(2..*end).is_some_and(is_name)).map(|end| end + 2),
            _ => None,
        };
        if let Some(variable) = length.and_then(|length| rest.get(..length)) {
            return Some(variable);
        }
        start += position + 1;
    }
    None
}

/// Returns true if a text is only `$name` or `((name))`. Within a longer text these may be parts of a regular expression.
fn is_whole(text: &str) -> bool {
    let name = text.strip_prefix("((").and_then(|rest| rest.strip_suffix("))"));
    let name = name.or_else(|| text.strip_prefix('$').filter(|name| !name.contains(['.', '-'])));
    name.is_some_and(|name| name.len() > 1 && name.len() < MAX_VARIABLE_BYTES && is_name(name))
}

/// Returns the length of `${NAME}` or `${NAME:=default}`.
fn braced(text: &str) -> Option<usize> {
    let end = text.find('}')?;
    let inner = text.get(2..end)?;
    let name = inner.split([':', '=', '-', '+', '?', '#', '%', '/', '^', ',', '[']).next().unwrap_or_default();
    is_name(name).then_some(end + 1)
}

/// Returns the length of `$NAME` in capital letters at the start of a value. Elsewhere `$` may end a regular
/// expression.
fn bare(text: &str) -> Option<usize> {
    let name = text.get(1..)?;
    let length = name.find(|c: char| !c.is_ascii_uppercase() && !c.is_ascii_digit() && c != '_').unwrap_or(name.len());
    (length > 1 && name.get(..length).is_some_and(is_name)).then_some(length + 1)
}

fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn variables_of_every_tool_are_found() {
        for (text, variable) in [
            ("${node_subnet}", "${node_subnet}"),
            ("10.0.0.0/${MASK:=8}", "${MASK:=8}"),
            ("$(POD_CIDR)", "$(POD_CIDR)"),
            ("{{ .Values.port }}", "{{ .Values.port }}"),
            ("a-{{name}}-b", "{{name}}"),
            ("$POD_CIDR", "$POD_CIDR"),
            ("$$x ${y}", "${y}"),
            ("$node_subnet", "$node_subnet"),
            ("((node-subnet))", "((node-subnet))"),
            ("<path:secret/data/x#cidr>", "<path:secret/data/x#cidr>"),
            ("10.0.0.0/#{MASK}#", "#{MASK}#"),
            ("{% if a %}b{% endif %}", "{% if a %}"),
        ] {
            assert_eq!(first(text), Some(variable), "{text}");
        }
        for text in [
            "",
            "a",
            "$",
            "^/a$",
            "$${x}",
            "/(a|b)$",
            "^a{2}$",
            "${",
            "$()",
            "{{",
            "${1}",
            "a{{2}",
            "$x",
            "a$(b|c)",
            "^$name",
            "((a|b))",
            "((has(a)))",
            "/((a))",
            "<b>",
            "#{",
            "a#b",
            "{%",
        ] {
            assert_eq!(first(text), None, "{text}");
        }
    }

    #[test]
    fn the_environment_of_containers_is_left_out() {
        let manifest = json!({
            "metadata": {"name": "a", "labels": {"app": "${APP}"}, "annotations": {"x": "$(X)"}},
            "spec": {"template": {"spec": {"containers": [{"args": ["$(X)"]}], "nodeName": "{{ node }}"}}},
        });
        let found: Vec<String> = find(&manifest).iter().map(|one| format!("{} {}", one.path, one.variable)).collect();
        assert_eq!(found, ["metadata.labels.app ${APP}", "spec.template.spec.nodeName {{ node }}"]);
    }

    #[test]
    fn a_place_overlaps_with_what_it_holds() {
        let labels = Path::root().field("metadata").field("labels");
        assert!(overlap(&labels, &labels.key("app")) && overlap(&labels.unknown_field("app"), &labels.key("app")));
        assert!(!overlap(&labels.key("app"), &labels.key("tier")) && overlap(&Path::root(), &labels));
    }
}
