//! The texts for users: the message of a denial, and warnings within the limits of the API server.

use std::borrow::Cow;

use super::answer::{Cause, Denial};
use crate::dialect::{self, Manifest};
use crate::engine::Judgement;
use crate::rules::Mode;

/// Maximum number of lines of a denial.
const LINES: usize = 12;
/// Maximum length of a message or help text in a denial, in characters. A selector may have thousands of values.
const LENGTH: usize = 400;
/// Maximum number of patches in a denial.
const PATCHES: usize = 2;
/// Maximum length of a patch in a denial, in bytes.
const PATCH: usize = 600;
/// Maximum length of a warning, in characters. The API server cuts longer warnings in the middle of a word if all
/// warnings of a request together exceed 4096 characters (`truncateItemRunes` in
/// `k8s.io/apiserver/pkg/endpoints/filters/warning.go`).
const WARNING: usize = 256;
/// Maximum number of characters reserved for the help text, if it does not fit into a warning together with the
/// message.
const ADVICE: usize = 120;
/// Maximum length of all warnings together, in bytes. It is the limit of the API server, less room for the warnings of
/// other webhooks.
const WARNINGS: usize = 3072;
/// Maximum number of causes in a denial.
const CAUSES: usize = 1000;
/// Maximum number of warnings.
const MOST: usize = 12;

/// The denial that follows from the judgements, if any.
pub(super) fn denial(judgements: &[Judgement], object: Option<&Manifest<'_>>) -> Option<Denial> {
    let denying: Vec<&Judgement> = judgements.iter().filter(|judgement| judgement.action == Mode::Deny).collect();
    if denying.is_empty() {
        return None;
    }
    // Each patch parses the spec, so only patches that may be shown are computed.
    let patches: Vec<(&str, String)> = denying
        .iter()
        .take(LINES)
        .filter_map(|judgement| {
            let patch = dialect::fix(judgement.finding.fix.as_ref()?, object?)?;
            Some((judgement.finding.rule, serde_json::to_string(&patch).ok()?))
        })
        .filter(|(_, patch)| patch.len() <= PATCH)
        .take(PATCHES)
        .collect();
    let mut lines: Vec<String> = Vec::new();
    let room = LINES.saturating_sub(patches.len());
    let shown = if denying.len() <= room { denying.len() } else { room.saturating_sub(1) };
    for judgement in denying.iter().take(shown) {
        let finding = &judgement.finding;
        let message = cut(&finding.message, LENGTH);
        let closest = finding.closest.as_ref().map(|closest| format!("; closest: {}", cut(closest, LENGTH)));
        let (closest, help) = (closest.unwrap_or_default(), cut(&finding.help, LENGTH));
        lines.push(clean(format!("{} at {}: {message}{closest}; {help}", finding.rule, finding.path)));
    }
    if shown < denying.len() {
        lines.push(format!("and {} more", denying.len() - shown));
    }
    for (rule, patch) in &patches {
        lines.push(format!("JSON patch for {rule}: {patch}"));
    }
    let causes = denying
        .iter()
        .take(CAUSES)
        .map(|judgement| Cause {
            reason: judgement.finding.rule,
            message: clean(cut(&judgement.finding.message, LENGTH).into_owned()),
            field: judgement.finding.path.to_string(),
        })
        .collect();
    Some(Denial { code: 403, reason: "Forbidden", message: lines.join("\n"), causes })
}

/// The warnings that follow from the judgements.
pub(super) fn warnings(judgements: &[Judgement]) -> Vec<String> {
    let shown = judgements.iter().filter(|judgement| judgement.action == Mode::Warn);
    // Findings that would deny if they were new are more important than findings that only warn.
    let (before, others): (Vec<_>, Vec<_>) = shown.partition(|judgement| judgement.spared.is_some());
    let mut warnings: Vec<String> = Vec::new();
    let mut room = WARNINGS;
    let mut left_out = 0;
    for judgement in before.iter().chain(&others) {
        let finding = &judgement.finding;
        let note = judgement.spared.map(|spared| format!(" ({})", spared.note())).unwrap_or_default();
        let head = format!("{}{note} at {}: ", finding.rule, finding.path);
        let warning = warning(&head, &finding.message, &finding.help);
        if warnings.len() + 1 >= MOST || warning.len() > room {
            left_out += 1;
        } else if !warnings.contains(&warning) {
            room -= warning.len();
            warnings.push(warning);
        }
    }
    if left_out > 0 {
        warnings.push(format!("and {left_out} more warnings; `portcullis check` shows them all"));
    }
    warnings
}

/// Appends the lines of a preview to the warnings, as far as there is room.
pub(super) fn with_preview(mut warnings: Vec<String>, previewed: &[String]) -> Vec<String> {
    let mut room = WARNINGS.saturating_sub(warnings.iter().map(String::len).sum());
    for line in previewed.iter().map(|text| line(text)) {
        if warnings.len() < MOST && line.len() <= room {
            room -= line.len();
            warnings.push(line);
        }
    }
    warnings
}

/// A text as one warning: short, and on one line. The API server drops a warning with a line break or a control
/// character.
pub(super) fn line(text: &str) -> String {
    clean(cut(text, WARNING).into_owned())
}

/// A finding as one warning. If there is no room for both, the help text is kept: it tells the reader what to do.
fn warning(head: &str, message: &str, advice: &str) -> String {
    let room = WARNING.saturating_sub(head.chars().count() + "; ".len());
    let asked = advice.chars().count().min(ADVICE).min(room / 2);
    let message = cut(message, room.saturating_sub(asked));
    let advice = cut(advice, room.saturating_sub(message.chars().count()));
    line(&format!("{head}{message}; {advice}"))
}

/// Cuts a text to a number of characters, between two words if possible.
fn cut(text: &str, most: usize) -> Cow<'_, str> {
    if text.chars().nth(most).is_none() {
        return Cow::Borrowed(text);
    }
    let end = text.char_indices().nth(most.saturating_sub(2)).map_or(text.len(), |(end, _)| end);
    let whole = text.get(..end).unwrap_or(text);
    // One long word, such as a selector, is cut and not dropped.
    match whole.rsplit_once(' ').filter(|(words, _)| words.len() > whole.len() / 2) {
        Some((words, _)) => format!("{} …", words.trim_end_matches([',', ';', ':', ' '])).into(),
        None => format!("{whole}…").into(),
    }
}

/// A text on one line. Text from an author must not look like an additional line of the denial.
pub(super) fn clean(text: String) -> String {
    if text.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
        return text;
    }
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// The rules with findings, each with its action, for the audit log.
pub(super) fn audit(judgements: &[Judgement]) -> Option<String> {
    let mut named: Vec<(&str, &str)> = Vec::new();
    for judgement in judgements {
        let name = (judgement.finding.rule, judgement.action.name());
        if !named.contains(&name) {
            named.push(name);
        }
    }
    let named: Vec<String> = named.into_iter().map(|(rule, action)| format!("{rule}={action}")).collect();
    (!named.is_empty()).then(|| named.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Finding, ObjectRef, Path};

    fn judgement(message: &str, action: Mode, position: usize) -> Judgement {
        let finding = Finding {
            rule: "any-port",
            object: ObjectRef::default(),
            path: Path::root().field("spec").field("ingress").index(position),
            message: message.into(),
            closest: None,
            help: "list the ports".into(),
            fix: None,
        };
        Judgement { finding, action, spared: None }
    }

    #[test]
    fn a_denial_has_one_line_a_finding_and_not_too_many() {
        let many: Vec<Judgement> = (0..30).map(|n| judgement("open", Mode::Deny, n)).collect();
        let denial = denial(&many, None).unwrap();
        let lines: Vec<&str> = denial.message.lines().collect();
        assert_eq!(lines.len(), LINES);
        assert_eq!(lines[0], "any-port at spec.ingress[0]: open; list the ports");
        assert_eq!(lines[11], "and 19 more");
        assert_eq!(denial.causes.len(), 30, "those that read causes get all of them");
        assert_eq!(denial.causes[29].field, "spec.ingress[29]");
    }

    #[test]
    fn warnings_stay_within_the_limits_of_the_api_server() {
        let many: Vec<Judgement> = (0..200).map(|n| judgement(&"ü\n".repeat(300), Mode::Warn, n)).collect();
        let warnings = warnings(&many);
        assert!(!warnings.is_empty());
        assert!(warnings.iter().map(String::len).sum::<usize>() <= 4096);
        for warning in &warnings {
            assert!(warning.chars().count() <= WARNING && !warning.contains(char::is_control), "{warning}");
            assert!(warning.ends_with("; list the ports") || warning.starts_with("and "), "{warning}");
        }
        let last = warnings.last().unwrap();
        let shown = warnings.len() - 1;
        assert_eq!(*last, format!("and {} more warnings; `portcullis check` shows them all", 200 - shown));
        let short: Vec<Judgement> = (0..200).map(|n| judgement("open", Mode::Warn, n)).collect();
        assert_eq!(super::warnings(&short).len(), MOST);
    }

    #[test]
    fn a_warning_is_cut_between_words_and_keeps_its_advice() {
        let message = "egress from pods with app=web is allowed to every address ".repeat(8);
        let advice = "name the peers, or list the blocks that the pods need ".repeat(8);
        let told = warning("any-port at spec.egress[0]: ", message.trim(), "list the ports");
        assert!(told.ends_with(" …; list the ports"), "{told}");
        let whole: Vec<&str> = message.split(' ').collect();
        let told_message = told.split(": ").nth(1).unwrap().split(" …").next().unwrap();
        assert!(told_message.split(' ').all(|word| whole.contains(&word)), "{told}");
        let both = warning("any-port at spec.egress[0]: ", message.trim(), advice.trim());
        assert!(both.chars().count() <= WARNING && both.ends_with(" …"), "{both}");
        assert!(both.contains("; name the peers, or list"), "{both}");
        let short = warning("any-port at spec: ", "open", "list the ports");
        assert_eq!(short, "any-port at spec: open; list the ports");
    }

    #[test]
    fn a_preview_comes_after_what_was_found_and_only_where_there_is_room() {
        let told: Vec<String> = (0..5).map(|n| format!("preview: {n}")).collect();
        let few = with_preview(vec!["a".into()], &told);
        assert_eq!(few[0], "a");
        assert_eq!(few[1..], told);
        let long = with_preview(Vec::new(), &[format!("preview: {}", "x".repeat(400))]);
        assert_eq!(long[0].chars().count(), WARNING - 1);
        let most: Vec<String> = (0..MOST).map(|n| n.to_string()).collect();
        assert_eq!(with_preview(most.clone(), &told), most);
        let full: Vec<String> = (0..5).map(|n| format!("{n}{}", "ü".repeat(WARNING))).collect();
        let whole = with_preview(full, &told);
        assert!(whole.iter().map(String::len).sum::<usize>() <= WARNINGS, "{whole:#?}");
    }
}
