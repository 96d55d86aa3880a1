//! Reads the state to audit.

use std::collections::HashMap;
use std::path::PathBuf;

use anyhow::Result;

use super::network_plugin;
use crate::audit::{Audited, Plugin, Source, Unread};
use crate::baseline::{self, PolicySet};
use crate::cli::check::duplicates::{Identity, identity};
use crate::cli::check::{is_namespaced, placed};
use crate::cli::inputs::{self, Found, Scope, without_patches};
use crate::cli::state::StateArguments;
use crate::config::Configuration;
use crate::model::{Object, Path};
use crate::view::View;

/// The state to audit.
pub(in crate::cli) struct Loaded {
    pub(in crate::cli) configuration: Configuration,
    pub(in crate::cli) policies: PolicySet,
    /// The state with the policies that its namespaces are due.
    pub(in crate::cli) view: View,
    /// The state without them.
    pub(in crate::cli) stored: View,
    /// The objects to judge.
    kept: Vec<Kept>,
    pub(in crate::cli) assumed: Vec<String>,
    pub(in crate::cli) unread: Vec<Unread>,
    /// The network plugin of the cluster.
    pub(in crate::cli) plugin: Option<Plugin>,
}

/// An object to judge, with its manifest if it is from one.
struct Kept {
    object: Object,
    found: Option<Found>,
}

impl Source for Found {
    fn place(&self, path: &Path) -> String {
        format!("{}:{}", self.file, self.document.line_of(path))
    }
}

impl Loaded {
    pub(in crate::cli) fn read(arguments: &StateArguments, paths: &[PathBuf]) -> Result<Self> {
        let (configuration, policies) = arguments.settings()?;
        let read = arguments.read_cluster(async |cluster| {
            Ok((cluster.snapshot_keeping(Audited::is_evaluated).await?, network_plugin::read(cluster).await))
        })?;
        let (snapshot, plugin) = read.unzip();
        let (stored, objects, missing) =
            snapshot.map_or_else(Default::default, |snapshot| (snapshot.view, snapshot.objects, snapshot.missing));
        let mut loaded = Self {
            configuration,
            policies,
            view: View::default(),
            stored,
            kept: objects.into_iter().map(|object| Kept { object, found: None }).collect(),
            assumed: Vec::new(),
            unread: missing.iter().map(|missing| unread(missing)).collect(),
            plugin,
        };
        loaded.add_manifests(paths);
        loaded.keep_the_last_of_each();
        loaded.view = loaded.stored.clone();
        baseline::complete(&mut loaded.view, &loaded.policies, &loaded.configuration.site);
        Ok(loaded)
    }

    /// The objects to judge.
    pub(in crate::cli) fn objects(&self) -> Vec<Audited<'_>> {
        fn source(found: &Found) -> &dyn Source {
            found
        }
        self.kept.iter().map(|kept| Audited { object: &kept.object, source: kept.found.as_ref().map(source) }).collect()
    }

    /// Adds manifests as if they were applied. What cannot be read is recorded.
    fn add_manifests(&mut self, paths: &[PathBuf]) {
        let inputs = inputs::read(paths, &[]);
        self.unread.extend(inputs.problems.iter().map(|problem| unread(&problem.to_string())));
        let mut unnamed = 0_usize;
        let mut unresolved = 0_usize;
        for file in &inputs.files {
            let contents = file.contents();
            let placements = inputs.scopes.placements(file);
            self.unread.extend(contents.problems.iter().map(|problem| unread(&problem.to_string())));
            for found in contents.found {
                unresolved += usize::from(!found.unresolved().is_empty());
                let object = match found.read() {
                    Ok(object) => object,
                    Err(error) => {
                        self.unread.push(unread(&found.problem(&error.path, error.to_string()).to_string()));
                        continue;
                    }
                };
                for (found, scope) in placed(&found, &placements, object.as_ref().is_none_or(is_namespaced)) {
                    match found.read() {
                        Ok(Some(object)) => {
                            unnamed += usize::from(scope != Scope::Run);
                            self.add(object, found);
                        }
                        _ => found.insert_unread(&mut self.stored),
                    }
                }
            }
        }
        self.assumed.extend(without_patches(&inputs.with_patches));
        if unnamed > 0 {
            self.assumed.push(format!("{unnamed} manifests without a namespace share one unnamed namespace"));
        }
        if unresolved > 0 {
            self.assumed
                .push(format!("{unresolved} manifests contain unresolved variables, whose text was taken literally"));
        }
    }

    fn add(&mut self, mut object: Object, found: Found) {
        if Audited::is_evaluated(&object) {
            self.kept.push(Kept { object: object.clone(), found: Some(found) });
        }
        baseline::give_profile(&mut object, &self.configuration.site);
        self.stored.insert(object);
    }

    /// Of several manifests of one object, and of an object that a manifest replaces, the last one counts.
    fn keep_the_last_of_each(&mut self) {
        let identities = || self.kept.iter().map(|kept| identity(&kept.object));
        let mut last = HashMap::new();
        for (at, identity) in identities().enumerate().filter_map(|(at, identity)| Some((at, identity?))) {
            last.insert(identity, at);
        }
        let is_last = |(at, identity): (usize, Option<Identity<'_>>)| {
            identity.is_none_or(|identity| last.get(&identity) == Some(&at))
        };
        let mut are_last = identities().enumerate().map(is_last).collect::<Vec<bool>>().into_iter();
        self.kept.retain(|_| are_last.next().unwrap_or(true));
    }
}

/// Splits a report of what could not be read into its subject and the reason.
fn unread(text: &str) -> Unread {
    let (kind, why) = text.split_once(": ").unwrap_or(("", text));
    Unread { kind: kind.to_owned(), why: why.to_owned() }
}
