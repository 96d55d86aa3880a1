//! Golden files of the texts of findings: one file per rule in `tests/texts`, one section per source of inputs.
//!
//! `UPDATE_GOLDEN=1` rewrites the sections of the tests that run. A section that several tests share is complete after a
//! run of all of them.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::golden::is_update;
use portcullis::engine::Judgement;

/// The first characters of the heading of a section.
pub(crate) const SECTION: &str = "=== ";
/// The first characters of the name of an input.
const INPUT: &str = "--- ";

/// The texts that one source of inputs provokes.
#[derive(Debug)]
pub(crate) struct Texts {
    source: String,
    by_rule: RefCell<BTreeMap<String, String>>,
}

/// One finding, in the words that a user reads.
#[derive(Debug)]
pub(crate) struct Text<'a> {
    pub(crate) rule: &'a str,
    pub(crate) action: &'a str,
    pub(crate) path: &'a str,
    pub(crate) message: &'a str,
    pub(crate) closest: Option<&'a str>,
    pub(crate) help: &'a str,
}

impl Texts {
    /// The texts of this source: the name of a test file, and a name within it.
    pub(crate) fn of(file: &str, name: &str) -> Self {
        Self { source: format!("{file}: {name}"), by_rule: RefCell::default() }
    }

    /// Records the finding of an input.
    pub(crate) fn add(&self, input: &str, text: &Text<'_>) {
        let mut by_rule = self.by_rule.borrow_mut();
        let section = by_rule.entry(text.rule.to_owned()).or_default();
        write!(section, "\n{}", block(input, text)).unwrap();
    }

    /// Records the findings of an input.
    pub(crate) fn add_all<'a>(&self, input: &str, judgements: impl IntoIterator<Item = &'a Judgement>) {
        each(judgements, |text| self.add(input, text));
    }

    /// Compares the recorded texts with the section of this source in every golden file.
    ///
    /// # Panics
    /// Panics with both texts if they differ.
    #[track_caller]
    pub(crate) fn compare(self) {
        let _held = lock();
        let found = self.by_rule.into_inner();
        let rules: BTreeSet<String> = stored().into_iter().chain(found.keys().cloned()).collect();
        let mut wrong = Vec::new();
        for rule in rules {
            let (mut sections, texts) = (read(&rule), found.get(&rule).cloned().unwrap_or_default());
            let expected = sections.get(&self.source).cloned().unwrap_or_default();
            if expected.trim() == texts.trim() {
                continue;
            }
            if is_update() {
                sections.insert(self.source.clone(), texts);
                write(&rule, sections);
            } else {
                wrong.push(format!("{rule}: expected\n{expected}\nfound\n{texts}"));
            }
        }
        assert!(wrong.is_empty(), "{}: UPDATE_GOLDEN=1 writes these texts\n{}", self.source, wrong.join("\n"));
    }
}

/// Checks that the section of this source holds the texts of an input. Several tests may share the section.
///
/// # Panics
/// Panics with a text that the section does not hold.
#[track_caller]
pub(crate) fn check<'a>(file: &str, name: &str, input: &str, judgements: impl IntoIterator<Item = &'a Judgement>) {
    let (source, mut updated) = (format!("{file}: {name}"), lock());
    each(judgements, |text| {
        let (mut sections, block) = (read(text.rule), block(input, text));
        let section = sections.entry(source.clone()).or_default();
        let mut blocks: BTreeSet<String> =
            section.split("\n\n").map(|block| format!("{}\n", block.trim())).filter(|block| block.len() > 1).collect();
        if is_update() {
            if updated.insert((text.rule.to_owned(), source.clone())) {
                blocks.clear();
            }
            blocks.insert(block);
            *section = blocks.into_iter().collect::<Vec<_>>().join("\n");
            write(text.rule, sections);
        } else {
            assert!(blocks.contains(&block), "{}, {source}: UPDATE_GOLDEN=1 writes this text\n{block}", text.rule);
        }
    });
}

/// Locks the files, which the tests of one binary share. The value is the sections that were updated.
fn lock() -> MutexGuard<'static, BTreeSet<(String, String)>> {
    static UPDATED: Mutex<BTreeSet<(String, String)>> = Mutex::new(BTreeSet::new());
    UPDATED.lock().unwrap_or_else(PoisonError::into_inner)
}

fn each<'a>(judgements: impl IntoIterator<Item = &'a Judgement>, mut with: impl FnMut(&Text<'_>)) {
    for Judgement { finding, action, .. } in judgements {
        let (path, closest) = (finding.path.to_string(), finding.closest.as_deref());
        let (rule, message, help) = (finding.rule, &finding.message, &finding.help);
        with(&Text { rule, action: action.name(), path: &path, message, closest, help });
    }
}

/// A finding as a golden file shows it.
fn block(input: &str, text: &Text<'_>) -> String {
    /// Maximum length of the name of an input, in characters.
    const MAX_NAME: usize = 400;
    let Text { rule, action, path, message, closest, help } = text;
    let input: String = input.trim().chars().map(|c| if c == '\n' { ' ' } else { c }).take(MAX_NAME).collect();
    let mut block = format!("{INPUT}{input}\n{action}[{rule}]: {message}\n");
    if !path.is_empty() {
        writeln!(block, "  at {path}").unwrap();
    }
    if let Some(closest) = closest {
        writeln!(block, "  closest: {closest}").unwrap();
    }
    writeln!(block, "  help: {help}").unwrap();
    block
}

/// The specs of these objects, the last one first, as the name of an input.
pub(crate) fn named(yaml: &[impl AsRef<str>]) -> String {
    let named = |yaml: &str| {
        let line = |field: &str| yaml.lines().find_map(|line| line.strip_prefix(field));
        let spec = line("spec: ").or_else(|| line("metadata: ")).unwrap_or("…");
        line("kind: ").map_or_else(|| yaml.to_owned(), |kind| format!("{kind} {spec}"))
    };
    yaml.iter().rev().map(|yaml| named(yaml.as_ref())).collect::<Vec<_>>().join(", with ")
}

/// Removes a section from the golden file of a rule.
pub(crate) fn remove(rule: &str, source: &str) {
    let mut sections = read(rule);
    sections.remove(source);
    write(rule, sections);
}

/// The folder of the golden files.
pub(crate) fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/texts")
}

/// The rules with a golden file.
pub(crate) fn stored() -> BTreeSet<String> {
    let Ok(files) = std::fs::read_dir(folder()) else { return BTreeSet::new() };
    let names = files.map(|file| file.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned());
    names.collect()
}

/// The sections of a golden file, by their sources.
pub(crate) fn read(rule: &str) -> BTreeMap<String, String> {
    let text = std::fs::read_to_string(folder().join(format!("{rule}.txt"))).unwrap_or_default();
    let mut sections: BTreeMap<String, String> = BTreeMap::new();
    let mut source = String::new();
    for line in text.lines() {
        match line.strip_prefix(SECTION) {
            Some(heading) => source = heading.to_owned(),
            None => writeln!(sections.entry(source.clone()).or_default(), "{line}").unwrap(),
        }
    }
    sections
}

fn write(rule: &str, mut sections: BTreeMap<String, String>) {
    let file = folder().join(format!("{rule}.txt"));
    sections.retain(|_, texts| !texts.trim().is_empty());
    if sections.is_empty() {
        std::fs::remove_file(file).unwrap();
        return;
    }
    let sections: Vec<String> =
        sections.iter().map(|(source, texts)| format!("{SECTION}{source}\n\n{}\n", texts.trim())).collect();
    std::fs::create_dir_all(folder()).unwrap();
    std::fs::write(file, sections.join("\n")).unwrap();
}
