//! The names of proposals. They depend only on what a contract is about, so they stay the same as long as it does.

/// Maximum length of a name. The API server allows more, but tools put names in labels.
const MAX_NAME: usize = 63;

/// The name of an object from parts: lower-case letters, digits and dashes.
pub(super) fn name(parts: &[&str]) -> String {
    let joined = parts.iter().filter(|part| !part.is_empty()).copied().collect::<Vec<_>>().join("-");
    let mut name = String::new();
    for c in joined.chars() {
        match c.to_ascii_lowercase() {
            c if c.is_ascii_lowercase() || c.is_ascii_digit() => name.push(c),
            _ if name.ends_with('-') => {}
            _ => name.push('-'),
        }
    }
    let name = name.trim_matches('-');
    if name.len() <= MAX_NAME { name.to_owned() } else { distinguished(name, name) }
}

/// A name with a suffix that stands for a text.
pub(super) fn distinguished(name: &str, text: &str) -> String {
    // FNV-1a, which no version of a library changes.
    let hash = text.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    let suffix = format!("-{hash:08x}");
    let start = name.get(..name.len().min(MAX_NAME - suffix.len())).unwrap_or(name);
    format!("{}{suffix}", start.trim_end_matches('-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_names_of_objects() {
        assert_eq!(name(&["shop", "", "My_App.v2", "sources"]), "shop-my-app-v2-sources");
        assert_eq!(name(&["-a-", "b"]), "a-b");
        let long = name(&["shop", &"x".repeat(80)]);
        assert_eq!(long.len(), MAX_NAME);
        assert_ne!(long, name(&["shop", &"x".repeat(81)]), "the rest still counts");
    }
}
