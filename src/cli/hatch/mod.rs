//! `portcullis hatch`: switches enforcement off for a namespace, with a reason and an end time.

mod list;
mod namespace_patch;

use std::io::Write as _;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use anyhow::{Result, anyhow, bail};
use clap::{Args, Subcommand};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client, ResourceExt as _};
use serde_json::{Value, json};

use self::list::list;
use self::namespace_patch::patch_namespace;
use super::cluster_arguments::ClusterArguments;
use super::output::Output;
use super::sources::Sources;
use super::{BOLD, DENIED, FAILED, OK, YELLOW, block_on};
use crate::cluster::words;
use crate::view::{Site, parse_rfc3339};

/// The field manager of the labels and annotations of a hatch.
const FIELD_MANAGER: &str = "portcullis-hatch";
/// Maximum time to wait until the controller has applied a change. Another replica takes over when the Lease of a
/// failed leader has expired, which takes 15 s and one retry.
const PATIENCE: Duration = Duration::from_secs(30);
/// Time after which the command says what it waits for.
const SILENCE: Duration = Duration::from_secs(3);
/// Polling interval.
const STEP: Duration = Duration::from_millis(200);
/// Default duration of a hatch.
const SHORT: SignedDuration = SignedDuration::from_hours(1);
/// Labels and annotations that GitOps controllers set, and the names of these controllers.
const FROM_GIT: [(&str, &str); 4] = [
    ("kustomize.toolkit.fluxcd.io/name", "Flux"),
    ("helm.toolkit.fluxcd.io/name", "Flux"),
    ("argocd.argoproj.io/instance", "Argo CD"),
    ("argocd.argoproj.io/tracking-id", "Argo CD"),
];

/// Open, close and list the escape hatches of namespaces.
///
/// While the hatch of a namespace is open, changes of the objects in it are not denied: each denial becomes a warning.
/// Changes of the namespace itself may still be denied.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    portcullis hatch open shop --reason 'INC-1234: DNS of the payment provider moved' --for 30m\n  \
    portcullis hatch list\n  \
    portcullis hatch close shop\n\n\
    Exit status: 0 success, 1 denied by the webhook, 2 failure.")]
pub(super) struct Arguments {
    #[command(subcommand)]
    what: What,
    #[command(flatten)]
    cluster: ClusterArguments,
    /// Read the label domain and the maximum duration of a hatch from this configuration [default: the built-in
    /// configuration].
    ///
    /// Use the configuration of the Portcullis that runs in the cluster.
    #[arg(long, value_name = "FILE", env = "PORTCULLIS_CONFIG", global = true)]
    config: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Switch enforcement off for a namespace.
    Open(Open),
    /// Switch enforcement on again for a namespace.
    Close {
        /// Name of the namespace.
        namespace: String,
        /// Send a dry run to the API server and change nothing.
        #[arg(long)]
        dry_run: bool,
    },
    /// List the namespaces where enforcement is switched off.
    List {
        /// Print the list in this format.
        #[arg(long, value_enum, default_value_t = Output::Text)]
        output: Output,
    },
}

#[derive(Debug, Args)]
struct Open {
    /// Name of the namespace.
    namespace: String,
    /// Record this reason, such as an incident number.
    ///
    /// The reason is stored as an annotation of the namespace, and `hatch list` prints it.
    #[arg(long, value_name = "TEXT", value_parser = reason)]
    reason: String,
    /// Close the hatch after this time, such as 90m or 2h [default: 1h].
    #[arg(long = "for", value_name = "TIME", conflicts_with = "until", value_parser = duration)]
    duration: Option<SignedDuration>,
    /// Close the hatch at this time in RFC 3339, such as 2026-11-21T18:00:00Z.
    #[arg(long, value_name = "TIME", value_parser = time)]
    until: Option<Timestamp>,
    /// Send a dry run to the API server and change nothing.
    #[arg(long)]
    dry_run: bool,
}

fn reason(text: &str) -> Result<String, String> {
    let text = text.trim();
    if text.is_empty() { Err("the reason must not be empty".to_owned()) } else { Ok(text.to_owned()) }
}

fn duration(text: &str) -> Result<SignedDuration, String> {
    let duration: SignedDuration =
        text.parse().map_err(|_| format!("`{text}` is not a duration; expected a value such as 90m or 2h"))?;
    if duration > SignedDuration::ZERO { Ok(duration) } else { Err("the duration must be positive".to_owned()) }
}

fn time(text: &str) -> Result<Timestamp, String> {
    parse_rfc3339(text)
        .ok_or_else(|| format!("`{text}` is not an RFC 3339 time; expected a value such as 2026-11-21T18:00:00Z"))
}

pub(super) fn run(arguments: &Arguments) -> Result<u8> {
    let sources = Sources { config: arguments.config.clone(), ..Sources::default() };
    let site = sources.read()?.configuration()?.site;
    block_on(async {
        let client = arguments.cluster.connect().await?.client;
        match &arguments.what {
            What::Open(wanted) => open(&site, client, wanted).await,
            What::Close { namespace, dry_run } => close(&site, client, namespace, *dry_run).await,
            What::List { output } => list(&site, &Api::all(client), *output).await,
        }
    })
}

/// Returns the end time of a hatch that is opened now. Fails if it is in the past or after the maximum duration.
fn end(site: &Site, wanted: &Open, now: Timestamp) -> Result<Timestamp> {
    let until = match wanted.until {
        Some(until) => until,
        None => now.checked_add(wanted.duration.unwrap_or(SHORT))?,
    };
    if until <= now {
        bail!("--until {until} is in the past");
    }
    let latest = now.checked_add(site.hatch_max_duration)?;
    if until > latest {
        bail!(
            "a hatch may stay open for at most {:#}, until {latest}; if the configuration of the cluster allows more, \
             pass it with --config",
            site.hatch_max_duration
        );
    }
    // A fraction of a second would only make the end harder to read.
    Ok(Timestamp::from_second(until.as_second())?)
}

async fn open(site: &Site, client: Client, wanted: &Open) -> Result<u8> {
    let namespaces = Api::all(client.clone());
    let until = end(site, wanted, now()?)?;
    let name = &wanted.namespace;
    let opened = json!({
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {
            "name": name,
            "labels": {site.enforcement_label(): "disabled"},
            "annotations": {site.reason_annotation(): wanted.reason, site.until_annotation(): until.to_string()},
        },
    });
    // Server-side apply would create a missing namespace.
    let before = find(&namespaces, name).await?;
    if before.metadata.deletion_timestamp.is_some() {
        bail!("namespace {name} is being deleted; its hatch cannot be opened");
    }
    let parameters = PatchParams { dry_run: wanted.dry_run, ..PatchParams::apply(FIELD_MANAGER).force() };
    if let Err(error) = patch_namespace(&client, name, &parameters, &Patch::Apply(&opened)).await {
        return refused(error, &format!("the hatch of {name} stays closed"));
    }
    if !wanted.dry_run && !is_taken_up(site, &namespaces, name, true).await? {
        anstream::eprintln!(
            "{YELLOW}half open{YELLOW:#}: namespace {name} is labelled with an open hatch until {until}, but no controller \
             applied the hatch policy within {} s. Denials there are already warnings. Check that Portcullis runs with \
             --controller and that its label domain is {} (set by --config). To undo:\n  portcullis hatch close {name}",
            PATIENCE.as_secs(),
            site.label_domain
        );
        return Ok(FAILED);
    }
    let mut out = anstream::stdout().lock();
    let done = if wanted.dry_run { "can be opened" } else { "is open" };
    writeln!(out, "The hatch of {BOLD}{name}{BOLD:#} {done} until {until}: {}", wanted.reason)?;
    let applied = if site.is_left_alone(name) {
        "No policy is applied, because this is a platform or excluded namespace."
    } else {
        "If a hatch policy is configured, it is applied and allows all traffic. Deny rules still apply."
    };
    writeln!(
        out,
        "Until then, changes of objects in the namespace are not denied. {applied} The hatch closes by itself; to \
         close it earlier:\n  \
         portcullis hatch close {name}"
    )?;
    warn_of_git(&before, "close the hatch again");
    Ok(OK)
}

async fn close(site: &Site, client: Client, name: &str, dry_run: bool) -> Result<u8> {
    let namespaces = Api::all(client.clone());
    let before = find(&namespaces, name).await?;
    let mut out = anstream::stdout().lock();
    let (is_labelled, is_noted) = (
        before.labels().contains_key(&site.enforcement_label()),
        before.annotations().contains_key(&site.opened_annotation()),
    );
    if !is_labelled && !is_noted {
        writeln!(out, "The hatch of {BOLD}{name}{BOLD:#} is already closed.")?;
        return Ok(OK);
    }
    if is_labelled {
        let manager = Some(FIELD_MANAGER.to_owned());
        let parameters = PatchParams { dry_run, field_manager: manager, ..PatchParams::default() };
        // A merge patch also removes a label of another field manager, such as one that a user set with kubectl.
        let closing = Patch::Merge(closing(site, &before));
        if let Err(error) = patch_namespace(&client, name, &parameters, &closing).await {
            return refused(error, &format!("the hatch of {name} stays open"));
        }
    }
    let is_going = before.metadata.deletion_timestamp.is_some();
    if !dry_run && is_noted && !is_going && !is_taken_up(site, &namespaces, name, false).await? {
        anstream::eprintln!(
            "{YELLOW}half closed{YELLOW:#}: the label of namespace {name} is removed, but no controller deleted the hatch \
             policy within {} s. Check that Portcullis runs with --controller and that its label domain is {} (set by \
             --config)",
            PATIENCE.as_secs(),
            site.label_domain
        );
        return Ok(FAILED);
    }
    let done = if dry_run { "can be closed" } else { "is closed" };
    writeln!(out, "The hatch of {BOLD}{name}{BOLD:#} {done}.")?;
    warn_of_git(&before, "open the hatch again");
    Ok(OK)
}

/// Returns the patch that closes the hatch of a namespace. An exemption has the same annotations for its reason and
/// end time, so these stay if the namespace has one.
fn closing(site: &Site, namespace: &Namespace) -> Value {
    let mut metadata = json!({"labels": {site.enforcement_label(): null}});
    if !namespace.annotations().contains_key(&site.exempt_annotation())
        && let Some(metadata) = metadata.as_object_mut()
    {
        let annotations = json!({site.reason_annotation(): null, site.until_annotation(): null});
        metadata.insert("annotations".to_owned(), annotations);
    }
    json!({ "metadata": metadata })
}

/// Waits until the controller has recorded that the hatch is open, or has removed that record. Returns false on
/// timeout.
async fn is_taken_up(site: &Site, namespaces: &Api<Namespace>, name: &str, open: bool) -> Result<bool> {
    let opened = site.opened_annotation();
    let noted = async {
        while find(namespaces, name).await?.annotations().contains_key(&opened) != open {
            tokio::time::sleep(STEP).await;
        }
        anyhow::Ok(())
    };
    let mut noted = std::pin::pin!(noted);
    if let Ok(noted) = tokio::time::timeout(SILENCE, &mut noted).await {
        return noted.map(|()| true);
    }
    let change = if open { "apply" } else { "delete" };
    anstream::eprintln!(
        "waiting up to {} s for the controller to {change} the hatch policy of {name}; if the leader failed, another \
         replica takes over when its Lease expires",
        (PATIENCE - SILENCE).as_secs()
    );
    tokio::time::timeout(PATIENCE - SILENCE, noted).await.map_or(Ok(false), |noted| noted.map(|()| true))
}

async fn find(namespaces: &Api<Namespace>, name: &str) -> Result<Namespace> {
    let found = namespaces
        .get_opt(name)
        .await
        .map_err(|error| anyhow!("failed to read namespace {name}: {}", words(&error)))?;
    found.ok_or_else(|| anyhow!("namespace {name} not found"))
}

/// Handles a rejected request. A denial by a webhook is a result with an exit status, any other error is a failure.
fn refused(error: kube::Error, so: &str) -> Result<u8> {
    match error {
        kube::Error::Api(status) if status.message.contains("denied the request") => {
            anstream::eprintln!("{YELLOW}denied{YELLOW:#}: {so}: {}", status.message);
            Ok(DENIED)
        }
        error => Err(anyhow!("{so}: {}", words(&error))),
    }
}

fn warn_of_git(namespace: &Namespace, revert: &str) {
    if let Some(who) = git(namespace) {
        anstream::eprintln!(
            "{YELLOW}warning{YELLOW:#}: {who} applies this namespace from Git and may {revert}; make the same change \
             in Git"
        );
    }
}

/// Returns the name of the GitOps controller that applies a namespace. None if no known label or annotation is set.
fn git(namespace: &Namespace) -> Option<&'static str> {
    let carries = |key: &str| namespace.labels().contains_key(key) || namespace.annotations().contains_key(key);
    FROM_GIT.into_iter().find(|(key, _)| carries(key)).map(|(_, who)| who)
}

fn now() -> Result<Timestamp> {
    Ok(Timestamp::try_from(SystemTime::now())?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Configuration;
    use clap::Parser as _;

    pub(super) const DOMAIN: &str = "network-policy.portcullis.dev";

    pub(super) fn site() -> Site {
        Configuration::shipped().unwrap().site
    }

    pub(super) fn namespace(metadata: &Value) -> Namespace {
        serde_json::from_value(json!({"metadata": metadata})).unwrap()
    }

    fn wanted(arguments: &[&str]) -> Result<Open, String> {
        let all = [&["portcullis", "hatch", "open", "shop"], arguments].concat();
        match super::super::Cli::try_parse_from(all).map_err(|error| error.to_string())?.command {
            super::super::Command::Hatch(Arguments { what: What::Open(open), .. }) => Ok(open),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_hatch_is_opened_for_a_reason_and_for_a_time() {
        let now: Timestamp = "2026-11-21T12:00:00.5Z".parse().unwrap();
        let until = |arguments: &[&str]| {
            let all = [&["--reason", "INC-1"], arguments].concat();
            end(&site(), &wanted(&all).unwrap(), now).map(|until| until.to_string()).map_err(|error| error.to_string())
        };
        assert_eq!(until(&[]).unwrap(), "2026-11-21T13:00:00Z");
        assert_eq!(until(&["--for", "90m"]).unwrap(), "2026-11-21T13:30:00Z");
        assert_eq!(until(&["--until", "2026-11-21T18:00:00+01:00"]).unwrap(), "2026-11-21T17:00:00Z");
        assert!(until(&["--until", "2026-11-21T11:00:00Z"]).unwrap_err().ends_with("is in the past"));
        assert!(until(&["--for", "25h"]).unwrap_err().contains("for at most 24h"));
        for (bad, why) in [
            (&[][..], "--reason"),
            (&["--reason", " "], "the reason must not be empty"),
            (&["--reason", "a", "--for", "soon"], "is not a duration"),
            (&["--reason", "a", "--for", "0s"], "must be positive"),
            (&["--reason", "a", "--until", "20261121T180000Z"], "is not an RFC 3339 time"),
            (&["--reason", "a", "--for", "1h", "--until", "2026-11-21T18:00:00Z"], "cannot be used with"),
        ] {
            let error = wanted(bad).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }

    /// With a shorter wait the command would fail while another replica is about to take over.
    #[test]
    fn the_command_waits_longer_than_a_failover_takes() {
        let terms = crate::controller::Terms::default();
        assert!(PATIENCE > terms.lease + 2 * terms.retry + Duration::from_secs(10));
    }

    #[test]
    fn closing_takes_away_what_opens_and_leaves_what_belongs_to_an_exemption() {
        let keys = |key: &str| format!("{DOMAIN}/{key}");
        let plain = closing(&site(), &namespace(&json!({"name": "shop"})));
        let label = json!({keys("enforcement"): null});
        assert_eq!(
            plain,
            json!({"metadata": {"labels": label, "annotations": {keys("reason"): null, keys("until"): null}}})
        );
        let exempt = namespace(&json!({"name": "shop", "annotations": {keys("exempt"): "invalid-profile"}}));
        assert_eq!(closing(&site(), &exempt), json!({"metadata": {"labels": label}}));
    }

    #[test]
    fn a_user_who_applies_from_git_is_known_by_labels() {
        let flux = namespace(&json!({"labels": {"kustomize.toolkit.fluxcd.io/name": "apps"}}));
        let argo = namespace(&json!({"annotations": {"argocd.argoproj.io/tracking-id": "apps:/Namespace:shop/shop"}}));
        assert_eq!((git(&flux), git(&argo)), (Some("Flux"), Some("Argo CD")));
        assert_eq!(git(&namespace(&json!({"labels": {"app": "web"}}))), None);
    }
}
