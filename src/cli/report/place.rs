//! File names as pipelines expect them: relative, with `/`.

use std::path::{Component, MAIN_SEPARATOR, Path, PathBuf};

/// Returns a file name relative to the working directory, if the file is below it.
pub(super) fn relative(file: &str) -> String {
    relative_to(std::env::current_dir().ok().as_deref(), file)
}

fn relative_to(folder: Option<&Path>, file: &str) -> String {
    let path = Path::new(file);
    let inner = folder.and_then(|folder| path.strip_prefix(folder).ok()).unwrap_or(path);
    let path: PathBuf = inner.components().filter(|part| *part != Component::CurDir).collect();
    let text = path.to_string_lossy();
    if MAIN_SEPARATOR == '/' { text.into_owned() } else { text.replace(MAIN_SEPARATOR, "/") }
}

/// Returns the URI of a file: a relative reference if the file is below the working directory, otherwise a `file` URI
/// for an absolute name.
pub(super) fn uri(file: &str) -> String {
    encoded(&relative(file))
}

/// Encodes each byte of a name that is not allowed in the path of a URI (RFC 3986). A colon is encoded too, because the
/// first segment of a relative reference has none.
fn encoded(name: &str) -> String {
    let mut uri = if Path::new(name).is_absolute() { "file://".to_owned() } else { String::new() };
    if !uri.is_empty() && !name.starts_with('/') {
        uri.push('/');
    }
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"/-._~!$&'()*+,;=@".contains(&byte) {
            uri.push(char::from(byte));
        } else {
            uri.push_str(&format!("%{byte:02X}"));
        }
    }
    uri
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_below_the_working_directory_is_relative() {
        let relative = |file| relative_to(Some(Path::new("/work")), file);
        assert_eq!(relative("./a/./b.yaml"), "a/b.yaml");
        assert_eq!(relative("/work/a/b.yaml"), "a/b.yaml");
        assert_eq!(relative("/other/b.yaml"), "/other/b.yaml");
        assert_eq!(relative("../b.yaml"), "../b.yaml");
    }

    #[test]
    fn a_uri_has_no_other_characters() {
        assert_eq!(encoded("a b/ü:#?%.yaml"), "a%20b/%C3%BC%3A%23%3F%25.yaml");
        assert_eq!(encoded("/tmp/a.yaml"), "file:///tmp/a.yaml");
        assert_eq!(encoded("<stdin>"), "%3Cstdin%3E");
    }
}
