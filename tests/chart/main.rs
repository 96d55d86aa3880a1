//! `deploy/chart`: what helm renders from it, and a release of it from its installation to its end.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on says so by a panic"
)]

mod documentation;
mod kustomize;
mod release;
mod values;

#[path = "../support/mod.rs"]
mod support;

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use portcullis::yaml;
use serde_json::Value;
use support::command::{Done, finish};

/// The chart, below the root of the repository.
const CHART: &str = "deploy/chart";

/// `helm`, with folders of its own.
struct Helm {
    home: tempfile::TempDir,
}

impl Helm {
    /// Returns None without `helm`, which is said in a line that the test harness does not capture.
    fn find() -> Option<Self> {
        match Command::new("helm").arg("version").output() {
            // A shim of a version manager starts and fails.
            Ok(output) if !output.status.success() => {
                skipped("helm does not start");
                None
            }
            Ok(_) => Some(Self { home: tempfile::Builder::new().prefix("portcullis-helm-").tempdir().unwrap() }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                skipped("there is no helm");
                None
            }
            Err(error) => panic!("helm: {error}"),
        }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("helm");
        command.args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")).env_remove("KUBECONFIG");
        for folder in ["CACHE", "CONFIG", "DATA"] {
            command.env(format!("HELM_{folder}_HOME"), self.home.path().join(folder));
        }
        command
    }

    fn run(&self, arguments: &[&str]) -> Done {
        finish(&mut self.command(arguments), "")
    }

    /// Renders the release `portcullis`.
    fn template(&self, namespace: &str, arguments: &[&str]) -> String {
        self.template_release("portcullis", namespace, arguments)
    }

    /// Renders a release.
    fn template_release(&self, release: &str, namespace: &str, arguments: &[&str]) -> String {
        let done = self.run(&[&["template", release, CHART, "--namespace", namespace], arguments].concat());
        assert_eq!(done.code, 0, "{release} {arguments:?}: {}", done.err);
        done.out
    }
}

/// Writes a line that the test harness does not capture.
fn skipped(why: &str) {
    let _ = writeln!(io::stderr(), "SKIPPED: {why}");
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn objects(text: &str) -> Vec<Value> {
    yaml::read(text).unwrap().into_iter().map(|document| document.value).filter(|value| !value.is_null()).collect()
}

/// The files of values, without the defaults.
fn value_files() -> Vec<String> {
    let folder = Path::new(CHART).join("ci");
    let mut files: Vec<String> = fs::read_dir(root().join(&folder))
        .unwrap()
        .map(|entry| folder.join(entry.unwrap().file_name()).to_str().unwrap().to_owned())
        .collect();
    files.sort_unstable();
    assert!(files.len() >= 6, "{files:?}");
    files
}
