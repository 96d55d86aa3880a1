//! The findings of the rules, and the checks with the objects behind each number.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::markup::{code, escape, number, plural, text};
use crate::audit::{Item, Report, RuleFinding, Section};

/// Maximum number of findings and contracts on the page, and of items in each check.
pub(super) const MAX_ITEMS: usize = 2_000;

/// Returns the findings with their filters. The filters appear with JavaScript only.
pub(super) fn findings(report: &Report) -> String {
    if report.findings.is_empty() {
        return "<p class=\"lead\">The rules report nothing.</p>".to_owned();
    }
    let mut rules: BTreeMap<&str, usize> = BTreeMap::new();
    let mut namespaces: BTreeMap<&str, usize> = BTreeMap::new();
    for finding in report.findings.iter().take(MAX_ITEMS) {
        *rules.entry(finding.rule).or_default() += 1;
        *namespaces.entry(namespace_of(finding)).or_default() += 1;
    }
    let mut out = String::from(
        "<p class=\"lead\">What the webhook would report if every object were created now.</p>\
         <div class=\"list\" data-list=\"100\" data-noun=\"findings\">\
         <form class=\"filters\" role=\"search\" aria-label=\"Filter the findings\" hidden>\
         <fieldset class=\"switch\"><legend class=\"unseen\">Actions</legend>",
    );
    let counts = &report.summary.findings;
    for (action, count) in [("deny", counts.deny), ("warn", counts.warn), ("audit", counts.audit)] {
        let _ = write!(
            out,
            "<label><input type=\"checkbox\" name=\"action\" value=\"{action}\" checked>\
             <span>{action} {}</span></label>",
            number(count)
        );
    }
    out.push_str("</fieldset>");
    select(&mut out, "Rule", "rule", "all rules", &rules);
    select(&mut out, "Namespace", "namespace", "all namespaces", &namespaces);
    out.push_str(
        "<label class=\"field\">Text <input type=\"search\" name=\"text\" autocomplete=\"off\" spellcheck=\"false\">\
         </label><button type=\"reset\">Clear</button></form><ol class=\"findings\">",
    );
    for found in report.findings.iter().take(MAX_ITEMS) {
        finding(&mut out, found);
    }
    out.push_str("</ol>");
    out.push_str(&rest(report.findings.len().saturating_sub(MAX_ITEMS) + report.omitted_findings, "finding"));
    out.push_str("</div>");
    out
}

/// Returns the namespace that the filter knows a finding by.
fn namespace_of(finding: &RuleFinding) -> &str {
    match &finding.object.namespace {
        Some(namespace) => namespace,
        None if finding.object.kind == "Namespace" => &finding.object.name,
        None => "",
    }
}

fn select(out: &mut String, label: &str, name: &str, all: &str, counts: &BTreeMap<&str, usize>) {
    let _ = write!(out, "<label class=\"field\">{label} <select name=\"{name}\"><option value=\"*\">{all}</option>");
    for (value, count) in counts {
        let shown = if value.is_empty() { "cluster-wide" } else { value };
        let _ = write!(out, "<option value=\"{}\">{} ({})</option>", escape(value), escape(shown), number(*count));
    }
    out.push_str("</select></label>");
}

fn finding(out: &mut String, finding: &RuleFinding) {
    let action = finding.action.name();
    let object = &finding.object;
    let namespace = object.namespace.as_deref().map(|namespace| format!("{namespace}/")).unwrap_or_default();
    let _ = write!(
        out,
        "<li data-item data-action=\"{action}\" data-rule=\"{}\" data-namespace=\"{}\">\
         <p class=\"head\"><span class=\"badge {action}\">{action}</span> <code class=\"rule\">{}</code>",
        escape(finding.rule),
        escape(namespace_of(finding)),
        escape(finding.rule),
    );
    if let Some(spared) = &finding.spared {
        let _ = write!(out, " <span class=\"tag\">{}</span>", escape(spared));
    }
    let _ = write!(out, "</p><div class=\"body\"><p class=\"message\">{}</p>", text(&finding.message));
    if let Some(closest) = &finding.closest {
        let _ = write!(out, "<p class=\"help\"><b>closest</b> {}</p>", text(closest));
    }
    let _ = write!(
        out,
        "<p class=\"help\"><b>help</b> {}</p><p class=\"place\">{}",
        text(&finding.help),
        code(&format!("{} {namespace}{}", object.kind, object.name)),
    );
    if !finding.path.is_empty() {
        let _ = write!(out, " at {}", code(&finding.path));
    }
    if let Some(source) = &finding.source {
        let _ = write!(out, " in {}", code(source));
    }
    out.push_str("</p></div></li>");
}

/// Returns true if a check found something to fix.
pub(super) fn is_open(section: &Section) -> bool {
    section.is_finding && section.count > 0
}

/// Returns the checks. Each can be opened without JavaScript.
pub(super) fn checks(report: &Report) -> String {
    let mut out = String::from("<div class=\"checks\">");
    for section in &report.sections {
        check(&mut out, section);
    }
    out.push_str("</div>");
    out
}

fn check(out: &mut String, section: &Section) {
    let (tone, word) = match section {
        Section { unanswered: Some(_), .. } => ("fair", "unanswered"),
        Section { of: Some(0), .. } => ("off", "no objects"),
        Section { count: 0, .. } => ("good", "clear"),
        Section { is_finding: true, .. } => ("bad", "to fix"),
        Section { .. } => ("off", "to know"),
    };
    let tally = match section.of {
        Some(of) => format!("{} of {}", number(section.count), number(of)),
        None => number(section.count),
    };
    let _ = write!(
        out,
        "<details class=\"check\" id=\"check-{}\"><summary><h3>{}</h3><span class=\"tally\">{}</span>\
         <span class=\"state {tone}\">{word}</span><span class=\"lead\">{}</span></summary>",
        escape(section.id),
        text(section.title),
        if section.unanswered.is_some() { "–" } else { &tally },
        text(&section.summary),
    );
    if let Some(why) = &section.unanswered {
        let _ = write!(out, "<p class=\"note\">{}</p>", text(why));
    }
    if !section.items.is_empty() {
        let _ = write!(out, "<div class=\"list\" data-list=\"25\" data-noun=\"objects\"><ul class=\"items\">");
        for one in section.items.iter().take(MAX_ITEMS) {
            item(out, one);
        }
        out.push_str("</ul>");
        out.push_str(&rest(section.items.len().saturating_sub(MAX_ITEMS) + section.omitted, "object"));
        out.push_str("</div>");
    } else if section.unanswered.is_none() {
        out.push_str("<p class=\"note\">No objects.</p>");
    }
    out.push_str("</details>");
}

fn item(out: &mut String, item: &Item) {
    let _ = write!(out, "<li data-item><p class=\"place\">{}", code(&item.object));
    if let Some(path) = &item.path {
        let _ = write!(out, " at {}", code(path));
    }
    let _ = write!(out, "</p><div class=\"body\"><p class=\"message\">{}</p>", text(&item.message));
    if let Some(help) = &item.help {
        let _ = write!(out, "<p class=\"help\"><b>help</b> {}</p>", text(help));
    }
    out.push_str("</div></li>");
}

/// Returns the sentence about what is left out.
pub(super) fn rest(omitted: usize, noun: &str) -> String {
    if omitted == 0 {
        return String::new();
    }
    format!(
        "<p class=\"note\">{} left out. <code>portcullis audit --output json</code> lists more.</p>",
        plural(omitted, &format!("more {noun}"))
    )
}
