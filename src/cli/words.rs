//! Text that several outputs share.

/// Writes a number with its noun: `1 policy`, `2 policies`.
pub(super) fn plural(count: usize, noun: &str) -> String {
    format!("{count} {}", noun_of(count, noun))
}

/// Returns a noun in the form for a number.
pub(super) fn noun_of(count: usize, noun: &str) -> String {
    match (count, noun.strip_suffix('y')) {
        (1, _) => noun.to_owned(),
        (_, Some(stem)) => format!("{stem}ies"),
        (_, None) => format!("{noun}s"),
    }
}

/// Converts a message for a format: text in backticks with `code`, everything else with `plain`. A backtick without a
/// second one is plain text.
pub(super) fn with_code_spans(message: &str, plain: fn(&str) -> String, code: fn(&str) -> String) -> String {
    let mut parts = message.split('`');
    let mut out = parts.next().map(plain).unwrap_or_default();
    while let Some(inner) = parts.next() {
        match parts.next() {
            Some(after) => {
                out.push_str(&code(inner));
                out.push_str(&plain(after));
            }
            None => out.push_str(&plain(&format!("`{inner}"))),
        }
    }
    out
}

/// Replaces control characters. A text of a user, such as a reason, could otherwise send commands to the terminal.
pub(super) fn printable(text: &str) -> String {
    text.chars().map(|char| if char.is_control() { ' ' } else { char }).collect()
}

/// Maximum number of names in one line.
pub(super) const MAX_NAMED: usize = 5;

/// Lists the first names, with an ellipsis if there are more.
pub(super) fn named(names: &[String]) -> String {
    let more = if names.len() > MAX_NAMED { ", …" } else { "" };
    let names: Vec<String> = names.iter().take(MAX_NAMED).map(|name| format!("`{}`", printable(name))).collect();
    format!("{}{more}", names.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_noun_follows_its_number() {
        assert_eq!([plural(1, "policy"), plural(2, "policy")], ["1 policy", "2 policies"]);
        assert_eq!([plural(0, "pod"), plural(1, "pod")], ["0 pods", "1 pod"]);
    }

    #[test]
    fn text_in_backticks_is_code() {
        let of = |message| with_code_spans(message, str::to_uppercase, |code| format!("<{code}>"));
        assert_eq!(of("a `b` c `d`"), "A <b> C <d>");
        assert_eq!(of("a `b` c ` d"), "A <b> C ` D");
    }
}
