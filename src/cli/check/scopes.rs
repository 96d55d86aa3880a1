//! The namespace of manifests that do not name one.
//!
//! kustomize sets it. A kustomization that no other one refers to is a build of its own, together with the
//! kustomizations that it refers to. The manifests of one build go to one namespace. Two builds go to two namespaces,
//! unless both name the same one. Manifests outside of any kustomization are assumed to go to one namespace.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::yaml;

/// Maximum number of builds in which one manifest is checked.
const MAX_BUILDS: usize = 16;
/// Maximum number of kustomizations that are read.
const MAX_KUSTOMIZATIONS: usize = 10_000;

/// The group of manifests that a manifest is checked with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(in crate::cli) enum Scope {
    /// The whole run. The namespace of the manifest is known, or the object is cluster-scoped.
    Run,
    /// The unnamed namespace of one build.
    Build(usize),
    /// The unnamed namespace of manifests outside of any kustomization.
    Loose,
}

/// A namespace that a manifest without a namespace goes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cli) enum Place {
    Named(String),
    Unnamed(Scope),
}

#[derive(Debug, Default)]
struct Kustomization {
    namespace: Option<String>,
    /// The folders of the kustomizations that it refers to.
    refers: Vec<PathBuf>,
}

/// The kustomizations of a run.
#[derive(Debug, Default)]
pub(in crate::cli) struct Scopes {
    /// By folder, with symbolic links resolved.
    kustomizations: BTreeMap<PathBuf, Kustomization>,
    /// The places of the manifests in each folder.
    places: BTreeMap<PathBuf, Vec<Place>>,
}

impl Scopes {
    /// Reads the kustomizations in and above these folders, and those that they refer to.
    pub(in crate::cli) fn of<'a>(folders: impl Iterator<Item = &'a Path>) -> Self {
        let mut scopes = Self::default();
        let mut seen = HashSet::new();
        let mut waiting = Vec::new();
        for folder in folders {
            for folder in folder.ancestors() {
                if !seen.insert(folder.to_owned()) {
                    break;
                }
                waiting.extend(real(folder));
            }
        }
        while let Some(folder) = waiting.pop() {
            if scopes.kustomizations.len() >= MAX_KUSTOMIZATIONS || scopes.kustomizations.contains_key(&folder) {
                continue;
            }
            if let Some(kustomization) = read(&folder) {
                waiting.extend(kustomization.refers.iter().cloned());
                scopes.kustomizations.insert(folder, kustomization);
            }
        }
        scopes.place();
        scopes
    }

    /// Returns the places of a manifest in this folder that names no namespace. Returns at least one.
    pub(in crate::cli) fn places(&self, folder: Option<&Path>) -> &[Place] {
        let owner = folder.into_iter().flat_map(Path::ancestors).find_map(|folder| self.places.get(&real(folder)?));
        owner.map_or(&[Place::Unnamed(Scope::Loose)], Vec::as_slice)
    }

    /// Follows each build from its root.
    fn place(&mut self) {
        let referred: BTreeSet<&PathBuf> = self.kustomizations.values().flat_map(|one| &one.refers).collect();
        let is_root = |folder: &&PathBuf| !referred.contains(*folder);
        let mut places: BTreeMap<PathBuf, Vec<Place>> = BTreeMap::new();
        let mut roots: Vec<&PathBuf> = self.kustomizations.keys().filter(is_root).collect();
        // Kustomizations that refer to each other have no root.
        roots.extend(self.kustomizations.keys().filter(|folder| !is_root(folder)));
        for (build, root) in roots.into_iter().enumerate() {
            if !is_root(&root) && places.contains_key(root) {
                continue;
            }
            let mut entered = HashSet::new();
            let mut waiting = vec![(root, None)];
            while let Some((folder, outer)) = waiting.pop() {
                let Some(kustomization) = self.kustomizations.get(folder).filter(|_| entered.insert(folder)) else {
                    continue;
                };
                // The namespace of the outer kustomization replaces that of the inner one.
                let namespace: Option<&String> = outer.or(kustomization.namespace.as_ref());
                let place =
                    namespace.map_or(Place::Unnamed(Scope::Build(build)), |namespace| Place::Named(namespace.clone()));
                let here = places.entry(folder.clone()).or_default();
                if here.len() >= MAX_BUILDS {
                    continue;
                }
                if !here.contains(&place) {
                    here.push(place);
                }
                waiting.extend(kustomization.refers.iter().map(|folder| (folder, namespace)));
            }
        }
        self.places = places;
    }
}

/// Resolves the symbolic links of a folder. The empty path is the working directory.
fn real(folder: &Path) -> Option<PathBuf> {
    fs::canonicalize(if folder.as_os_str().is_empty() { Path::new(".") } else { folder }).ok()
}

/// Reads the kustomization in a folder. None if the folder has no readable kustomization file.
fn read(folder: &Path) -> Option<Kustomization> {
    let names = ["kustomization.yaml", "kustomization.yml", "Kustomization"];
    let text = names.iter().find_map(|name| fs::read_to_string(folder.join(name)).ok())?;
    let Some(Ok(document)) = yaml::read_each(&text).into_iter().next() else {
        return Some(Kustomization::default());
    };
    let list = |name: &str| document.value.get(name).and_then(Value::as_array).into_iter().flatten();
    let refers = ["resources", "bases", "components"].into_iter().flat_map(list).filter_map(Value::as_str);
    Some(Kustomization {
        namespace: document.value.get("namespace").and_then(Value::as_str).map(str::to_owned),
        refers: refers
            .filter_map(|path| fs::canonicalize(folder.join(path)).ok())
            .filter(|path| path.is_dir())
            .collect(),
    })
}
