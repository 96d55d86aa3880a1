//! Manifests from files, folders and standard input.

mod contents;
mod glob;
mod kustomization;
mod patched;
mod scopes;
mod walk;

use std::fmt;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::words::{named, noun_of};
use scopes::Scopes;

pub(super) use contents::Found;
pub(super) use glob::Glob;
pub(super) use kustomization::KUSTOMIZATION_FILES;
pub(super) use scopes::{Placement, Scope};
pub(super) use walk::files_below;

/// The path argument that stands for standard input.
pub(super) const STDIN: &str = "-";

/// The file name of standard input in messages.
pub(super) const STDIN_NAME: &str = "<stdin>";

/// Maximum size of a file.
const MAX_FILE_BYTES: u64 = 512 * 1024 * 1024;

/// A file with its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct File {
    /// The name for messages.
    pub(super) name: String,
    /// None for standard input.
    path: Option<PathBuf>,
    /// True if the user named the file itself. A file that was found in a folder need not be a manifest.
    is_named: bool,
    text: String,
}

/// Text that could not be read or checked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) struct Problem {
    pub(super) file: String,
    /// None if the problem concerns the whole file.
    pub(super) line: Option<usize>,
    pub(super) message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}: {}", self.file, self.message),
            None => write!(f, "{}: {}", self.file, self.message),
        }
    }
}

/// A file that was skipped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Skipped {
    pub(super) file: String,
    pub(super) reason: &'static str,
}

/// The files at the given paths.
#[derive(Clone, Debug, Default)]
pub(super) struct Inputs {
    pub(super) files: Vec<File>,
    pub(super) problems: Vec<Problem>,
    pub(super) skipped: Vec<Skipped>,
    /// The kustomizations of the files.
    pub(super) scopes: Scopes,
    /// The folders of kustomizations that change the files in a way that only kustomize can tell.
    pub(super) with_patches: Vec<String>,
    /// The folders of kustomizations below the given folders.
    kustomizations: Vec<PathBuf>,
}

/// Reads the files at these paths: files, all files below folders, and `-`. A file that cannot be read is one problem
/// and does not hide the other files.
pub(super) fn read(paths: &[PathBuf], skip: &[Glob]) -> Inputs {
    let mut inputs = Inputs::default();
    for path in paths {
        if path.as_os_str() == STDIN {
            match text_of(STDIN_NAME, std::io::stdin()) {
                Ok(text) => inputs.files.push(File { name: STDIN_NAME.into(), path: None, is_named: true, text }),
                Err(problem) => inputs.problems.push(problem),
            }
        } else if skip.iter().any(|glob| glob.matches(path, path)) {
            inputs.skipped.push(Skipped { file: path.display().to_string(), reason: BY_OPTION });
        } else if path.is_dir() {
            walk::read(path, skip, &mut inputs);
        } else {
            inputs.add(path, true);
        }
    }
    inputs.read_kustomizations();
    inputs
}

/// The reason of a file that `--skip` excludes.
const BY_OPTION: &str = "excluded by --skip";
/// The reason of a file that kustomize merges into other manifests.
const PATCH: &str = "a patch of a kustomization";

impl File {
    /// Returns the path of the file. None for standard input.
    pub(super) fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }
}

impl Inputs {
    /// Returns the text of a file by its name.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.files.iter().find(|file| file.name == name).map(|file| &*file.text)
    }

    /// The names and texts of the files.
    pub(super) fn texts(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files.iter().map(|file| (&*file.name, &*file.text))
    }

    /// Replaces the text of a file. A file that is named twice is read twice.
    pub(super) fn set_text(&mut self, name: &str, text: &str) {
        for file in self.files.iter_mut().filter(|file| file.name == name) {
            text.clone_into(&mut file.text);
        }
    }

    /// Reads the kustomizations of the files, and skips the files that are their patches.
    fn read_kustomizations(&mut self) {
        let folders = self.files.iter().filter_map(File::folder);
        let scopes = Scopes::of(folders.chain(self.kustomizations.iter().map(PathBuf::as_path)));
        let is_patch = |file: &File| file.path().is_some_and(|path| scopes.is_patch(path));
        let (patches, files): (Vec<File>, Vec<File>) = std::mem::take(&mut self.files).into_iter().partition(is_patch);
        self.with_patches = scopes.with_patches(files.iter(), patches.iter().filter_map(File::path));
        self.skipped.extend(patches.into_iter().map(|patch| Skipped { file: patch.name, reason: PATCH }));
        (self.files, self.scopes) = (files, scopes);
    }

    fn add(&mut self, path: &Path, is_named: bool) {
        match read_file(path) {
            Ok(text) => {
                let name = path.display().to_string();
                self.files.push(File { name, path: Some(path.to_owned()), is_named, text });
            }
            Err(problem) => self.problems.push(problem),
        }
    }
}

/// Returns the assumption about the kustomizations in these folders, whose patches are not applied.
pub(super) fn without_patches(folders: &[String]) -> Option<String> {
    let kustomizations = noun_of(folders.len(), "kustomization");
    let patches = || format!("the patches of {kustomizations} {} do not change the manifests", named(folders));
    (!folders.is_empty()).then(patches)
}

/// Returns true if a file in a folder may be a manifest by its extension: yaml, yml or json.
pub(super) fn is_manifest(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml" || extension == "json")
}

/// Reads the text of a file.
pub(super) fn read_file(path: &Path) -> Result<String, Problem> {
    let name = path.display().to_string();
    match fs::File::open(path) {
        Ok(file) => text_of(&name, file),
        Err(error) => Err(Problem { file: name, line: None, message: error.to_string() }),
    }
}

fn text_of(name: &str, from: impl Read) -> Result<String, Problem> {
    let problem = |message: String| Problem { file: name.to_owned(), line: None, message };
    let mut bytes = Vec::new();
    let read = from.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(|error| problem(error.to_string()))?;
    if read as u64 > MAX_FILE_BYTES {
        return Err(problem(format!("the file is larger than {} MiB", MAX_FILE_BYTES / 1024 / 1024)));
    }
    String::from_utf8(bytes).or_else(|error| {
        let at = error.utf8_error().valid_up_to();
        let text = decoded_utf16(error.as_bytes()).filter(|text| contents::mentions_a_kind(text));
        text.ok_or_else(|| problem(format!("invalid UTF-8 at byte {at}")))
    })
}

/// Decodes UTF-16 with a byte order mark, which `kubectl` reads and PowerShell writes.
fn decoded_utf16(bytes: &[u8]) -> Option<String> {
    let (order, units): (fn([u8; 2]) -> u16, _) = match bytes {
        [0xff, 0xfe, rest @ ..] => (u16::from_le_bytes, rest),
        [0xfe, 0xff, rest @ ..] => (u16::from_be_bytes, rest),
        _ => return None,
    };
    let (pairs, rest) = units.as_chunks::<2>();
    let units: Vec<u16> = pairs.iter().copied().map(order).collect();
    String::from_utf16(&units).ok().filter(|_| rest.is_empty())
}
