//! `portcullis rules promote`: the overrides that enforce a rule in more namespaces.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};
use jiff::Timestamp;

use super::named;
use crate::cli::audit::Loaded;
use crate::cli::state::StateArguments;
use crate::cli::words::plural;
use crate::cli::{DENIED, FAILED, FAINT, OK, RED};
use crate::config::Configuration;
use crate::engine;
use crate::model::ObjectRef;
use crate::rules::{Change, Mode, Occasion};
use crate::yaml;

/// Write the overrides that enforce a rule in more namespaces.
///
/// Evaluates the stored objects of the namespaces with the rule in the new mode. The objects that would be denied are
/// listed on standard error, and the `overrides` of the configuration are printed to standard output. A stored object
/// stays as it is: it is denied when it is recreated, and updates of it are warned about the fault that it has already.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  portcullis rules promote any-port --cluster --config portcullis.yaml
  portcullis rules promote any-port --namespaces shop,orders --cluster --config portcullis.yaml
  portcullis rules promote host-network --mode warn manifests/

Exit status: 0 overrides were written, 1 no namespace is ready, 2 failed, or a part of the input was not read.")]
pub(super) struct Arguments {
    /// The rule.
    rule: String,
    /// Files and folders with manifests; - is standard input.
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,
    #[command(flatten)]
    state: StateArguments,
    /// Namespaces of the next wave [default: all namespaces without an object that would be denied].
    #[arg(long, short, value_name = "NAME", value_delimiter = ',')]
    namespaces: Vec<String>,
    /// The mode of the rule in these namespaces.
    #[arg(long, value_enum, default_value_t = Step::Deny)]
    mode: Step,
}

/// A mode that users notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Step {
    /// Show the findings to users as warnings.
    Warn,
    /// Deny the requests.
    Deny,
}

impl From<Step> for Mode {
    fn from(step: Step) -> Self {
        match step {
            Step::Warn => Self::Warn,
            Step::Deny => Self::Deny,
        }
    }
}

/// Maximum number of objects listed for one namespace.
const MAX_NAMED: usize = 3;

/// The evaluated objects of a namespace.
#[derive(Default)]
struct Tally<'a> {
    objects: usize,
    /// Objects for which the rule has a finding.
    found: BTreeSet<&'a ObjectRef>,
}

pub(super) fn run(arguments: &Arguments) -> Result<u8> {
    let rule = named(&arguments.rule)?.name;
    let mode = Mode::from(arguments.mode);
    arguments.state.expect_input(&arguments.paths)?;
    let loaded = Loaded::read(&arguments.state, &arguments.paths)?;
    for unread in &loaded.unread {
        anstream::eprintln!("{RED}not read{RED:#}: {}: {}", unread.kind, unread.why);
    }
    for assumed in &loaded.assumed {
        anstream::eprintln!("{FAINT}assumed:{FAINT:#} {assumed}");
    }
    let candidates = candidates(arguments, &loaded, rule, mode)?;
    let text = arguments.state.configuration_text()?;
    let overridden = |names: &[String]| Configuration::with_override(text.as_deref(), rule, mode, names);
    let (configuration, _) = overridden(&candidates)?;
    let tallies = tallies(&loaded, &configuration, &candidates, rule, mode);
    let is_ready = |name: &String| tallies.get(name.as_str()).is_none_or(|tally| tally.found.is_empty());
    let (wave, rest): (Vec<String>, Vec<String>) =
        candidates.iter().cloned().partition(|name| !arguments.namespaces.is_empty() || is_ready(name));
    report(&tallies, &wave, rule, mode, "in the overrides");
    report(&tallies, &rest, rule, mode, "left out");
    if wave.is_empty() {
        match rest.len() {
            0 if loaded.stored.namespaces().len() == 0 => anstream::eprintln!("no namespace was read"),
            0 => anstream::eprintln!("{rule} is at least as strict as `{}` in every namespace already", mode.name()),
            count => {
                anstream::eprintln!("no namespace is ready; fix the objects above in {}", plural(count, "namespace"));
            }
        }
        return Ok(if loaded.unread.is_empty() { DENIED } else { FAILED });
    }
    anstream::eprintln!(
        "{FAINT}recent requests: sum by (action) (increase(portcullis_admission_findings_total{{rule=\"{rule}\"}}[7d])){FAINT:#}"
    );
    let (_, overrides) = overridden(&wave)?;
    let overrides = serde_json::from_value(serde_json::json!({"overrides": overrides}))?;
    write!(anstream::stdout().lock(), "{}", yaml::write(&overrides))?;
    // An object that was not read may be denied.
    Ok(if loaded.unread.is_empty() { OK } else { FAILED })
}

/// Returns the namespaces in which the mode of a rule may change: the given ones, or all in which it is less strict.
fn candidates(arguments: &Arguments, loaded: &Loaded, rule: &str, mode: Mode) -> Result<Vec<String>> {
    if let Some(unknown) = arguments.namespaces.iter().find(|name| loaded.stored.namespace(name).is_none()) {
        bail!("namespace `{unknown}` is unknown: it is neither in the manifests nor in the cluster");
    }
    if !arguments.namespaces.is_empty() {
        let names: BTreeSet<&String> = arguments.namespaces.iter().collect();
        return Ok(names.into_iter().cloned().collect());
    }
    let is_less_strict = |name: &str| {
        let labels = loaded.stored.all_labels(name);
        let now = loaded.configuration.asked(Some(name), labels).find(|asked| asked.definition.name == rule);
        now.map_or(Mode::Off, |asked| asked.mode) > mode
    };
    let names = loaded.stored.namespaces().map(|(name, _)| &**name);
    // Platform namespaces have objects that need what the rules forbid elsewhere.
    let names = names.filter(|name| !loaded.configuration.site.is_platform(name) && is_less_strict(name));
    Ok(names.map(str::to_owned).collect::<BTreeSet<_>>().into_iter().collect())
}

/// Evaluates the objects of these namespaces.
fn tallies<'a>(
    loaded: &'a Loaded,
    configuration: &Configuration,
    namespaces: &[String],
    rule: &str,
    mode: Mode,
) -> BTreeMap<String, Tally<'a>> {
    let occasion = Occasion::anonymous(Timestamp::now());
    let mut tallies: BTreeMap<String, Tally<'a>> =
        namespaces.iter().map(|name| (name.clone(), Tally::default())).collect();
    for object in loaded.objects().into_iter().map(|audited| audited.object) {
        let Some(tally) = object.namespace().and_then(|name| tallies.get_mut(name)) else { continue };
        tally.objects += 1;
        let change = Change::Write { new: object, old: None };
        let verdict = engine::judge_within_budget(configuration, &loaded.view, change, occasion);
        let mut found = verdict.judgements.iter().filter(|judgement| judgement.finding.rule == rule);
        if found.any(|judgement| judgement.action == mode) {
            tally.found.insert(&object.id);
        }
    }
    tallies
}

/// Prints the counts of namespaces to standard error.
fn report(tallies: &BTreeMap<String, Tally<'_>>, namespaces: &[String], rule: &str, mode: Mode, place: &str) {
    let effect = match mode {
        Mode::Deny => "would be denied",
        _ => "would be warned about",
    };
    for (name, tally) in namespaces.iter().filter_map(|name| Some((name, tallies.get(name)?))) {
        let (count, objects) = (tally.found.len(), plural(tally.objects, "stored object"));
        anstream::eprintln!("{name} ({place}): {rule}: {count} of {objects} {effect}");
        for object in tally.found.iter().take(MAX_NAMED) {
            anstream::eprintln!("  {FAINT}{object}{FAINT:#}");
        }
        if count > MAX_NAMED {
            anstream::eprintln!("  {FAINT}and {} more{FAINT:#}", count - MAX_NAMED);
        }
    }
}
