//! A command that is run to its end.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use super::server::portcullis;

/// What came of it.
pub(crate) struct Done {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// Runs the binary in the folder of the project.
pub(crate) fn run(arguments: &[&str], input: &str) -> Done {
    finish(portcullis().args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")), input)
}

/// Runs a command with this on its standard input.
pub(crate) fn finish(command: &mut Command, input: &str) -> Done {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // A command that does not read its input may be gone before it is written.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    Done {
        code: output.status.code().unwrap(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Runs Git in a folder, without the settings of the user.
///
/// # Panics
///
/// If Git fails, or is not installed.
pub(crate) fn git(folder: &Path, arguments: &[&str]) {
    let mut command = Command::new("git");
    for (name, value) in [("GIT_CONFIG_GLOBAL", "/dev/null"), ("GIT_CONFIG_SYSTEM", "/dev/null")] {
        command.env(name, value);
    }
    for role in ["AUTHOR", "COMMITTER"] {
        command.env(format!("GIT_{role}_NAME"), "ada").env(format!("GIT_{role}_EMAIL"), "ada@example.com");
    }
    let done = finish(command.args(arguments).current_dir(folder), "");
    assert_eq!(done.code, 0, "git {arguments:?}: {}", done.err);
}
