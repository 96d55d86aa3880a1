//! Port numbers as the agent parses them.

/// Parses a port number like `strconv.ParseUint` with base 0 and 16 bits. Texts that start with `0x`, `0b` or `0o` are
/// port names, and are handled before.
pub(super) fn number(text: &str) -> Option<u16> {
    let is_apart = |text: &str| !text.starts_with('_') && !text.ends_with('_') && !text.contains("__");
    let (digits, radix) = match text.strip_prefix('0') {
        None | Some("") => (text, 10),
        // An underscore may follow the leading 0.
        Some(octal) => (octal.strip_prefix('_').unwrap_or(octal), 8),
    };
    if !is_apart(digits) || !digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b'_') {
        return None;
    }
    u16::from_str_radix(&digits.replace('_', ""), radix).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_go_reads_them() {
        for (text, read) in [("0", 0), ("80", 80), ("010", 8), ("0_10", 8), ("1_000", 1000), ("65535", 65535)] {
            assert_eq!(number(text), Some(read), "{text}");
        }
        for text in ["", "080", "65536", "-1", "+1", "8 0", "80/tcp", "1__0", "_1", "1_", "0x50"] {
            assert_eq!(number(text), None, "{text}");
        }
    }
}
