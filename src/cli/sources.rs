//! Files: the configuration, the folder of policies, manifests.

use std::collections::HashSet;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::admission::Knowledge;
use crate::baseline::PolicySet;
use crate::config::{Configuration, Preset};
use crate::dialect::calico::host_endpoint;
use crate::dialect::workload::operator_pods;
use crate::dialect::{self, Manifest, Origin, Patch, ReadError};
use crate::manifest::{self, Document};
use crate::model::{Fix, Object};
use crate::view::View;

/// The name that stands for standard input.
pub(super) const STDIN: &str = "-";

/// Where to read from.
#[derive(Clone, Debug, Default)]
pub(super) struct Sources {
    pub(super) config: Option<PathBuf>,
    pub(super) policies: Option<PathBuf>,
    pub(super) context: Vec<PathBuf>,
}

/// All that was read, before anybody looked into it. Equal texts mean that nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Texts {
    config: Option<(PathBuf, String)>,
    policies: Option<(PathBuf, Vec<(String, String)>)>,
    context: Vec<(String, String)>,
}

impl Sources {
    /// Standard input can be read once: not where it is read again later, and not where it is something else.
    pub(super) fn refuse_stdin(&self) -> Result<()> {
        if self.context.iter().any(|path| path.as_os_str() == STDIN) {
            bail!("--context -: standard input cannot be the context here; give a file");
        }
        Ok(())
    }

    /// Reads everything.
    pub(super) fn read(&self) -> Result<Texts> {
        let config = match &self.config {
            Some(path) => Some((path.clone(), read_file(path)?)),
            None => None,
        };
        let policies = match &self.policies {
            Some(folder) => Some((folder.clone(), read_folder(folder)?)),
            None => None,
        };
        let context = read_manifests(&self.context).into_iter().map(|(file, text)| Ok((file, text?)));
        Ok(Texts { config, policies, context: context.collect::<Result<_>>()? })
    }

    /// Reads everything, and makes out what it says.
    pub(super) fn load(&self) -> Result<Knowledge> {
        self.read()?.understand()
    }
}

impl Texts {
    /// Makes out what the texts say.
    pub(super) fn understand(&self) -> Result<Knowledge> {
        let configuration = self.configuration()?;
        let policies = self.policies(&configuration)?;
        Ok(Knowledge::new(configuration, self.context()?, policies))
    }

    /// The folder of policies, checked against the configuration.
    pub(super) fn policies(&self, configuration: &Configuration) -> Result<PolicySet> {
        let policies = match &self.policies {
            Some((folder, files)) => {
                PolicySet::read(files.iter().cloned()).with_context(|| format!("policies in {}", folder.display()))?
            }
            None => PolicySet::shipped(&configuration.site.label_domain)?,
        };
        policies.check(&configuration.site).with_context(|| match &self.policies {
            Some((folder, _)) => format!("policies in {}", folder.display()),
            None => "the policies that ship (give your own with --policies)".to_owned(),
        })?;
        Ok(policies)
    }

    /// The configuration alone.
    pub(super) fn configuration(&self) -> Result<Configuration> {
        self.configuration_with(None)
    }

    /// The configuration with another preset than it says.
    pub(super) fn configuration_with(&self, preset: Option<Preset>) -> Result<Configuration> {
        match &self.config {
            Some((path, text)) => {
                Configuration::read_with(text, preset).with_context(|| format!("configuration {}", path.display()))
            }
            None => Ok(Configuration::shipped_with(preset)?),
        }
    }

    /// The view of the context.
    pub(super) fn context(&self) -> Result<View> {
        let mut view = View::default();
        for (file, text) in &self.context {
            let (found, errors) = documents(file, text)?;
            if let Some(error) = errors.into_iter().next() {
                bail!(error);
            }
            for document in found {
                match document.read().with_context(|| document.place())? {
                    Some(object) => view.insert(object),
                    None => document.insert_unread(&mut view),
                }
            }
        }
        Ok(view)
    }
}

/// One manifest, and where it was found.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) file: String,
    pub(super) document: Document,
    /// The manifest as JSON.
    json: String,
    api_version: String,
    kind: String,
}

impl Found {
    /// The object, if a dialect reads its kind.
    pub(super) fn read(&self) -> Result<Option<Object>, ReadError> {
        dialect::read(&self.manifest()?)
    }

    /// Tells a view of what no dialect reads: pods that an operator makes from a custom resource, and host endpoints.
    pub(super) fn insert_unread(&self, view: &mut View) {
        if let Some(labels) = host_endpoint(&self.document.value) {
            view.insert_host_endpoint(labels);
        }
        if let Some(namespace) = operator_pods(&self.document.value) {
            view.insert_operator_pods(namespace);
        }
    }

    /// A fix as a patch for the manifest, if its dialect can say it.
    pub(super) fn fix(&self, fix: &Fix) -> Option<Patch> {
        dialect::fix(fix, &self.manifest().ok()?)
    }

    fn manifest(&self) -> Result<Manifest<'_>, ReadError> {
        Manifest::read(&self.api_version, &self.kind, &self.json, Origin::Author)
    }

    /// File and line of a part, for messages.
    pub(super) fn place_of(&self, path: &crate::model::Path) -> String {
        format!("{}:{}", self.file, self.document.line_of(path))
    }

    /// File and line, for messages.
    pub(super) fn place(&self) -> String {
        format!("{}:{}", self.file, self.document.line)
    }
}

/// The manifests in a text, and what in it is no object of a cluster. Empty documents are none.
///
/// # Errors
/// The text is not YAML.
pub(super) fn documents(file: &str, text: &str) -> Result<(Vec<Found>, Vec<String>)> {
    let read = manifest::read(text).with_context(|| file.to_owned())?;
    let (mut found, mut errors) = (Vec::new(), Vec::new());
    for document in read.into_iter().flat_map(Document::items).filter(|document| !document.value.is_null()) {
        let field = |name: &str| document.value.get(name).and_then(Value::as_str).map(str::to_owned);
        if let (Some(api_version), Some(kind)) = (field("apiVersion"), field("kind")) {
            let json = document.value.to_string();
            found.push(Found { file: file.to_owned(), document, json, api_version, kind });
        } else {
            let line = document.line;
            errors.push(format!("{file}:{line}: this is no Kubernetes object: `apiVersion` and `kind` are needed"));
        }
    }
    Ok((found, errors))
}

/// The names and texts of all manifests at these paths: files, folders with all that is in them, `-`. A file that cannot be
/// read is one error, and takes no other file with it.
pub(super) fn read_manifests(paths: &[PathBuf]) -> Vec<(String, Result<String>)> {
    let mut texts = Vec::new();
    for path in paths {
        if path.as_os_str() == STDIN {
            let mut text = String::new();
            let read = std::io::stdin().read_to_string(&mut text).context("standard input");
            texts.push(("<stdin>".to_owned(), read.map(|_| text)));
        } else if path.is_dir() {
            for file in files_below(path) {
                match file {
                    Ok(file) if is_manifest(&file) => texts.push((file.display().to_string(), read_file(&file))),
                    Ok(_) => {}
                    Err(error) => texts.push((path.display().to_string(), Err(error))),
                }
            }
        } else {
            texts.push((path.display().to_string(), read_file(path)));
        }
    }
    texts
}

fn is_manifest(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml" || extension == "json")
}

/// Paths below a folder with `/` between their parts, and texts.
fn read_folder(folder: &Path) -> Result<Vec<(String, String)>> {
    if !folder.is_dir() {
        bail!("{}: this is no folder", folder.display());
    }
    files_below(folder)
        .into_iter()
        .filter(|file| file.as_ref().map_or(true, |file| is_manifest(file)))
        .map(|file| {
            let file = file?;
            let inner = file.strip_prefix(folder).unwrap_or(&file);
            let parts: Vec<_> = inner.components().map(|part| part.as_os_str().to_string_lossy()).collect();
            Ok((parts.join("/"), read_file(&file)?))
        })
        .collect()
}

/// Every file below a folder, in the order of their paths, and why a folder cannot be listed. What starts with a dot is left
/// out: a mounted ConfigMap keeps its versions in such folders and links to them.
fn files_below(folder: &Path) -> Vec<Result<PathBuf>> {
    let mut files = Vec::new();
    list(folder, &mut HashSet::new(), &mut files);
    files
}

/// Adds the files below a folder that was not entered before: a link can lead back to where it is.
fn list(folder: &Path, entered: &mut HashSet<PathBuf>, files: &mut Vec<Result<PathBuf>>) {
    match fs::canonicalize(folder).and_then(|real| if entered.insert(real) { entries(folder) } else { Ok(Vec::new()) })
    {
        Ok(entries) => {
            for path in entries {
                if path.is_dir() {
                    list(&path, entered, files);
                } else {
                    files.push(Ok(path));
                }
            }
        }
        Err(error) => files.push(Err(anyhow::Error::new(error).context(folder.display().to_string()))),
    }
}

/// The entries of a folder that are not hidden, in order.
fn entries(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut entries: Vec<PathBuf> =
        fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.path())).collect::<std::io::Result<_>>()?;
    entries.retain(|path| !path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.')));
    entries.sort();
    Ok(entries)
}

fn read_file(path: &Path) -> Result<String> {
    let bytes = fs::read(path).with_context(|| path.display().to_string())?;
    match String::from_utf8(bytes) {
        Ok(text) => Ok(text),
        Err(error) => bail!("{}: not UTF-8 at byte {}", path.display(), error.utf8_error().valid_up_to()),
    }
}
