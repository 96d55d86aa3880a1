//! The contracts, broken ones first.

use std::fmt::Write as _;

use super::lists::{MAX_ITEMS, rest};
use super::markup::{code, escape, number, text};
use crate::audit::Report;
use crate::contract::{ContractState, Verdict};

/// Returns the number of contracts that do not hold.
pub(super) fn open(report: &Report) -> usize {
    report.summary.contracts.broken + report.summary.contracts.undecided
}

/// Returns the contracts with their filters. The filters appear with JavaScript only.
pub(super) fn contracts(report: &Report) -> String {
    if report.contracts.is_empty() {
        return "<p class=\"lead\">No contract was found.</p>".to_owned();
    }
    let mut out = String::from(
        "<p class=\"lead\">Which pods must, or must never, reach which others, proved for the pods that each contract \
         covers.</p><div class=\"list\" data-list=\"50\" data-noun=\"contracts\">\
         <form class=\"filters\" role=\"search\" aria-label=\"Filter the contracts\" hidden>\
         <fieldset class=\"switch\"><legend class=\"unseen\">Results</legend>",
    );
    let counts = &report.summary.contracts;
    for (result, count) in
        [(Verdict::Broken, counts.broken), (Verdict::Undecided, counts.undecided), (Verdict::Holds, counts.hold)]
    {
        let (name, count) = (result.name(), number(count));
        let _ = write!(
            out,
            "<label><input type=\"checkbox\" name=\"action\" value=\"{name}\" checked><span>{name} {count}</span></label>"
        );
    }
    out.push_str(
        "</fieldset><label class=\"field\">Text <input type=\"search\" name=\"text\" autocomplete=\"off\" \
         spellcheck=\"false\"></label><button type=\"reset\">Clear</button></form><ol class=\"contracts\">",
    );
    for state in report.contracts.iter().take(MAX_ITEMS) {
        contract(&mut out, state);
    }
    out.push_str("</ol>");
    out.push_str(&rest(report.contracts.len().saturating_sub(MAX_ITEMS), "contract"));
    out.push_str("</div>");
    out
}

fn contract(out: &mut String, state: &ContractState) {
    let result = state.result.name();
    let _ = write!(
        out,
        "<li data-item data-action=\"{result}\"><p class=\"head\"><span class=\"badge {result}\">{result}</span> {}</p>\
         <div class=\"body\"><p class=\"message\">{}</p>",
        code(&state.name),
        escape(&state.statement),
    );
    let detail =
        state.detail.iter().map(|detail| (if state.result == Verdict::Broken { "found" } else { "why" }, detail));
    let because = state.because.iter().map(|because| ("because", because));
    let notes = state.notes.iter().map(|note| ("note", note));
    let about = [("reason", &state.reason), ("owner", &state.owner)].into_iter().filter(|(_, text)| !text.is_empty());
    for (word, line) in detail.chain(because).chain(notes).chain(about) {
        let _ = write!(out, "<p class=\"help\"><b>{word}</b> {}</p>", text(line));
    }
    out.push_str("</div></li>");
}
