//! `portcullis check`: manifests judged as the webhook would judge them.

use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, ValueEnum};
use jiff::Timestamp;

use super::report::{self, Entry, Report};
use super::sources::{STDIN, Sources, documents, read_manifests};
use super::{DENIED, FAILED, OK};
use crate::baseline;
use crate::budget::{self, Limits};
use crate::config::Preset;
use crate::engine::{self, Verdict};
use crate::model::Object;
use crate::rules::{Change, Named, Occasion};
use crate::view::{Site, View};

/// Judge manifests, as the webhook would.
///
/// Each manifest is judged against all the others given, and against those of --context: DNS that one policy allows
/// counts for the pods of another.
#[derive(Debug, Args)]
#[command(after_help = "Exit status: 0 nothing is denied, 1 something is denied, 2 something could not be judged.\n\n\
    Examples:\n  portcullis check manifests/\n  kustomize build . | portcullis check --output json -\n  \
    portcullis check --context cluster-dump.yaml new-policy.yaml")]
pub(super) struct Arguments {
    /// Manifests, folders of them, or - for standard input.
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// The configuration [default: the one that ships].
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Judge with another preset than the configuration has, such as `enforce` to see what it will deny.
    #[arg(long, value_enum, value_name = "PRESET")]
    preset: Option<PresetName>,
    /// The folder of policies for namespaces [default: the one that ships]. A namespace is judged as it will be, with the
    /// policies that the controller writes into it.
    #[arg(long, value_name = "FOLDER")]
    policies: Option<PathBuf>,
    /// Manifests that are there already: they count, and are not judged themselves.
    #[arg(long, value_name = "PATH")]
    context: Vec<PathBuf>,
    /// Who will apply the manifests: what only some may do is allowed to those whom `bypass` of the configuration lists.
    /// Without it that is left to the cluster.
    #[arg(long = "as", value_name = "USER")]
    author: Option<String>,
    /// A group that they are in.
    #[arg(long = "as-group", value_name = "GROUP", requires = "author")]
    author_groups: Vec<String>,
    /// How to print what was found.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// How many patches are shown for one object.
const FIXES: usize = 100;

/// How to print what was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people.
    Text,
    /// For programs: one JSON object.
    Json,
}

/// How strict the rules are whose mode the configuration does not give itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum PresetName {
    /// Nothing is denied or shown: findings go to the audit log, logs and metrics.
    Observe,
    /// What would be denied is a warning.
    Warn,
    /// Each rule has its own mode.
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
    };
    if arguments.paths.iter().any(|path| path.as_os_str() == STDIN) {
        sources.refuse_stdin()?;
    }
    let sources = sources.read()?;
    let configuration = sources.configuration_with(arguments.preset.map(Preset::from))?;
    let policies = sources.policies(&configuration)?;
    let mut report = Report::default();
    let mut view = sources.context()?;
    let mut read: Vec<(super::sources::Found, Object)> = Vec::new();
    for (file, text) in read_manifests(&arguments.paths) {
        match text.and_then(|text| documents(&file, &text)) {
            Ok((found, errors)) => {
                report.errors.extend(errors);
                for found in found {
                    match found.read() {
                        Ok(Some(object)) => read.push((found, object)),
                        Ok(None) => {
                            report.passed_over += 1;
                            found.insert_unread(&mut view);
                        }
                        Err(error) => report.errors.push(format!("{}: {error}", found.place_of(&error.path))),
                    }
                }
            }
            Err(error) => report.errors.push(format!("{error:#}")),
        }
    }
    for (_, object) in &read {
        let mut object = object.clone();
        baseline::give_profile(&mut object, &configuration.site);
        view.insert(object);
    }
    report.undescribed = undescribed(&configuration.site, &view, read.iter().map(|(_, object)| object));
    baseline::complete(&mut view, &policies, &configuration.site);
    report.resources = read.len();
    let named = arguments.author.as_deref().map(|username| Named {
        username,
        groups: &arguments.author_groups,
        bypass: &configuration.site.bypass,
    });
    let mut occasion = Occasion::anonymous(Timestamp::now());
    if let Some(named) = &named {
        occasion.author = named;
    }
    for (found, object) in &read {
        let change = Change::Write { new: object, old: None };
        let judged = budget::run(Limits::default(), || engine::judge(&configuration, &view, change, occasion));
        let verdict = judged.unwrap_or_else(|exceeded| Verdict {
            judgements: engine::unjudged(&configuration, &object.id, None, false, exceeded).into_iter().collect(),
        });
        // Each patch reads the manifest anew, and nobody applies hundreds of them to one object by hand.
        let mut fixes = 0..FIXES;
        report.entries.extend(verdict.judgements.into_iter().map(|judgement| Entry {
            file: found.file.clone(),
            line: found.document.line_of(&judgement.finding.path),
            fix: judgement.finding.fix.as_ref().filter(|_| fixes.next().is_some()).and_then(|fix| found.fix(fix)),
            judgement,
        }));
    }
    match arguments.output {
        Output::Text => report::text::print(&report)?,
        Output::Json => report::json::print(&report)?,
    }
    for error in &report.errors {
        anstream::eprintln!("{}error{:#}: {error}", super::RED, super::RED);
    }
    Ok(match (report.errors.is_empty(), report.denies()) {
        (false, _) => FAILED,
        (true, true) => DENIED,
        (true, false) => OK,
    })
}

/// The namespaces with judged policies of which no manifest tells the labels, in order.
fn undescribed<'a>(site: &Site, view: &View, judged: impl Iterator<Item = &'a Object>) -> Vec<String> {
    let with_policies = judged.filter(|object| !object.policies().is_empty()).filter_map(Object::namespace);
    let names: BTreeSet<&str> = with_policies
        .filter(|name| !name.is_empty() && !site.is_left_alone(name) && view.all_labels(name).is_none())
        .collect();
    names.into_iter().map(str::to_owned).collect()
}
