//! The HTML output of `portcullis audit`: one page that loads nothing and sends nothing.
//!
//! Headline, contracts, findings and checks are HTML, so they can be read without JavaScript. The scripts add filters, the matrix
//! and the graph. They put text into the page as text nodes only, as [`markup`] does here by escaping.

mod contracts;
mod coverage;
mod data;
mod lists;
mod markup;

use std::io::Write;

use anyhow::{Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::digest;

use crate::audit::{Report, Unread};
use markup::{number, text};

const TEMPLATE: &str = include_str!("../page/page.html");
const STYLE: &str = include_str!("../page/style.css");
const LOGO: &str = include_str!("../page/logo.svg");
/// The files share one scope: they become one module, because an inline module cannot import another one.
const SCRIPTS: [&str; 7] = [
    include_str!("../page/dom.js"),
    include_str!("../page/theme.js"),
    include_str!("../page/lists.js"),
    include_str!("../page/levels.js"),
    include_str!("../page/detail.js"),
    include_str!("../page/matrix.js"),
    include_str!("../page/graph.js"),
];

/// Writes the page.
///
/// # Errors
///
/// Fails if the output cannot be written.
pub(super) fn write(out: &mut impl Write, report: &Report) -> Result<()> {
    let script = SCRIPTS.concat();
    let mut parts = TEMPLATE.split("{{");
    out.write_all(parts.next().unwrap_or_default().as_bytes())?;
    for part in parts {
        let Some((name, literal)) = part.split_once("}}") else { bail!("unclosed placeholder in the template") };
        let value = match name {
            "style" => STYLE.to_owned(),
            "content-policy" => content_policy(&script),
            "icon" => STANDARD.encode(LOGO),
            "logo" => LOGO.trim_end().to_owned(),
            "script" => script.clone(),
            "data" => data::json(report)?,
            "finding-count" => number(report.findings.len() + report.omitted_findings),
            "check-count" => number(report.sections.iter().filter(|section| lists::is_open(section)).count()),
            "version" => env!("CARGO_PKG_VERSION").to_owned(),
            "unread" => unread(report),
            "headline" => coverage::headline(report),
            "namespaces" => coverage::namespaces(report),
            "contract-count" => number(contracts::open(report)),
            "contracts" => contracts::contracts(report),
            "findings" => lists::findings(report),
            "checks" => lists::checks(report),
            "assumed" => assumed(report),
            _ => bail!("unknown placeholder `{name}` in the template"),
        };
        out.write_all(value.as_bytes())?;
        out.write_all(literal.as_bytes())?;
    }
    Ok(())
}

/// Returns the Content-Security-Policy: the page loads nothing, runs its own style and script only, and its script cannot
/// turn text into markup.
fn content_policy(script: &str) -> String {
    let (style, script) = (sha256(STYLE), sha256(script));
    format!(
        "default-src 'none'; style-src 'sha256-{style}'; script-src 'sha256-{script}'; img-src data:; \
         base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
    )
}

/// Returns the hash of an inline style or script as a Content-Security-Policy names it.
fn sha256(content: &str) -> String {
    STANDARD.encode(digest::digest(&digest::SHA256, content.as_bytes()))
}

/// What could not be read comes first: every number of the page leaves it out.
fn unread(report: &Report) -> String {
    let plugin = report.plugin.iter().flat_map(|plugin| &plugin.unread).map(|what| format!("<li>{}</li>", text(what)));
    let item = |unread: &Unread| format!("<li><b>{}</b> {}</li>", text(&unread.kind), text(&unread.why));
    let items = report.unread.iter().map(item);
    let items: String = items.chain(plugin).collect();
    if items.is_empty() {
        return String::new();
    }
    format!(
        "<aside class=\"alert\" aria-labelledby=\"unread-title\"><h2 id=\"unread-title\">This audit is incomplete</h2>\
         <p>These could not be read. Every number below leaves them out.</p><ul>{items}</ul></aside>"
    )
}

fn assumed(report: &Report) -> String {
    if report.assumed.is_empty() {
        return String::new();
    }
    let items: String = report.assumed.iter().map(|sentence| format!("<li>{}</li>", text(sentence))).collect();
    format!(
        "<section id=\"assumed\" aria-labelledby=\"assumed-title\"><h2 id=\"assumed-title\">Assumptions</h2>\
         <ul class=\"plain\">{items}</ul></section>"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_placeholder_is_filled() {
        let mut page = Vec::new();
        write(&mut page, &Report::default()).unwrap();
        let page = String::from_utf8(page).unwrap();
        assert!(page.starts_with("<!doctype html>") && page.ends_with("</html>\n"));
        assert!(!page.contains("{{"));
    }
}
