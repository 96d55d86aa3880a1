//! Three-valued logic: `None` means that the answer depends on something unknown.

/// Returns true if all parts are true, false if any part is false, and `None` otherwise.
pub(super) fn all_of(parts: impl IntoIterator<Item = Option<bool>>) -> Option<bool> {
    let mut all = Some(true);
    for part in parts {
        match part {
            Some(true) => {}
            Some(false) => return Some(false),
            None => all = None,
        }
    }
    all
}

/// Returns true if any part is true, false if all parts are false, and `None` otherwise.
pub(super) fn any_of(parts: impl IntoIterator<Item = Option<bool>>) -> Option<bool> {
    all_of(parts.into_iter().map(|part| part.map(|holds| !holds))).map(|none| !none)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_enough_to_know() {
        assert_eq!(all_of([Some(true), None, Some(false)]), Some(false));
        assert_eq!(all_of([Some(true), None]), None);
        assert_eq!(all_of([]), Some(true));
        assert_eq!(any_of([Some(false), None, Some(true)]), Some(true));
        assert_eq!(any_of([Some(false), None]), None);
        assert_eq!(any_of([]), Some(false));
    }
}
