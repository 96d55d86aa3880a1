//! `portcullis config`: the checks of configuration files and their schema.
use std::fs;
use std::path::{Path, PathBuf};

use crate::support::command::{Done, run};
use portcullis::config::{Configuration, SHIPPED, schema};
use portcullis::yaml;
use serde_json::{Value, json};

const HEAD: &str = "apiVersion: portcullis.dev/v1alpha1\nkind: Configuration\n";

/// Configurations that the reader and the schema reject, with the place and the text of the first error.
const WRONG: &[(&str, &str)] = &[
    ("labelDomian: x.y\n", "line 3: labelDomian: unknown field; did you mean `labelDomain`?"),
    ("labelDomain: Not_A_Domain\n", "line 3: labelDomain: `Not_A_Domain` is not a lower-case DNS name"),
    ("preset: strict\n", "line 3: preset: unknown value `strict`; expected one of: observe, warn, enforce"),
    ("policySet: antrea\n", "line 3: policySet: unknown value `antrea`"),
    ("clusterDNS: []\n", "line 3: clusterDNS: at least one entry is required"),
    ("clusterDNS: [{namespace: kube-system}]\n", "line 3: clusterDNS[0]: an entry of `clusterDNS` needs either"),
    ("clusterDNS:\n- addresses: [10.0.0.300]\n", "line 4: clusterDNS[0].addresses[0]: "),
    ("clusterDNS: [{addresses: [10.0.0.10], port: 0}]\n", "line 3: clusterDNS[0]: `port: 0`"),
    ("clusterDNS: [{addresses: [10.0.0.10], podLabels: {a: b}, namespace: x}]\n", "line 3: clusterDNS[0]: an entry"),
    ("platformNamespaces: [Monitoring]\n", "line 3: platformNamespaces[0]: `Monitoring` is not a namespace name"),
    ("platformNamespaces: monitoring\n", "line 3: platformNamespaces: "),
    ("profiles: {names: [-open]}\n", "line 3: profiles"),
    ("access: ['a b']\n", "line 3: access: `a b` is not a valid label value"),
    ("baseline: {namespaces: some}\n", "line 3: baseline.namespaces: unknown value `some`"),
    ("baseline: {gate: 1}\n", "line 3: baseline.gate: "),
    ("hatch: {maxDuration: 5}\n", "line 3: hatch.maxDuration: "),
    ("hatch: {longest: 5h}\n", "line 3: hatch.longest: unknown field"),
    ("lookups: {onFailure: retry}\n", "line 3: lookups.onFailure: unknown value `retry`"),
    ("rules: {any-prot: warn}\n", "line 3: rules.any-prot: unknown rule `any-prot`; did you mean `any-port`?"),
    ("rules: {any-port: maybe}\n", "line 3: rules.any-port.mode: unknown value `maybe`"),
    ("rules: {any-port: {level: warn}}\n", "line 3: rules.any-port.level: unknown field"),
    ("rules:\n  any-port:\n    settings: {most: 65536}\n", "line 5: rules.any-port.settings.most: "),
    ("rules:\n  any-port:\n    settings: {most: many}\n", "line 5: rules.any-port.settings.most: "),
    (
        "rules: {dns-blocked: {settings: {scope: all}}}\n",
        "line 3: rules.dns-blocked.settings.scope: unknown value `all`",
    ),
    ("rules: {split-peer: {settings: {most: 1}}}\n", "line 3: rules.split-peer.settings.most: unknown field"),
    ("rules: {platform-flow-missing: {settings: {flows: [http]}}}\n", "line 3: rules.platform-flow-missing"),
    ("rules: {metadata-egress: {settings: {addresses: [metadata]}}}\n", "line 3: rules.metadata-egress"),
    ("overrides: [{namespaces: {}, rules: {any-port: warn}}]\n", "line 3: overrides[0].namespaces: at least one of"),
    ("overrides: [{rules: {any-port: warn}}]\n", "line 3: overrides[0]: missing field `namespaces`"),
    ("overrides: [{namespaces: {names: [a]}, rules: {any-prot: warn}}]\n", "line 3: overrides[0].rules.any-prot"),
    ("overrides: [{namespaces: {matchExpressions: [{key: a, operator: Is}]}, rules: {}}]\n", "line 3: overrides[0]"),
];

/// Configurations that are valid.
const RIGHT: &[&str] = &[
    "",
    "preset: observe\nrules: {any-port: deny, open-ingress: off, split-peer: {mode: off}}\n",
    "profiles: {default: null}\n",
    "profiles: {names: [isolated], default: isolated}\n",
    "clusterDNS: [{addresses: [169.254.20.10, 'fd00::10']}, {namespace: openshift-dns, podLabels: {a: b}, port: 5353}]\n",
    "excludedNamespaces: ['*', 'kube-*', default]\n",
    "hatch: {maxDuration: PT90M}\n",
    "rules: {monitoring-blocked: {settings: {prometheus: {namespace: observability}}}}\n",
    "rules: {hardcoded-address: {settings: {allowed: [10.0.0.0/8, 'fd00::/8']}}}\n",
    "overrides:\n- namespaces: {matchExpressions: [{key: team, operator: In, values: [web]}], platform: false}\n  \
     rules: {any-port: {settings: {most: 10}}}\n",
];

fn folder() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn validator() -> jsonschema::Validator {
    jsonschema::options().should_validate_formats(true).build(schema().as_value()).unwrap()
}

fn value(text: &str) -> Value {
    yaml::read(text).unwrap().remove(0).value
}

#[test]
fn the_stored_schema_is_the_one_that_the_command_prints() {
    let printed = run(&["config", "schema"], "").out;
    let file = folder().join("policies/portcullis.schema.json");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&file, &printed).unwrap();
    }
    let stored = fs::read_to_string(&file).unwrap_or_default();
    assert!(
        stored == printed,
        "{} is stale; update it with: UPDATE_DOCS=1 cargo test --test commands config",
        file.display()
    );
    assert!(SHIPPED.starts_with("# yaml-language-server: $schema=portcullis.schema.json\n"));
}

#[test]
fn the_schema_and_the_reader_accept_the_same_configurations() {
    let validator = validator();
    let mut right: Vec<(String, String)> =
        RIGHT.iter().map(|text| (format!("{text:?}"), format!("{HEAD}{text}"))).collect();
    let files = configurations(&folder().join("tests"))
        .into_iter()
        .chain([folder().join("policies/portcullis.yaml"), folder().join("deploy/portcullis.yaml")]);
    right.extend(files.map(|file| (file.display().to_string(), fs::read_to_string(&file).unwrap())));
    assert!(right.len() > RIGHT.len() + 3, "configurations of the tests are not found");
    for (name, text) in &right {
        let errors: Vec<String> = Configuration::check(text).iter().map(ToString::to_string).collect();
        assert_eq!(errors, Vec::<String>::new(), "{name}");
        let errors: Vec<String> = validator.iter_errors(&value(text)).map(|error| error.to_string()).collect();
        assert_eq!(errors, Vec::<String>::new(), "{name}");
    }
    for (text, expected) in WRONG {
        let whole = format!("{HEAD}{text}");
        let error = Configuration::read(&whole).err().unwrap_or_else(|| panic!("{text} is accepted")).to_string();
        assert!(error.starts_with(expected), "{text}: {error}");
        assert!(!validator.is_valid(&value(&whole)), "the schema accepts {text}");
    }
    for head in
        ["kind: Configuration\n", "apiVersion: v1\nkind: Configuration\n", "apiVersion: portcullis.dev/v1alpha1\n"]
    {
        assert!(Configuration::read(head).is_err() && !validator.is_valid(&value(head)), "{head}");
    }
}

/// Every configuration below a folder.
fn configurations(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(configurations(&path));
        } else if path.file_name().is_some_and(|name| name == "portcullis.yaml") {
            found.push(path);
        }
    }
    found
}

/// Runs `config check` on files with these texts.
fn check(texts: &[&str], arguments: &[&str]) -> Done {
    let dir = tempfile::tempdir().unwrap();
    let mut all = vec!["config".to_owned(), "check".to_owned()];
    for (number, text) in texts.iter().enumerate() {
        let file = dir.path().join(format!("{number}.yaml"));
        fs::write(&file, text).unwrap();
        all.push(file.display().to_string());
    }
    all.extend(arguments.iter().map(|argument| (*argument).to_owned()));
    let done = run(&all.iter().map(String::as_str).collect::<Vec<_>>(), "");
    let folder = format!("{}/", dir.path().display());
    Done { out: done.out.replace(&folder, ""), err: done.err.replace(&folder, ""), ..done }
}

#[test]
fn every_error_has_its_place_and_a_suggestion() {
    let broken = format!(
        "{HEAD}rules:\n  any-prot: warn\n  dns-blocked:\n    settings:\n      scpoe: union\n  split-peer: maybe\n\
         labelDomian: x.y\nhatch: {{maxDuration: 0s}}\n"
    );
    let done = check(&[HEAD, &broken], &[]);
    assert_eq!(done.code, 1, "{}{}", done.out, done.err);
    assert_eq!(
        done.out,
        "\
error: rules.any-prot: unknown rule `any-prot`
  --> 1.yaml:4:3
  help: did you mean `any-port`?

error: rules.dns-blocked.settings.scpoe: unknown field
  --> 1.yaml:7:7, value `union`
  help: did you mean `scope`?

error: rules.split-peer.mode: unknown value `maybe`; expected one of: deny, warn, audit, off
  --> 1.yaml:8:3

error: labelDomian: unknown field
  --> 1.yaml:9:1, value `x.y`
  help: did you mean `labelDomain`?

error: hatch.maxDuration: `0s` is not a positive duration
  --> 1.yaml:10:9

5 errors in 2 files
"
    );
}

#[test]
fn the_exit_status_tells_invalid_from_unreadable() {
    let fine = check(&[HEAD, "apiVersion: portcullis.dev/v1alpha1\nkind: Configuration\npreset: warn\n"], &[]);
    assert_eq!((fine.code, fine.out.as_str()), (0, "0 errors in 2 files\n"), "{}", fine.err);
    let missing = run(&["config", "check", "/nowhere/portcullis.yaml"], "");
    assert_eq!(missing.code, 2);
    assert!(missing.out.starts_with("error: No such file"), "{}", missing.out);
    assert!(missing.out.contains("--> /nowhere/portcullis.yaml\n"), "{}", missing.out);
    let not_yaml = check(&["apiVersion: [\n"], &["-o", "json"]);
    assert_eq!(not_yaml.code, 1);
    let problems: Value = serde_json::from_str(&not_yaml.out).unwrap();
    assert_eq!((&problems["files"], &problems["problems"][0]["line"]), (&json!(1), &json!(1)), "{problems}");
}

#[test]
fn json_has_field_value_and_help_of_each_error() {
    let done = check(&[&format!("{HEAD}rules: {{any-prot: warn}}\n")], &["--output", "json"]);
    let found: Value = serde_json::from_str(&done.out).unwrap();
    assert_eq!(
        found,
        json!({"files": 1, "problems": [{
            "file": "0.yaml", "line": 3, "column": 9, "field": "rules.any-prot", "problem": "unknown rule `any-prot`",
            "help": "did you mean `any-port`?",
        }]})
    );
}

/// `serve` would not start with such a configuration.
#[test]
fn a_profile_without_policies_is_an_error() {
    let done = check(&[&format!("{HEAD}profiles: {{names: [isolated, open], default: isolated}}\n")], &[]);
    assert_eq!(done.code, 1, "{}", done.out);
    assert!(done.out.contains("open"), "{}", done.out);
}
