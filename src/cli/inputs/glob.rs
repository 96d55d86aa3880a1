//! Patterns of file names.

use std::path::Path;
use std::str::FromStr;

use ::glob::{MatchOptions, Pattern, PatternError};

/// A pattern: `?` matches one character, `*` any text within a name, `**` any number of folders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cli) struct Glob(Pattern);

impl FromStr for Glob {
    type Err = PatternError;

    fn from_str(pattern: &str) -> Result<Self, PatternError> {
        let pattern = pattern.strip_prefix("./").unwrap_or(pattern);
        Pattern::new(pattern.strip_suffix('/').unwrap_or(pattern)).map(Self)
    }
}

impl Glob {
    /// Returns true if the pattern matches a file or folder. A pattern with `/` is compared with the path as given and
    /// with the path below the given folder, any other pattern with the name.
    pub(super) fn matches(&self, root: &Path, path: &Path) -> bool {
        let options = MatchOptions { require_literal_separator: true, ..MatchOptions::new() };
        let is_match = |path: &Path| self.0.matches_path_with(path, options);
        if self.0.as_str().contains('/') {
            let given = path.strip_prefix(".").unwrap_or(path);
            is_match(given) || path.strip_prefix(root).is_ok_and(is_match)
        } else {
            path.file_name().is_some_and(|name| is_match(Path::new(name)))
        }
    }
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
