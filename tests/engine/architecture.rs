//! The code keeps to the tables of `docs/architecture.md`.

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

/// A file in `src` as a module: `rules/shared/bypass.rs` is `[rules, shared, bypass]`.
fn module_path(file: &Path) -> Vec<String> {
    let mut path: Vec<String> = file.with_extension("").iter().map(|part| part.to_str().unwrap().to_owned()).collect();
    path.pop_if(|last| last == "mod");
    path
}

/// Every path in the code that starts with `crate`, `super` or `self`, with the braces of `use` written out.
fn paths(code: &str) -> Vec<Vec<String>> {
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    let mut found = Vec::new();
    for root in ["crate::", "super::", "self::"] {
        for (at, _) in code.match_indices(root) {
            if !code[..at].ends_with(|c: char| is_name(c) || c == ':' || c == '$') {
                use_tree(&mut code[at..].trim_start(), &[], &mut found);
            }
        }
    }
    found
}

/// Reads one path, or one tree of paths in braces, from the start of the code.
fn use_tree(code: &mut &str, before: &[String], found: &mut Vec<Vec<String>>) {
    if let Some(rest) = code.strip_prefix('{') {
        *code = rest.trim_start();
        while !code.is_empty() && !code.starts_with('}') {
            let left = code.len();
            use_tree(code, before, found);
            *code = code[code.find([',', '}']).unwrap_or(code.len())..].trim_start_matches(',').trim_start();
            assert!(code.len() < left, "an import that this test cannot read");
        }
        *code = code.strip_prefix('}').unwrap_or(code);
        return;
    }
    let name: String = code.chars().take_while(|c| c.is_alphanumeric() || matches!(c, '_' | '*')).collect();
    *code = code[name.len()..].trim_start();
    let path = [before, &[name]].concat();
    match code.strip_prefix("::") {
        Some(rest) => {
            *code = rest.trim_start();
            use_tree(code, &path, found);
        }
        None => found.push(path),
    }
}

/// The module that a path in a file leads to: the longest part of it that is a file or a folder.
fn target(from: &[String], path: &[String], files: &BTreeSet<Vec<String>>) -> Vec<String> {
    let mut target = from.to_vec();
    for name in path {
        match name.as_str() {
            "crate" => target.clear(),
            "super" => drop(target.pop()),
            "self" => {}
            name => {
                target.push(name.to_owned());
                if !files.contains(&target) {
                    target.pop();
                    break;
                }
            }
        }
    }
    target
}

/// The imports between the direct parts of each module, files or folders. An import from a parent or a child is left out:
/// a `mod.rs` declares its parts and exports what they define.
fn imports_of_siblings() -> BTreeMap<Vec<String>, BTreeSet<(String, String)>> {
    let modules = modules();
    let codes: Vec<(Vec<String>, &String)> =
        modules.values().flatten().map(|(file, code)| (module_path(file), code)).collect();
    let files: BTreeSet<Vec<String>> = codes.iter().map(|(path, _)| path.clone()).collect();
    let mut imports: BTreeMap<Vec<String>, BTreeSet<(String, String)>> = BTreeMap::new();
    for (from, code) in &codes {
        for path in paths(code) {
            let to = target(from, &path, &files);
            let same = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
            if let (Some(one), Some(other)) = (from.get(same), to.get(same)) {
                imports.entry(from[..same].to_vec()).or_default().insert((one.clone(), other.clone()));
            }
        }
    }
    imports
}

/// The parts that a part imports, directly or through others.
fn reached<'a>(from: &'a str, imports: &'a BTreeSet<(String, String)>) -> BTreeSet<&'a str> {
    let (mut reached, mut left) = (BTreeSet::new(), vec![from]);
    while let Some(from) = left.pop() {
        let next = imports.iter().filter(|(importer, _)| importer == from).map(|(_, imported)| imported.as_str());
        left.extend(next.filter(|next| reached.insert(*next)));
    }
    reached
}

/// The circles that are left. Remove a line as soon as its circle is mended; do not add one.
const CIRCLES: &[(&str, &[&str])] = &[
    // A rule adds findings, and a finding names its rule.
    ("rules::rule", &["definition", "findings"]),
];

#[test]
fn parts_of_a_module_do_not_import_each_other_in_a_circle() {
    let mut circles: BTreeSet<(String, Vec<String>)> = BTreeSet::new();
    for (module, imports) in imports_of_siblings() {
        for (part, _) in &imports {
            let circle: Vec<String> = reached(part, &imports)
                .into_iter()
                .filter(|other| reached(other, &imports).contains(part.as_str()))
                .map(str::to_owned)
                .collect();
            if !circle.is_empty() {
                circles.insert((module.join("::"), circle));
            }
        }
    }
    let known: BTreeSet<(String, Vec<String>)> = CIRCLES
        .iter()
        .map(|(module, parts)| ((*module).to_owned(), parts.iter().map(|part| (*part).to_owned()).collect()))
        .collect();
    let new: Vec<_> = circles.difference(&known).collect();
    assert!(new.is_empty(), "import circles: {new:#?}");
    let mended: Vec<_> = known.difference(&circles).collect();
    assert!(mended.is_empty(), "no longer circles; remove them from CIRCLES: {mended:#?}");
}

#[test]
fn the_imports_of_a_file_are_found() {
    let code =
        "use super::{a, b::{C, self}};\nuse crate::x::y::{\n    Z,\n    w::*,\n};\nfn f() { super::super::g::h(1) }";
    let found: BTreeSet<String> = paths(code).iter().map(|path| path.join("::")).collect();
    let expected =
        ["super::a", "super::b::C", "super::b::self", "crate::x::y::Z", "crate::x::y::w::*", "super::super::g::h"];
    assert_eq!(found, expected.map(str::to_owned).into());
    let own = |path: &str| path.split("::").map(str::to_owned).collect::<Vec<_>>();
    let files: BTreeSet<Vec<String>> = ["x", "x::y", "x::y::w", "x::a"].map(own).into();
    assert_eq!(target(&own("x::y"), &own("super::a"), &files), own("x::a"));
    assert_eq!(target(&own("x::a"), &own("crate::x::y::w::Type"), &files), own("x::y::w"));
    assert_eq!(target(&own("x::y::w"), &own("super::super::Type"), &files), own("x"));
    let imports = [("a", "b"), ("b", "c"), ("c", "b")].map(|(a, b)| (a.to_owned(), b.to_owned())).into();
    assert_eq!(reached("a", &imports), ["b", "c"].into());
    assert!(!reached("b", &imports).contains("a"));
}

/// The modules that decide. They have neither a cluster nor a runtime.
const PURE: [&str; 10] =
    ["audit", "baseline", "dialect", "engine", "model", "preview", "proposal", "rules", "trace", "view"];

#[test]
fn modules_that_decide_need_no_cluster_and_no_runtime() {
    let modules = modules();
    for module in PURE {
        for (file, code) in &modules[module] {
            for package in ["kube::", "k8s_openapi::", "tokio::", "tokio_util::", "hyper::"] {
                assert!(!code.contains(package), "{} uses {package}", file.display());
            }
        }
    }
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
                // Of whole names: `String::` does not use ring.
                if files.iter().any(|(_, code)| !mentions(code, &format!("{package}::")).is_empty()) {
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
    let rules = root().join("src/rules");
    let mut expected: BTreeSet<String> = ["mod", "rule", "shared"].map(str::to_owned).into();
    expected.extend(portcullis::rules::RULES.iter().map(|rule| rule.name.replace('-', "_")));
    let found: BTreeSet<String> = std::fs::read_dir(&rules)
        .unwrap()
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    assert_eq!(found, expected, "src/rules has one file or folder for each rule, and `rule` and `shared`");
    for dialect in portcullis::dialect::DIALECTS {
        let folder = root().join(format!("src/dialect/{}", dialect.name()));
        assert!(folder.is_dir(), "{}", folder.display());
    }
}
