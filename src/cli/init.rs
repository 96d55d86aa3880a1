//! `portcullis init`: a configuration that fits a cluster.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::Args;
use jiff::Timestamp;
use serde_json::json;

use super::audit::Loaded;
use super::state::StateArguments;
use super::words::plural;
use super::{FAILED, OK, RED};
use crate::audit::Plugin;
use crate::config::{API_VERSION, Configuration, KIND};
use crate::engine;
use crate::model::ObjectRef;
use crate::recommendation::{Recommendation, recommend};
use crate::rules::{Change, Mode, Occasion};
use crate::yaml;

/// Inspect a cluster and print a configuration that fits it, with the reason for each setting.
///
/// The configuration contains only settings that differ from the built-in ones, or from those of --config. Read it
/// before you use it: a setting is recommended by what runs in the cluster now.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  portcullis init --cluster > portcullis.yaml
  portcullis init cluster-dump.yaml

Exit status: 0 a configuration was printed, 2 failed, or a part of the input was not read.")]
pub(super) struct Arguments {
    /// Files and folders with manifests of the cluster; - is standard input.
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,
    #[command(flatten)]
    state: StateArguments,
}

pub(super) fn run(arguments: &Arguments) -> Result<u8> {
    arguments.state.expect_input(&arguments.paths)?;
    let loaded = Loaded::read(&arguments.state, &arguments.paths)?;
    for unread in &loaded.unread {
        anstream::eprintln!("{RED}not read{RED:#}: {}: {}", unread.kind, unread.why);
    }
    let text = text(&loaded)?;
    Configuration::read(&text).context("the recommended configuration is not valid; please report this")?;
    std::io::stdout().lock().write_all(text.as_bytes())?;
    if loaded.objects().is_empty() {
        anstream::eprintln!("no objects were read, so nothing is known about the cluster");
    }
    // What was not read may need other settings.
    Ok(if loaded.unread.is_empty() { OK } else { FAILED })
}

/// Returns the text of the configuration.
fn text(loaded: &Loaded) -> Result<String> {
    let mut text = format!("apiVersion: {API_VERSION}\nkind: {KIND}\n");
    for sentence in loaded.plugin.iter().flat_map(described) {
        writeln!(text, "\n# {sentence}")?;
    }
    let recommendations = [preset(loaded)].into_iter().flatten();
    for Recommendation { field, value, reasons } in
        recommendations.chain(recommend(&loaded.stored, &loaded.configuration.site))
    {
        text.push('\n');
        for reason in reasons {
            writeln!(text, "# {reason}")?;
        }
        text.push_str(&yaml::write(&serde_json::from_value(json!({ field: value }))?));
    }
    Ok(text)
}

/// Sentences about the network plugin.
fn described(plugin: &Plugin) -> Vec<String> {
    let found = plugin.found.iter().map(|found| {
        let version = found.version.as_deref().map(|version| format!(" {version}")).unwrap_or_default();
        let effect = match (found.enforces, &found.note) {
            (Some(true), _) => "it enforces NetworkPolicy".to_owned(),
            (_, Some(note)) => note.clone(),
            (Some(false), None) => "it does not enforce NetworkPolicy".to_owned(),
            (None, None) => "it is unknown whether it enforces NetworkPolicy".to_owned(),
        };
        format!("Network plugin {}{version} ({}): {effect}.", found.name, found.object)
    });
    found.chain(plugin.notes.iter().cloned()).collect()
}

/// Recommends a first week without denials, if stored objects would be denied.
fn preset(loaded: &Loaded) -> Option<Recommendation> {
    let occasion = Occasion::anonymous(Timestamp::now());
    let mut denied: HashSet<&ObjectRef> = HashSet::new();
    let objects = loaded.objects();
    for object in objects.iter().map(|audited| audited.object) {
        let change = Change::Write { new: object, old: None };
        let verdict = engine::judge_within_budget(&loaded.configuration, &loaded.view, change, occasion);
        if verdict.judgements.iter().any(|judgement| judgement.action == Mode::Deny) {
            denied.insert(&object.id);
        }
    }
    let (count, all) = (denied.len(), plural(objects.len(), "stored object"));
    (count > 0).then(|| Recommendation {
        field: "preset",
        value: json!("observe"),
        reasons: vec![
            format!("{count} of {all} would be denied: `portcullis audit` lists them."),
            "Observe first, and enforce in steps: see docs/first-week.md.".to_owned(),
        ],
    })
}
