//! Runs Git for commands that compare with a revision.

use std::io::ErrorKind;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

/// Runs Git in a folder and returns its output. `option` is the option of the command that needs it, for messages.
pub(super) fn git(option: &str, folder: &Path, arguments: &[&str]) -> Result<Vec<u8>> {
    let done = match Command::new("git").arg("-C").arg(folder).args(arguments).output() {
        Ok(done) => done,
        Err(error) if error.kind() == ErrorKind::NotFound => bail!("{option} needs `git`, which is not installed"),
        Err(error) => return Err(error).context("cannot run `git`"),
    };
    if !done.status.success() {
        bail!("{}", String::from_utf8_lossy(&done.stderr).trim());
    }
    Ok(done.stdout)
}
