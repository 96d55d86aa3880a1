//! `portcullis check`: checks manifests as the webhook would.

mod changed;
pub(super) mod duplicates;
mod fix;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};
use jiff::Timestamp;

use super::inputs::{self, Found, Glob, Inputs, Placement, STDIN, STDIN_NAME, Scope};
use super::progress::Progress;
use super::report::{Entry, Format, Report};
use super::sources::Sources;
use super::variables::{self, Unresolved};
use super::{DENIED, FAILED, OK};
use crate::baseline::{self, PolicySet};
use crate::config::{Configuration, Preset};
use crate::engine::{self, Judgement};
use crate::model::{Body, FaultKind, Finding, Namespaces, Object, Path};
use crate::rules::{self, Change, Mode, Named, Occasion};
use crate::view::{Site, View};
use crate::yaml::Mark;

use changed::Unchanged;

/// Check manifests as the webhook would.
///
/// Each manifest is checked together with all other manifests given and with those of --context: DNS that one policy
/// allows counts for the pods that another policy selects.
///
/// The namespace that a kustomization sets replaces the one of the manifests that it lists. If it sets none, its
/// manifests without a namespace share one unnamed namespace. So do all manifests outside of any kustomization.
///
/// Files in a folder that are not manifests are skipped, and so are patches of a kustomization. Only patches that delete
/// an object are applied; check the output of `kustomize build` to include the others.
#[derive(Debug, Args)]
#[command(after_help = "Exit status: 0 no denial, 1 at least one denial, 2 an input could not be checked.\n\n\
    Examples:\n  portcullis check manifests/\n  kustomize build . | portcullis check --output json -\n  \
    portcullis check --context cluster-dump.yaml new-policy.yaml\n  \
    portcullis check --changed-since origin/main --output sarif manifests/\n  \
    portcullis check --fix manifests/")]
pub(super) struct Arguments {
    /// Check these manifest files and folders; `-` reads standard input.
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Read the configuration from this file [default: the built-in configuration].
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Check with this preset [default: the preset of the configuration].
    ///
    /// `enforce` shows what the rules will deny.
    #[arg(long, value_enum, value_name = "PRESET")]
    preset: Option<PresetName>,
    /// Read the baseline policies from this folder [default: the built-in policies].
    ///
    /// A namespace is evaluated with the policies that the controller will write into it.
    #[arg(long, value_name = "FOLDER")]
    policies: Option<PathBuf>,
    /// Add manifests of objects that exist already. Repeatable.
    ///
    /// They are taken into account, but get no findings themselves.
    #[arg(long, value_name = "PATH")]
    context: Vec<PathBuf>,
    /// Check only manifests in files that changed since this Git revision.
    ///
    /// Files are compared with the last common commit of HEAD and the revision, as for a pull request. Changes that are
    /// not committed and files that Git does not track count as changed. All other manifests count for the changed
    /// ones, but get no findings themselves.
    #[arg(long, value_name = "REVISION")]
    changed_since: Option<String>,
    /// Skip files and folders that match this pattern. Repeatable.
    ///
    /// A pattern without `/` matches names, a pattern with `/` matches paths. `?` matches one character, `*` any text
    /// within a name, `**` any number of folders.
    #[arg(long, value_name = "GLOB")]
    skip: Vec<Glob>,
    /// Check the manifests as if this user applied them.
    ///
    /// A change that is restricted to some users is then allowed only to the users and groups in `bypass` of the
    /// configuration. Without this option such a change is not reported, and the cluster decides when it is applied.
    #[arg(long = "as", value_name = "USER")]
    author: Option<String>,
    /// Add a group of the user given by --as. Repeatable.
    #[arg(long = "as-group", value_name = "GROUP", requires = "author")]
    author_groups: Vec<String>,
    /// Fix findings in the files and show what changed. Comments and layout are kept.
    ///
    /// A fix is written only if its finding is gone afterwards and no other finding is new. Standard input (`-`) is
    /// printed with the fixes, and everything else goes to standard error. Warnings are fixed too.
    #[arg(long)]
    fix: bool,
    /// Print the findings in this format.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    output: Format,
}

/// Maximum number of patches shown for one object.
const FIXES: usize = 100;

/// The strictness of the rules for which the configuration sets no mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum PresetName {
    /// Neither deny nor warn: report findings in the audit log, logs and metrics.
    Observe,
    /// Warn instead of denying.
    Warn,
    /// Use the mode of each rule.
    Enforce,
}

impl From<PresetName> for Preset {
    fn from(name: PresetName) -> Self {
        match name {
            PresetName::Observe => Self::Observe,
            PresetName::Warn => Self::Warn,
            PresetName::Enforce => Self::Enforce,
        }
    }
}

pub(super) fn run(arguments: &Arguments) -> Result<u8> {
    let sources = Sources {
        config: arguments.config.clone(),
        policies: arguments.policies.clone(),
        context: arguments.context.clone(),
        ..Sources::default()
    };
    if arguments.paths.iter().any(|path| path.as_os_str() == STDIN) {
        sources.refuse_stdin()?;
        if arguments.changed_since.is_some() {
            bail!("--changed-since needs files; standard input has no revision");
        }
    }
    let sources = sources.read()?;
    let configuration = sources.configuration_with(arguments.preset.map(Preset::from))?;
    let policies = sources.policies(&configuration)?;
    let (context, problems) = sources.context_and_problems();
    let mut inputs = inputs::read(&arguments.paths, &arguments.skip);
    let unchanged = match &arguments.changed_since {
        Some(revision) => Unchanged::since(revision, inputs.files.iter().filter_map(inputs::File::path))?,
        None => Unchanged::default(),
    };
    let check = Check { arguments, configuration, policies, context, problems, unchanged };
    let mut report = check.judge(&inputs);
    if arguments.fix {
        report = fix::apply(&check, &mut inputs, report)?;
        // These fixes were tried and not accepted.
        report.entries.iter_mut().for_each(|entry| entry.fix = None);
    }
    if !(arguments.fix && inputs.text(STDIN_NAME).is_some()) {
        report.print(arguments.output, &inputs)?;
    }
    Ok(match (report.errors.is_empty(), report.denies()) {
        (false, _) => FAILED,
        (true, true) => DENIED,
        (true, false) => OK,
    })
}

/// The settings and the context of a check.
struct Check<'a> {
    arguments: &'a Arguments,
    configuration: Configuration,
    policies: PolicySet,
    context: View,
    problems: Vec<inputs::Problem>,
    unchanged: Unchanged,
}

impl Check<'_> {
    /// Judges the manifests in these files.
    fn judge(&self, inputs: &Inputs) -> Report {
        let Self { arguments, configuration, policies, .. } = self;
        let site = &configuration.site;
        let mut view = self.context.clone();
        let mut report = Report { errors: self.problems.clone(), ..Report::default() };
        let items = read(inputs, &self.unchanged, &mut view, &mut report);
        for item in items.iter().filter(|item| item.scope == Scope::Run) {
            let mut object = item.object.clone();
            baseline::give_profile(&mut object, site);
            view.insert(object);
        }
        let judged = || items.iter().filter(|item| !item.is_context);
        report.assumed = judged().filter_map(|item| rules::assumed_for_dns(&item.object, site, &view)).collect();
        report.undescribed = undescribed(site, &view, judged().map(|item| &item.object));
        baseline::complete(&mut view, policies, site);
        let views = views(&view, &items);
        let named = arguments.author.as_deref().map(|username| Named {
            username,
            groups: &arguments.author_groups,
            bypass: &site.bypass,
        });
        let mut occasion = Occasion::anonymous(Timestamp::now());
        if let Some(named) = &named {
            occasion.author = named;
        }
        let overwritten = duplicates::overwritten(&items);
        let mut printed = HashSet::new();
        let mut progress = Progress::start();
        let numbered = items.iter().zip(overwritten).enumerate();
        for (number, (item, overwriting)) in numbered.filter(|(_, (item, _))| !item.is_context) {
            progress.update("checking", number, items.len(), "objects");
            let Item { found, object, scope, .. } = item;
            let Some(view) = views.get(scope) else { continue };
            let change = Change::Write { new: object, old: None };
            let mut verdict = engine::judge_within_budget(configuration, view, change, occasion);
            let unknown = without_findings_on_variables(item, &mut verdict.judgements);
            let mut entries = remarks(item, &unknown);
            entries.extend(overwriting.and_then(|position| items.get(position)).map(|by| overwritten_by(item, by)));
            // Each patch parses the manifest again, and a user does not apply hundreds of patches to one object by hand.
            let mut fixes = 0..FIXES;
            entries.extend(verdict.judgements.into_iter().map(|judgement| Entry {
                manifest: item.manifest,
                file: found.file.clone(),
                mark: found.document.mark_of(&judgement.finding.path),
                fix: judgement.finding.fix.as_ref().filter(|_| fixes.next().is_some()).and_then(|fix| found.fix(fix)),
                judgement,
            }));
            // A manifest that belongs to several builds is checked in each of them. Equal findings are reported once.
            entries.retain(|entry| {
                let finding = &entry.judgement.finding;
                let (path, message) = (finding.path.to_string(), finding.message.clone());
                printed.insert((entry.file.clone(), entry.mark.line, finding.rule, path, message))
            });
            report.entries.extend(entries);
        }
        report
    }
}

/// A manifest to judge.
#[derive(Debug)]
struct Item {
    /// The position of the manifest in [`Report::objects`].
    manifest: usize,
    found: Found,
    object: Object,
    scope: Scope,
    /// True if the manifest is not checked, because its file has not changed.
    is_context: bool,
    /// Unresolved variables that do not prevent the check.
    unresolved: Vec<Unresolved>,
}

/// Reads the manifests to judge. A manifest without a namespace becomes one item for each namespace that it goes to.
fn read(inputs: &Inputs, unchanged: &Unchanged, view: &mut View, report: &mut Report) -> Vec<Item> {
    report.errors.extend(inputs.problems.iter().cloned());
    report.skipped.extend(inputs.skipped.iter().cloned());
    report.with_patches.clone_from(&inputs.with_patches);
    let mut items = Vec::new();
    let mut loose = BTreeSet::new();
    let mut progress = Progress::start();
    for (number, file) in inputs.files.iter().enumerate() {
        progress.update("reading", number, inputs.files.len(), "files");
        let is_context = file.path().is_some_and(|path| unchanged.contains(path));
        let contents = file.contents();
        let placements = inputs.scopes.placements(file);
        report.errors.extend(contents.problems);
        report.skipped.extend(contents.skipped);
        for found in contents.found {
            let unresolved = found.unresolved();
            let object = match found.read() {
                Ok(object) => object,
                Err(error) => {
                    let variable = unresolved.iter().find(|one| variables::overlap(&one.path, &error.path));
                    report.errors.push(match variable {
                        Some(variable) => unresolved_variable(&found, variable),
                        None => found.problem(&error.path, error.to_string()),
                    });
                    continue;
                }
            };
            let Some(object) = object else {
                report.passed_over += usize::from(!is_context);
                placed(&found, &placements, true).iter().for_each(|(found, _)| found.insert_unread(view));
                continue;
            };
            // The agent would not enforce the text of the variable, and the user does not intend to apply it.
            let is_fault = |variable: &&Unresolved| {
                let faults = object.faults.iter().filter(|fault| fault.kind != FaultKind::UnknownField);
                faults.into_iter().any(|fault| variables::overlap(&variable.path, &fault.path))
            };
            if let Some(variable) = unresolved.iter().find(is_fault) {
                report.errors.push(unresolved_variable(&found, variable));
                continue;
            }
            let placed = placed(&found, &placements, is_namespaced(&object));
            if placed.is_empty() {
                report.deleted += usize::from(!is_context);
                continue;
            }
            let manifest = report.add(&found, &object.id, is_context);
            for (found, scope) in placed {
                if scope == Scope::Loose {
                    loose.insert(file.folder().map(|folder| folder.display().to_string()).unwrap_or_default());
                }
                if let Ok(Some(object)) = found.read() {
                    items.push(Item { manifest, found, object, scope, is_context, unresolved: unresolved.clone() });
                }
            }
        }
    }
    if loose.len() > 1 {
        report.one_namespace =
            loose.into_iter().map(|folder| if folder.is_empty() { ".".into() } else { folder }).collect();
    }
    items
}

fn unresolved_variable(found: &Found, variable: &Unresolved) -> inputs::Problem {
    let Unresolved { path, variable } = variable;
    let message = format!(
        "{path}: unresolved variable `{variable}`; render the manifest first, for example with `flux build`, \
         `envsubst` or `helm template`"
    );
    found.problem(path, message)
}

/// Returns a manifest as each build applies it, with its scope. Empty if each build deletes the object.
pub(super) fn placed(found: &Found, placements: &[Placement], is_namespaced: bool) -> Vec<(Found, Scope)> {
    let mut seen = HashSet::new();
    let mut placed: Vec<(Found, Scope)> =
        placements.iter().filter_map(|placement| placement.place(found, is_namespaced)).collect();
    placed.retain(|(found, scope)| seen.insert((found.name_and_namespace(), *scope)));
    placed
}

/// Returns true if an object belongs to a namespace, whether or not its manifest names it.
pub(super) fn is_namespaced(object: &Object) -> bool {
    match &object.body {
        Body::Policies(policies) => {
            policies.iter().any(|policy| matches!(policy.subject.namespaces, Namespaces::Own(_)))
        }
        Body::Workload(_) | Body::Service(_) => true,
        Body::Backends(backends) => {
            object.id.namespace.is_some() || backends.iter().any(|backend| backend.namespace.is_none())
        }
        Body::Namespace(_) | Body::Tier(_) | Body::Contract(_) => false,
    }
}

/// Returns the view for the items of each scope. The items of one unnamed namespace do not see those of another.
fn views(base: &View, items: &[Item]) -> BTreeMap<Scope, View> {
    let mut views: BTreeMap<Scope, View> = BTreeMap::new();
    let mut all = base.clone();
    for item in items.iter().filter(|item| item.scope != Scope::Run) {
        views.entry(item.scope).or_insert_with(|| base.clone()).insert(item.object.clone());
        all.insert(item.object.clone());
    }
    views.insert(Scope::Run, all);
    views
}

/// Removes the findings on values of a Namespace that are unresolved variables. Returns the paths of these values.
fn without_findings_on_variables(item: &Item, judgements: &mut Vec<Judgement>) -> Vec<Path> {
    let mut unknown = Vec::new();
    if matches!(item.object.body, Body::Namespace(_)) {
        judgements.retain(|judgement| {
            let is_about = |one: &&Unresolved| {
                let (variable, finding) = (one.path.steps().len(), judgement.finding.path.steps().len());
                variable == finding && variables::overlap(&one.path, &judgement.finding.path)
            };
            let about = item.unresolved.iter().find(is_about);
            unknown.extend(about.map(|one| one.path.clone()));
            about.is_none()
        });
    }
    unknown
}

/// Returns findings on one manifest that no rule makes: dropped text and unresolved variables. The values at the paths
/// in `unknown` were not checked.
fn remarks(item: &Item, unknown: &[Path]) -> Vec<Entry> {
    let dropped = item.found.document.dropped.iter().map(|dropped| Entry {
        mark: Mark { line: dropped.line, column: 1 },
        ..remark(item, "dropped-text", Path::root(), dropped.problem.clone(), "remove the ignored text".into())
    });
    let unresolved = item.unresolved.iter().map(|Unresolved { path, variable }| {
        let check = if unknown.contains(path) { "its value was not checked" } else { "its text was checked literally" };
        let message = format!("unresolved variable `{variable}`; {check}");
        remark(item, "unresolved-variable", path.clone(), message, "render the manifest before the check".into())
    });
    dropped.chain(unresolved).collect()
}

fn overwritten_by(item: &Item, by: &Item) -> Entry {
    let message =
        format!("{} is defined twice; the manifest at {} replaces this one", item.object.id, by.found.place());
    let help =
        "delete or rename one of the two manifests; if they are for different clusters, check each folder separately";
    remark(item, "overwritten-object", Path::root(), message, help.into())
}

fn remark(item: &Item, rule: &'static str, path: Path, message: String, help: String) -> Entry {
    let finding = Finding {
        rule,
        object: item.object.id.clone(),
        path,
        message,
        closest: None,
        help,
        fix: None,
        is_advice: false,
    };
    Entry {
        manifest: item.manifest,
        file: item.found.file.clone(),
        mark: item.found.document.mark_of(&finding.path),
        judgement: Judgement { finding, action: Mode::Warn, spared: None },
        fix: None,
    }
}

/// Returns the namespaces that have checked policies but no Namespace manifest with their labels, in order.
fn undescribed<'a>(site: &Site, view: &View, judged: impl Iterator<Item = &'a Object>) -> Vec<String> {
    let with_policies = judged.filter(|object| !object.policies().is_empty()).filter_map(Object::namespace);
    let names: BTreeSet<&str> = with_policies
        .filter(|name| !name.is_empty() && !site.is_left_alone(name) && view.all_labels(name).is_none())
        .collect();
    names.into_iter().map(str::to_owned).collect()
}
