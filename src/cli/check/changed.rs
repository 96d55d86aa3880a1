//! The files that changed since a Git revision.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::cli::git::git;

/// The option that this is for.
const OPTION: &str = "--changed-since";

/// The files of one or more Git repositories that are the same as in a revision.
#[derive(Debug, Default)]
pub(super) struct Unchanged {
    /// With symbolic links resolved.
    files: HashSet<PathBuf>,
}

impl Unchanged {
    /// Compares the repositories of these files with their last common commit with a revision. A file that Git does not
    /// track counts as changed, also if Git ignores it.
    ///
    /// # Errors
    /// Fails if `git` is missing, if a file is in no repository, or if a repository does not know the revision.
    pub(super) fn since<'a>(revision: &str, files: impl Iterator<Item = &'a Path>) -> Result<Self> {
        let mut roots: BTreeMap<PathBuf, Option<PathBuf>> = BTreeMap::new();
        for file in files {
            let folder = folder_of(file)?;
            let root = roots.entry(folder).or_insert_with_key(|folder| root_of(folder));
            if root.is_none() {
                bail!("--changed-since needs files in a Git repository; {} is in none", file.display());
            }
        }
        let roots: BTreeSet<PathBuf> = roots.into_values().flatten().collect();
        let mut unchanged = Self::default();
        for root in roots {
            unchanged.files.extend(unchanged_in(&root, revision)?);
        }
        Ok(unchanged)
    }

    /// Returns true if a file is unchanged. A symbolic link changes with the file that it leads to.
    pub(super) fn contains(&self, file: &Path) -> bool {
        if self.files.is_empty() {
            return false;
        }
        let link = folder_of(file).ok().zip(file.file_name()).map(|(folder, name)| folder.join(name));
        let target = fs::canonicalize(file).ok();
        link.zip(target).is_some_and(|(link, target)| self.files.contains(&link) && self.files.contains(&target))
    }
}

/// Returns the folder of a file, with symbolic links resolved.
fn folder_of(file: &Path) -> Result<PathBuf> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::canonicalize(folder).with_context(|| folder.display().to_string())
}

/// Returns the root of the repository or worktree that a folder is in.
fn root_of(folder: &Path) -> Option<PathBuf> {
    folder.ancestors().find(|folder| folder.join(".git").exists()).map(Path::to_owned)
}

/// Returns the tracked files below the root of a repository that are the same as in the last common commit of HEAD and
/// a revision.
fn unchanged_in(root: &Path, revision: &str) -> Result<HashSet<PathBuf>> {
    let commit = commit(root, revision)?;
    let diff = ["diff", "--name-only", "-z", "--no-renames", "--no-ext-diff", "--no-relative", "--merge-base", &commit];
    let changed = git(OPTION, root, &diff).with_context(|| {
        format!("`{revision}` has no common commit with HEAD in {}; a shallow clone may lack it", root.display())
    })?;
    let tracked = git(OPTION, root, &["ls-files", "-z"])?;
    let mut files: HashSet<PathBuf> = paths(root, &tracked).collect();
    for file in paths(root, &changed) {
        files.remove(&file);
    }
    Ok(files)
}

/// Returns the commit of a revision.
fn commit(root: &Path, revision: &str) -> Result<String> {
    let commit = format!("{revision}^{{commit}}");
    let unknown = || {
        format!(
            "--changed-since: `{revision}` is not a revision of {}; fetch it if the clone is shallow",
            root.display()
        )
    };
    // Git would take it for an option.
    if revision.is_empty() || revision.starts_with('-') {
        bail!(unknown());
    }
    // Fails if Git is missing, or if the repository belongs to another user.
    git(OPTION, root, &["rev-parse", "--git-dir"])?;
    let id = git(OPTION, root, &["rev-parse", "--verify", &commit]).with_context(unknown)?;
    Ok(String::from_utf8_lossy(&id).trim().to_owned())
}

/// Returns the paths in an output of Git, which separates names by `/` and paths by NUL.
fn paths(root: &Path, output: &[u8]) -> impl Iterator<Item = PathBuf> {
    let paths = output.split(|byte| *byte == 0).filter(|path| !path.is_empty());
    paths.map(|path| path.split(|byte| *byte == b'/').fold(root.to_owned(), |path, name| path.join(file_name(name))))
}

#[cfg(unix)]
fn file_name(bytes: &[u8]) -> std::borrow::Cow<'_, OsStr> {
    <OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(bytes).into()
}

#[cfg(not(unix))]
fn file_name(bytes: &[u8]) -> std::borrow::Cow<'_, OsStr> {
    std::ffi::OsString::from(String::from_utf8_lossy(bytes).into_owned()).into()
}
