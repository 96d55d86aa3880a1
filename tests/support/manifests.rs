//! The manifests of `tests/corpus` and `tests/cases`, and the commands that judge them.

use std::path::{Path, PathBuf};
use std::process::Command;

fn folder(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests").join(name)
}

fn check(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
    command.current_dir(folder).args(["check", "--output", "json"]);
    command
}

/// The rows of `expected.tsv` in a folder, without comments.
pub(crate) fn rows(name: &str) -> Vec<Vec<String>> {
    let expected = std::fs::read_to_string(folder(name).join("expected.tsv")).unwrap();
    let rows = expected.lines().filter(|row| !row.starts_with('#'));
    rows.map(|row| row.split('\t').map(str::to_owned).collect()).collect()
}

/// `portcullis check` of a manifest of the corpus, with other manifests as its context.
pub(crate) fn check_corpus(manifest: &str, context: &str) -> Command {
    let mut command = check(&folder("corpus"));
    command.args(["--config", "portcullis.yaml"]);
    for context in context.split_whitespace() {
        command.args(["--context", context]);
    }
    command.arg(manifest);
    command
}

/// `portcullis check` of a case. A folder may contain the state of the cluster and the configuration.
pub(crate) fn check_case(path: &Path) -> Command {
    let folder = folder("cases");
    let mut command = check(&folder);
    let given = |option: &str, file: &str| {
        let file = path.join(file);
        folder.join(&file).exists().then(|| [PathBuf::from(option), file]).into_iter().flatten()
    };
    let (config, context) = (given("--config", "portcullis.yaml"), given("--context", "context.yaml"));
    let policy = Some(path.join("policy.yaml")).filter(|file| folder.join(file).exists());
    let has_options =
        folder.join(path).join("portcullis.yaml").exists() || folder.join(path).join("context.yaml").exists();
    command.args(config).args(context).arg(policy.filter(|_| has_options).as_deref().unwrap_or(path));
    command
}
