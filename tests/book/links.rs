//! Relative links and their anchors, and the table of contents.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use crate::page::{Page, pages, root};

/// Every page whose links are checked.
fn checked() -> Vec<Page> {
    let mut checked: Vec<Page> =
        ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "policies/README.md"].map(Page::read).into();
    checked.extend(pages("docs"));
    checked.extend(pages("deploy").into_iter().filter(|page| page.path.ends_with("README.md")));
    checked
}

/// Resolves `.` and `..`, without following symbolic links.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(normal.pop()),
            Component::CurDir => {}
            part => normal.push(part),
        }
    }
    normal
}

/// Returns the problem of a link on a page.
fn problem(page: &Page, link: &str) -> Option<String> {
    if link.contains("://") || link.starts_with("mailto:") {
        return None;
    }
    let (file, anchor) = link.split_once('#').map_or((link, None), |(file, anchor)| (file, Some(anchor)));
    let target = if file.is_empty() { page.path.clone() } else { normal(&page.path.parent().unwrap().join(file)) };
    if !root().join(&target).exists() {
        return Some(format!("{} does not exist", target.display()));
    }
    let anchor = anchor?;
    if target.extension().is_none_or(|extension| extension != "md") {
        return Some(format!("{} has no anchors", target.display()));
    }
    let anchors = Page::read(&target).anchors();
    (!anchors.contains(anchor)).then(|| format!("{} has no heading `{anchor}`", target.display()))
}

#[test]
fn every_relative_link_and_anchor_resolves() {
    let mut broken = Vec::new();
    let mut count = 0;
    for page in checked() {
        for link in page.links() {
            count += 1;
            if let Some(problem) = problem(&page, &link) {
                broken.push(format!("{}: {link}: {problem}", page.path.display()));
            }
        }
    }
    assert!(count > 100, "only {count} links were found");
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn a_broken_link_and_a_broken_anchor_are_found() {
    let page = Page { path: "docs/rules/page.md".into(), text: String::new() };
    for (link, expected) in [
        ("https://example.com/gone#x", None),
        ("../architecture.md#modules", None),
        ("../../README.md", None),
        ("gone.md", Some("docs/rules/gone.md does not exist")),
        ("../architecture.md#gone", Some("docs/architecture.md has no heading `gone`")),
        ("../../deploy/alerts/portcullis.rules#x", Some("deploy/alerts/portcullis.rules has no anchors")),
    ] {
        assert_eq!(problem(&page, link).as_deref(), expected, "{link}");
    }
}

#[test]
fn the_summary_lists_every_page_once() {
    let summary = Page::read("docs/SUMMARY.md");
    let links: Vec<PathBuf> = summary.links().iter().map(|link| Path::new("docs").join(link)).collect();
    let listed: BTreeSet<&PathBuf> = links.iter().collect();
    assert_eq!(listed.len(), links.len(), "docs/SUMMARY.md lists a page twice");
    let missing: Vec<PathBuf> = pages("docs")
        .into_iter()
        .map(|page| page.path)
        .filter(|path| *path != summary.path && !path.starts_with("docs/examples"))
        .filter(|path| !listed.contains(path))
        .collect();
    assert!(missing.is_empty(), "docs/SUMMARY.md does not list {missing:?}");
}
