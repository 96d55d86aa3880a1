//! The command blocks of the book.
//!
//! | info of the fence | the commands run |
//! |---|---|
//! | `console` | here, in the root of the repository |
//! | `console,git` | here, in a Git repository: `docs/examples/pull-request/before` is the branch `main`, and `after` is committed on it |
//! | `console,cluster` | not here: they need a cluster, or change the machine |

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

use crate::page::{exclusive, pages, root};

/// The commands that need no cluster.
const OFFLINE: [&str; 10] =
    ["check", "config", "contracts", "diff", "init", "review", "rules", "test", "trace", "webhooks"];

/// Runs a line in a shell, with `portcullis` in the path and without settings of the user. The output and the errors
/// are in the order in which they were written.
fn shell(line: &str, folder: &Path) -> Output {
    let binary = Path::new(env!("CARGO_BIN_EXE_portcullis")).parent().unwrap();
    let path = std::env::var("PATH").unwrap_or_default();
    let mut command = Command::new("sh");
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("PORTCULLIS_") || name.to_string_lossy().starts_with("GIT_") {
            command.env_remove(name);
        }
    }
    for name in ["GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM"] {
        command.env(name, "/dev/null");
    }
    for role in ["AUTHOR", "COMMITTER"] {
        command.env(format!("GIT_{role}_NAME"), "ada").env(format!("GIT_{role}_EMAIL"), "ada@example.com");
    }
    command
        .env_remove("COLUMNS")
        .env("PATH", format!("{}:{path}", binary.display()))
        .args(["-c", &format!("exec 2>&1; {line}")])
        .current_dir(folder)
        .output()
        .unwrap()
}

/// The repository of `console,git`.
fn repository() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let examples = root().join("docs/examples/pull-request");
    let commit = "git add --all && git commit --quiet --message change";
    for line in [
        "git init --quiet --initial-branch=main".to_owned(),
        format!("cp -R '{}'/. . && {commit}", examples.join("before").display()),
        "git switch --quiet --create change".to_owned(),
        format!("cp -R '{}'/. . && {commit}", examples.join("after").display()),
    ] {
        let output = shell(&line, folder.path());
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stdout));
    }
    folder
}

/// The output of each command, by folder. A page and its translation show the same commands.
type Outputs = HashMap<(PathBuf, String), String>;

/// The content of a block with the output that its commands have now.
fn rerun(content: &str, folder: &Path, outputs: &mut Outputs) -> Result<String, String> {
    let mut fresh = String::new();
    for line in content.lines().filter_map(|line| line.strip_prefix("$ ")) {
        let command = line.strip_prefix("portcullis ").and_then(|rest| rest.split(' ').next());
        if !command.is_some_and(|command| OFFLINE.contains(&command)) {
            return Err(format!("`{line}` cannot run without a cluster; mark the block as console,cluster"));
        }
        let output = outputs
            .entry((folder.to_owned(), line.to_owned()))
            .or_insert_with(|| String::from_utf8(shell(line, folder).stdout).unwrap());
        fresh.push_str(&format!("$ {line}\n{output}"));
        if !fresh.ends_with('\n') {
            fresh.push('\n');
        }
    }
    if fresh.is_empty() { Err("the block has no line that starts with `$ `".to_owned()) } else { Ok(fresh) }
}

#[test]
fn commands_print_what_their_pages_show() {
    let update = std::env::var_os("UPDATE_DOCS").is_some();
    let repository = repository();
    let mut outputs = Outputs::new();
    let mut stale = Vec::new();
    let mut count = 0;
    let _guard = exclusive();
    for mut page in pages("docs") {
        let mut is_stale = false;
        // From the end, so that the ranges of earlier blocks stay valid.
        for fence in page.fences().into_iter().rev() {
            let folder = match fence.info.as_str() {
                "console" => root(),
                "console,git" => repository.path(),
                "console,cluster" => continue,
                info if info.starts_with("console") => panic!("{}: unknown fence `{info}`", page.path.display()),
                _ => continue,
            };
            count += 1;
            let shown = page.text[fence.range.clone()].to_owned();
            let fresh = rerun(&shown, folder, &mut outputs)
                .unwrap_or_else(|problem| panic!("{}: {problem}", page.path.display()));
            if fresh != shown {
                stale.push(format!("{}, expected:\n{fresh}", page.path.display()));
                page.text.replace_range(fence.range, &fresh);
                is_stale = true;
            }
        }
        if update && is_stale {
            page.write();
        }
    }
    assert!(count > 10, "only {count} blocks were run");
    assert!(
        update || stale.is_empty(),
        "{}\nrewrite the pages with: UPDATE_DOCS=1 cargo test --test book",
        stale.join("\n")
    );
}

#[test]
fn a_command_for_a_cluster_has_to_be_marked() {
    let problem = rerun("$ portcullis hatch list\n", root(), &mut Outputs::new()).unwrap_err();
    assert!(problem.contains("console,cluster"), "{problem}");
    assert!(rerun("nothing\n", root(), &mut Outputs::new()).is_err());
}

/// A typing error in the fence would keep a block from being run.
#[test]
fn a_block_with_a_prompt_is_a_console_block() {
    for page in pages("docs") {
        for fence in page.fences() {
            let shows_prompt = page.text[fence.range.clone()].starts_with("$ ");
            assert!(
                !shows_prompt || fence.info.starts_with("console"),
                "{}: a block of commands is marked `{}`",
                page.path.display(),
                fence.info
            );
        }
    }
}

/// `docs/examples/pull-request` is used as a whole.
#[test]
fn every_example_is_used() {
    let text: String = pages("docs").iter().map(|page| page.text.as_str()).collect();
    let mut count = 0;
    for folder in fs::read_dir(root().join("docs/examples")).unwrap().map(|entry| entry.unwrap().path()) {
        for file in fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_file()) {
            let name = file.strip_prefix(root().join("docs")).unwrap().display().to_string();
            assert!(text.contains(&name), "no page uses docs/{name}");
            count += 1;
        }
    }
    assert!(count > 10, "only {count} examples were found");
}
