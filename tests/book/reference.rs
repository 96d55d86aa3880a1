//! The parts of reference pages that are written from the program.

use std::collections::BTreeMap;
use std::process::Command;

use portcullis::yaml;

use crate::exposed;
use crate::page::{Page, exclusive, root};

/// Compares the part of a page between two comments with a text, or rewrites it with `UPDATE_DOCS=1`.
fn compare(path: &str, fresh: &str) {
    const BEGIN: &str = "<!-- begin: written by `UPDATE_DOCS=1 cargo test --test book` -->\n";
    const END: &str = "<!-- end -->\n";
    let _guard = exclusive();
    let mut page = Page::read(path);
    let begin = page.text.find(BEGIN).unwrap_or_else(|| panic!("{path} has no line {BEGIN}")) + BEGIN.len();
    let end = page.text.find(END).unwrap_or_else(|| panic!("{path} has no line {END}"));
    let fresh = format!("\n{}\n\n", fresh.trim());
    if page.text[begin..end] == fresh {
        return;
    }
    assert!(
        std::env::var_os("UPDATE_DOCS").is_some(),
        "{path} is stale; rewrite it with: UPDATE_DOCS=1 cargo test --test book"
    );
    page.text.replace_range(begin..end, &fresh);
    page.write();
}

fn help(command: &[&str]) -> String {
    let mut help = Command::new(env!("CARGO_BIN_EXE_portcullis"));
    // Variables would show as values of the options.
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("PORTCULLIS_")) {
        help.env_remove(name);
    }
    let output = help.env_remove("COLUMNS").args(command).arg("--help").output().unwrap();
    assert!(output.status.success(), "{command:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The names in the list of commands of a help text. Further lines of a description are indented more.
fn commands(help: &str) -> Vec<&str> {
    let list = help.split_once("\nCommands:\n").map_or("", |(_, list)| list);
    let list = list.split_once("\n\n").map_or(list, |(list, _)| list);
    let rows = list.lines().filter_map(|line| line.strip_prefix("  ").filter(|row| !row.starts_with(' ')));
    rows.filter_map(|row| row.split(' ').next()).collect()
}

/// The section of a command, then those of its commands.
fn sections(command: &[&str]) -> String {
    let help = help(command);
    let lines: Vec<&str> = help.lines().map(str::trim_end).collect();
    let mut text = format!(
        "## portcullis{}{}\n\n```text\n{}\n```\n\n",
        if command.is_empty() { "" } else { " " },
        command.join(" "),
        lines.join("\n").trim_end()
    );
    for name in commands(&help) {
        text.push_str(&sections(&[command, &[name]].concat()));
    }
    text
}

#[test]
fn the_page_of_commands_has_the_help_of_every_command() {
    let sections = sections(&[]);
    for command in ["portcullis serve", "portcullis hatch open", "portcullis completions"] {
        assert!(sections.contains(&format!("## {command}\n")), "{command}");
    }
    compare("docs/reference/cli.md", &sections);
}

/// The names of the labels of a sample.
fn labels(sample: &str) -> String {
    let labels = sample.split_once('{').and_then(|(_, rest)| rest.rsplit_once('}')).map_or("", |(labels, _)| labels);
    let names = labels.split("\",").filter_map(|label| label.split_once('=')).map(|(name, _)| name);
    let names: Vec<String> = names.filter(|name| *name != "le").map(|name| format!("`{name}`")).collect();
    names.join(", ")
}

#[test]
fn the_page_of_metrics_has_every_metric() {
    let text = exposed::text();
    let mut rows = BTreeMap::new();
    let mut help = "";
    let (mut name, mut kind) = ("", "");
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = rest.split_once(' ').unwrap().1.trim_end_matches('.');
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            (name, kind) = rest.split_once(' ').unwrap();
        } else {
            rows.entry(name).or_insert_with(|| format!("| `{name}` | {kind} | {} | {help} |\n", labels(line)));
        }
    }
    let mut registered = 0;
    for file in std::fs::read_dir(root().join("src/telemetry")).unwrap() {
        let source = std::fs::read_to_string(file.unwrap().path()).unwrap();
        let calls = source.matches(".register(").count() + source.matches(".register_with_unit(").count();
        // The metrics of one area, which are registered in their own file.
        registered += calls - source.matches(".register(&mut registry)").count();
    }
    assert_eq!(rows.len(), registered, "{rows:#?}");
    let table: String = rows.into_values().collect();
    compare("docs/reference/metrics.md", &format!("| metric | type | labels | meaning |\n|---|---|---|---|\n{table}"));
}

#[test]
fn the_page_of_the_configuration_names_every_field() {
    let shipped = std::fs::read_to_string(root().join("policies/portcullis.yaml")).unwrap();
    let shipped = yaml::read_each(&shipped).remove(0).unwrap().value;
    let page = Page::read("docs/reference/configuration.md").text;
    for field in shipped.as_object().unwrap().keys() {
        assert!(page.contains(&format!("`{field}`")), "docs/reference/configuration.md does not name `{field}`");
    }
}
