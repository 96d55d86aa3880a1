//! Notes: the text of an Event, or of the status annotation.

/// The start of a note about a write conflict. `portcullis audit` recognizes the conflict by it.
pub(crate) const CONTESTED: &str = "contested: ";

/// Maximum length of the note of an Event, in bytes. The API server rejects longer ones.
const LONGEST: usize = 1024;

/// Truncates a note to the maximum length of an Event. Annotations use the same limit.
pub(crate) fn truncate_note(mut note: String) -> String {
    if note.len() > LONGEST {
        let dots = "…";
        let end = (0..=LONGEST - dots.len()).rev().find(|end| note.is_char_boundary(*end)).unwrap_or(0);
        note.truncate(end);
        note.push_str(dots);
    }
    note
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_no_longer_than_an_api_server_takes() {
        assert_eq!(truncate_note("x".repeat(1024)), "x".repeat(1024));
        for long in ["x".repeat(1025), "ä".repeat(900), "€".repeat(700)] {
            let cut = truncate_note(long.clone());
            assert!(cut.len() <= 1024 && cut.len() > 1020, "{}", cut.len());
            assert!(cut.strip_suffix('…').is_some_and(|start| long.starts_with(start)));
        }
    }
}
