//! Patterns of file names.

use std::convert::Infallible;
use std::path::Path;
use std::str::FromStr;

/// A pattern: `?` is one character and `*` any number of them within a name, `**` any number of folders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cli) struct Glob(String);

impl FromStr for Glob {
    type Err = Infallible;

    fn from_str(pattern: &str) -> Result<Self, Infallible> {
        let pattern = pattern.strip_prefix("./").unwrap_or(pattern);
        Ok(Self(pattern.strip_suffix('/').unwrap_or(pattern).to_owned()))
    }
}

impl Glob {
    /// Returns true if the pattern matches a file or folder: its name, or, for a pattern with `/`, its path as it was given or
    /// below the folder that was given.
    pub(super) fn matches(&self, root: &Path, path: &Path) -> bool {
        let text = |path: &Path| {
            let parts: Vec<_> = path.components().map(|part| part.as_os_str().to_string_lossy()).collect();
            parts.join("/").trim_start_matches("./").to_owned()
        };
        if self.0.contains('/') {
            let below = path.strip_prefix(root).unwrap_or(path);
            matches(self.0.as_bytes(), text(path).as_bytes()) || matches(self.0.as_bytes(), text(below).as_bytes())
        } else {
            path.file_name().is_some_and(|name| matches(self.0.as_bytes(), name.to_string_lossy().as_bytes()))
        }
    }
}

/// Returns true if a pattern matches a whole text. Takes time in proportion to the product of both lengths.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    // Whether the pattern up to here matches the text up to each position.
    let mut reached = vec![false; text.len() + 1];
    if let Some(first) = reached.first_mut() {
        *first = true;
    }
    let mut rest = pattern;
    while let Some((&first, after)) = rest.split_first() {
        let mut next = vec![false; text.len() + 1];
        let (crosses, after) = match (first, after) {
            (b'*', [b'*', b'/', after @ ..]) => (Some(Crossing::Folders), after),
            (b'*', [b'*', after @ ..]) => (Some(Crossing::All), after),
            (b'*', after) => (Some(Crossing::Name), after),
            (_, after) => (None, after),
        };
        let mut is_open = false;
        for (position, slot) in next.iter_mut().enumerate() {
            let before = position.checked_sub(1).and_then(|before| text.get(before)).copied();
            let was = |position: usize| reached.get(position).copied().unwrap_or_default();
            *slot = match crosses {
                None => {
                    let fits = before.is_some_and(|byte| byte == first || first == b'?' && byte != b'/');
                    fits && position.checked_sub(1).is_some_and(was)
                }
                Some(Crossing::Name) => {
                    is_open = was(position) || is_open && before != Some(b'/');
                    is_open
                }
                Some(Crossing::All) => {
                    is_open |= was(position);
                    is_open
                }
                Some(Crossing::Folders) => {
                    let starts_name = position == 0 || before == Some(b'/');
                    let matched = was(position) || is_open && starts_name;
                    is_open |= was(position);
                    matched
                }
            };
        }
        reached = next;
        rest = after;
    }
    reached.last().copied().unwrap_or_default()
}

#[derive(Clone, Copy)]
enum Crossing {
    /// `*`
    Name,
    /// `**`
    All,
    /// `**/`
    Folders,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, path: &str) -> bool {
        pattern.parse::<Glob>().unwrap().matches(Path::new("root"), Path::new(path))
    }

    #[test]
    fn a_pattern_without_a_slash_is_for_names() {
        for (pattern, path) in [
            ("values.yaml", "root/a/values.yaml"),
            ("values*.yaml", "root/values-prod.yaml"),
            ("charts", "root/a/charts"),
            ("charts/", "root/a/charts"),
            ("?.yaml", "root/a.yaml"),
            ("*", "root/x"),
        ] {
            assert!(matches(pattern, path), "{pattern} {path}");
        }
        for (pattern, path) in [("values", "root/values.yaml"), ("?.yaml", "root/ab.yaml"), ("", "root/a")] {
            assert!(!matches(pattern, path), "{pattern} {path}");
        }
    }

    #[test]
    fn a_pattern_with_a_slash_is_for_paths() {
        for (pattern, path) in [
            ("root/a/*.yaml", "root/a/b.yaml"),
            ("a/*.yaml", "root/a/b.yaml"),
            ("./a/b.yaml", "./a/b.yaml"),
            ("**/test/*", "root/a/b/test/c.yaml"),
            ("**/test/*", "root/test/c.yaml"),
            ("a/**", "root/a/b/c.yaml"),
            ("a/**/c.yaml", "root/a/c.yaml"),
        ] {
            assert!(matches(pattern, path), "{pattern} {path}");
        }
        for (pattern, path) in [("a/*.yaml", "root/a/b/c.yaml"), ("a/b", "root/a/bc"), ("**/b.yaml", "root/ab.yaml")] {
            assert!(!matches(pattern, path), "{pattern} {path}");
        }
    }
}
