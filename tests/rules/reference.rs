//! The reference of the rules, `docs/rules/`, is what the rules say of themselves.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use portcullis::rules::RULES;

/// Every page of the reference, by the name of its file.
fn pages() -> BTreeMap<String, String> {
    let note = "<!-- Written from src/rules by `UPDATE_DOCS=1 cargo test --test rules reference`. Do not edit. -->\n\n";
    let mut index = format!(
        "{note}# Rules\n\nA rule's name says the bad thing: \"allow `any-port`\" reads right. The mode is what ships; \
         `policies/portcullis.yaml`\nsays how to change it.\n\n| rule | mode | it fires when |\n|---|---|---|\n"
    );
    let mut pages = BTreeMap::new();
    for rule in RULES {
        let (name, mode) = (rule.name, rule.mode.name());
        index.push_str(&format!("| [`{name}`]({name}.md) | {mode} | {} |\n", rule.summary()));
        pages.insert(format!("{name}.md"), format!("{note}{}\n", rule.page().trim_end()));
    }
    pages.insert("README.md".to_owned(), index);
    pages
}

#[test]
fn the_reference_is_what_the_rules_say() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/rules");
    let pages = pages();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::create_dir_all(&folder).unwrap();
        for entry in fs::read_dir(&folder).unwrap() {
            fs::remove_file(entry.unwrap().path()).unwrap();
        }
        for (name, text) in &pages {
            fs::write(folder.join(name), text).unwrap();
        }
    }
    let there: BTreeMap<String, String> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            (path.file_name().unwrap().to_string_lossy().into_owned(), fs::read_to_string(&path).unwrap())
        })
        .collect();
    let stale: Vec<&String> =
        pages.keys().chain(there.keys()).filter(|name| pages.get(*name) != there.get(*name)).collect();
    assert!(
        stale.is_empty(),
        "docs/rules is stale: {stale:?}\nwrite it anew with: UPDATE_DOCS=1 cargo test --test rules reference"
    );
}

#[test]
fn the_readme_lists_every_rule_in_order() {
    let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let listed: Vec<&str> = readme.lines().filter(|line| line.contains("](docs/rules/")).collect();
    let starts: Vec<String> = RULES
        .iter()
        .map(|rule| format!("| [`{0}`](docs/rules/{0}.md) | {1} | ", rule.name, rule.mode.name()))
        .collect();
    assert_eq!(listed.len(), starts.len(), "{listed:#?}");
    for (line, start) in listed.iter().zip(&starts) {
        assert!(line.starts_with(start), "{line}");
    }
}

#[test]
fn every_page_says_what_the_rule_looks_at_in_each_dialect() {
    for (name, page) in pages().into_iter().filter(|(name, _)| name != "README.md") {
        let (_, looks) = page.split_once("## What it checks").unwrap();
        let (looks, _) = looks.split_once("## Fires").unwrap();
        let silent = ["dns-udp-only.md", "invalid-profile.md"];
        for dialect in ["NetworkPolicy", "Cilium", "Calico", "ClusterNetworkPolicy"] {
            assert!(silent.contains(&&*name) || looks.contains(dialect), "{name} does not say of {dialect}");
        }
    }
}
