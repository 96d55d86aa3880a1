//! The texts of findings, with a maximum length: a selector or a list of peers may be as long as the request.

use std::fmt::{self, Write as _};
use std::hash::{DefaultHasher, Hasher as _};

use crate::budget::charge;

/// Maximum length of a message or help text, in bytes.
const MAX_LENGTH: usize = 1000;

/// A text of limited length.
#[derive(Default)]
struct Bounded {
    kept: String,
    left_out: usize,
    /// A hash of the rest. Two texts that differ only in the rest stay different, which the ratchet relies on.
    digest: DefaultHasher,
}

impl fmt::Write for Bounded {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        charge(1 + text.len() / 16);
        let room = if self.left_out > 0 { 0 } else { MAX_LENGTH.saturating_sub(self.kept.len()) };
        let end = (0..=room.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or_default();
        let (kept, left_out) = text.split_at_checked(end).unwrap_or((text, ""));
        self.kept.push_str(kept);
        if !left_out.is_empty() {
            self.left_out += left_out.len();
            self.digest.write(left_out.as_bytes());
        }
        Ok(())
    }
}

/// Writes a text of at most [`MAX_LENGTH`] bytes, with a note about the omitted rest.
pub(crate) fn text(arguments: fmt::Arguments<'_>) -> String {
    let mut text = Bounded::default();
    // Writing to a String does not fail, and an error of a Display impl does not matter here.
    let _ = text.write_fmt(arguments);
    if text.left_out > 0 {
        let (left_out, digest) = (text.left_out, text.digest.finish());
        let _ = write!(text.kept, "… ({left_out} more bytes, {digest:016x})");
    }
    text.kept
}

/// `format!` with a maximum length.
macro_rules! text {
    ($($argument:tt)*) => { $crate::rules::rule::text::text(format_args!($($argument)*)) };
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_short_text_is_whole() {
        assert_eq!(text!("{} on {}", "pods", 80), "pods on 80");
    }

    #[test]
    fn a_long_text_is_cut_and_still_told_from_others() {
        let long = |end: &str| text!("{}{end}", "ü".repeat(2000));
        assert!(long("a").starts_with(&"ü".repeat(500)) && long("a").len() < 1100, "{}", long("a"));
        assert_ne!(long("a"), long("b"));
        assert_eq!(long("a"), long("a"));
    }
}
