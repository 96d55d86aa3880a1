//! The texts of a rule that a user may bypass with a permission.

use crate::rules::rule::Case;

/// The user who makes the change, in words.
pub(crate) fn user(case: &Case<'_>) -> String {
    case.occasion.author.username().map_or_else(|| "this user".to_owned(), |username| text!("user {username}"))
}

/// The help for a change that requires the permission to bypass a rule.
pub(crate) fn ask_for_bypass(rule: &str) -> String {
    format!("ask a user with verb `bypass` on `rules.portcullis.dev`, resource name `{rule}`, to make this change")
}
