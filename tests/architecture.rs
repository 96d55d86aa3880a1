//! The code keeps to the tables of `docs/architecture.md`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on says so by a panic"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The rows of a table: names in the first column, names in the last.
fn table(heading: &str) -> Vec<(Vec<String>, Vec<String>)> {
    let text = std::fs::read_to_string(root().join("docs/architecture.md")).unwrap();
    let names = |cell: &str| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
    let rows = text.split(heading).nth(1).unwrap().lines().skip_while(|line| !line.starts_with("|---"));
    rows.skip(1)
        .take_while(|line| line.starts_with('|'))
        .map(|line| {
            let cells: Vec<&str> = line.trim_matches('|').split('|').collect();
            (names(cells[0]), names(cells[cells.len() - 1]))
        })
        .collect()
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

/// The code of each module, without its tests and its comments.
fn modules() -> BTreeMap<String, Vec<(PathBuf, String)>> {
    let src = root().join("src");
    let mut modules: BTreeMap<String, Vec<(PathBuf, String)>> = BTreeMap::new();
    for file in rust_files(&src) {
        let inner = file.strip_prefix(&src).unwrap().to_owned();
        let first = inner.components().next().unwrap().as_os_str().to_str().unwrap();
        let module = first.trim_end_matches(".rs").to_owned();
        let text = std::fs::read_to_string(&file).unwrap();
        let code = text.split("#[cfg(test)]\nmod tests").next().unwrap();
        let code: Vec<&str> = code.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
        modules.entry(module).or_default().push((inner, code.join("\n")));
    }
    modules
}

/// Every `prefix::name` in the code.
fn mentions(code: &str, prefix: &str) -> BTreeSet<String> {
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(prefix)
        .filter(|(at, _)| !code[..*at].ends_with(|c: char| is_name(c) || c == ':' || c == '$'))
        .map(|(at, _)| code[at + prefix.len()..].chars().take_while(|c| is_name(*c)).collect())
        .collect()
}

#[test]
fn modules_import_only_what_the_table_allows() {
    let allowed: BTreeMap<String, Vec<String>> =
        table("## Modules").into_iter().map(|(module, imports)| (module[0].clone(), imports)).collect();
    let mut wrong = Vec::new();
    let mut used: BTreeSet<(String, String)> = BTreeSet::new();
    for (module, files) in modules() {
        if module == "main" || module == "lib" {
            continue;
        }
        let allowed = allowed.get(&module).unwrap_or_else(|| panic!("{module} is not in the table"));
        for (file, code) in files {
            for import in mentions(&code, "crate::").into_iter().filter(|import| *import != module) {
                used.insert((module.clone(), import.clone()));
                if !allowed.contains(&import) {
                    wrong.push(format!("{}: {module} may not import {import}", file.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    for (module, imports) in allowed {
        for import in imports {
            assert!(
                used.contains(&(module.clone(), import.clone())),
                "{module} does not import {import}: the table is stale"
            );
        }
    }
}

#[test]
fn packages_are_used_only_where_the_table_says() {
    let modules = modules();
    for (packages, places) in table("And of other people's packages") {
        for package in packages {
            let mut users = BTreeSet::new();
            for (module, files) in &modules {
                if files.iter().any(|(_, code)| code.contains(&format!("{package}::"))) {
                    users.insert(module.clone());
                }
            }
            let extra: Vec<&String> = users.iter().filter(|user| !places.contains(user) && *user != "main").collect();
            assert!(extra.is_empty(), "{package} is used in {extra:?}, and only {places:?} may");
            assert!(!users.is_empty(), "{package} is used nowhere: the table is stale");
        }
    }
}

#[test]
fn main_imports_only_the_command_line() {
    let main = std::fs::read_to_string(root().join("src/main.rs")).unwrap();
    assert_eq!(mentions(&main, "portcullis::"), BTreeSet::from(["cli".to_owned()]));
}

#[test]
fn every_rule_is_the_file_of_its_name_and_every_dialect_its_folder() {
    for rule in portcullis::rules::RULES {
        let file = root().join(format!("src/rules/{}.rs", rule.name.replace('-', "_")));
        assert!(file.exists(), "{}", file.display());
    }
    for dialect in portcullis::dialect::DIALECTS {
        let folder = root().join(format!("src/dialect/{}", dialect.name()));
        assert!(folder.is_dir(), "{}", folder.display());
    }
}
