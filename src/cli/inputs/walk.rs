//! The files below a folder.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::{BY_OPTION, Glob, Inputs, Problem, Skipped, is_manifest};

/// Reads the manifests below a folder.
pub(super) fn read(folder: &Path, skip: &[Glob], inputs: &mut Inputs) {
    Walk { root: folder, skip, inputs, entered: HashSet::new() }.folder(folder, None);
}

struct Walk<'a> {
    root: &'a Path,
    skip: &'a [Glob],
    inputs: &'a mut Inputs,
    /// The visited folders, because a symbolic link can lead back to a folder above it.
    entered: HashSet<PathBuf>,
}

impl Walk<'_> {
    /// Reads the files below a folder. With a reason to skip them, only records their names.
    fn folder(&mut self, folder: &Path, reason: Option<&'static str>) {
        let entries = match entries_once(folder, &mut self.entered) {
            Ok(entries) => entries,
            Err(problem) => return self.inputs.problems.push(problem),
        };
        let is_chart = entries.iter().any(|path| path.file_name().is_some_and(|name| name == "Chart.yaml"));
        for path in entries {
            let is_skipped = || self.skip.iter().any(|glob| glob.matches(self.root, &path));
            let reason = reason
                .or_else(|| is_skipped().then_some(BY_OPTION))
                .or_else(|| if is_chart { part_of_chart(&path) } else { None });
            if path.is_dir() {
                self.folder(&path, reason);
            } else if is_manifest(&path) {
                self.file(&path, reason);
            }
        }
    }

    fn file(&mut self, path: &Path, reason: Option<&'static str>) {
        let name = path.file_name().unwrap_or_default();
        let is_kustomization = name == "kustomization.yaml" || name == "kustomization.yml";
        if is_kustomization && reason.is_none() {
            self.inputs.kustomizations.extend(path.parent().map(Path::to_owned));
        }
        let reason = reason.or(is_kustomization.then_some("a kustomization"));
        if let Some(reason) = reason {
            self.inputs.skipped.push(Skipped { file: path.display().to_string(), reason });
        } else if fs::metadata(path).is_ok_and(|metadata| !metadata.is_file()) {
            // Reading a pipe would wait for its writer.
            let file = path.display().to_string();
            self.inputs.problems.push(Problem { file, line: None, message: "not a regular file".into() });
        } else {
            self.inputs.add(path, false);
        }
    }
}

/// Returns the reason why an entry of a Helm chart folder is not a manifest. None if it may be one.
fn part_of_chart(path: &Path) -> Option<&'static str> {
    let name = path.file_name()?.to_string_lossy();
    if name == "templates" && path.is_dir() {
        Some("a Helm chart template")
    } else if name == "Chart.yaml" || name.starts_with("values") && !path.is_dir() {
        Some("a Helm chart file")
    } else {
        None
    }
}

/// Lists the files below a folder in the order of their paths. A folder that cannot be listed is a problem.
pub(in crate::cli) fn files_below(folder: &Path) -> Vec<Result<PathBuf, Problem>> {
    let mut files = Vec::new();
    list(folder, &mut HashSet::new(), &mut files);
    files
}

fn list(folder: &Path, entered: &mut HashSet<PathBuf>, files: &mut Vec<Result<PathBuf, Problem>>) {
    match entries_once(folder, entered) {
        Ok(entries) => {
            for path in entries {
                if path.is_dir() {
                    list(&path, entered, files);
                } else {
                    files.push(Ok(path));
                }
            }
        }
        Err(problem) => files.push(Err(problem)),
    }
}

/// Lists the entries of a folder that are not hidden, in order. Returns an empty list if the folder was visited before.
/// Names that start with a dot are left out, because a mounted ConfigMap keeps its versions in such folders and links
/// to them.
fn entries_once(folder: &Path, entered: &mut HashSet<PathBuf>) -> Result<Vec<PathBuf>, Problem> {
    let mut entries = || -> std::io::Result<Vec<PathBuf>> {
        if !entered.insert(fs::canonicalize(folder)?) {
            return Ok(Vec::new());
        }
        let mut entries: Vec<PathBuf> =
            fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.path())).collect::<std::io::Result<_>>()?;
        entries.retain(|path| !path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.')));
        entries.sort();
        Ok(entries)
    };
    entries().map_err(|error| Problem { file: folder.display().to_string(), line: None, message: error.to_string() })
}
