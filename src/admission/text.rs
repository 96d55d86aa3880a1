//! The texts for users: the message of a denial, and warnings within the limits of the API server.

use std::borrow::Cow;

use super::answer::{Cause, Denial};
use super::fix::{self, Manifests};
use crate::engine::Judgement;
use crate::model::Finding;
use crate::rules::Mode;

/// Maximum number of findings in a denial.
const MAX_FINDINGS: usize = 12;
/// Maximum length of a denial, in bytes. The first finding is always shown.
const MAX_DENIAL: usize = 8 * 1024;
/// Maximum length of a message, path or help text in a denial, in characters. A selector may have thousands of values.
const MAX_PART: usize = 400;
/// Maximum number of fixes in a denial.
const MAX_FIXES: usize = 2;
/// Maximum number of causes in a denial.
const MAX_CAUSES: usize = 1000;
/// Maximum length of a warning, in characters. The API server cuts longer warnings in the middle of a word if all
/// warnings of a request together exceed 4096 characters (`truncateItemRunes` in
/// `k8s.io/apiserver/pkg/endpoints/filters/warning.go`).
const MAX_WARNING: usize = 256;
/// Maximum number of characters reserved for the help text, if it does not fit into a warning together with the
/// message.
const MAX_RESERVED: usize = 80;
/// Maximum length of a path in a warning, in characters.
const MAX_PATH: usize = 100;
/// Maximum length of all warnings together, in bytes. It is the limit of the API server, less room for the warnings of
/// other webhooks.
const MAX_WARNINGS_LENGTH: usize = 3072;
/// Maximum number of warnings.
const MAX_WARNINGS: usize = 12;

/// The denial that follows from the judgements, if any.
///
/// Each finding has a line with its rule and message, and indented lines with the path, the near miss, the help and the
/// fix. The first line of the denial is a fact, because some clients and logs show only that line.
pub(super) fn denial(judgements: &[Judgement], manifests: Option<&Manifests<'_>>) -> Option<Denial> {
    let denying: Vec<&Finding> =
        judgements.iter().filter(|judgement| judgement.denies()).map(|judgement| &judgement.finding).collect();
    if denying.is_empty() {
        return None;
    }
    let (mut message, mut shown, mut fixes) = (String::new(), 0, 0);
    for finding in denying.iter().take(MAX_FINDINGS) {
        let mut lines = lines(finding);
        // Each fix parses the spec, so only fixes that may be shown are computed.
        let fix = manifests.filter(|_| fixes < MAX_FIXES);
        if let Some(fix) = fix.and_then(|manifests| fix::line(finding, manifests, denying.len() == 1)) {
            fixes += 1;
            lines.push(format!("  {fix}"));
        }
        let lines = lines.join("\n");
        if shown > 0 && message.len() + lines.len() > MAX_DENIAL {
            break;
        }
        if shown > 0 {
            message.push('\n');
        }
        message.push_str(&lines);
        shown += 1;
    }
    match denying.len() - shown {
        0 => {}
        1 => message.push_str("\nand 1 more finding; `portcullis check` shows it"),
        more => message.push_str(&format!("\nand {more} more findings; `portcullis check` shows them all")),
    }
    let causes = denying.iter().take(MAX_CAUSES).map(|finding| Cause {
        reason: finding.rule,
        message: part(&finding.message),
        field: finding.path.to_string(),
    });
    Some(Denial { code: 403, reason: "Forbidden", message, causes: causes.collect() })
}

/// The lines of a finding in a denial, without its fix.
fn lines(finding: &Finding) -> Vec<String> {
    let mut lines = vec![format!("{}: {}", finding.rule, part(&finding.message))];
    if !finding.path.steps().is_empty() {
        lines.push(format!("  at {}", part(&finding.path.to_string())));
    }
    if let Some(closest) = &finding.closest {
        lines.push(format!("  closest: {}", part(closest)));
    }
    lines.push(format!("  help: {}", part(&finding.help)));
    lines
}

/// A text of a finding in a denial: on one line, and not too long.
fn part(text: &str) -> String {
    cut(&clean(text), MAX_PART).into_owned()
}

/// The warnings that follow from the judgements.
pub(super) fn warnings(judgements: &[Judgement]) -> Vec<String> {
    let shown = judgements.iter().filter(|judgement| judgement.action == Mode::Warn);
    // Findings that would deny if they were new are more important than findings that only warn.
    let (before, others): (Vec<_>, Vec<_>) = shown.partition(|judgement| judgement.spared.is_some());
    let mut warnings: Vec<String> = Vec::new();
    let mut room = MAX_WARNINGS_LENGTH;
    let mut left_out = 0;
    for judgement in before.iter().chain(&others) {
        let warning = warning(judgement);
        if warnings.len() + 1 >= MAX_WARNINGS || warning.len() > room {
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
    let mut room = MAX_WARNINGS_LENGTH.saturating_sub(warnings.iter().map(String::len).sum());
    for line in previewed.iter().map(|text| line(text)) {
        if warnings.len() < MAX_WARNINGS && line.len() <= room {
            room -= line.len();
            warnings.push(line);
        }
    }
    warnings
}

/// A text as one warning: short, and on one line. The API server drops a warning with a line break or a control
/// character.
pub(super) fn line(text: &str) -> String {
    cut(&clean(text), MAX_WARNING).into_owned()
}

/// A finding as one warning: the message, the rule and the path, and the help text. Some clients show only the first
/// 120 characters. If there is no room for all, the message is cut before the help text: that tells the reader what to
/// do.
fn warning(judgement: &Judgement) -> String {
    let finding = &judgement.finding;
    let mut source = vec![finding.rule.to_owned()];
    source.extend(judgement.spared.map(|spared| spared.note().to_owned()));
    let mut source = source.join(", ");
    if !finding.path.steps().is_empty() {
        let separator = if judgement.spared.is_some() { "," } else { "" };
        source = format!("{source}{separator} at {}", cut(&clean(&finding.path.to_string()), MAX_PATH));
    }
    let (message, help) = (clean(&finding.message), clean(&finding.help));
    let room = MAX_WARNING.saturating_sub(source.chars().count() + " (); ".len());
    let reserved = help.chars().count().min(MAX_RESERVED).min(room / 2);
    let message = cut(&message, room.saturating_sub(reserved));
    let help = cut(&help, room.saturating_sub(message.chars().count()));
    format!("{message} ({source}); {help}")
}

/// Cuts a text to a number of characters, between two words. Only a text that starts with a longer word is cut inside
/// of it.
fn cut(text: &str, most: usize) -> Cow<'_, str> {
    if text.chars().nth(most).is_none() {
        return Cow::Borrowed(text);
    }
    let end = text.char_indices().nth(most.saturating_sub(2)).map_or(text.len(), |(end, _)| end);
    let (whole, rest) = text.split_at_checked(end).unwrap_or((text, ""));
    let words = if rest.starts_with(' ') { Some(whole) } else { whole.rsplit_once(' ').map(|(words, _)| words) };
    match words.map(|words| words.trim_end_matches([',', ';', ':', ' '])).filter(|words| !words.is_empty()) {
        Some(words) => format!("{words} …").into(),
        None => format!("{whole}…").into(),
    }
}

/// A text on one line. Text from an author must not look like an additional line of the denial.
pub(super) fn clean(text: &str) -> Cow<'_, str> {
    if text.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
        return text.into();
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
    use crate::engine::Spared;
    use crate::model::{ObjectRef, Path};

    fn judgement(message: &str, action: Mode, position: usize) -> Judgement {
        let finding = Finding {
            rule: "any-port",
            object: ObjectRef::default(),
            path: Path::root().field("spec").field("ingress").index(position),
            message: message.into(),
            closest: None,
            help: "list the ports".into(),
            fix: None,
            is_advice: false,
        };
        Judgement { finding, action, spared: None }
    }

    fn message(judgements: &[Judgement]) -> String {
        denial(judgements, None).unwrap().message
    }

    #[test]
    fn a_denial_starts_each_finding_with_its_message() {
        let mut first = judgement("open", Mode::Deny, 0);
        first.finding.closest = Some("port 80\nof web".into());
        let mut second = judgement("too large\n  at spec", Mode::Deny, 1);
        second.finding.path = Path::root();
        assert_eq!(
            message(&[first, judgement("not denied", Mode::Warn, 2), second]),
            "any-port: open\n  at spec.ingress[0]\n  closest: port 80 of web\n  help: list the ports\n\
             any-port: too large   at spec\n  help: list the ports"
        );
    }

    #[test]
    fn a_denial_has_a_maximum_of_findings_and_counts_the_others() {
        let many: Vec<Judgement> = (0..30).map(|n| judgement("open", Mode::Deny, n)).collect();
        let text = message(&many);
        assert_eq!(text.matches("any-port: open\n").count(), MAX_FINDINGS);
        assert!(text.ends_with("\nand 18 more findings; `portcullis check` shows them all"), "{text}");
        let causes = denial(&many, None).unwrap().causes;
        assert_eq!(causes.len(), 30, "clients that read causes get all of them");
        assert_eq!(causes[29].field, "spec.ingress[29]");
        let text = message(&many[..=MAX_FINDINGS]);
        assert!(text.ends_with("\nand 1 more finding; `portcullis check` shows it"), "{text}");
        assert!(!message(&many[..MAX_FINDINGS]).contains("more finding"));
    }

    #[test]
    fn a_denial_of_maximum_length_ends_between_findings() {
        let long: Vec<Judgement> = (0..10)
            .map(|n| {
                let mut judgement = judgement(&"größer ".repeat(300), Mode::Deny, n);
                judgement.finding.closest = Some("näher ".repeat(300));
                judgement.finding.help = "weiter ".repeat(300);
                judgement
            })
            .collect();
        let text = message(&long);
        assert!(text.len() < MAX_DENIAL + 100, "{}", text.len());
        let lines: Vec<&str> = text.lines().collect();
        let (last, findings) = lines.split_last().unwrap();
        assert_eq!(findings.len() % 4, 0, "{text}");
        assert_eq!(*last, format!("and {} more findings; `portcullis check` shows them all", 10 - findings.len() / 4));
        for line in findings.iter().filter(|line| !line.starts_with("  at ")) {
            assert!(["größer …", "näher …", "weiter …"].iter().any(|end| line.ends_with(end)), "{line}");
        }
    }

    #[test]
    fn warnings_stay_within_the_limits_of_the_api_server() {
        let many: Vec<Judgement> = (0..200).map(|n| judgement(&"ü\n".repeat(300), Mode::Warn, n)).collect();
        let warnings = warnings(&many);
        assert!(!warnings.is_empty());
        assert!(warnings.iter().map(String::len).sum::<usize>() <= 4096);
        for warning in &warnings {
            assert!(warning.chars().count() <= MAX_WARNING && !warning.contains(char::is_control), "{warning}");
            assert!(warning.ends_with("); list the ports") || warning.starts_with("and "), "{warning}");
        }
        let last = warnings.last().unwrap();
        let shown = warnings.len() - 1;
        assert_eq!(*last, format!("and {} more warnings; `portcullis check` shows them all", 200 - shown));
        let short: Vec<Judgement> = (0..200).map(|n| judgement("open", Mode::Warn, n)).collect();
        assert_eq!(super::warnings(&short).len(), MAX_WARNINGS);
    }

    #[test]
    fn a_warning_starts_with_the_message() {
        let mut judgement = judgement("open", Mode::Warn, 0);
        assert_eq!(warning(&judgement), "open (any-port at spec.ingress[0]); list the ports");
        judgement.spared = Some(Spared::Staged);
        assert_eq!(warning(&judgement), "open (any-port, staged, at spec.ingress[0]); list the ports");
        judgement.finding.path = Path::root();
        assert_eq!(warning(&judgement), "open (any-port, staged); list the ports");
        judgement.spared = None;
        assert_eq!(warning(&judgement), "open (any-port); list the ports");
    }

    #[test]
    fn a_warning_is_cut_between_words_and_keeps_its_help() {
        let text = "egress from pods with app=web is allowed to every address ".repeat(8);
        let mut judgement = judgement(text.trim(), Mode::Warn, 0);
        let short = warning(&judgement);
        assert!(short.ends_with(" … (any-port at spec.ingress[0]); list the ports"), "{short}");
        let words: Vec<&str> = text.split(' ').collect();
        assert!(short.split(" …").next().unwrap().split(' ').all(|word| words.contains(&word)), "{short}");
        judgement.finding.help = "name the peers, or list the blocks that the pods need ".repeat(8);
        let both = warning(&judgement);
        assert!(both.chars().count() <= MAX_WARNING && both.ends_with(" …"), "{both}");
        assert!(both.contains(" … (any-port at spec.ingress[0]); name the peers, or list"), "{both}");
        judgement.finding.path = Path::root().unknown_field(&"x".repeat(1000));
        assert!(warning(&judgement).chars().count() <= MAX_WARNING);
    }

    #[test]
    fn a_text_is_cut_between_words() {
        assert_eq!(cut("one two three", 13), "one two three");
        assert_eq!(cut("one two three", 12), "one two …");
        assert_eq!(cut("one two, three", 9), "one …");
        assert_eq!(cut("one two three", 9), "one two …");
        assert_eq!(cut(&format!("one {}", "x".repeat(50)), 40), "one …", "a word is dropped and not cut");
        assert_eq!(cut(&"x".repeat(50), 10), "xxxxxxxx…");
    }

    #[test]
    fn a_preview_comes_after_the_warnings_if_there_is_room() {
        let preview: Vec<String> = (0..5).map(|n| format!("preview: {n}")).collect();
        let few = with_preview(vec!["a".into()], &preview);
        assert_eq!(few[0], "a");
        assert_eq!(few[1..], preview);
        let long = with_preview(Vec::new(), &[format!("preview: {}", "x ".repeat(400))]);
        assert!((MAX_WARNING - 2..=MAX_WARNING).contains(&long[0].chars().count()), "{long:?}");
        let most: Vec<String> = (0..MAX_WARNINGS).map(|n| n.to_string()).collect();
        assert_eq!(with_preview(most.clone(), &preview), most);
        let full: Vec<String> = (0..5).map(|n| format!("{n}{}", "ü".repeat(MAX_WARNING))).collect();
        let whole = with_preview(full, &preview);
        assert!(whole.iter().map(String::len).sum::<usize>() <= MAX_WARNINGS_LENGTH, "{whole:#?}");
    }
}
