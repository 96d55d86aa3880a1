//! Text as HTML.

use std::fmt::Write as _;

use crate::cli::words::{noun_of, with_code_spans};

/// Escapes a text for element content and for attribute values in double quotes.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            // HTML has no reference for NUL and most other control characters.
            letter if letter.is_control() && letter != '\n' => out.push('\u{fffd}'),
            letter => out.push(letter),
        }
    }
    out
}

/// Returns a message as HTML: text in backticks becomes code.
pub(super) fn text(message: &str) -> String {
    with_code_spans(message, escape, code)
}

/// Returns a name, path or command as HTML. `bdi` keeps right-to-left text from reordering what surrounds it.
pub(super) fn code(name: &str) -> String {
    format!("<code><bdi>{}</bdi></code>", escape(name))
}

/// Writes a number with separators of thousands: `1,234`.
pub(super) fn number(value: usize) -> String {
    let digits = value.to_string();
    let mut out = String::new();
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Writes a number with its noun: `1 pod`, `2 pods`.
pub(super) fn plural(count: usize, noun: &str) -> String {
    format!("{} {}", number(count), noun_of(count, noun))
}

/// Returns a part in percent, rounded down, so that 100 means all.
pub(super) fn percent(part: usize, whole: usize) -> usize {
    part.saturating_mul(100).checked_div(whole).unwrap_or(0)
}

/// Returns a bar. Its number stands beside it as text.
pub(super) fn bar(part: usize, whole: usize) -> String {
    let mut out = String::from(
        "<svg class=\"bar\" viewBox=\"0 0 100 8\" preserveAspectRatio=\"none\" aria-hidden=\"true\">\
         <rect class=\"track\" width=\"100\" height=\"8\"/>",
    );
    if part > 0 {
        // A small part stays visible.
        let width = percent(part, whole).clamp(1, 100);
        let _ = write!(out, "<rect class=\"fill\" width=\"{width}\" height=\"8\"/>");
    }
    out.push_str("</svg>");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_stays_text() {
        assert_eq!(text("a `<b>` c"), "a <code><bdi>&lt;b&gt;</bdi></code> c");
        assert_eq!(text("one ` two"), "one ` two");
        assert_eq!(escape("</script>\"'&\0"), "&lt;/script&gt;&quot;&#39;&amp;\u{fffd}");
    }

    #[test]
    fn numbers_have_separators() {
        assert_eq!([0, 999, 1000, 1_234_567].map(number), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([plural(1, "pod"), plural(0, "pod")], ["1 pod", "0 pods"]);
        assert_eq!((percent(999, 1000), percent(0, 0), percent(3, 3)), (99, 0, 100));
    }
}
