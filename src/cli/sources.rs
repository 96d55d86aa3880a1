//! Files: the configuration, the folder of policies, manifests.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};

use crate::admission::Knowledge;
use crate::baseline::PolicySet;
use crate::config::{Configuration, Preset};
use crate::model::{Body, Contract, Object};
use crate::view::View;

use super::inputs::{self, File, Inputs, Problem, STDIN};

/// The paths to read from.
#[derive(Clone, Debug, Default)]
pub(super) struct Sources {
    pub(super) config: Option<PathBuf>,
    pub(super) policies: Option<PathBuf>,
    pub(super) context: Vec<PathBuf>,
    pub(super) contracts: Vec<PathBuf>,
}

/// The texts of the files, not parsed yet. Equal texts mean that no file has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Texts {
    config: Option<(PathBuf, String)>,
    policies: Option<(PathBuf, Vec<(String, String)>)>,
    context: Vec<File>,
    contracts: Vec<File>,
    /// Files of the context that cannot be read.
    problems: Vec<Problem>,
    /// Folders of kustomizations of the context, whose patches are not applied.
    pub(super) with_patches: Vec<String>,
}

impl Sources {
    /// Rejects standard input as the context. It can be read only once, so a command must neither reload it nor read
    /// another input from it.
    pub(super) fn refuse_stdin(&self) -> Result<()> {
        if self.context.iter().any(|path| path.as_os_str() == STDIN) {
            bail!("--context cannot read standard input here; pass a file");
        }
        Ok(())
    }

    /// Reads all files.
    pub(super) fn read(&self) -> Result<Texts> {
        let config = match &self.config {
            Some(path) => Some((path.clone(), read_file(path)?)),
            None => None,
        };
        let policies = match &self.policies {
            Some(folder) => Some((folder.clone(), read_folder(folder)?)),
            None => None,
        };
        let context = inputs::read(&self.context, &[]);
        let contracts = inputs::read(&self.contracts, &[]);
        if let Some(problem) = contracts.problems.into_iter().next() {
            bail!(problem);
        }
        let Inputs { files, problems, with_patches, .. } = context;
        Ok(Texts { config, policies, context: files, contracts: contracts.files, problems, with_patches })
    }

    /// Reads and parses all files.
    pub(super) fn load(&self) -> Result<Knowledge> {
        self.read()?.understand()
    }
}

impl Texts {
    /// Parses the texts.
    pub(super) fn understand(&self) -> Result<Knowledge> {
        let (configuration, policies) = self.settings()?;
        let view = self.context()?.with_given_contracts(self.contracts()?.into());
        Ok(Knowledge::new(configuration, view, policies))
    }

    /// Parses the configuration and the policies.
    pub(super) fn settings(&self) -> Result<(Configuration, PolicySet)> {
        let configuration = self.configuration()?;
        let policies = self.policies(&configuration)?;
        Ok((configuration, policies))
    }

    /// Parses the policies and checks them against the configuration.
    pub(super) fn policies(&self, configuration: &Configuration) -> Result<PolicySet> {
        let policies = match &self.policies {
            Some((folder, files)) => {
                PolicySet::read(files.iter().cloned()).with_context(|| format!("policies in {}", folder.display()))?
            }
            None => PolicySet::shipped(&configuration.site.label_domain)?,
        };
        policies.check(&configuration.site).with_context(|| match &self.policies {
            Some((folder, _)) => format!("policies in {}", folder.display()),
            None => "built-in policies (--policies replaces them)".to_owned(),
        })?;
        Ok(policies)
    }

    /// Parses the configuration.
    pub(super) fn configuration(&self) -> Result<Configuration> {
        self.configuration_with(None)
    }

    /// Parses the configuration, and replaces its preset if one is given.
    pub(super) fn configuration_with(&self, preset: Option<Preset>) -> Result<Configuration> {
        match &self.config {
            Some((path, text)) => {
                Configuration::read_with(text, preset).with_context(|| format!("configuration {}", path.display()))
            }
            None => Ok(Configuration::shipped_with(preset)?),
        }
    }

    /// Parses the contracts. Fails if a manifest is no contract: its author expects that it has an effect.
    fn contracts(&self) -> Result<Vec<Arc<Contract>>> {
        let mut contracts = Vec::new();
        for file in &self.contracts {
            let contents = file.contents();
            if let Some(problem) = contents.problems.into_iter().next() {
                bail!(problem);
            }
            for found in contents.found {
                match found.read().map_err(|error| found.problem(&error.path, error.to_string())) {
                    Ok(Some(Object { body: Body::Contract(contract), .. })) => contracts.push(Arc::new(contract)),
                    Ok(_) => bail!("{}: the manifest is not a Contract", found.file),
                    Err(problem) => bail!(problem),
                }
            }
        }
        Ok(contracts)
    }

    /// Returns the view of the context. Fails if a manifest of the context cannot be read.
    pub(super) fn context(&self) -> Result<View> {
        let (view, problems) = self.context_and_problems();
        match problems.into_iter().next() {
            Some(problem) => bail!(problem),
            None => Ok(view),
        }
    }

    /// Returns the view of the readable manifests of the context, and the problems of the others.
    pub(super) fn context_and_problems(&self) -> (View, Vec<Problem>) {
        let mut view = View::default();
        let (objects, problems) = self.context_objects(&mut view);
        objects.into_iter().for_each(|object| view.insert(object));
        (view, problems)
    }

    /// Returns the objects of the readable manifests of the context, and the problems of the others. The facts of other
    /// kinds are added to a view.
    pub(super) fn context_objects(&self, view: &mut View) -> (Vec<Object>, Vec<Problem>) {
        let (mut objects, mut problems) = (Vec::new(), self.problems.clone());
        for file in &self.context {
            let contents = file.contents();
            problems.extend(contents.problems);
            for found in contents.found {
                match found.read() {
                    Ok(Some(object)) => objects.push(object),
                    Ok(None) => found.insert_unread(view),
                    Err(error) => problems.push(found.problem(&error.path, error.to_string())),
                }
            }
        }
        (objects, problems)
    }
}

/// Reads the text of a file.
pub(super) fn read_file(path: &Path) -> Result<String> {
    Ok(inputs::read_file(path)?)
}

/// Reads the manifests below a folder. Returns their relative paths, separated by `/`, and their texts.
fn read_folder(folder: &Path) -> Result<Vec<(String, String)>> {
    if !folder.is_dir() {
        bail!("{} is not a folder", folder.display());
    }
    inputs::files_below(folder)
        .into_iter()
        .filter(|file| file.as_ref().map_or(true, |file| inputs::is_manifest(file)))
        .map(|file| {
            let file = file?;
            let inner = file.strip_prefix(folder).unwrap_or(&file);
            let parts: Vec<_> = inner.components().map(|part| part.as_os_str().to_string_lossy()).collect();
            Ok((parts.join("/"), read_file(&file)?))
        })
        .collect()
}
