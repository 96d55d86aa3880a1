//! The coverage of default deny: the headline, and the table of namespaces.

use std::fmt::Write as _;

use super::markup::{bar, code, escape, number, percent, plural, text};
use crate::audit::{BaselineState, HatchState, NamespaceState, Report};

/// Maximum number of namespaces in the table.
const MAX_NAMESPACES: usize = 2_000;

/// Returns the numbers at the top of the page.
pub(super) fn headline(report: &Report) -> String {
    let summary = &report.summary;
    let mut out = String::from("<div class=\"headline\">");
    for (name, direction, part) in
        [("Ingress", "ingress", summary.isolated.ingress), ("Egress", "egress", summary.isolated.egress)]
    {
        let share = if summary.pods == 0 { "–".to_owned() } else { format!("{}%", percent(part, summary.pods)) };
        let _ = write!(
            out,
            "<div class=\"card\"><h3>{name} default deny</h3><p class=\"big\">{share}</p>{}\
             <p class=\"lead\">{} of {} isolated for {direction}</p></div>",
            bar(part, summary.pods),
            number(part),
            plural(summary.pods, "pod"),
        );
    }
    out.push_str("<dl class=\"facts card\">");
    for (name, value) in [
        ("Namespaces", summary.namespaces),
        ("Workloads", summary.workloads),
        ("Pods", summary.pods),
        ("Policies", summary.policies),
        ("Denials", summary.findings.deny),
        ("Warnings", summary.findings.warn),
    ] {
        let _ = write!(out, "<div><dt>{name}</dt><dd>{}</dd></div>", number(value));
    }
    out.push_str("</dl></div>");
    out.push_str(&plugins(report));
    out
}

/// Returns what is known about the network plugin.
fn plugins(report: &Report) -> String {
    let Some(plugin) = &report.plugin else { return String::new() };
    let verdict = match plugin.enforces {
        Some(true) => "The network plugin enforces NetworkPolicy.",
        Some(false) => "<strong>The network plugin does not enforce NetworkPolicy.</strong>",
        None => "It is unknown whether the network plugin enforces NetworkPolicy.",
    };
    let mut out = format!("<div class=\"plugin\"><p>{verdict}</p><ul class=\"plain\">");
    for found in &plugin.found {
        let version = found.version.as_deref().map(|version| format!(" {}", escape(version))).unwrap_or_default();
        let note = found.note.as_deref().map(|note| format!(". {}", text(note))).unwrap_or_default();
        let _ = write!(
            out,
            "<li>{}{version}, {}: {} of {} ready{note}</li>",
            escape(&found.name),
            code(&found.object),
            number(found.ready),
            plural(found.desired, "agent"),
        );
    }
    for note in &plugin.notes {
        let _ = write!(out, "<li>{}</li>", text(note));
    }
    out.push_str("</ul></div>");
    out
}

/// Returns the table of namespaces.
pub(super) fn namespaces(report: &Report) -> String {
    let mut out = String::from(
        "<div class=\"list\" data-list=\"50\" data-noun=\"namespaces\">\
         <div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"Coverage by namespace\">\
         <table class=\"rows\">\
         <caption class=\"unseen\">Coverage by namespace</caption><thead><tr>\
         <th scope=\"col\">Namespace</th>\
         <th scope=\"col\">Profile</th><th scope=\"col\">Baseline</th><th scope=\"col\" class=\"n\">Policies</th>\
         <th scope=\"col\" class=\"n\">Pods</th><th scope=\"col\">Ingress default deny</th>\
         <th scope=\"col\">Egress default deny</th><th scope=\"col\" class=\"n\">In no policy</th>\
         <th scope=\"col\" class=\"n\">Without DNS</th></tr></thead><tbody>",
    );
    for state in report.namespaces.iter().take(MAX_NAMESPACES) {
        namespace(&mut out, state);
    }
    out.push_str("</tbody></table></div>");
    let omitted = report.namespaces.len().saturating_sub(MAX_NAMESPACES);
    if omitted > 0 {
        let _ = write!(out, "<p class=\"note\">{} left out.</p>", plural(omitted, "more namespace"));
    }
    out.push_str("</div>");
    out
}

fn namespace(out: &mut String, state: &NamespaceState) {
    let name = if state.name.is_empty() { "(no namespace)" } else { &state.name };
    let platform = if state.is_platform { " <span class=\"tag\">platform</span>" } else { "" };
    let _ = write!(out, "<tr data-item><th scope=\"row\">{}{platform}</th><td>", code(name));
    match &state.profile {
        Some(profile) => out.push_str(&escape(profile)),
        None => out.push_str("<span class=\"faint\">none</span>"),
    }
    for access in &state.access {
        let _ = write!(out, " <span class=\"tag\">{}</span>", escape(access));
    }
    let (tone, word) = (tone(state.baseline), state.baseline.name());
    let _ = write!(out, "</td><td><span class=\"state {tone}\">{word}</span>");
    if let Some(hatch) = &state.hatch {
        let _ = write!(out, "<br><span class=\"faint\">{}</span>", text(&describe(hatch)));
    }
    let _ =
        write!(out, "</td><td class=\"n\">{}</td><td class=\"n\">{}</td>", number(state.policies), number(state.pods));
    for part in [state.isolated.ingress, state.isolated.egress] {
        if state.pods == 0 {
            out.push_str("<td class=\"faint\">no pods</td>");
            continue;
        }
        let _ = write!(
            out,
            "<td class=\"share\">{} <span>{} of {}</span></td>",
            bar(part, state.pods),
            number(part),
            number(state.pods)
        );
    }
    for count in [state.unselected, state.without_dns] {
        let class = if count == 0 { "n faint" } else { "n strong" };
        let _ = write!(out, "<td class=\"{class}\">{}</td>", number(count));
    }
    out.push_str("</tr>");
}

/// Returns the class of the style sheet for the state of a baseline.
fn tone(state: BaselineState) -> &'static str {
    match state {
        BaselineState::Applied => "good",
        BaselineState::Pending | BaselineState::Expired | BaselineState::Unknown => "fair",
        BaselineState::Missing | BaselineState::Contested => "bad",
        BaselineState::None | BaselineState::Exempt => "off",
    }
}

fn describe(hatch: &HatchState) -> String {
    let mut out = String::from(if hatch.is_open { "enforcement disabled" } else { "hatch not in effect" });
    for (word, value) in [("until", &hatch.until), ("by", &hatch.opened_by)] {
        if let Some(value) = value {
            let _ = write!(out, " {word} {value}");
        }
    }
    for value in [&hatch.reason, &hatch.fault].into_iter().flatten() {
        let _ = write!(out, ": {value}");
    }
    out
}
