//! Each page of `docs/dialects/` is held to its dialect: to what it reads, and to the names in its wire structs.
//!
//! Whether a field is known is seen in two ways: a manifest with it is read and has no fault that it is unknown; or a value
//! of the wrong type there is an error at its place, since what is not known is never looked into. The second way needs no
//! manifest that means something. Rows under `metadata` are no fields of the dialect, and are only read.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use portcullis::dialect::{self, DIALECTS, Manifest, Origin};
use portcullis::model::FaultKind;
use portcullis::yaml;
use serde_json::{Map, Value, json};

const HEADER: &str = "| field | supported | effect |";

/// A page.
struct Page {
    name: String,
    /// Each `apiVersion Kind` that it names; those of its dialect where it names none.
    kinds: Vec<(String, String)>,
    rows: Vec<Row>,
    /// Manifests in it that are read without a fault.
    examples: Vec<Value>,
}

/// A field in the table of a page.
struct Row {
    text: String,
    path: Vec<Part>,
    /// The kinds that have it, where it says so.
    only: Vec<String>,
}

/// A step of a path with what follows it: `[]`, `{}`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Part {
    name: String,
    containers: Vec<Container>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Container {
    List,
    Map,
}

/// Whether a kind has a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Known,
    Unknown,
    /// Nothing can be read with it, for another reason.
    Open,
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn pages() -> Vec<Page> {
    let mut files: Vec<PathBuf> =
        fs::read_dir(root().join("docs/dialects")).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "md") && !file.ends_with("README.md"));
    files.sort();
    assert!(!files.is_empty());
    files.iter().map(|file| page(file)).collect()
}

fn page(file: &Path) -> Page {
    let name = file.file_stem().unwrap().to_str().unwrap().to_owned();
    let text = fs::read_to_string(file).unwrap();
    let line = text.lines().skip_while(|line| !line.starts_with("Kinds:")).take_while(|line| !line.trim().is_empty());
    let line: String = line.collect::<Vec<_>>().join(" ").replace('`', "");
    let named = line.trim_start_matches("Kinds:").trim().trim_end_matches('.').split(',').map(str::trim);
    let mut kinds: Vec<(String, String)> = named
        .filter(|kind| !kind.is_empty())
        .map(|kind| kind.split_once(' ').unwrap_or_else(|| panic!("{name}: Kinds: {kind}")))
        .map(|(version, kind)| (version.to_owned(), kind.trim().to_owned()))
        .collect();
    if kinds.is_empty() {
        kinds = kinds_of(&name);
    }
    let rows = text.lines().skip_while(|line| line.trim() != HEADER).skip(2).take_while(|line| line.starts_with('|'));
    let rows: Vec<Row> = rows.flat_map(|line| row(&name, line, &kinds)).collect();
    assert!(!rows.is_empty(), "{name}: no table with the header {HEADER}");
    let examples = text.split("```yaml\n").skip(1).filter_map(|block| block.split("```").next());
    let examples = examples.filter_map(|block| yaml::read(block).ok()).flatten().map(|document| document.value);
    let is_sound = |value: &Value| {
        let text = |field: &str| value[field].as_str().unwrap_or_default().to_owned();
        read(&text("apiVersion"), &text("kind"), value)
            .is_ok_and(|unknown| unknown.is_some_and(|unknown| unknown.is_empty()))
    };
    Page { examples: examples.filter(is_sound).collect(), name, kinds, rows }
}

/// Each `apiVersion Kind` of a dialect.
fn kinds_of(name: &str) -> Vec<(String, String)> {
    let dialect = DIALECTS.iter().find(|dialect| dialect.name() == name);
    let dialect = dialect.unwrap_or_else(|| panic!("docs/dialects/{name}.md: there is no such dialect"));
    let mut kinds = Vec::new();
    for kind in dialect.kinds() {
        kinds.extend(kind.versions.iter().map(|version| (format!("{}/{version}", kind.group), kind.kind.to_owned())));
    }
    kinds
}

/// The fields of a line of a table.
fn row(page: &str, line: &str, kinds: &[(String, String)]) -> Vec<Row> {
    let line = line.replace("\\|", "\u{0}");
    let cells: Vec<&str> = line.trim().trim_matches('|').split('|').map(str::trim).collect();
    let [field, supported, effect] = cells[..] else { panic!("{page}: {line}: not three columns") };
    assert!(
        ["yes", "partly", "no"].contains(&supported),
        "{page}: {line}: `{supported}` is none of yes, partly and no"
    );
    assert!(!effect.is_empty(), "{page}: {line}: no effect");
    let outside: String = field.split('`').step_by(2).collect();
    let words: BTreeSet<&str> = outside.split(|char: char| !char.is_alphanumeric()).collect();
    let only: BTreeSet<&String> =
        kinds.iter().map(|(_, kind)| kind).filter(|kind| words.contains(kind.as_str())).collect();
    let fields: Vec<&str> = field.split('`').skip(1).step_by(2).collect();
    assert!(!fields.is_empty(), "{page}: {line}: no path in backticks");
    fields
        .into_iter()
        .map(|text| Row {
            text: text.to_owned(),
            path: path(text),
            only: only.iter().map(|kind| (*kind).clone()).collect(),
        })
        .collect()
}

/// A path such as `spec.ingress[].from[].matchLabels{}`. A key with dots in it stands in `["…"]`.
fn path(text: &str) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix("[]") {
            parts.last_mut().unwrap().containers.push(Container::List);
            rest = after;
        } else if let Some(after) = rest.strip_prefix("{}") {
            parts.last_mut().unwrap().containers.push(Container::Map);
            rest = after;
        } else if let Some((key, after)) = rest.strip_prefix("[\"").and_then(|rest| rest.split_once("\"]")) {
            parts.push(Part { name: key.to_owned(), containers: Vec::new() });
            rest = after;
        } else {
            rest = rest.strip_prefix('.').unwrap_or(rest);
            let end = rest.find(['.', '[', '{']).unwrap_or(rest.len());
            assert!(end > 0, "`{text}` is not a path");
            parts.push(Part { name: rest[..end].to_owned(), containers: Vec::new() });
            rest = &rest[end..];
        }
    }
    parts
}

/// The places of fields that the dialect does not know; none where no dialect reads the kind.
fn read(api_version: &str, kind: &str, value: &Value) -> Result<Option<Vec<String>>, dialect::ReadError> {
    let json = value.to_string();
    let manifest = Manifest::read(api_version, kind, &json, Origin::Author).unwrap();
    Ok(dialect::read(&manifest)?.map(|object| {
        let faults = object.faults.iter().filter(|fault| fault.kind == FaultKind::UnknownField);
        faults.map(|fault| fault.path.to_string()).collect()
    }))
}

/// Puts a value into a manifest. What is missing on the way is made; of a list, the item is taken that has most of the way.
/// Returns the place of the field itself.
fn put(within: &mut Value, path: &[Part], value: &Value) -> String {
    let (part, rest) = path.split_first().unwrap();
    let object = fields(within);
    let field = object.entry(part.name.clone()).or_insert(Value::Null);
    let below = put_below(field, &part.containers, rest, value);
    if rest.is_empty() { part.name.clone() } else { format!("{}{below}", part.name) }
}

fn put_below(slot: &mut Value, containers: &[Container], rest: &[Part], value: &Value) -> String {
    match containers.split_first() {
        Some((Container::List, inner)) => {
            if !slot.is_array() {
                *slot = json!([]);
            }
            let items = slot.as_array_mut().unwrap();
            if items.is_empty() {
                items.push(Value::Null);
            }
            let depths = items.iter().map(|item| depth(item, inner, rest));
            // The first of the deepest.
            let (at, _) = depths.enumerate().reduce(|best, next| if next.1 > best.1 { next } else { best }).unwrap();
            format!("[{at}]{}", put_below(&mut items[at], inner, rest, value))
        }
        Some((Container::Map, inner)) => {
            let item = fields(slot).entry("some-key").or_insert(Value::Null);
            format!(".some-key{}", put_below(item, inner, rest, value))
        }
        None if rest.is_empty() => {
            *slot = value.clone();
            String::new()
        }
        None => format!(".{}", put(slot, rest, value)),
    }
}

/// How much of a way there is.
fn depth(value: &Value, containers: &[Container], rest: &[Part]) -> usize {
    match (containers.split_first(), rest.split_first()) {
        (Some((Container::List, inner)), _) => {
            let items = value.as_array().map(Vec::as_slice).unwrap_or_default();
            items.iter().map(|item| 1 + depth(item, inner, rest)).max().unwrap_or_default()
        }
        (Some((Container::Map, _)), _) | (None, None) => 0,
        (None, Some((part, rest))) => value.get(&part.name).map_or(0, |field| 1 + depth(field, &part.containers, rest)),
    }
}

fn fields(value: &mut Value) -> &mut Map<String, Value> {
    if !value.is_object() {
        *value = json!({});
    }
    value.as_object_mut().unwrap()
}

/// Whether a kind has this field.
fn verdict(page: &Page, (api_version, kind): &(String, String), path: &[Part]) -> Verdict {
    let mut bases: Vec<Value> = page
        .examples
        .iter()
        .filter(|example| example["apiVersion"] == api_version.as_str() && example["kind"] == kind.as_str())
        .cloned()
        .collect();
    bases.push(json!({"metadata": {"name": "some-name", "namespace": "some-namespace"}, (path[0].name.clone()): null}));
    let values = [json!(null), json!({}), json!([]), json!("some text"), json!(5), json!(true)];
    let mut found = Verdict::Open;
    for (base, value) in bases.iter().flat_map(|base| values.iter().map(move |value| (base, value))) {
        let mut manifest = base.clone();
        let place = put(&mut manifest, path, value);
        match read(api_version, kind, &manifest) {
            Ok(None) => panic!("{}: no dialect reads {api_version} {kind}", page.name),
            Ok(Some(unknown)) if unknown.iter().any(|other| is_within(&place, other)) => return Verdict::Unknown,
            Ok(Some(_)) => found = Verdict::Known,
            Err(error) if error.problem.starts_with("unknown field of ") && error.path.to_string() == place => {
                return Verdict::Unknown;
            }
            Err(error) if is_about_type(&error.problem) && is_within(&error.path.to_string(), &place) => {
                found = Verdict::Known;
            }
            Err(_) => {}
        }
    }
    found
}

/// Whether a place is another, or is in it.
fn is_within(place: &str, other: &str) -> bool {
    place.strip_prefix(other).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

fn is_about_type(problem: &str) -> bool {
    problem.contains("; expected ")
}

#[test]
fn pages_name_the_kinds_of_their_dialects() {
    for page in pages() {
        let kinds: BTreeSet<(String, String)> = kinds_of(&page.name).into_iter().collect();
        assert_eq!(page.kinds.into_iter().collect::<BTreeSet<_>>(), kinds, "{}", page.name);
    }
}

#[test]
fn every_row_is_a_field_that_is_known() {
    let mut wrong = Vec::new();
    for page in pages() {
        let tells_kinds_apart = page.rows.iter().any(|row| !row.only.is_empty());
        for row in &page.rows {
            let verdicts: Vec<(&str, Verdict)> =
                page.kinds.iter().map(|kind| (kind.1.as_str(), verdict(&page, kind, &row.path))).collect();
            if !tells_kinds_apart {
                if verdicts.iter().all(|(_, verdict)| *verdict == Verdict::Unknown) {
                    wrong.push(format!("{}: no kind has `{}`", page.name, row.text));
                }
                continue;
            }
            for (kind, verdict) in verdicts {
                let is_named = row.only.is_empty() || row.only.iter().any(|only| only == kind);
                match verdict {
                    Verdict::Unknown if is_named => wrong.push(format!("{}: {kind} has no `{}`", page.name, row.text)),
                    Verdict::Known if !is_named => wrong.push(format!("{}: {kind} has `{}` too", page.name, row.text)),
                    _ => {}
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_field_that_is_off_by_a_letter_is_not_known() {
    let mut wrong = Vec::new();
    for page in pages() {
        let names: BTreeSet<&str> = page.rows.iter().flat_map(|row| &row.path).map(|part| part.name.as_str()).collect();
        let mut seen = 0;
        for row in page.rows.iter().filter(|row| row.path.len() > 1 && row.path[0].name != "metadata") {
            let mut path = row.path.clone();
            let last = &mut path.last_mut().unwrap().name;
            let letter = ["q", "z"].into_iter().find(|letter| {
                let other = format!("{}{letter}", &last[..last.len() - 1]);
                other != *last && !names.contains(other.as_str())
            });
            last.replace_range(last.len() - 1.., letter.unwrap());
            let verdicts: Vec<Verdict> = page.kinds.iter().map(|kind| verdict(&page, kind, &path)).collect();
            let (all, last) = (page.examples.len(), &path.last().unwrap().name);
            if verdicts.contains(&Verdict::Known) {
                wrong.push(format!("{}: `{}` passes with the name `{last}`", page.name, row.text));
            } else if verdicts.contains(&Verdict::Unknown) {
                seen += 1;
            } else if all > 0 {
                wrong.push(format!("{}: no example can be read with `{last}` for `{}`", page.name, row.text));
            }
        }
        assert!(seen > 0, "{}: nothing was seen to be unknown", page.name);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_table_and_the_wire_structs_have_the_same_names() {
    let mut wrong = Vec::new();
    for page in pages() {
        let wire = wire_names(&page.name);
        // A dialect may leave kinds to another one.
        let others = DIALECTS.iter().map(|dialect| dialect.name()).filter(|other| is_used_by(other, &page.name));
        let borrowed: BTreeSet<String> = others.flat_map(|other| wire_names(other).into_keys()).collect();
        let in_table: BTreeSet<&str> =
            page.rows.iter().flat_map(|row| &row.path).map(|part| part.name.as_str()).collect();
        for (name, structs) in &wire {
            if !in_table.contains(name.as_str()) {
                wrong.push(format!("{}: `{name}` of {} has no row", page.name, structs.join(", ")));
            }
        }
        for row in &page.rows {
            let (first, last) = (&row.path[0].name, &row.path.last().unwrap().name);
            // What is directly in the manifest, and metadata, every kind has.
            let is_own = row.path.len() > 1 && first != "metadata";
            if is_own && !wire.contains_key(last) && !borrowed.contains(last) {
                wrong.push(format!("{}: no wire struct has the `{last}` of `{}`", page.name, row.text));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_dialect_with_wire_structs_has_a_page_and_a_line_in_the_readme() {
    let readme = fs::read_to_string(root().join("docs/dialects/README.md")).unwrap();
    let pages: BTreeSet<String> = pages().into_iter().map(|page| page.name).collect();
    let mut with_wire = BTreeSet::new();
    for dialect in DIALECTS.iter().map(|dialect| dialect.name()).filter(|dialect| !wire_files(dialect).is_empty()) {
        assert!(readme.contains(&format!("({dialect}.md)")), "{dialect} is not in the README");
        with_wire.insert(dialect.to_owned());
    }
    assert_eq!(pages, with_wire);
}

/// The files of a dialect, each with whether it has wire structs: it is named so, or in a folder named so.
fn files(dialect: &str) -> Vec<(PathBuf, bool)> {
    fn below(folder: &Path, is_wire: bool, files: &mut Vec<(PathBuf, bool)>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let is_wire = is_wire || path.file_stem().unwrap() == "wire";
            if path.is_dir() { below(&path, is_wire, files) } else { files.push((path, is_wire)) }
        }
    }
    let mut files = Vec::new();
    below(&root().join("src/dialect").join(dialect), false, &mut files);
    files
}

fn wire_files(dialect: &str) -> Vec<PathBuf> {
    files(dialect).into_iter().filter_map(|(file, is_wire)| is_wire.then_some(file)).collect()
}

/// Whether the source of a dialect names another one with wire structs.
fn is_used_by(other: &str, dialect: &str) -> bool {
    let name = format!("crate::dialect::{other}::");
    let mut sources = files(dialect).into_iter().map(|(file, _)| fs::read_to_string(file).unwrap());
    other != dialect && !wire_files(other).is_empty() && sources.any(|source| source.contains(&name))
}

/// Every name of a field in the wire structs of a dialect, with the structs that have it.
fn wire_names(dialect: &str) -> BTreeMap<String, Vec<String>> {
    let files = wire_files(dialect);
    let mut texts: Vec<String> = files.iter().map(|file| fs::read_to_string(file).unwrap()).collect();
    // Wire structs that dialects share.
    for shared in ["label_selector"] {
        if texts.iter().any(|text| text.contains(&format!("crate::dialect::{shared}::"))) {
            texts.push(fs::read_to_string(root().join("src/dialect").join(format!("{shared}.rs"))).unwrap());
        }
    }
    let mut names: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for text in texts {
        for (name, field) in struct_fields(text.split("#[cfg(test)]").next().unwrap()) {
            names.entry(field).or_default().push(name);
        }
    }
    assert!(!names.is_empty(), "{dialect}: no wire structs");
    names
}

/// The fields of each struct that derives `Deserialize`, as they are called in JSON. The source is as rustfmt writes it.
fn struct_fields(source: &str) -> Vec<(String, String)> {
    let mut fields = Vec::new();
    let mut attributes = String::new();
    // The struct, and how its fields are renamed.
    let mut open: Option<(String, Option<String>)> = None;
    let mut lines = source.lines().map(str::trim).filter(|line| !line.starts_with("//"));
    while let Some(line) = lines.next() {
        if line.starts_with("#[") {
            attributes.push_str(line);
            while !attributes.ends_with(']') {
                attributes.push_str(lines.next().unwrap());
            }
            continue;
        }
        let item = line.strip_prefix("pub").map_or(line, |rest| rest.split_once(' ').unwrap().1);
        if let Some((name, all)) = &open {
            if let Some((field, _)) = item.split_once(": ") {
                if !attributes.contains("flatten") && !attributes.contains("skip") {
                    let field = field.trim_start_matches("r#");
                    let field = value_of(&attributes, "rename").unwrap_or_else(|| renamed(field, all.as_deref()));
                    fields.push((name.clone(), field));
                }
            } else if line == "}" {
                open = None;
            }
        } else if let Some(name) = item.strip_prefix("struct ").filter(|item| item.ends_with('{')) {
            let name = name.split(|char: char| !char.is_alphanumeric()).next().unwrap().to_owned();
            let derives = attributes.split("derive(").nth(1).and_then(|derives| derives.split(')').next());
            if derives.is_some_and(|derives| derives.contains("Deserialize")) {
                open = Some((name, value_of(&attributes, "rename_all")));
            }
        }
        attributes.clear();
    }
    fields
}

/// The text that an attribute gives to a key.
fn value_of(attributes: &str, key: &str) -> Option<String> {
    let (_, value) = attributes.split_once(&format!("{key} = \""))?;
    value.split('"').next().map(str::to_owned)
}

fn renamed(field: &str, all: Option<&str>) -> String {
    let words = field.split('_');
    let capital = |word: &str| word[..1].to_uppercase() + &word[1..];
    match all {
        None | Some("snake_case") => field.to_owned(),
        Some("camelCase") => {
            words.enumerate().map(|(at, word)| if at == 0 { word.to_owned() } else { capital(word) }).collect()
        }
        Some("PascalCase") => words.map(capital).collect(),
        Some("kebab-case") => field.replace('_', "-"),
        Some("lowercase") => field.to_owned(),
        Some(other) => panic!("rename_all = {other}"),
    }
}

#[test]
fn names_of_fields_are_found_in_the_source() {
    let source = r#"
        /// A struct: one.
        #[derive(Debug, Default, Deserialize)]
        #[serde(rename_all = "camelCase", default)]
        pub(super) struct One<'a> {
            #[serde(deserialize_with = "optional")]
            pub(super) pod_selector: Option<LabelSelector>,
            #[serde(rename = "toFQDNs", deserialize_with = "objects")]
            to_fqdns: Option<Vec<Fqdn>>,
            // A comment: not a field.
            pub(super) r#type: Option<i64>,
            #[serde(
                rename = "fromCIDR",
                deserialize_with = "values"
            )]
            from_cidr: Option<&'a str>,
        }

        #[derive(Debug)]
        struct Two {
            three: u8,
        }
    "#;
    let names: Vec<String> = struct_fields(source).into_iter().map(|(_, field)| field).collect();
    assert_eq!(names, ["podSelector", "toFQDNs", "type", "fromCIDR"]);
}

#[test]
fn a_value_goes_where_most_of_the_way_is() {
    let mut value = json!({"a": [{"b": 1}, {"c": {"d": 1}}]});
    assert_eq!(put(&mut value, &path("a[].c.e[]"), &json!(null)), "a[1].c.e");
    assert_eq!(value, json!({"a": [{"b": 1}, {"c": {"d": 1, "e": [null]}}]}));
    let mut value = json!({});
    assert_eq!(put(&mut value, &path("a[].labels{}"), &json!(5)), "a[0].labels");
    assert_eq!(value, json!({"a": [{"labels": {"some-key": 5}}]}));
    assert_eq!(path(r#"a["b.c/d"].e"#).iter().map(|part| part.name.as_str()).collect::<Vec<_>>(), ["a", "b.c/d", "e"]);
}
