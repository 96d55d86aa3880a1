//! `portcullis exempt`: the objects that an annotation exempts from rules.

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::{Result, anyhow};
use clap::{Args, Subcommand};
use jiff::Timestamp;
use kube::Api;
use kube::api::DynamicObject;
use serde::Serialize;

use super::cluster_arguments::ClusterArguments;
use super::output::{Output, print_json};
use super::sources::Sources;
use super::{BOLD, FAINT, OK, YELLOW, block_on};
use crate::cluster::{Cluster, Owned, owners};
use crate::engine::{self, Exemption};
use crate::model::Object;
use crate::rules::RULES;
use crate::view::Site;

/// List the exemptions of objects from rules.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// List the objects that an annotation exempts from rules.
    ///
    /// An exemption is the annotation `<labelDomain>/exempt` of an object, with the annotations `reason` and `until`.
    /// Needs read access. Kinds that may not be read are named, and the others are listed.
    #[command(
        after_help = "Examples:\n  portcullis exempt list\n  portcullis exempt list --namespace shop --output json"
    )]
    List(List),
}

#[derive(Debug, Args)]
struct List {
    /// List the objects of this namespace [default: all objects].
    #[arg(long, short, value_name = "NAMESPACE")]
    namespace: Option<String>,
    #[command(flatten)]
    cluster: ClusterArguments,
    /// Read the label domain from this configuration [default: the built-in configuration].
    #[arg(long, value_name = "FILE", env = "PORTCULLIS_CONFIG")]
    config: Option<PathBuf>,
    /// Print the list in this format.
    #[arg(long, short, value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// Maximum number of objects that are read again for the author of their annotation.
const MAX_AUTHORS: usize = 500;

/// An exemption of one object from one rule.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    kind: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    namespace: Option<String>,
    name: String,
    rule: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<Timestamp>,
    /// The field manager that owns the annotation, such as kubectl-annotate.
    #[serde(skip_serializing_if = "Option::is_none")]
    set_by: Option<String>,
    /// The time of the last write of that field manager.
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<Timestamp>,
    is_valid: bool,
    /// The reason why the exemption has no effect.
    #[serde(skip_serializing_if = "Option::is_none")]
    fault: Option<String>,
}

pub(super) fn run(arguments: &Arguments) -> Result<u8> {
    let What::List(list) = &arguments.what;
    let sources = Sources { config: list.config.clone(), ..Sources::default() };
    let site = sources.read()?.configuration()?.site;
    let (rows, missing) = block_on(async {
        let cluster = list.cluster.connect().await?;
        read(&site, &cluster, list.namespace.as_deref()).await
    })?;
    match list.output {
        Output::Json => print_json(&serde_json::json!({ "exemptions": rows, "missing": missing }))?,
        Output::Text => print_text(&rows, &missing)?,
    }
    Ok(OK)
}

/// Returns the exemptions in a cluster, and what could not be read.
async fn read(site: &Site, cluster: &Cluster, namespace: Option<&str>) -> Result<(Vec<Row>, Vec<String>)> {
    let annotation = site.exempt_annotation();
    let is_wanted = |object: &Object| {
        object.annotations.get(&annotation).is_some() && namespace.is_none_or(|name| object.namespace() == Some(name))
    };
    let snapshot = cluster.snapshot_keeping(is_wanted).await;
    let snapshot = snapshot.map_err(|why| anyhow!("API server {}: {why}", cluster.server))?;
    let now = Timestamp::now();
    let mut rows = Vec::new();
    for (number, object) in snapshot.objects.iter().enumerate() {
        let written = if number < MAX_AUTHORS { author(cluster, object, &annotation).await } else { None };
        let (set_by, since) = written.unzip();
        for rule in RULES {
            let Some(found) = engine::exemption(site, object, rule.name, now) else { continue };
            let (given, fault) = match found {
                Ok(given) => (Some(given), None),
                Err(why) => (None, Some(why)),
            };
            rows.push(Row {
                kind: object.id.kind.to_string(),
                namespace: object.id.namespace.as_deref().map(str::to_owned),
                name: object.id.name.to_string(),
                rule: rule.name,
                reason: given.map(|Exemption { reason, .. }| reason.to_owned()),
                until: given.and_then(|given| given.until),
                set_by: set_by.clone(),
                since: since.flatten(),
                is_valid: fault.is_none(),
                fault,
            });
        }
    }
    rows.sort_by(|a, b| (&a.namespace, &a.kind, &a.name, a.rule).cmp(&(&b.namespace, &b.kind, &b.name, b.rule)));
    Ok((rows, snapshot.missing))
}

/// Returns the field manager that owns an annotation, and the time of its last write.
async fn author(cluster: &Cluster, object: &Object, annotation: &str) -> Option<(String, Option<Timestamp>)> {
    let served = cluster.served.load();
    let resource = served.find(object.id.group(), &object.id.kind)?;
    let api: Api<DynamicObject> = match &object.id.namespace {
        Some(namespace) => Api::namespaced_with(cluster.client.clone(), namespace, resource),
        None => Api::all_with(cluster.client.clone(), resource),
    };
    let found = api.get_metadata(&object.id.name).await.ok()?;
    let entry = owners(&found, Owned::Annotation(annotation)).next()?;
    Some((entry.manager.clone().unwrap_or_default(), entry.time.as_ref().map(|time| time.0)))
}

fn print_text(rows: &[Row], missing: &[String]) -> Result<()> {
    let mut out = anstream::stdout().lock();
    if rows.is_empty() {
        writeln!(out, "No object is exempt from a rule.")?;
    }
    for row in rows {
        let namespace = row.namespace.as_ref().map(|namespace| format!("{namespace}/")).unwrap_or_default();
        let since = row.since.map(|since| format!(" since {since:.0}")).unwrap_or_default();
        let set_by = row.set_by.as_ref().map(|manager| format!(", set by {manager}")).unwrap_or_default();
        let until = row.until.map_or_else(|| "without an end".to_owned(), |until| format!("until {until}"));
        write!(out, "{BOLD}{} {namespace}{}{BOLD:#}  {}{since}", row.kind, row.name, row.rule)?;
        match (&row.reason, &row.fault) {
            (Some(reason), _) => writeln!(out, ", {until}{set_by}: {reason}")?,
            (None, fault) => {
                let fault = fault.as_deref().unwrap_or_default();
                writeln!(out, "{set_by}\n  {YELLOW}not in effect{YELLOW:#}: {fault}")?;
            }
        }
    }
    for missing in missing {
        writeln!(out, "{FAINT}not read{FAINT:#}: {missing}")?;
    }
    Ok(())
}
