//! The action for GitHub and the hooks for pre-commit: what they run.

use std::path::Path;
use std::process::Command;

use crate::support::command::{Done, finish, git};
use crate::support::server::portcullis;
use portcullis::yaml;
use serde_json::Value;

fn yaml(name: &str) -> Value {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap();
    let mut documents = yaml::read_each(&text);
    documents.remove(0).unwrap_or_else(|error| panic!("{name}:{}: {}", error.line, error.problem)).value
}

/// Runs the script of the action with these inputs and the defaults of the others.
fn act(folder: &Path, inputs: &[(&str, &str)]) -> Done {
    let action = yaml("action.yml");
    let step = action["runs"]["steps"].as_array().unwrap().last().unwrap();
    // GitHub runs `shell: bash` with these options.
    let mut command = Command::new("bash");
    command.args(["--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"].as_str().unwrap()]).current_dir(folder);
    for (variable, value) in step["env"].as_object().unwrap() {
        let input = value.as_str().unwrap().strip_prefix("${{ inputs.").unwrap().strip_suffix(" }}").unwrap();
        let given = inputs.iter().find(|(name, _)| *name == input).map(|(_, value)| *value);
        command.env(variable, given.unwrap_or_else(|| action["inputs"][input]["default"].as_str().unwrap()));
    }
    let binary = Path::new(portcullis().get_program()).parent().unwrap().to_owned();
    let path = std::env::var("PATH").unwrap();
    finish(command.env("PATH", format!("{}:{path}", binary.display())), "")
}

#[test]
fn the_action_runs_check_and_keeps_its_exit_status() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/kubernetes");
    let done = act(&folder, &[("paths", "default-deny-egress.yaml\nallow-dns-egress.yaml\n")]);
    assert_eq!(done.code, 1, "{}", done.err);
    assert!(done.out.starts_with("::error file=default-deny-egress.yaml,line=6,title=dns-blocked"), "{}", done.out);
    assert_eq!(act(&folder, &[("paths", "allow-dns-egress.yaml")]).code, 0);
    let preset = [("paths", "default-deny-egress.yaml"), ("arguments", "--preset\nwarn"), ("output", "json")];
    assert_eq!(act(&folder, &preset).code, 0);

    let target = tempfile::tempdir().unwrap();
    let file = target.path().join("report $(touch pwned).sarif");
    let inputs = [("paths", "default-deny-egress.yaml"), ("output", "sarif"), ("output-file", file.to_str().unwrap())];
    let done = act(&folder, &inputs);
    assert_eq!((done.code, done.out.as_str()), (1, ""));
    let log: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    assert_eq!(log["version"], "2.1.0");
    // A path is never an option.
    let done = act(&folder, &[("paths", "--help")]);
    assert_eq!(done.code, 2);
    assert!(done.err.contains("--help: No such file"), "{}", done.err);
}

#[test]
fn the_hooks_run_check() {
    let hooks = yaml(".pre-commit-hooks.yaml");
    let folder = tempfile::tempdir().unwrap();
    git(folder.path(), &["init", "--quiet"]);
    git(folder.path(), &["commit", "--quiet", "--allow-empty", "--message", "first"]);
    for hook in hooks.as_array().unwrap() {
        let entry = hook["entry"].as_str().unwrap().split(' ');
        let words: Vec<&str> = entry.chain(hook["args"].as_array().unwrap().iter().filter_map(Value::as_str)).collect();
        assert_eq!((words[0], &hook["pass_filenames"]), ("portcullis", &Value::Bool(false)));
        let denied = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/kubernetes/default-deny-egress.yaml");
        let copy = folder.path().join("policy.yaml");
        std::fs::copy(denied, &copy).unwrap();
        let run = || finish(portcullis().args(&words[1..]).current_dir(folder.path()), "").code;
        assert_eq!(run(), 1, "{words:?}");
        std::fs::remove_file(copy).unwrap();
        assert_eq!(run(), 0, "{words:?}");
    }
}
