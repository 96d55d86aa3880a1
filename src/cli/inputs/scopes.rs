//! The namespace of manifests, as kustomize sets it.
//!
//! A kustomization that no other one refers to is a build of its own, together with the kustomizations that it refers
//! to. The `namespace` of a build replaces the one of the manifests that it lists. The manifests without a namespace of
//! one build go to one namespace. Two builds go to two namespaces, unless both name the same one. Manifests outside of
//! any kustomization are assumed to go to one namespace.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use super::File;
use super::contents::Found;
use super::kustomization::{Deletion, Kustomization};

/// Maximum number of builds in which one manifest is checked.
const MAX_BUILDS: usize = 16;
/// Maximum number of kustomizations that are read.
const MAX_KUSTOMIZATIONS: usize = 10_000;
/// Maximum number of components that are followed from one kustomization.
const MAX_COMPONENTS: usize = 100;

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

/// What one build makes of the manifests in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cli) struct Placement {
    /// The namespace that the build sets.
    namespace: Option<String>,
    /// The scope of manifests that no namespace is set for.
    scope: Scope,
    /// True if a kustomization of the build lists the file. Otherwise the file is only in its folder.
    is_listed: bool,
    deletions: Vec<Deletion>,
}

/// A kustomization that no other one refers to, with those that it refers to.
#[derive(Clone, Debug)]
struct Build {
    root: PathBuf,
    folders: BTreeSet<PathBuf>,
    has_patches: bool,
}

/// The kustomizations of a run.
#[derive(Clone, Debug, Default)]
pub(in crate::cli) struct Scopes {
    /// By folder, with symbolic links resolved.
    kustomizations: BTreeMap<PathBuf, Kustomization>,
    /// What the builds make of the files in each folder.
    placements: BTreeMap<PathBuf, Vec<Placement>>,
    /// The folders of the kustomizations that list a file.
    listed: BTreeMap<PathBuf, Vec<PathBuf>>,
    builds: Vec<Build>,
}

impl Placement {
    /// Returns the manifest as the build applies it, and its scope. None if the build deletes the object.
    pub(in crate::cli) fn place(&self, found: &Found, is_namespaced: bool) -> Option<(Found, Scope)> {
        if self.deletions.iter().any(|deletion| deletion.applies_to(&found.document.value)) {
            return None;
        }
        let is_open = is_namespaced && !found.has_namespace();
        Some(match &self.namespace {
            Some(namespace) if is_open || is_namespaced && self.is_listed => {
                (found.in_namespace(namespace), Scope::Run)
            }
            // kustomize renames a Namespace too.
            Some(namespace) if self.is_listed && found.is_core_namespace() => (found.renamed(namespace), Scope::Run),
            None if is_open => (found.clone(), self.scope),
            _ => (found.clone(), Scope::Run),
        })
    }
}

impl Scopes {
    /// Reads the kustomizations in and above these folders, and those that they refer to.
    pub(super) fn of<'a>(folders: impl Iterator<Item = &'a Path>) -> Self {
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
            if let Some(kustomization) = Kustomization::read(&folder) {
                waiting.extend(kustomization.refers().cloned());
                for file in &kustomization.resources {
                    scopes.listed.entry(file.clone()).or_default().push(folder.clone());
                }
                scopes.kustomizations.insert(folder, kustomization);
            }
        }
        scopes.follow();
        scopes
    }

    /// Returns what each build makes of the manifests in a file. Returns at least one.
    pub(in crate::cli) fn placements(&self, file: &File) -> Vec<Placement> {
        let loose = Placement { namespace: None, scope: Scope::Loose, is_listed: false, deletions: Vec::new() };
        let owners = self.owners(file);
        let mut placements: Vec<Placement> = Vec::new();
        for placement in owners.folders.iter().filter_map(|folder| self.placements.get(folder)).flatten() {
            let placement = if owners.are_listing {
                Placement { is_listed: true, ..placement.clone() }
            } else {
                Placement { deletions: Vec::new(), ..placement.clone() }
            };
            if !placements.contains(&placement) && placements.len() < MAX_BUILDS {
                placements.push(placement);
            }
        }
        if placements.is_empty() { vec![loose] } else { placements }
    }

    /// Returns true if a kustomization has the file as a patch, and none has it as a resource.
    pub(super) fn is_patch(&self, file: &Path) -> bool {
        self.kustomizations.values().any(|one| !one.patches.is_empty())
            && self.has_patch_at(&fs::canonicalize(file).ok())
    }

    fn has_patch_at(&self, file: &Option<PathBuf>) -> bool {
        file.as_ref().is_some_and(|file| {
            !self.listed.contains_key(file) && self.kustomizations.values().any(|one| one.patches.contains(file))
        })
    }

    /// Returns the folders of the builds that change the manifests in these files, or the patches in the others, in a
    /// way that only kustomize can tell.
    pub(super) fn with_patches<'a>(
        &self,
        files: impl Iterator<Item = &'a File>,
        patches: impl Iterator<Item = &'a Path>,
    ) -> Vec<String> {
        if !self.builds.iter().any(|build| build.has_patches) {
            return Vec::new();
        }
        let mut owners: BTreeSet<PathBuf> = files.flat_map(|file| self.owners(file).folders).collect();
        for patch in patches.filter_map(|patch| fs::canonicalize(patch).ok()) {
            let of_patch = self.kustomizations.iter().filter(|(_, one)| one.patches.contains(&patch));
            owners.extend(of_patch.map(|(folder, _)| folder.clone()));
        }
        let here = real(Path::new(""));
        let builds = self.builds.iter().filter(|build| build.has_patches && !build.folders.is_disjoint(&owners));
        builds.map(|build| shown(&build.root, here.as_deref())).collect()
    }

    /// Returns the kustomizations that list a file, or else the nearest one in a folder above it.
    fn owners(&self, file: &File) -> Owners {
        let listing = file.path().and_then(|path| fs::canonicalize(path).ok()).and_then(|path| self.listed.get(&path));
        if let Some(folders) = listing {
            return Owners { folders: folders.clone(), are_listing: true };
        }
        let folder = file.folder().and_then(real);
        let above = folder.iter().flat_map(|folder| folder.ancestors());
        let nearest = above.into_iter().find(|folder| self.kustomizations.contains_key(*folder));
        Owners { folders: nearest.map(Path::to_owned).into_iter().collect(), are_listing: false }
    }

    /// Follows each build from its root.
    fn follow(&mut self) {
        let referred: BTreeSet<&PathBuf> = self.kustomizations.values().flat_map(Kustomization::refers).collect();
        let is_root = |folder: &&PathBuf| !referred.contains(*folder);
        let mut placements: BTreeMap<PathBuf, Vec<Placement>> = BTreeMap::new();
        let mut builds = Vec::new();
        let mut roots: Vec<&PathBuf> = self.kustomizations.keys().filter(is_root).collect();
        // Kustomizations that refer to each other have no root.
        roots.extend(self.kustomizations.keys().filter(|folder| !is_root(folder)));
        for (number, root) in roots.into_iter().enumerate() {
            if !is_root(&root) && placements.contains_key(root) {
                continue;
            }
            let mut build = Build { root: root.clone(), folders: BTreeSet::new(), has_patches: false };
            let mut waiting = vec![(root, None, Vec::new())];
            while let Some((folder, outer, mut deletions)) = waiting.pop() {
                let Some(kustomization) = self.kustomizations.get(folder) else { continue };
                if !build.folders.insert(folder.clone()) {
                    continue;
                }
                build.has_patches |= kustomization.has_patches;
                let components = self.components(kustomization);
                // The namespace of the outer kustomization replaces that of the inner one, and a component comes after
                // the resources beside it.
                let own = || {
                    let of_components = components.iter().rev().find_map(|one| one.namespace.as_ref());
                    kustomization.namespace.as_ref().or(of_components)
                };
                let namespace: Option<&String> = outer.or_else(own);
                let with_components = [kustomization].into_iter().chain(components);
                deletions.extend(with_components.flat_map(|one| one.deletions.iter().cloned()));
                let here = placements.entry(folder.clone()).or_default();
                if here.len() >= MAX_BUILDS {
                    continue;
                }
                let placement = Placement {
                    namespace: namespace.cloned(),
                    scope: Scope::Build(number),
                    is_listed: false,
                    deletions: deletions.clone(),
                };
                if !here.contains(&placement) {
                    here.push(placement);
                }
                waiting.extend(kustomization.refers().map(|folder| (folder, namespace, deletions.clone())));
            }
            builds.push(build);
        }
        self.placements = placements;
        self.builds = builds;
    }

    /// The components of a kustomization and their components, in order.
    fn components(&self, kustomization: &Kustomization) -> Vec<&Kustomization> {
        let mut found: Vec<&Kustomization> = Vec::new();
        let mut waiting: Vec<&PathBuf> = kustomization.components.iter().rev().collect();
        while let Some(one) = waiting.pop().filter(|_| found.len() < MAX_COMPONENTS) {
            if let Some(component) = self.kustomizations.get(one) {
                found.push(component);
                waiting.extend(component.components.iter().rev());
            }
        }
        found
    }
}

impl Kustomization {
    /// The folders of the kustomizations that it refers to.
    fn refers(&self) -> impl Iterator<Item = &PathBuf> {
        self.bases.iter().chain(&self.components)
    }
}

/// The kustomizations that a file belongs to.
struct Owners {
    folders: Vec<PathBuf>,
    are_listing: bool,
}

/// Resolves the symbolic links of a folder. The empty path is the working directory.
fn real(folder: &Path) -> Option<PathBuf> {
    fs::canonicalize(if folder.as_os_str().is_empty() { Path::new(".") } else { folder }).ok()
}

/// Returns a folder as the user would name it in the working directory.
fn shown(folder: &Path, here: Option<&Path>) -> String {
    match here.and_then(|here| folder.strip_prefix(here).ok()) {
        Some(below) if below.as_os_str().is_empty() => ".".to_owned(),
        Some(below) => below.display().to_string(),
        None => folder.display().to_string(),
    }
}
