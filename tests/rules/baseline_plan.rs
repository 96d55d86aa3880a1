//! What the baseline controller plans for namespaces, and what it never takes away.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use portcullis::baseline::{
    Catalogue, Label, Layer, Plan, PlanState, PolicySet, Step, kept_in_cluster, plan, plan_cluster,
};
use portcullis::config::Configuration;
use portcullis::model::{ApiServer, Body, Labels, Object, ObjectRef, PortSet, Protocol, Workload};
use portcullis::view::{NamespaceFacts, Owned, Site, View};

fn policy(name: &str) -> String {
    format!(
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: portcullis-{name}}}\nspec: {{podSelector: {{}}}}\n"
    )
}

fn catalogue_of(rest: &str, files: &[(&str, &str)]) -> Catalogue {
    let text = format!("apiVersion: portcullis.dev/v1alpha1\nkind: Configuration\n{rest}");
    let site: Arc<Site> = Arc::new(Configuration::read(&text).unwrap().site);
    let files = files.iter().map(|(file, name)| ((*file).to_owned(), policy(name)));
    let mut catalogue = Catalogue::of(site, &PolicySet::read(files).unwrap());
    for position in 0..catalogue.entries().len() {
        let manifest = catalogue.entries()[position].manifest.clone();
        catalogue.record_dry_run(position, &manifest);
    }
    catalogue
}

const FILES: &[(&str, &str)] = &[
    ("baseline/deny.yaml", "deny"),
    ("profiles/standard/out.yaml", "out"),
    ("profiles/isolated/none.yaml", "none"),
    ("access/postgres/db.yaml", "db"),
    ("hatch/all.yaml", "all"),
];

fn catalogue() -> Catalogue {
    catalogue_of("", FILES)
}

/// The entries with these names, as they would be stored.
fn stored(catalogue: &Catalogue, names: &[&str]) -> Vec<Owned> {
    let of = |name: &&str| {
        let name = format!("portcullis-{name}");
        let entry = catalogue.entries().iter().find(|entry| *entry.id.name == *name).unwrap();
        Owned {
            object: ObjectRef { namespace: Some("shop".into()), ..entry.id.clone() },
            uid: name.into(),
            layer: entry.layer.label().into(),
            fingerprint: catalogue.fingerprint(&entry.manifest),
            is_applied: true,
            domain: None,
        }
    };
    names.iter().map(of).collect()
}

fn facts(labels: &[(&str, &str)], owned: Vec<Owned>) -> NamespaceFacts {
    let labels: Labels = labels.iter().copied().collect();
    let mut facts = NamespaceFacts::default();
    (facts.labels, facts.owned) = (Some(labels), owned);
    facts
}

/// The steps in words.
fn words(catalogue: &Catalogue, plan: &Plan) -> Vec<String> {
    let name = |name: &str| name.trim_start_matches("portcullis-").to_owned();
    let word = |step: &Step| match step {
        Step::Apply(position) => format!("apply {}", name(&catalogue.entries()[*position].id.name)),
        Step::Delete { owned, .. } => format!("delete {}", name(&owned.object.name)),
        Step::Mark { label: Label::Applied, status } => format!("mark {status}"),
        Step::Mark { label: Label::Gone, status } => format!("unmark {status}"),
        Step::Mark { label: Label::AsItIs, status } => format!("say {status}"),
        Step::OpenHatch { reason, .. } => format!("open {reason}"),
        Step::CloseHatch => "close".to_owned(),
        Step::LiftGates(pods) => format!("lift {pods:?}"),
    };
    plan.steps.iter().map(word).collect()
}

fn plan_of(catalogue: &Catalogue, facts: &NamespaceFacts) -> Vec<String> {
    words(catalogue, &plan(catalogue, "shop", facts, &[], Timestamp::UNIX_EPOCH))
}

/// What a namespace with these labels gets done that has these policies.
fn with(labels: &[(&str, &str)], names: &[&str]) -> Vec<String> {
    let catalogue = catalogue();
    plan_of(&catalogue, &facts(labels, stored(&catalogue, names)))
}

const PENDING: (&str, &str) = ("network-policy.portcullis.dev/baseline", "pending");
const STANDARD: (&str, &str) = ("network-policy.portcullis.dev/profile", "standard");
const ISOLATED: (&str, &str) = ("network-policy.portcullis.dev/profile", "isolated");
const POSTGRES: (&str, &str) = ("access.network-policy.portcullis.dev/postgres", "true");
const HATCH: (&str, &str) = ("network-policy.portcullis.dev/enforcement", "disabled");

#[test]
fn what_is_missing_is_applied_and_then_said() {
    assert_eq!(
        with(&[PENDING, STANDARD, POSTGRES], &["deny"]),
        ["apply out", "apply db", "mark applied: baseline, profile standard, access postgres"]
    );
    assert_eq!(with(&[PENDING], &[]), ["apply deny", "mark applied: baseline"]);
}

#[test]
fn what_is_in_order_needs_nothing() {
    let catalogue = catalogue();
    let applied = [(PENDING.0, "applied"), STANDARD];
    let mut facts = facts(&applied, stored(&catalogue, &["deny", "out"]));
    let status = "applied: baseline, profile standard";
    facts.annotations = [(catalogue.site.status_annotation(), status)].into_iter().collect();
    let plan = plan(&catalogue, "shop", &facts, &[], Timestamp::UNIX_EPOCH);
    assert_eq!((plan.steps, plan.state), (Vec::new(), PlanState::Applied));
}

#[test]
fn what_differs_in_any_way_is_applied_again() {
    let catalogue = catalogue();
    let change: [fn(&mut Owned); 3] =
        [|owned| owned.fingerprint ^= 1, |owned| owned.is_applied = false, |owned| owned.layer = "hatch".into()];
    for change in change {
        let mut owned = stored(&catalogue, &["deny"]);
        change(&mut owned[0]);
        let steps = plan_of(&catalogue, &facts(&[PENDING], owned));
        assert_eq!(steps[0], "apply deny");
        assert!(!steps.iter().any(|step| step.starts_with("delete")), "{steps:?}");
    }
}

#[test]
fn of_what_is_not_learnt_only_the_presence_counts() {
    let text = "apiVersion: portcullis.dev/v1alpha1\nkind: Configuration\n";
    let site = Arc::new(Configuration::read(text).unwrap().site);
    let unlearnt = Catalogue::of(site, &PolicySet::read([("baseline/deny.yaml".into(), policy("deny"))]).unwrap());
    let steps = plan_of(&unlearnt, &facts(&[PENDING], stored(&catalogue(), &["deny"])));
    assert_eq!(steps, ["mark applied: baseline"]);
}

#[test]
fn namespaces_that_are_not_due_are_left_alone() {
    let catalogue = catalogue();
    let nothing = |name: &str, facts: &NamespaceFacts| {
        let plan = plan(&catalogue, name, facts, &[], Timestamp::UNIX_EPOCH);
        assert_eq!((plan.steps, plan.state), (Vec::new(), PlanState::NotDue), "{name}");
    };
    nothing("shop", &facts(&[], Vec::new()));
    nothing("shop", &facts(&[(STANDARD.0, "unknown")], Vec::new()));
    nothing("kube-system", &facts(&[STANDARD, HATCH], Vec::new()));
    nothing("default", &facts(&[STANDARD], Vec::new()));
    let mut going = facts(&[PENDING, STANDARD], Vec::new());
    going.is_terminating = true;
    nothing("shop", &going);
    let mut unlabelled = facts(&[], stored(&catalogue, &["deny", "out"]));
    unlabelled.labels = None;
    nothing("shop", &unlabelled);
    let all = catalogue_of("baseline: {namespaces: all}\n", FILES);
    assert_eq!(plan_of(&all, &facts(&[], Vec::new()))[0], "apply deny");
    assert_eq!(with(&[STANDARD], &[]).len(), 3, "who asks for a profile is due the baseline too");
}

/// No webhook is asked about what is written there, so nothing would stop a default-deny that cuts the cluster's DNS.
#[test]
fn kube_system_and_our_own_namespace_get_nothing_whatever_is_configured() {
    let mut catalogue = catalogue_of("platformNamespaces: [monitoring]\nbaseline: {namespaces: all}\n", FILES);
    catalogue.home = Some("guards".into());
    let facts = facts(&[STANDARD], Vec::new());
    let steps = |name: &str| plan(&catalogue, name, &facts, &[], Timestamp::UNIX_EPOCH).steps.len();
    assert_eq!((steps("kube-system"), steps("guards"), steps("monitoring")), (0, 0, 0));
    assert_eq!(steps("shop"), 3);
}

/// Nobody else may take the label away, and pods would wait and be warned about for ever.
#[test]
fn a_namespace_that_is_excluded_by_now_does_not_go_on_waiting() {
    let catalogue = catalogue();
    let unmark = "unmark not applied: platform or excluded namespace";
    for name in ["kube-system", "default"] {
        let plan = plan(&catalogue, name, &facts(&[PENDING, STANDARD], Vec::new()), &[], Timestamp::UNIX_EPOCH);
        assert_eq!(words(&catalogue, &plan), [unmark], "{name}");
        assert_eq!(plan.state, PlanState::NotDue);
    }
}

/// What is there stays, and nobody is to take it for something that is put right.
#[test]
fn a_namespace_that_is_excluded_by_now_says_that_nobody_looks_after_it() {
    let catalogue = catalogue();
    let applied = ("network-policy.portcullis.dev/baseline", "applied");
    let mut facts = facts(&[applied, STANDARD], stored(&catalogue, &["deny", "out"]));
    let steps =
        |facts: &NamespaceFacts| words(&catalogue, &plan(&catalogue, "default", facts, &[], Timestamp::UNIX_EPOCH));
    let status = "not reconciled: platform or excluded namespace";
    assert_eq!(steps(&facts), [format!("say {status}")]);
    facts.annotations = [("network-policy.portcullis.dev/baseline-status", status)].into_iter().collect();
    assert_eq!(steps(&facts), Vec::<String>::new(), "it is said once");
}

#[test]
fn the_new_profile_comes_before_the_old_one_goes() {
    assert_eq!(
        with(&[PENDING, ISOLATED], &["deny", "out"]),
        ["apply none", "delete out", "mark applied: baseline, profile isolated"]
    );
    let catalogue = catalogue();
    let mut owned = stored(&catalogue, &["deny", "out", "none"]);
    owned[1].is_applied = false;
    let steps = plan_of(&catalogue, &facts(&[PENDING, ISOLATED], owned));
    assert!(!steps.contains(&"delete out".to_owned()), "a label anybody can write: {steps:?}");
}

#[test]
fn a_label_that_is_missing_or_unknown_deletes_nothing() {
    let have = ["deny", "out", "db", "none"];
    let deletes = |labels: &[(&str, &str)]| {
        let steps = with(labels, &have);
        steps.into_iter().filter(|step| step.starts_with("delete")).collect::<Vec<_>>()
    };
    assert_eq!(deletes(&[PENDING, POSTGRES]), [""; 0]);
    assert_eq!(deletes(&[PENDING, POSTGRES, (STANDARD.0, "unknown")]), [""; 0]);
    assert_eq!(deletes(&[POSTGRES]), [""; 0]);
    assert_eq!(
        with(&[POSTGRES], &have),
        ["mark applied: baseline, access postgres; kept: profile isolated, profile standard"],
        "who has a baseline keeps it, and it is looked after"
    );
    // A known profile of which there are no policies replaces nothing.
    let bare = catalogue_of("", &[("baseline/deny.yaml", "deny"), ("profiles/standard/out.yaml", "out")]);
    let steps = plan_of(&bare, &facts(&[PENDING, ISOLATED], stored(&bare, &["deny", "out"])));
    assert_eq!(steps, ["mark applied: baseline; kept: profile standard"]);
}

#[test]
fn a_grant_can_be_taken_back() {
    for value in [None, Some("false")] {
        let mut labels = vec![PENDING, STANDARD];
        labels.extend(value.map(|value| (POSTGRES.0, value)));
        assert_eq!(with(&labels, &["deny", "out", "db"])[0], "delete db");
    }
    assert!(!with(&[PENDING, STANDARD, POSTGRES], &["deny", "out", "db"])[0].starts_with("delete"));
}

#[test]
fn a_file_that_is_no_more_counts_only_where_others_of_its_layer_are() {
    let before =
        catalogue_of("", &[("baseline/deny.yaml", "deny"), ("baseline/dns.yaml", "dns"), ("hatch/all.yaml", "all")]);
    let owned = stored(&before, &["deny", "dns"]);
    let fewer = catalogue_of("", &[("baseline/deny.yaml", "deny")]);
    assert_eq!(plan_of(&fewer, &facts(&[PENDING], owned.clone()))[0], "delete dns");
    let none = catalogue_of("", &[("profiles/standard/out.yaml", "out")]);
    assert_eq!(
        plan_of(&none, &facts(&[PENDING, STANDARD], owned.clone())),
        ["apply out", "mark applied: profile standard; kept: baseline"],
        "an empty folder is more likely a mistake"
    );
    // The same object in another layer is written over, and not deleted.
    let moved = catalogue_of("", &[("baseline/deny.yaml", "deny"), ("profiles/standard/dns.yaml", "dns")]);
    let steps = plan_of(&moved, &facts(&[PENDING, STANDARD], owned));
    assert_eq!(steps[..2], ["apply dns", "mark applied: baseline, profile standard"]);
}

#[test]
fn layers_of_nobody_are_left_alone() {
    let catalogue = catalogue();
    let mut owned = stored(&catalogue, &["deny", "out"]);
    owned[1].layer = "something".into();
    owned[1].object.name = "portcullis-something".into();
    assert_eq!(plan_of(&catalogue, &facts(&[PENDING], owned)), ["mark applied: baseline"]);
}

/// A namespace with a hatch that ends then.
fn hatched(catalogue: &Catalogue, names: &[&str], end: Timestamp, opened: bool) -> NamespaceFacts {
    let mut facts = facts(&[PENDING, HATCH], stored(catalogue, names));
    let site = &catalogue.site;
    let written = [(site.reason_annotation(), "an incident".to_owned()), (site.until_annotation(), end.to_string())];
    let opened = opened.then(|| (site.opened_annotation(), "1970-01-01T00:00:00Z".to_owned()));
    facts.annotations = written.into_iter().chain(opened).collect();
    facts
}

#[test]
fn an_open_hatch_is_added_and_a_closed_one_goes() {
    let catalogue = catalogue();
    let now = Timestamp::UNIX_EPOCH;
    let end = now + SignedDuration::from_hours(1);
    let opening = plan(&catalogue, "shop", &hatched(&catalogue, &["deny"], end, false), &[], now);
    assert_eq!(
        words(&catalogue, &opening),
        ["apply all", "open an incident", "mark applied: baseline; hatch open until 1970-01-01T01:00:00Z"]
    );
    assert_eq!((opening.wake, opening.hatch), (Some(end), Some(None)));
    let open = plan(&catalogue, "shop", &hatched(&catalogue, &["deny", "all"], end, true), &[], now);
    assert_eq!(words(&catalogue, &open).len(), 1, "it only has to be said");
    assert_eq!(open.hatch, Some(Some(now)));

    let over = plan(&catalogue, "shop", &hatched(&catalogue, &["deny", "all"], end, true), &[], end);
    assert_eq!(words(&catalogue, &over), ["delete all", "close", "mark applied: baseline"]);
    assert_eq!((over.wake, over.hatch), (None, Some(Some(now))), "it is open as long as its policy is there");
    let gone = plan(&catalogue, "shop", &hatched(&catalogue, &["deny"], end, true), &[], end);
    assert_eq!((gone.wake, gone.hatch), (None, None));
    // Somebody takes the label away before its time.
    let mut closed = hatched(&catalogue, &["deny", "all"], end, true);
    closed.labels = Some([PENDING].into_iter().collect());
    let closed = plan(&catalogue, "shop", &closed, &[], now);
    assert_eq!(words(&catalogue, &closed)[..2], ["delete all", "close"]);
}

#[test]
fn what_nothing_replaces_goes_before_anything_is_applied() {
    let catalogue = catalogue();
    let end = Timestamp::UNIX_EPOCH;
    // A grant was taken back, the profile is another one, the hatch is over; and of the baseline all is missing.
    let mut facts = hatched(&catalogue, &["db", "out", "all"], end, true);
    facts.labels = Some([PENDING, ISOLATED, HATCH].into_iter().collect());
    assert_eq!(
        plan_of(&catalogue, &facts),
        [
            "delete db",
            "delete all",
            "close",
            "apply deny",
            "apply none",
            "delete out",
            "mark applied: baseline, profile isolated"
        ]
    );
    let steps = plan(&catalogue, "shop", &facts, &[], end).steps;
    let after: Vec<Option<Layer>> = steps
        .into_iter()
        .filter_map(|step| if let Step::Delete { after, .. } = step { Some(after) } else { None })
        .collect();
    assert_eq!(after, [None, None, Some(Layer::Profile("isolated".into()))]);
}

#[test]
fn a_hatch_is_closed_where_nothing_else_is_looked_after_any_more() {
    for name in ["default", "kube-system"] {
        let catalogue = catalogue();
        let end = Timestamp::UNIX_EPOCH + SignedDuration::from_hours(1);
        let open = hatched(&catalogue, &["deny", "all"], end, true);
        let planned = plan(&catalogue, name, &open, &[], Timestamp::UNIX_EPOCH);
        assert_eq!(
            words(&catalogue, &planned)[..1],
            ["delete all"],
            "{name} is excluded by now, and rules refuse nothing there"
        );
        assert_eq!((planned.wake, planned.hatch), (Some(end), Some(Some(Timestamp::UNIX_EPOCH))));
        assert_eq!(words(&catalogue, &plan(&catalogue, name, &open, &[], end))[..2], ["delete all", "close"]);
        let unheard = hatched(&catalogue, &["deny"], end, false);
        assert_eq!(words(&catalogue, &plan(&catalogue, name, &unheard, &[], end))[0], "close");
    }
}

#[test]
fn a_namespace_that_nobody_labelled_is_counted() {
    let mut catalogue = catalogue();
    let standing = |catalogue: &Catalogue, name: &str, labels: &[(&str, &str)], created: i64| {
        let mut facts = facts(labels, Vec::new());
        facts.created = Some(Timestamp::from_second(created).unwrap());
        plan(catalogue, name, &facts, &[], Timestamp::UNIX_EPOCH).state
    };
    assert_eq!(standing(&catalogue, "shop", &[], 200), PlanState::NotDue, "since when is not known");
    catalogue.installed = Some(Timestamp::from_second(100).unwrap());
    assert_eq!(standing(&catalogue, "shop", &[], 200), PlanState::Unlabelled);
    assert_eq!(standing(&catalogue, "shop", &[], 50), PlanState::NotDue, "it was there before");
    assert_eq!(standing(&catalogue, "kube-system", &[], 200), PlanState::NotDue);
    assert_eq!(standing(&catalogue, "shop", &[STANDARD], 200), PlanState::Pending);
    let mut seen_to = facts(&[], Vec::new());
    seen_to.created = Some(Timestamp::from_second(200).unwrap());
    seen_to.annotations = [(catalogue.site.status_annotation(), "not applied")].into_iter().collect();
    let standing = plan(&catalogue, "shop", &seen_to, &[], Timestamp::UNIX_EPOCH).state;
    assert_eq!(standing, PlanState::NotDue, "its labels were taken away since");
}

#[test]
fn a_change_of_labels_or_annotations_of_a_file_counts() {
    let site = Arc::new(Configuration::shipped().unwrap().site);
    let read = |metadata: &str| {
        let text = policy("deny").replace("{name: portcullis-deny}", &format!("{{name: portcullis-deny, {metadata}}}"));
        let set = PolicySet::read([("baseline/deny.yaml".to_owned(), text)]).unwrap();
        Catalogue::of(Arc::clone(&site), &set)
    };
    let print = |metadata: &str| {
        let catalogue = read(metadata);
        catalogue.fingerprint(&catalogue.entries()[0].manifest)
    };
    assert_eq!(print("labels: {a: b}"), print("labels: {a: b}"));
    for other in ["labels: {a: c}", "labels: {}", "labels: {a: b}, annotations: {d: e}"] {
        assert_ne!(print("labels: {a: b}"), print(other), "{other}");
    }
}

#[test]
fn a_hatch_without_a_reason_opens_nothing_and_stays_for_its_author_to_complete() {
    assert_eq!(with(&[PENDING, HATCH], &["deny"]), ["mark applied: baseline; hatch not open: no reason is given"]);
}

/// Nobody would think of it any more when it opened.
#[test]
fn a_hatch_that_is_too_long_does_not_open_when_time_has_passed() {
    let catalogue = catalogue();
    let facts = hatched(&catalogue, &["deny"], Timestamp::UNIX_EPOCH + SignedDuration::from_hours(1000), false);
    assert_eq!(plan_of(&catalogue, &facts), ["close", "mark applied: baseline"]);
}

#[test]
fn a_hatch_that_is_prolonged_is_open_since_it_was_opened() {
    let catalogue = catalogue_of("hatch: {maxDuration: 8h}\n", FILES);
    let now = Timestamp::UNIX_EPOCH + SignedDuration::from_hours(7 * 24);
    let facts = hatched(&catalogue, &["deny", "all"], now + SignedDuration::from_hours(6), true);
    let plan = plan(&catalogue, "shop", &facts, &[], now);
    assert_eq!(plan.hatch, Some(Some(Timestamp::UNIX_EPOCH)));
}

#[test]
fn a_status_is_no_longer_than_an_annotation_should_be() {
    let catalogue = catalogue();
    let mut facts = facts(&[PENDING, HATCH], stored(&catalogue, &["deny"]));
    let site = &catalogue.site;
    let until = "soon ".repeat(50_000);
    facts.annotations = [(site.reason_annotation(), "x"), (site.until_annotation(), &until)].into_iter().collect();
    let [Step::Mark { status, .. }] = &*plan(&catalogue, "shop", &facts, &[], Timestamp::UNIX_EPOCH).steps else {
        panic!("it says why the hatch is shut")
    };
    assert!(
        status.starts_with("applied: baseline; hatch not open: the end time \"soon soon ") && status.len() < 2000,
        "{status}"
    );
    // And what is said is recognised.
    let said = [
        (site.status_annotation(), status.as_str()),
        (site.reason_annotation(), "x"),
        (site.until_annotation(), &until),
    ];
    facts.annotations = said.into_iter().collect();
    facts.labels = Some([(PENDING.0, "applied"), HATCH].into_iter().collect());
    assert_eq!(plan_of(&catalogue, &facts), [""; 0]);
}

#[test]
fn a_hatch_opens_where_no_baseline_is_due() {
    let catalogue = catalogue();
    let mut facts = hatched(&catalogue, &[], Timestamp::UNIX_EPOCH + SignedDuration::from_hours(1), false);
    facts.labels = Some([HATCH].into_iter().collect());
    assert_eq!(plan_of(&catalogue, &facts), ["apply all", "open an incident"]);
}

#[test]
fn pods_are_let_go_when_there_is_nothing_to_wait_for() {
    let catalogue = catalogue_of("baseline: {gate: true}\n", FILES);
    let gate: Box<str> = catalogue.site.gate_name().into();
    let pod = |gates: &[&str], is_assigned| Workload {
        gates: gates.iter().map(|gate| (*gate).into()).collect(),
        is_assigned,
        ..Workload::default()
    };
    let mut view = View::of_cluster();
    for (name, workload) in
        [("a", pod(&["other", &gate], false)), ("b", pod(&["other"], false)), ("c", pod(&[&gate], true))]
    {
        let id = ObjectRef {
            api_version: "v1".into(),
            kind: "Pod".into(),
            namespace: Some("shop".into()),
            name: name.into(),
        };
        view.insert(Object { id, body: Body::Workload(workload), faults: Vec::new(), annotations: Labels::default() });
    }
    let mut facts = view.namespace("shop").unwrap().clone();
    assert!(plan_of(&catalogue, &facts).is_empty(), "its labels are not known yet");
    facts.labels = Some([PENDING].into_iter().collect());
    let steps = plan_of(&catalogue, &facts);
    assert_eq!(steps.last().unwrap(), r#"lift ["a"]"#, "after everything else");
    let without = self::catalogue();
    assert_eq!(plan_of(&without, &facts)[0], r#"lift ["a"]"#, "nobody is to wait");

    facts.labels = Some(Labels::default());
    assert_eq!(plan_of(&catalogue, &facts), [r#"lift ["a"]"#], "nobody will apply anything here");
}

/// Policies as they were applied with another `labelDomain`.
fn earlier(catalogue: &Catalogue, names: &[&str]) -> Vec<Owned> {
    let mut owned = stored(catalogue, names);
    for owned in &mut owned {
        owned.domain = Some("old.example".into());
    }
    owned
}

#[test]
fn policies_of_an_earlier_label_domain_are_adopted_or_kept_and_named() {
    let catalogue = catalogue();
    let all = || earlier(&catalogue, &["deny", "out", "db", "all"]);
    let found = |layers: &str| format!("found with labelDomain old.example: {layers}");
    let both = "profile standard, access postgres";
    assert_eq!(
        plan_of(&catalogue, &facts(&[], all())),
        ["delete all", "apply deny", &format!("mark applied: baseline; kept: {both}; {}", found(both))],
        "the hatch closes, the baseline is adopted, and the rest stays"
    );
    assert_eq!(
        plan_of(&catalogue, &facts(&[STANDARD, POSTGRES], all())),
        [
            "delete all",
            "apply deny",
            "apply out",
            "apply db",
            "mark applied: baseline, profile standard, access postgres"
        ],
        "adopted when the namespace has the new labels"
    );
    let access = found("access postgres");
    assert_eq!(
        plan_of(&catalogue, &facts(&[ISOLATED], all())),
        [
            "delete all",
            "apply deny",
            "apply none",
            "delete out",
            &format!("mark applied: baseline, profile isolated; kept: access postgres; {access}")
        ],
        "another profile comes before the old one goes"
    );
}

#[test]
fn an_open_hatch_of_the_new_label_domain_adopts_the_policy() {
    let catalogue = catalogue();
    let end = Timestamp::UNIX_EPOCH + SignedDuration::from_hours(1);
    let mut facts = hatched(&catalogue, &[], end, false);
    facts.owned = earlier(&catalogue, &["deny", "all"]);
    let steps = plan_of(&catalogue, &facts);
    assert_eq!(steps[..3], ["apply deny", "apply all", "open an incident"], "{steps:?}");
}

/// The set of a dialect whose policies are of the cluster, as it is stored.
fn of_cluster(set: &str) -> (Catalogue, Vec<Owned>) {
    let text = format!("apiVersion: portcullis.dev/v1alpha1\nkind: Configuration\npolicySet: {set}\n");
    let site = Arc::new(Configuration::read(&text).unwrap().site);
    let mut catalogue = Catalogue::of(Arc::clone(&site), &PolicySet::shipped(&site.label_domain).unwrap());
    let mut owned = Vec::new();
    for position in 0..catalogue.entries().len() {
        let entry = catalogue.entries()[position].clone();
        catalogue.record_dry_run(position, &entry.manifest);
        owned.push(Owned {
            object: entry.id.clone(),
            uid: "u".into(),
            layer: entry.layer.label().into(),
            fingerprint: catalogue.fingerprint(&entry.manifest),
            is_applied: true,
            domain: None,
        });
    }
    (catalogue, owned)
}

#[test]
fn policies_of_the_cluster_are_there_before_a_namespace_is_applied() {
    for set in ["cilium", "calico"] {
        let (catalogue, owned) = of_cluster(set);
        assert_eq!(plan_cluster(&catalogue, &[]).steps.len(), owned.len());
        assert_eq!(plan_cluster(&catalogue, &owned).steps, [], "{set}");
        let facts = facts(&[PENDING, STANDARD], Vec::new());
        let of = |owned: &[Owned]| plan(&catalogue, "shop", &facts, owned, Timestamp::UNIX_EPOCH);
        assert_eq!((of(&[]).steps, of(&[]).state), (Vec::new(), PlanState::Pending));
        assert_eq!(words(&catalogue, &of(&owned)), ["mark applied: baseline, profile standard"]);
        assert_eq!(of(&owned).state, PlanState::Applied);
    }
}

/// What ships selects namespaces that have a profile.
#[test]
fn where_no_policy_of_the_cluster_selects_a_namespace_nothing_says_that_it_has_any() {
    for set in ["cilium", "calico"] {
        let (catalogue, owned) = of_cluster(&format!("{set}\nbaseline: {{namespaces: all}}"));
        let of = |labels: &[(&str, &str)]| {
            let plan = plan(&catalogue, "shop", &facts(labels, Vec::new()), &owned, Timestamp::UNIX_EPOCH);
            (words(&catalogue, &plan), plan.state)
        };
        assert_eq!(of(&[]), (Vec::new(), PlanState::NotDue), "{set}");
        let unmark = "unmark not applied: no cluster-wide policy selects this namespace";
        assert_eq!(
            of(&[(PENDING.0, "applied")]),
            (vec![unmark.to_owned()], PlanState::NotDue),
            "its profile is taken away"
        );
        assert_eq!(of(&[PENDING]), (vec![unmark.to_owned()], PlanState::NotDue));
        assert_eq!(of(&[STANDARD]).1, PlanState::Applied);
    }
}

#[test]
fn of_the_cluster_only_what_a_folder_has_no_more_goes() {
    let (catalogue, mut owned) = of_cluster("cilium");
    let mut stale = owned[0].clone();
    stale.object.name = "portcullis-baseline-old".into();
    let mut foreign = stale.clone();
    foreign.is_applied = false;
    let mut unknown = stale.clone();
    unknown.layer = "profile.dropped".into();
    owned.extend([foreign, unknown, stale.clone()]);
    let layer = Layer::read(&stale.layer);
    assert_eq!(plan_cluster(&catalogue, &owned).steps, [Step::Delete { owned: stale, after: layer }]);
    let (kubernetes, _) = of_cluster("kubernetes");
    let steps = plan_cluster(&kubernetes, &owned).steps;
    let hatch = owned.iter().find(|owned| &*owned.layer == "hatch").unwrap().clone();
    assert_eq!(
        steps,
        [Step::Delete { owned: hatch, after: None }],
        "another set is in use, which has nothing of the cluster, and would never close this"
    );
}

/// With only Calico's CRDs in the cluster, deleting Cilium's policies would open every namespace.
#[test]
fn another_policy_set_deletes_no_cluster_wide_policy() {
    for (before, after, kind) in
        [("cilium", "calico", "CiliumClusterwideNetworkPolicy"), ("calico", "cilium", "GlobalNetworkPolicy")]
    {
        let ((_, old), (catalogue, new)) = (of_cluster(before), of_cluster(after));
        let all = [old.clone(), new].concat();
        let steps = plan_cluster(&catalogue, &old).steps;
        assert!(!steps.is_empty() && steps.iter().all(|step| matches!(step, Step::Apply(_))), "{steps:?}");
        assert_eq!(plan_cluster(&catalogue, &all).steps, [], "{before} to {after}");
        assert_eq!(kept_in_cluster(&catalogue, &all).len(), old.len());
        let facts = facts(&[PENDING, STANDARD], Vec::new());
        let plan = plan(&catalogue, "shop", &facts, &all, Timestamp::UNIX_EPOCH);
        let kept = format!("kept cluster-wide: {} {kind}", old.len());
        assert_eq!(words(&catalogue, &plan), [format!("mark applied: baseline, profile standard; {kept}")]);
    }
}

#[test]
fn another_dialect_in_the_same_folder_deletes_nothing() {
    let before = catalogue_of("", &[("baseline/deny.yaml", "deny"), ("baseline/dns.yaml", "dns")]);
    let owned = stored(&before, &["deny", "dns"]);
    let cilium = "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {name: portcullis-deny}\n\
                  spec: {endpointSelector: {}, ingress: [{}]}\n";
    let set = PolicySet::read([("baseline/deny.yaml".to_owned(), cilium.to_owned())]).unwrap();
    let catalogue = Catalogue::of(Arc::clone(&before.site), &set);
    let steps = plan_of(&catalogue, &facts(&[PENDING], owned));
    assert_eq!(steps, ["apply deny", "mark applied: baseline; kept: baseline"]);
}

#[test]
fn where_the_label_alone_opens_the_hatch_it_is_taken_away() {
    let (catalogue, owned) = of_cluster("cilium");
    let plan = plan(&catalogue, "shop", &facts(&[PENDING, STANDARD, HATCH], Vec::new()), &owned, Timestamp::UNIX_EPOCH);
    assert_eq!(words(&catalogue, &plan)[0], "close");
}

#[test]
fn what_another_set_left_in_a_namespace_stays_but_for_the_old_profile_and_is_told() {
    let kubernetes = catalogue();
    let before = stored(&kubernetes, &["deny", "out"]);
    let (cilium, owned) = of_cluster("cilium");
    let of = |profile: (&str, &str), owned: &[Owned]| {
        words(
            &cilium,
            &plan(&cilium, "shop", &facts(&[PENDING, profile], before.clone()), owned, Timestamp::UNIX_EPOCH),
        )
    };
    let kept = "mark applied: baseline, profile standard; kept: baseline, profile standard";
    assert_eq!(of(STANDARD, &owned), [kept]);
    let kept = "mark applied: baseline, profile isolated; kept: baseline";
    assert_eq!(of(ISOLATED, &owned), ["delete out", kept]);
    assert_eq!(of(ISOLATED, &[]), [""; 0], "what replaces it has to be there");
}

#[test]
fn a_grant_is_taken_back_whatever_the_cluster_lacks() {
    let before = stored(&catalogue(), &["deny", "db"]);
    let (cilium, _) = of_cluster("cilium");
    let facts = facts(&[PENDING, STANDARD], before);
    let plan = plan(&cilium, "shop", &facts, &[], Timestamp::UNIX_EPOCH);
    assert_eq!(words(&cilium, &plan), ["delete db"]);
    assert!(plan.waits_for_cluster);
}

/// The catalogue of a folder in which the access policy and one of two profiles name the API server, which has these
/// addresses.
fn naming_the_api_server(addresses: &[&str]) -> Catalogue {
    let text = "apiVersion: portcullis.dev/v1alpha1\nkind: Configuration\naccess: [api]\n\
                profiles: {names: [isolated, standard], default: null}\n";
    let site: Arc<Site> = Arc::new(Configuration::read(text).unwrap().site);
    let marked = |name: &str| {
        policy(name)
            .replace(
                "metadata: {",
                "metadata: {annotations: {network-policy.portcullis.dev/fill: kube-apiserver-endpoints}, ",
            )
            .replace("spec: {", "spec: {policyTypes: [Egress], ")
    };
    let files = [
        ("baseline/deny.yaml", policy("deny")),
        ("profiles/isolated/none.yaml", policy("none")),
        ("profiles/standard/out.yaml", marked("out")),
        ("access/api/api.yaml", marked("api")),
    ];
    let set = PolicySet::read(files.map(|(file, text)| (file.to_owned(), text))).unwrap();
    set.check(&site).unwrap();
    let mut api_server = ApiServer::default();
    for address in addresses {
        api_server.insert(address.parse().unwrap(), &PortSet::from([(Protocol::Tcp, 6443)]));
    }
    let mut catalogue = Catalogue::filled(site, &set, Some(&api_server).filter(|_| !addresses.is_empty()));
    for position in 0..catalogue.entries().len() {
        let manifest = catalogue.entries()[position].manifest.clone();
        catalogue.record_dry_run(position, &manifest);
    }
    catalogue
}

const API: (&str, &str) = ("access.network-policy.portcullis.dev/api", "true");
const WAITING: &str = "waiting until the endpoints of the API server are known";

#[test]
fn a_policy_waits_for_the_endpoints_of_the_api_server_and_nothing_else_does() {
    let unknown = naming_the_api_server(&[]);
    let first = facts(&[PENDING, ISOLATED, API], Vec::new());
    assert_eq!(
        plan_of(&unknown, &first),
        ["apply deny", "apply none", &format!("mark applied: baseline, profile isolated; {WAITING}: access api")]
    );
    let standing = |catalogue: &Catalogue, facts: &NamespaceFacts| {
        plan(catalogue, "shop", facts, &[], Timestamp::UNIX_EPOCH).state
    };
    let others = facts(&[(PENDING.0, "applied"), ISOLATED, API], stored(&unknown, &["deny", "none"]));
    assert_eq!(standing(&unknown, &others), PlanState::Pending, "a metric counts it");

    let known = naming_the_api_server(&["10.0.0.1"]);
    assert_eq!(plan_of(&known, &others), ["apply api", "mark applied: baseline, profile isolated, access api"]);
    let all = facts(&[(PENDING.0, "applied"), ISOLATED, API], stored(&known, &["deny", "none", "api"]));
    assert_eq!(standing(&known, &all), PlanState::Applied);
}

#[test]
fn other_endpoints_of_the_api_server_are_one_write() {
    let (one, two) = (naming_the_api_server(&["10.0.0.1"]), naming_the_api_server(&["10.0.0.2", "10.0.0.1"]));
    let status = "applied: baseline, profile isolated, access api";
    let with = |owned: Vec<Owned>| {
        let mut facts = facts(&[(PENDING.0, "applied"), ISOLATED, API], owned);
        facts.annotations = [("network-policy.portcullis.dev/baseline-status", status)].into_iter().collect();
        facts
    };
    let before = with(stored(&one, &["deny", "none", "api"]));
    assert!(plan_of(&one, &before).is_empty());
    assert_eq!(plan_of(&two, &before), ["apply api"]);
    assert!(plan_of(&two, &with(stored(&two, &["deny", "none", "api"]))).is_empty());
    let again = naming_the_api_server(&["10.0.0.1", "10.0.0.2"]);
    assert!(plan_of(&again, &with(stored(&two, &["deny", "none", "api"]))).is_empty(), "the order makes no difference");

    let api = |catalogue: &Catalogue| {
        catalogue.entries().iter().find(|entry| *entry.id.name == *"portcullis-api").unwrap().manifest.clone()
    };
    assert_eq!(api(&two)["spec"]["egress"][0]["to"][1]["ipBlock"]["cidr"], "10.0.0.2/32");
    assert_ne!(
        api(&one)["metadata"]["annotations"]["network-policy.portcullis.dev/template"],
        api(&two)["metadata"]["annotations"]["network-policy.portcullis.dev/template"]
    );
}

#[test]
fn what_was_filled_in_stays_while_the_endpoints_are_unknown() {
    let (known, unknown) = (naming_the_api_server(&["10.0.0.1"]), naming_the_api_server(&[]));
    let owned = stored(&known, &["deny", "none", "api"]);
    let steps = plan_of(&unknown, &facts(&[(PENDING.0, "applied"), ISOLATED, API], owned.clone()));
    assert_eq!(steps, [format!("mark applied: baseline, profile isolated; {WAITING}: access api")]);
    // Access that is revoked goes all the same.
    let steps = plan_of(&unknown, &facts(&[(PENDING.0, "applied"), ISOLATED], owned));
    assert_eq!(steps, ["delete api", "mark applied: baseline, profile isolated"]);
}

#[test]
fn a_profile_that_waits_replaces_no_other() {
    let (known, unknown) = (naming_the_api_server(&["10.0.0.1"]), naming_the_api_server(&[]));
    let facts = facts(&[(PENDING.0, "applied"), STANDARD], stored(&known, &["deny", "none"]));
    assert_eq!(
        plan_of(&unknown, &facts),
        [format!("mark applied: baseline; kept: profile isolated; {WAITING}: profile standard")]
    );
    assert_eq!(plan_of(&known, &facts), ["apply out", "delete none", "mark applied: baseline, profile standard"]);
}

#[test]
fn a_mistake_in_the_annotation_names_the_file() {
    let site = Configuration::shipped().unwrap().site;
    let shipped = |name: &str, from: &str, to: &str| {
        let shipped = ["baseline", "profiles", "access"]
            .map(|folder| format!("{}/policies/{folder}", env!("CARGO_MANIFEST_DIR")));
        let mut files = Vec::new();
        for folder in shipped {
            read_folder(std::path::Path::new(&folder), &mut files);
        }
        for (file, text) in &mut files {
            if file == name {
                assert!(text.contains(from), "{text}");
                *text = text.replace(from, to);
            }
        }
        PolicySet::read(files).unwrap().check(&site).map_err(|error| error.to_string())
    };
    let (file, mark) = ("access/kube-api/to-kube-api.yaml", "fill: kube-apiserver-endpoints");
    assert_eq!(shipped(file, mark, mark), Ok(()));
    assert_eq!(
        shipped(file, "/fill: kube-apiserver-endpoints", "/fill: kube-apiserver").unwrap_err(),
        format!(
            "{file}: metadata.annotations: unknown value `kube-apiserver` of `network-policy.portcullis.dev/fill`; expected \
             `kube-apiserver-endpoints`"
        )
    );
    let ingress = shipped(file, "policyTypes: [Egress]\n  egress: []", "policyTypes: [Ingress]").unwrap_err();
    assert!(ingress.starts_with(file) && ingress.contains("needs a NetworkPolicy with `Egress`"), "{ingress}");
    let other = shipped(file, "    network-policy.portcullis.dev/fill", "    other.example/fill").unwrap_err();
    assert!(other.starts_with(file) && other.contains("has no effect"), "{other}");
}

/// Adds the files of a folder in `policies/`, by their paths in it.
fn read_folder(folder: &std::path::Path, files: &mut Vec<(String, String)>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            read_folder(&path, files);
        } else {
            let (_, name) = path.to_str().unwrap().rsplit_once("/policies/").unwrap();
            files.push((name.to_owned(), std::fs::read_to_string(&path).unwrap()));
        }
    }
}
