//! Paths to the parts of a manifest.

use std::borrow::Cow;
use std::fmt;

/// One step from a JSON value into a part of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
    /// A field.
    Field(Cow<'static, str>),
    /// A key that the author chose, such as a label or annotation key.
    Key(Box<str>),
    /// A position in an array.
    Index(usize),
}

/// The path from the root of a manifest to one of its parts.
///
/// It formats like a field path in a message, and converts to a JSON pointer:
///
/// ```
/// use portcullis::model::Path;
///
/// let path = Path::root().field("spec").field("ingress").index(0).field("from");
/// assert_eq!(path.to_string(), "spec.ingress[0].from");
/// assert_eq!(path.pointer(), "/spec/ingress/0/from");
///
/// let label = Path::root().field("metadata").field("labels").key("app.kubernetes.io/name");
/// assert_eq!(label.to_string(), r#"metadata.labels["app.kubernetes.io/name"]"#);
/// assert_eq!(label.pointer(), "/metadata/labels/app.kubernetes.io~1name");
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Path(Vec<Step>);

impl Path {
    /// The path of the manifest itself.
    #[must_use]
    pub fn root() -> Self {
        Self::default()
    }

    /// The path of a field of this object.
    #[must_use]
    pub fn field(&self, name: &'static str) -> Self {
        self.step(Step::Field(name.into()))
    }

    /// The path of a field that no dialect defines.
    #[must_use]
    pub(crate) fn unknown_field(&self, name: &str) -> Self {
        self.step(Step::Field(name.to_owned().into()))
    }

    /// The path of a key of this map.
    #[must_use]
    pub fn key(&self, key: &str) -> Self {
        self.step(Step::Key(key.into()))
    }

    /// The path of an item of this array.
    #[must_use]
    pub fn index(&self, index: usize) -> Self {
        self.step(Step::Index(index))
    }

    /// The path of the object or array that contains this part. The parent of the root is the root.
    #[must_use]
    pub fn parent(&self) -> Self {
        let (_, parent) = self.0.split_last().map_or((None, &[][..]), |(last, rest)| (Some(last), rest));
        Self(parent.to_vec())
    }

    /// The steps, outermost first.
    #[must_use]
    pub fn steps(&self) -> &[Step] {
        &self.0
    }

    /// The path as an RFC 6901 pointer.
    #[must_use]
    pub fn pointer(&self) -> String {
        let mut pointer = String::new();
        for step in &self.0 {
            pointer.push('/');
            match step {
                Step::Field(name) => pointer.push_str(&escaped(name)),
                Step::Key(key) => pointer.push_str(&escaped(key)),
                Step::Index(index) => pointer.push_str(&index.to_string()),
            }
        }
        pointer
    }

    fn step(&self, step: Step) -> Self {
        let mut steps = Vec::with_capacity(self.0.len() + 1);
        steps.extend_from_slice(&self.0);
        steps.push(step);
        Self(steps)
    }
}

/// Escapes a key for a pointer (RFC 6901 §3).
fn escaped(key: &str) -> Cow<'_, str> {
    if key.contains(['~', '/']) { key.replace('~', "~0").replace('/', "~1").into() } else { key.into() }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, step) in self.0.iter().enumerate() {
            match step {
                Step::Field(name) if position == 0 => f.write_str(name)?,
                Step::Field(name) => write!(f, ".{name}")?,
                Step::Key(key) => write!(f, "[{key:?}]")?,
                Step::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parent_of_an_item_is_its_array() {
        let list = Path::root().field("spec").field("ingress");
        assert_eq!(list.index(3).parent(), list);
        assert_eq!(Path::root().parent(), Path::root());
    }

    #[test]
    fn items_are_ordered_by_number_not_by_text() {
        let list = Path::root().field("spec").field("egress");
        assert!(list.index(2) < list.index(10));
    }

    #[test]
    fn pointers_escape_tilde_and_slash() {
        assert_eq!(Path::root().key("a~b/c").pointer(), "/a~0b~1c");
    }
}
