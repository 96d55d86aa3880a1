//! The line of a denial with a fix: a command, or a JSON patch.

use std::fmt::Write as _;

use crate::dialect::{self, Manifest, Patch};
use crate::model::{Finding, ObjectRef};

/// Maximum length of a patch in a denial, in bytes.
const MAX_PATCH: usize = 600;

/// The objects of a request.
#[derive(Clone, Copy)]
pub(super) struct Manifests<'a> {
    /// The new object.
    pub(super) new: Manifest<'a>,
    /// The stored object, on an update.
    pub(super) old: Option<Manifest<'a>>,
}

/// The fix of a finding, as one line. A fix that is the only one that the object needs is a command, if the object
/// exists. Otherwise it is a JSON patch for the new object. None if the patch is too long.
pub(super) fn line(finding: &Finding, manifests: &Manifests<'_>, is_only: bool) -> Option<String> {
    let patch = dialect::fix(finding.fix.as_ref()?, &manifests.new)?;
    let command = || {
        let stored = manifests.old.filter(|_| is_only)?;
        command(&finding.object, &dialect::with_update(&stored, &manifests.new, &patch)?)
    };
    command().or_else(|| Some(format!("JSON patch: {}", json(&patch)?)))
}

/// The command that patches an object. None if its name would have to be quoted in a shell.
fn command(object: &ObjectRef, patch: &Patch) -> Option<String> {
    let is_plain = |text: &str| {
        let is_inside = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.');
        text.bytes().next().is_some_and(|first| first.is_ascii_alphanumeric()) && text.bytes().all(is_inside)
    };
    // The group distinguishes kinds of several dialects with the same name.
    let kind = match object.group() {
        "" => object.kind.to_lowercase(),
        group => format!("{}.{group}", object.kind.to_lowercase()),
    };
    let namespace = object.namespace.as_deref();
    if ![&kind, &*object.name].into_iter().chain(namespace).all(is_plain) {
        return None;
    }
    let namespace = namespace.map(|name| format!(" --namespace {name}")).unwrap_or_default();
    Some(format!("fix: kubectl patch {kind} {}{namespace} --type=json --patch '{}'", object.name, json(patch)?))
}

/// A patch as JSON that stands in single quotes in a shell. None if it is empty or too long.
fn json(patch: &Patch) -> Option<String> {
    let json = serde_json::to_string(patch).ok().filter(|json| !patch.is_empty() && json.len() <= MAX_PATCH)?;
    let mut escaped = String::with_capacity(json.len());
    for char in json.chars() {
        if char == '\'' || char.is_control() {
            // Only strings contain these characters.
            write!(escaped, "\\u{:04x}", u32::from(char)).ok()?;
        } else {
            escaped.push(char);
        }
    }
    Some(escaped)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Path;

    fn patch(value: &str) -> Patch {
        let mut patch = Patch::default();
        patch.add(&Path::root().field("spec"), value);
        patch
    }

    fn object(name: &str, namespace: Option<&str>) -> ObjectRef {
        ObjectRef {
            api_version: "projectcalico.org/v3".into(),
            kind: "NetworkPolicy".into(),
            namespace: namespace.map(Box::from),
            name: name.into(),
        }
    }

    #[test]
    fn a_command_names_the_object() {
        assert_eq!(
            command(&object("default.web", Some("shop")), &patch("x")).unwrap(),
            "fix: kubectl patch networkpolicy.projectcalico.org default.web --namespace shop --type=json --patch \
             '[{\"op\":\"add\",\"path\":\"/spec\",\"value\":\"x\"}]'"
        );
        let wide = command(&object("web", None), &patch("x")).unwrap();
        assert!(wide.contains(" web --type=json "), "{wide}");
    }

    #[test]
    fn a_command_is_safe_to_paste() {
        let quoted = command(&object("web", None), &patch("app == 'web'\u{85}")).unwrap();
        assert!(quoted.ends_with(r#""value":"app == \u0027web\u0027\u0085"}]'"#), "{quoted}");
        assert_eq!(quoted.matches('\'').count(), 2);
        for name in ["", "$(id)", "a b", "a;b", "-a", "a\nb", "ä"] {
            assert_eq!(command(&object(name, None), &patch("x")), None, "{name}");
        }
        assert_eq!(command(&object("web", Some("`id`")), &patch("x")), None);
    }

    #[test]
    fn a_long_or_empty_patch_is_left_out() {
        assert_eq!(json(&patch(&"x".repeat(MAX_PATCH))), None);
        assert_eq!(json(&Patch::default()), None);
    }
}
