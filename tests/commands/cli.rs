//! The commands: what they print, where, and how they end.

use crate::support::command::run;
use crate::support::reviews::{backend_policy, create, egress, to_database};
use crate::support::verdict::has_finding;
use serde_json::{Value, json};

const DENIED: &str = "tests/corpus/kubernetes/default-deny-egress.yaml";
const FINE: &str = "tests/corpus/kubernetes/allow-dns-egress.yaml";

#[test]
fn check_says_what_is_wrong_where_and_how_to_put_it_right() {
    let done = run(&["check", DENIED], "");
    assert_eq!(done.code, 1);
    assert!(
        done.out.starts_with("deny[dns-blocked]: all pods in namespace production cannot resolve DNS"),
        "{}",
        done.out
    );
    let place = "  --> tests/corpus/kubernetes/default-deny-egress.yaml:6:1\n   |\n 6 | spec:\n   | ^^^^^ spec.egress of \
                 NetworkPolicy production/default-deny-egress\n";
    assert!(done.out.contains(place), "{}", done.out);
    assert!(done.out.contains("\n10 +   egress:\n11 +   - to:\n"), "the lines of the fix: {}", done.out);
    assert!(done.out.contains("assumed: namespace `production` has no profile and no baseline\n"), "{}", done.out);
    assert!(
        done.out.ends_with("1 finding in 1 of 1 object: 1 deny, 0 warn\n1 candidate for `--fix`\n"),
        "{}",
        done.out
    );
    assert!(!done.out.contains('\u{1b}'), "colours are for terminals");
    assert_eq!(run(&["check", FINE], "").code, 0);
}

/// The actions on one policy that `any-port` fires on, with these annotations, of `check` with these arguments.
fn checked(namespace: &str, annotations: &str, arguments: &[&str]) -> (i32, Vec<(String, String)>) {
    let policy = format!(
        "{namespace}---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata:\n  name: web\n  namespace: shop\n  \
         annotations: {{{annotations}}}\nspec:\n  podSelector: {{}}\n  policyTypes: [Ingress]\n  ingress:\n  \
         - from: [{{podSelector: {{matchLabels: {{app: batch}}}}}}]\n"
    );
    let done = run(&[&["check", "--output", "json"], arguments, &["-"]].concat(), &policy);
    let report: Value = serde_json::from_str(&done.out).unwrap_or_else(|error| panic!("{error}: {}", done.err));
    let text = |finding: &Value, field: &str| finding[field].as_str().unwrap().to_owned();
    let findings = report["findings"].as_array().unwrap();
    (done.code, findings.iter().map(|finding| (text(finding, "rule"), text(finding, "action"))).collect())
}

#[test]
fn check_honours_exemptions_and_hatches_as_the_gate_does() {
    const DOMAIN: &str = "network-policy.portcullis.dev";
    let found = |rule: &str, action: &str| (rule.to_owned(), action.to_owned());
    let exempt =
        |until: &str| format!("{DOMAIN}/exempt: any-port, {DOMAIN}/reason: a scanner, {DOMAIN}/until: {until:?}");
    let (far, over) = (exempt("2999-01-01T00:00:00Z"), exempt("2020-01-01T00:00:00Z"));
    assert_eq!(checked("", &far, &[]), (0, vec![found("any-port", "warn")]));
    assert_eq!(checked("", &over, &[]), (1, vec![found("any-port", "deny")]));
    // A file has no author; one who is named may or may not.
    let refused = vec![found("any-port", "deny"), found("any-port", "deny")];
    assert_eq!(checked("", &far, &["--as", "ada"]), (1, refused));
    let masters = ["--as", "root", "--as-group", "system:masters"];
    assert_eq!(checked("", &far, &masters), (0, vec![found("any-port", "warn")]));

    let hatch = |until: jiff::Timestamp| {
        format!(
            "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: shop\n  labels: {{{DOMAIN}/enforcement: disabled}}\n  \
             annotations: {{{DOMAIN}/reason: an outage, {DOMAIN}/until: \"{until}\"}}\n"
        )
    };
    let now = jiff::Timestamp::now();
    let (open, shut) =
        (hatch(now + jiff::SignedDuration::from_hours(1)), hatch(now - jiff::SignedDuration::from_hours(1)));
    assert_eq!(checked(&open, "", &[]), (0, vec![found("any-port", "warn")]));
    assert_eq!(checked(&shut, "", &[]), (1, vec![found("unguarded-hatch", "deny"), found("any-port", "deny")]));
}

#[test]
fn check_prints_json_for_programs() {
    let done = run(&["check", "--output", "json", DENIED, FINE], "");
    let report: Value = serde_json::from_str(&done.out).unwrap();
    let finding = &report["findings"][0];
    assert_eq!(finding["rule"], "dns-blocked");
    assert_eq!(finding["action"], "deny");
    assert_eq!(finding["resource"]["namespace"], "production");
    assert_eq!(finding["resource"]["apiVersion"], "networking.k8s.io/v1");
    assert_eq!(finding["path"], "spec.egress");
    assert_eq!(finding["file"], DENIED);
    assert_eq!(finding["line"], 6, "a field that is not there is where it would be: in the spec");
    assert_eq!(finding["fix"][0]["op"], "add");
    assert_eq!(report["summary"]["resources"], 2);
    assert_eq!(report["summary"]["deny"], 1);
}

#[test]
fn check_reads_standard_input_and_passes_over_what_it_does_not_know() {
    let input = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n---\napiVersion: v1\nkind: List\nitems:\n- apiVersion: networking.k8s.io/v1\n  kind: NetworkPolicy\n  metadata: {name: b}\n  spec: {podSelector: {}, ingress: [{}]}\n";
    let done = run(&["check", "-"], input);
    assert_eq!(done.code, 1);
    assert!(done.out.contains("^^ spec.ingress[0] of NetworkPolicy b\n"), "{}", done.out);
    assert!(
        done.out.ends_with("2 findings in 1 of 1 object (1 of other kinds ignored): 1 deny, 1 warn\n"),
        "{}",
        done.out
    );
}

#[test]
fn what_cannot_be_judged_is_told_and_the_rest_is_judged_all_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("a.yaml", "kind: [1, 2\n");
    write("b.yaml", "kind: Pod\n");
    write("values.yaml", "just: a map\n");
    write(
        "c.yaml",
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: c}\nspec: {ingress: [{ports: [{port: 70000}]}]}\n",
    );
    write("d.yaml", "apiVersion: networking.k8s.io/v2\nkind: NetworkPolicy\nmetadata: {name: d}\n");
    write("e.yaml", &std::fs::read_to_string(DENIED).unwrap());
    write("f.txt", "not a manifest");
    write("g.yaml", "apiVersion: v1\nkind: Pod\nspec: {hostNetwork: 'yes'}\n");
    let done = run(&["check", folder.path().to_str().unwrap()], "");
    assert_eq!(done.code, 2);
    for expected in [
        "a.yaml:1: not YAML",
        "b.yaml:1: not a Kubernetes object: `apiVersion` and `kind` are required",
        "c.yaml:4: spec.ingress[0].ports[0].port: `70000` is not a port number from 1 to 65535",
        "d.yaml:1: apiVersion: `networking.k8s.io/v2` of NetworkPolicy is not supported; expected v1",
        "g.yaml:3: spec.hostNetwork: `\"yes\"` is a string; expected true or false",
    ] {
        assert!(done.err.contains(expected), "{expected} in\n{}", done.err);
    }
    assert!(done.out.contains("deny[dns-blocked]"), "{}", done.out);
    assert_eq!(done.err.lines().count(), 5, "{}", done.err);
    assert_eq!(run(&["check", "no-such-file.yaml"], "").code, 2);
    let named = run(&["check", folder.path().join("values.yaml").to_str().unwrap()], "");
    assert_eq!(named.code, 2, "a file that is named itself has to be a manifest");
    assert!(named.err.contains("values.yaml:1: not a Kubernetes object"), "{}", named.err);
}

/// The whole JSON output of `check`.
fn report(arguments: &[&str], input: &str) -> Value {
    let done = run(&[&["check", "--output", "json"], arguments].concat(), input);
    serde_json::from_str(&done.out).unwrap_or_else(|error| panic!("{error}: {}", done.err))
}

#[test]
fn json_has_errors_and_skipped_files() {
    let broken = report(&["tests/cases/15c-broken-manifest-in-a-folder"], "");
    assert_eq!(broken["errors"][0]["file"], "tests/cases/15c-broken-manifest-in-a-folder/broken.yaml");
    assert!(broken["errors"][0]["message"].as_str().unwrap().starts_with("not YAML: "), "{broken}");
    assert_eq!((&broken["summary"]["resources"], &broken["summary"]["errors"]), (&1.into(), &1.into()));

    let other = report(&["tests/cases/15b-chart-and-other-files"], "");
    let skipped: Vec<(&str, &str)> = other["skipped"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| (one["file"].as_str().unwrap().rsplit('/').next().unwrap(), one["reason"].as_str().unwrap()))
        .collect();
    assert_eq!(
        skipped,
        [
            ("Chart.yaml", "a Helm chart file"),
            ("kustomization.yaml", "a kustomization"),
            ("policy.yaml", "a Helm chart template"),
            ("values.yaml", "a Helm chart file"),
            ("loose-template.yaml", "a Go template"),
            ("package.json", "not a manifest: it has neither `apiVersion` nor `kind`"),
            ("remove.yaml", "not a manifest: it has neither `apiVersion` nor `kind`"),
            ("tsconfig.json", "not a manifest: it is not YAML and has no `kind`"),
        ]
    );
    assert_eq!(other["summary"]["skipped"], 8);
}

#[test]
fn a_broken_file_of_the_context_is_one_error() {
    let context = "tests/cases/15c-broken-manifest-in-a-folder";
    let done = run(&["check", "--context", context, "--context", "no-such-file.yaml", DENIED], "");
    assert_eq!(done.code, 2);
    let errors: Vec<&str> = done.err.lines().collect();
    let [missing, broken] = errors[..] else { panic!("{}", done.err) };
    assert!(missing.contains("no-such-file.yaml: No such file"), "{missing}");
    assert!(broken.contains("broken.yaml:"), "{broken}");
    assert!(done.out.contains("deny[dns-blocked]"), "{}", done.out);
    let review = run(&["review", "--context", context], "{}");
    assert!(
        review.code == 2 && review.err.contains("broken.yaml:"),
        "a review is answered from all of it or not at all"
    );
}

#[test]
fn files_are_skipped_by_name_and_by_path() {
    let folder = "tests/cases/15c-broken-manifest-in-a-folder";
    for skip in ["broken.yaml", "bro*", "**/broken.yaml", "tests/cases/15c-broken-manifest-in-a-folder/broken.*"] {
        let done = run(&["check", "--skip", skip, folder], "");
        assert_eq!(done.code, 0, "{skip}: {}", done.err);
        assert!(done.out.ends_with("no findings in 1 object (1 file skipped)\n"), "{}", done.out);
    }
    assert_eq!(run(&["check", "--skip", "other.yaml", folder], "").code, 2);
}

#[cfg(unix)]
#[test]
fn what_is_no_regular_file_is_one_error() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(FINE, folder.path().join("fine.yaml")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(folder.path().join("socket.yaml")).unwrap();
    std::os::unix::fs::symlink(folder.path(), folder.path().join("loop")).unwrap();
    let done = run(&["check", folder.path().to_str().unwrap()], "");
    assert_eq!(done.code, 2);
    assert!(done.err.ends_with("socket.yaml: not a regular file\n") && done.err.lines().count() == 1, "{}", done.err);
    assert!(done.out.contains("1 object"), "{}", done.out);
}

#[test]
fn a_manifest_that_another_one_overwrites_is_a_finding() {
    let found = |path: &str| -> Vec<(String, u64, String)> {
        let report = report(&[path], "");
        assert_eq!(report["findings"][0]["action"], "warn", "{report}");
        let findings = report["findings"].as_array().unwrap().iter();
        findings
            .filter(|finding| finding["rule"] == "overwritten-object")
            .map(|finding| {
                let file = finding["file"].as_str().unwrap().rsplit('/').next().unwrap().to_owned();
                (file, finding["line"].as_u64().unwrap(), finding["message"].as_str().unwrap().to_owned())
            })
            .collect()
    };
    let [(file, 1, message)] = &found("tests/cases/19-same-name-twice.yaml")[..] else { panic!("one, at the first") };
    assert_eq!(file, "19-same-name-twice.yaml");
    assert_eq!(
        message,
        "NetworkPolicy shop/in-web is defined twice; the manifest at tests/cases/19-same-name-twice.yaml:11 replaces \
         this one"
    );
    let [(file, 1, message)] = &found("tests/cases/19b-same-object-in-two-files")[..] else {
        panic!("one, at the first")
    };
    assert_eq!(file, "a.yaml");
    assert!(message.ends_with("19b-same-object-in-two-files/b.yaml:1 replaces this one"), "{message}");
    // The same text twice loses nothing, and what has no name yet is never the same.
    let policy = std::fs::read_to_string(FINE).unwrap();
    let twice = report(&["-"], &format!("{policy}\n---\n{policy}"));
    assert_eq!(twice["findings"], serde_json::json!([]));
    let unnamed = "apiVersion: v1\nkind: Pod\nmetadata: {generateName: a-}\nspec: {nodeName: a}\n";
    let unnamed = report(&["-"], &format!("{unnamed}---\n{}", unnamed.replace("nodeName: a", "nodeName: b")));
    assert_eq!(unnamed["findings"], serde_json::json!([]));
}

#[test]
fn text_that_kubectl_drops_is_a_finding() {
    let policy = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: a, namespace: shop}\nspec:\n  \
                  podSelector: {}\n  ingress: []\n  ingress:\n  - from: [{podSelector: {}}]\n...\nb: 2\n";
    let report = report(&["-"], policy);
    let found: Vec<(&str, u64)> = report["findings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|finding| (finding["rule"].as_str().unwrap(), finding["line"].as_u64().unwrap()))
        .collect();
    assert!(found.starts_with(&[("dropped-text", 7), ("dropped-text", 10)]), "{report}");
    assert!(found.contains(&("any-port", 8)), "the last one counts: {report}");
}

#[test]
fn unresolved_variables_are_named() {
    let one = report(&["tests/cases/09d-variable-that-can-be-judged.yaml"], "");
    let found: Vec<&Value> =
        one["findings"].as_array().unwrap().iter().filter(|finding| finding["rule"] == "unresolved-variable").collect();
    assert_eq!(found.len(), 2, "{one}");
    assert_eq!((&found[0]["path"], &found[0]["action"]), (&"metadata.name".into(), &"warn".into()));
    assert_eq!(found[0]["message"], "unresolved variable `${ENV}`; its text was checked literally");
    // The environment of a container may name variables.
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {containers: [{name: a, args: [\"$(X)\"]}]}\n";
    assert_eq!(report(&["-"], pod)["findings"], serde_json::json!([]));
}

#[test]
fn manifests_without_a_namespace_belong_to_their_kustomization() {
    let both = report(&["tests/cases/12-two-bases-without-namespace"], "");
    let folders = ["a", "b"].map(|folder| format!("tests/cases/12-two-bases-without-namespace/{folder}"));
    assert_eq!(both["assumedOneNamespace"], serde_json::json!(folders));
    let text = run(&["check", "tests/cases/12-two-bases-without-namespace"], "");
    assert!(text.out.contains("assumed: manifests without a namespace in `tests/cases/12"), "{}", text.out);
    let files = ["a/deny.yaml", "b/dns.yaml"].map(|file| format!("tests/cases/12b-two-kustomizations/{file}"));
    let two = report(&[&files[0], &files[1]], "");
    assert_eq!(two["assumedOneNamespace"], serde_json::json!([]));
    assert_eq!(two["findings"][0]["resource"]["namespace"], "a", "{two}");
    let overlays = report(&["tests/cases/12d-one-overlay-without-dns"], "");
    let namespaces: Vec<&Value> =
        overlays["findings"].as_array().unwrap().iter().map(|finding| &finding["resource"]["namespace"]).collect();
    assert_eq!(namespaces, ["prod"], "the base is judged once for each overlay");
    assert_eq!(overlays["summary"]["resources"], 2);
}

#[test]
fn patches_of_a_kustomization_are_no_objects() {
    let folder = "tests/cases/31-kustomize-patch";
    let text = run(&["check", folder], "").out;
    assert!(text.contains("no findings in 1 object (3 files skipped)"), "{text}");
    let assumed = "assumed: the patches of kustomization `tests/cases/31-kustomize-patch/prod` do not change the manifests\n  \
                   help: check the rendered manifests: `kustomize build tests/cases/31-kustomize-patch/prod | portcullis check -`";
    assert!(text.contains(assumed), "{text}");
    for path in [folder.to_owned(), format!("{folder}/prod"), format!("{folder}/prod/types.yaml")] {
        let json = report(&[&path], "");
        assert_eq!(json["findings"], serde_json::json!([]), "{path}");
        assert!(json["assumed"][0].as_str().unwrap().starts_with("the patches of kustomization"), "{json}");
        let skipped = json["skipped"].as_array().unwrap();
        assert!(skipped.iter().any(|one| one["reason"] == "a patch of a kustomization"), "{path}: {json}");
    }
    let audit = run(&["audit", "--output", "json", folder], "");
    let audit: Value = serde_json::from_str(&audit.out).unwrap();
    assert_eq!(audit["findings"], serde_json::json!([]), "{audit}");
    let assumed = audit["assumed"].as_array().unwrap();
    assert!(assumed.iter().any(|one| one.as_str().unwrap().starts_with("the patches")), "{audit}");
    let before = format!("{folder}/base");
    let diff = run(&["diff", "--before", &before, folder], "");
    assert_eq!((diff.code, diff.err.contains("the patches of kustomization")), (0, true), "{}{}", diff.out, diff.err);
    let deleted = run(&["check", "tests/cases/31b-kustomize-deletes"], "").out;
    assert!(deleted.contains("in 1 object (1 deleted by a kustomization, 2 files skipped)"), "{deleted}");
    assert!(!deleted.contains("the patches of"), "{deleted}");
    let one = report(&["tests/cases/31c-one-overlay-deletes"], "");
    assert_eq!(one["findings"][0]["resource"]["namespace"], "dev", "{one}");
    let patch = "$patch: delete\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: a}\n";
    let patch = run(&["check", "-"], patch);
    assert_eq!(patch.code, 2);
    assert!(patch.err.contains("<stdin>:1: a strategic merge patch (`$patch`)"), "{}", patch.err);
}

#[test]
fn patches_of_kinds_that_are_not_read_need_no_assumption() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(FINE, folder.path().join("fine.yaml")).unwrap();
    let assumed = |rest: &str| {
        std::fs::write(folder.path().join("kustomization.yaml"), format!("resources: [fine.yaml]\n{rest}")).unwrap();
        report(&[folder.path().to_str().unwrap()], "")["assumed"].as_array().unwrap().len()
    };
    assert_eq!(assumed("patches:\n- patch: |-\n    apiVersion: v1\n    kind: ConfigMap\n    metadata: {name: a}\n"), 0);
    assert_eq!(assumed("patches:\n- {target: {kind: ConfigMap}, patch: '[{op: remove, path: /data}]'}\n"), 0);
    assert_eq!(assumed("patches:\n- {target: {kind: Deployment}, patch: '[{op: remove, path: /spec}]'}\n"), 1);
    assert_eq!(assumed("patchesJson6902:\n- {target: {kind: Config.*}, patch: '[{op: remove, path: /x}]'}\n"), 1);
    assert_eq!(assumed("replacements: [{path: a.yaml}]\n"), 1);
    assert_eq!(assumed(""), 0);
}

#[test]
fn review_answers_one_review() {
    let body = std::fs::read_to_string("tests/admission-reviews/networkpolicy-create.json").unwrap();
    let done = run(&["review"], &body);
    assert_eq!(done.code, 1);
    let answer: Value = serde_json::from_str(&done.out).unwrap();
    assert_eq!(answer["response"]["allowed"], false);
    assert!(answer["response"]["status"]["message"].as_str().unwrap().starts_with("dns-blocked: pods "));
    let with_dns = run(
        &["review", "--context", "tests/corpus/kubernetes/allow-dns-egress.yaml"],
        &body.replace("\"shop\"", "\"apps\""),
    );
    assert_eq!(with_dns.code, 0, "{}", with_dns.out);
    let namespace = std::fs::read_to_string("tests/admission-reviews/namespace-create.json").unwrap();
    let mutated: Value = serde_json::from_str(&run(&["review", "--mutate"], &namespace).out).unwrap();
    assert_eq!(mutated["response"]["patchType"], "JSONPatch");
    let broken = run(&["review"], "{");
    assert_eq!((broken.code, broken.out.as_str()), (2, ""));
    assert!(broken.err.contains("the body is not an admission.k8s.io/v1 AdmissionReview"), "{}", broken.err);
}

#[test]
fn rules_are_listed_and_explained() {
    let list = run(&["rules"], "");
    assert_eq!(list.out.lines().count(), portcullis::rules::RULES.len(), "{}", list.out);
    assert!(list.out.starts_with("dns-blocked            deny   Pods are isolated for egress"), "{}", list.out);
    let one = run(&["rules", "any-port"], "");
    assert!(one.out.contains("Default mode: deny") && one.out.contains("- `sameNamespace`:"), "{}", one.out);
    let wrong = run(&["rules", "any-prot"], "");
    assert_eq!(wrong.code, 2);
    assert!(wrong.err.contains("unknown rule `any-prot`; did you mean `any-port`?"), "{}", wrong.err);
}

#[test]
fn a_bad_configuration_is_an_error_with_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("portcullis.yaml");
    std::fs::write(
        &file,
        "apiVersion: portcullis.dev/v1alpha1\nkind: Configuration\nrules:\n  any-port: {mode: deni}\n",
    )
    .unwrap();
    let done = run(&["check", "--config", file.to_str().unwrap(), FINE], "");
    assert_eq!((done.code, done.out.as_str()), (2, ""));
    assert!(
        done.err.contains(
            "portcullis.yaml: line 4: rules.any-port.mode: unknown value `deni`; expected one of: deny, warn, audit, off"
        ),
        "{}",
        done.err
    );
}

#[test]
fn webhooks_follow_the_configuration() {
    let ca = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(ca.path(), "a CA").unwrap();
    let ca = ca.path().to_str().unwrap();
    let webhooks = |extra: &[&str]| -> Value {
        let done = run(&[&["webhooks", "--ca", ca], extra].concat(), "");
        assert_eq!(done.code, 0, "{}", done.err);
        serde_json::from_str(&done.out).unwrap()
    };
    let shipped = webhooks(&["--url", "https://10.0.0.7:8443/"]);
    assert_eq!(shipped["items"][0]["webhooks"][0]["clientConfig"]["url"], "https://10.0.0.7:8443/validate");
    assert_eq!(shipped["items"][0]["webhooks"][0]["clientConfig"]["caBundle"], "YSBDQQ==");
    assert_eq!(shipped["items"][0]["webhooks"][0]["failurePolicy"], "Fail");
    let pending = &shipped["items"][0]["webhooks"][4];
    assert_eq!(
        (&pending["name"], &pending["failurePolicy"]),
        (&"pending-pods.portcullis.dev".into(), &"Ignore".into())
    );
    assert_eq!(shipped["items"][1]["webhooks"].as_array().unwrap().len(), 1, "nothing injects");
    let names =
        |list: &Value| -> Vec<Value> { (0..2).map(|at| list["items"][at]["metadata"]["name"].clone()).collect() };
    assert_eq!(names(&shipped), ["portcullis", "portcullis"]);
    assert_eq!(names(&webhooks(&["--webhook-name", "gate-webhooks"])), ["gate-webhooks", "gate-webhooks"]);

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("portcullis.yaml");
    let guards = "unguarded-hatch: warn, isolation-downgrade: warn, managed-policy-change: warn, baseline-pending: off";
    let rules = format!(
        "rules: {{invalid-profile: warn, host-network: audit, {guards}, dns-blocked: {{settings: {{inject: true}}}}}}\n"
    );
    let head = "apiVersion: portcullis.dev/v1alpha1\nkind: Configuration\nlabelDomain: network-policy.homelab\n";
    std::fs::write(&file, format!("{head}{rules}")).unwrap();
    let changed = webhooks(&["--service", "security/guard", "--port", "8443", "--config", file.to_str().unwrap()]);
    let policies: Vec<(&str, &str)> = changed["items"][0]["webhooks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|webhook| (webhook["name"].as_str().unwrap(), webhook["failurePolicy"].as_str().unwrap()))
        .collect();
    assert_eq!(
        policies,
        [
            ("policies.portcullis.dev", "Fail"),
            ("namespaces.portcullis.dev", "Ignore"),
            ("namespace-labels.portcullis.dev", "Ignore"),
            ("pods.portcullis.dev", "Ignore"),
            ("workloads.portcullis.dev", "Ignore"),
            ("services.portcullis.dev", "Ignore"),
        ]
    );
    assert_eq!(changed["items"][1]["webhooks"][1]["clientConfig"]["service"]["path"], "/mutate");
    std::fs::write(&file, format!("{head}{}", rules.replace("unguarded-hatch: warn", "unguarded-hatch: deny")))
        .unwrap();
    let guarded = webhooks(&["--config", file.to_str().unwrap()]);
    assert_eq!(guarded["items"][0]["webhooks"][1]["failurePolicy"], "Fail", "one of the rules behind it denies");
    std::fs::write(&file, format!("{head}rules: {{dns-blocked: off, broken-contract: off}}\n")).unwrap();
    let without = webhooks(&["--config", file.to_str().unwrap()])["items"][0].to_string();
    assert!(!without.contains("namespace-labels.portcullis.dev"), "nobody would be told of anything: {without}");
    let text = changed.to_string();
    assert!(text.contains("network-policy.homelab/") && !text.contains("network-policy.portcullis.dev/"));
    assert_eq!(run(&["webhooks", "--url", "http://x"], "").code, 2);
}

/// What needs the network of its node there has to start while nobody answers, since it is only warned about.
#[test]
fn webhooks_that_can_refuse_pods_spare_the_platform() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("portcullis.yaml");
    let webhooks = |configuration: &str| -> Vec<Value> {
        let head = "apiVersion: portcullis.dev/v1alpha1\nkind: Configuration\n";
        std::fs::write(&file, format!("{head}{configuration}")).unwrap();
        let done = run(&["webhooks", "--config", file.to_str().unwrap()], "");
        assert_eq!(done.code, 0, "{}", done.err);
        let printed: Value = serde_json::from_str(&done.out).unwrap();
        let all = printed["items"][0]["webhooks"].as_array().unwrap().iter();
        let can_refuse = ["pods.portcullis.dev", "workloads.portcullis.dev"];
        all.filter(|webhook| can_refuse.contains(&webhook["name"].as_str().unwrap())).cloned().collect()
    };
    let spared = |webhook: &Value| -> (Vec<String>, Vec<String>) {
        let names = webhook["namespaceSelector"]["matchExpressions"][0]["values"].as_array().unwrap();
        let conditions = webhook["matchConditions"].as_array().unwrap();
        let (own, added): (Vec<&Value>, Vec<&Value>) =
            conditions.iter().partition(|condition| condition["name"] != "not-in-the-platform");
        assert_eq!(own[0]["name"], "uses-the-network-of-the-node");
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        (names.iter().map(text).collect(), added.iter().map(|one| text(&one["expression"])).collect())
    };
    let platform = "platformNamespaces: [kube-system, monitoring, 'openshift-*', 'gke-*']\n";
    let shipped = ["kube-system", "portcullis-system", "kube-public", "kube-node-lease"];
    let found = webhooks(platform);
    assert_eq!(found.len(), 2);
    for webhook in found {
        assert_eq!(webhook["failurePolicy"], "Fail");
        let (names, conditions) = spared(&webhook);
        assert_eq!(names, [&shipped[..], &["monitoring"]].concat());
        assert_eq!(conditions, [r#"!["openshift-","gke-"].exists(start, request.namespace.startsWith(start))"#]);
    }
    // Where something is denied in some of them, it has to be asked about.
    let denies = "overrides:\n- {namespaces: {platform: true}, rules: {host-network: warn}}\n\
                  - {namespaces: {names: [openshift-web]}, rules: {host-network: deny}}\n";
    for webhook in webhooks(&format!("{platform}{denies}")) {
        let (names, conditions) = spared(&webhook);
        assert_eq!(names, [&shipped[..], &["monitoring"]].concat());
        assert_eq!(conditions, [r#"!["gke-"].exists(start, request.namespace.startsWith(start))"#]);
    }
    for webhook in webhooks(&format!("{platform}overrides: []\n")) {
        assert_eq!(spared(&webhook), (shipped.map(str::to_owned).to_vec(), Vec::new()));
    }
}

/// The denial in the README is the one that the policy gets in a cluster.
#[test]
fn the_readme_shows_a_denial_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let known = dir.path().join("kube-system.json");
    let labels = json!({"kubernetes.io/metadata.name": "kube-system"});
    let namespace =
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "kube-system", "labels": labels}});
    std::fs::write(&known, namespace.to_string()).unwrap();
    let by_name = json!({
        "to": [{
            "namespaceSelector": {"matchLabels": {"name": "kube-system"}},
            "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}},
        }],
        "ports": [{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}],
    });
    let review = create(&backend_policy("backend", &egress(&[to_database(), by_name])));
    let done = run(&["review", "--context", known.to_str().unwrap()], &review.to_string());
    let answer: Value = serde_json::from_str(&done.out).unwrap();
    let message = answer["response"]["status"]["message"].as_str().unwrap();
    let readme = std::fs::read_to_string("README.md").unwrap();
    let (_, sample) = readme.split_once(" denied the request: ").unwrap();
    let mut shown = sample.lines().map(|line| line.strip_prefix("    ").unwrap_or(line));
    for line in message.lines() {
        let shown = shown.next().unwrap();
        let mut rest = line;
        // The README leaves out parts of the patch.
        for part in shown.split('…') {
            let (_, after) = rest.split_once(part).unwrap_or_else(|| panic!("{shown}\nis not\n{line}"));
            rest = after;
        }
        assert!(rest.is_empty() && line.starts_with(shown.split('…').next().unwrap()), "{shown}\nis not\n{line}");
    }
}

#[test]
fn shells_get_completions_and_people_get_help() {
    assert!(run(&["completions", "bash"], "").out.contains("_portcullis()"));
    for command in ["serve", "check", "review", "rules", "webhooks", "demo", "completions"] {
        let help = run(&[command, "--help"], "");
        assert!(help.code == 0 && help.out.contains("Usage: portcullis"), "{}", help.out);
    }
    let none = run(&[], "");
    assert_eq!(none.code, 2);
    assert!(none.err.contains("Usage: portcullis"), "{}", none.err);
}

#[test]
fn the_demo_shows_what_it_decides_and_ends() {
    let done = run(&["demo", "--once"], "");
    assert_eq!(done.code, 0, "{}", done.err);
    for (rule, path) in
        [("dns-blocked", "spec.egress"), ("any-port", "spec.egress[0]"), ("host-network", "spec.hostNetwork")]
    {
        assert!(has_finding(&done.out, rule, path), "{rule} at {path} in\n{}", done.out);
    }
    assert!(done.out.contains("network-policy.portcullis.dev~1profile"), "{}", done.out);
}

#[test]
fn a_value_that_cannot_be_read_is_named_with_its_line() {
    let policy = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: a}\nspec:\n  podSelector: {}\n  ingress:\n  - \
                  ports:\n    - port: true\n";
    let done = run(&["check", "-"], policy);
    assert_eq!(done.code, 2);
    assert!(done.err.contains("<stdin>:8: spec.ingress[0].ports[0].port: "), "{}", done.err);
}

/// A policy for pods that only an operator makes.
#[test]
fn pods_that_an_operator_makes_may_have_any_labels() {
    let manifests = |label: &str, custom: &str| {
        let workload = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: state, namespace: metrics}\nspec:\n  \
                        template:\n    metadata: {labels: {app: state}}\n";
        let policy = format!(
            "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: state, namespace: metrics}}\nspec:\n  \
             podSelector: {{matchLabels: {{{label}}}}}\n  policyTypes: [Ingress]\n"
        );
        let done = run(&["check", "--output", "json", "-"], &[workload, &policy, custom].join("---\n"));
        done.out.matches(r#""rule": "dangling-selector""#).count()
    };
    let custom = |api_version: &str, namespace: &str, spec: &str| {
        format!("apiVersion: {api_version}\nkind: X\nmetadata: {{name: x, namespace: {namespace}}}\nspec: {spec}\n")
    };
    let prometheus = custom("monitoring.coreos.com/v1", "metrics", "{podMetadata: {labels: {app: x}}}");
    let elsewhere = custom("monitoring.coreos.com/v1", "other", "{replicas: 1}");
    let kind = "kind: ServiceMonitor";
    let monitor = custom("monitoring.coreos.com/v1", "metrics", "{endpoints: [{port: web}]}").replace("kind: X", kind);
    let release = custom("helm.toolkit.fluxcd.io/v2", "flux-system", "{targetNamespace: metrics}");
    assert_eq!(manifests("app: prometheus", &prometheus), 0);
    assert_eq!(manifests("app: prometheus", &release), 0);
    assert_eq!(manifests("app: prometheus", &elsewhere), 1);
    assert_eq!(manifests("app: prometheus", &monitor), 1);
    assert_eq!(manifests("app: stat", &prometheus), 1, "it is nearly a label that is there");
}

/// Policies that `any-port` fires on, each in a namespace of its own.
fn open_policies(count: usize) -> String {
    let policy = |number| {
        format!(
            "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: open, namespace: ns-{number}}}\nspec:\n  \
             podSelector: {{}}\n  policyTypes: [Egress]\n  egress: [{{}}]\n---\n"
        )
    };
    (0..count).map(policy).collect()
}

#[test]
fn many_findings_that_read_the_same_are_one_in_the_text_and_all_in_json() {
    let done = run(&["check", "-"], &open_policies(30));
    assert_eq!(done.code, 1);
    assert_eq!(
        done.out.matches("deny[any-port]: egress to anywhere is allowed on every port").count(),
        1,
        "{}",
        done.out
    );
    assert!(done.out.contains("= also at <stdin>:15, <stdin>:23, <stdin>:31 and 26 more places"), "{}", done.out);
    let setting = "any-port: 30 denials in 30 objects, 30 namespaces\n  to warn everywhere: `rules: {any-port: warn}` in the \
                   configuration\n";
    assert!(done.out.contains(setting), "{}", done.out);
    let json: Value = serde_json::from_str(&run(&["check", "--output", "json", "-"], &open_policies(30)).out).unwrap();
    let denied = json["findings"].as_array().unwrap().iter().filter(|finding| finding["rule"] == "any-port");
    assert_eq!(denied.count(), 30);
    // A short report is not grouped, and a few denials need no setting.
    let done = run(&["check", "-"], &open_policies(3));
    assert_eq!(done.out.matches("deny[any-port]").count(), 3, "{}", done.out);
    assert!(!done.out.contains("to warn"), "{}", done.out);
}

#[test]
fn the_setting_that_check_names_allows_what_it_denied() {
    let manifests: String =
        (0..12).map(|n| open_policies(1).replace("name: open", &format!("name: open-{n}"))).collect();
    let done = run(&["check", "-"], &manifests);
    let (_, setting) = done.out.split_once("to warn there: `").unwrap();
    let (setting, _) = setting.split_once('`').unwrap();
    let config = tempfile::NamedTempFile::with_suffix(".yaml").unwrap();
    let text = format!("apiVersion: portcullis.dev/v1alpha1\nkind: Configuration\n{setting}\n");
    std::fs::write(config.path(), text).unwrap();
    let done = run(&["check", "--config", config.path().to_str().unwrap(), "-"], &manifests);
    assert_eq!(done.code, 0, "{setting}: {}", done.out);
}

#[test]
fn a_preset_decides_what_follows() {
    let summary = |preset: &str| {
        let done = run(&["check", "--preset", preset, "-"], &open_policies(1));
        (done.code, done.out.lines().last().unwrap().to_owned())
    };
    assert_eq!(summary("enforce"), (1, "2 findings in 1 of 1 object: 1 deny, 1 warn".to_owned()));
    assert_eq!(summary("warn"), (0, "2 findings in 1 of 1 object: 0 deny, 2 warn".to_owned()));
    // An outage stops the changes of policies only where something is denied.
    let policy_of = |text: &str| {
        let config = tempfile::NamedTempFile::with_suffix(".yaml").unwrap();
        let head = "apiVersion: portcullis.dev/v1alpha1\nkind: Configuration\n";
        std::fs::write(config.path(), format!("{head}{text}")).unwrap();
        let done = run(&["webhooks", "--config", config.path().to_str().unwrap()], "");
        let webhooks: Value = serde_json::from_str(&done.out).unwrap();
        webhooks["items"][0]["webhooks"][0]["failurePolicy"].as_str().unwrap().to_owned()
    };
    assert_eq!(policy_of("preset: enforce\n"), "Fail");
    assert_eq!(policy_of("preset: observe\n"), "Ignore");
    assert_eq!(policy_of("preset: observe\nrules: {any-port: deny}\n"), "Fail");
    assert_eq!(summary("observe"), (0, "2 findings in 1 of 1 object: 0 deny, 0 warn, 2 audit".to_owned()));
}

/// A block of Cilium may or may not match the node on which DNS answers.
#[test]
fn a_pass_that_relies_on_an_assumption_names_it() {
    let folder = "tests/cases/21-cilium-block-and-node";
    let (config, policy) = (format!("{folder}/portcullis.yaml"), format!("{folder}/policy.yaml"));
    let done = run(&["check", "--config", &config, &policy], "");
    assert_eq!(done.code, 0, "{}", done.out);
    let assumed = "assumed: 169.254.20.10/32 of CiliumNetworkPolicy shop/egress matches the cluster DNS at 169.254.20.10; if \
                   that is the address of a node, Cilium needs `policy-cidr-match-mode: nodes`";
    assert!(done.out.contains(assumed), "{}", done.out);
    let host = "tests/cases/21b-cilium-entity-host/policy.yaml";
    let done = run(&["check", "--config", &config, "--output", "json", host], "");
    let report: Value = serde_json::from_str(&done.out).unwrap();
    assert_eq!((done.code, &report["assumed"]), (0, &serde_json::json!([])));
}

#[test]
fn as_a_plugin_of_kubectl_only_the_name_in_the_help_changes() {
    let folder = tempfile::tempdir().unwrap();
    let plugin = folder.path().join("kubectl-portcullis");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_portcullis"), &plugin).unwrap();
    let output = |arguments: &[&str]| {
        let output = std::process::Command::new(&plugin).args(arguments).output().unwrap();
        String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
    };
    assert!(output(&["--help"]).contains("Usage: kubectl portcullis <COMMAND>"), "{}", output(&["--help"]));
    let status = output(&["status", "--help"]);
    assert!(status.contains("Usage: kubectl portcullis status"), "{status}");
    assert!(status.contains("--kube-context <NAME>") && status.contains("[alias: --context]"), "{status}");
    assert_eq!(output(&["rules"]), run(&["rules"], "").out);
    assert!(run(&["status", "--help"], "").out.contains("Usage: portcullis status"));
    for command in [
        &["status"][..],
        &["doctor"],
        &["exempt", "list"],
        &["hatch", "list"],
        &["trace", "--from=a", "--to=b", "--cluster"],
    ] {
        let done = run(&[command, &["--kubeconfig=/nowhere", "--context=other"]].concat(), "");
        assert_eq!(done.code, 2, "{command:?}");
        assert!(done.err.contains("failed to load kubeconfig /nowhere"), "{command:?}: {}", done.err);
    }
}

#[test]
fn commands_that_read_a_state_need_manifests_or_a_cluster() {
    for arguments in [&["audit"][..], &["trace", "--from", "shop/web", "--to", "shop/api:80"]] {
        let done = run(arguments, "");
        let expected = "error: nothing to read; name files or folders with manifests, or set --cluster\n";
        assert_eq!((done.code, &*done.out, &*done.err), (2, "", expected), "{arguments:?}");
    }
}

#[test]
fn a_line_break_in_a_name_starts_no_line() {
    let input = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: \"a\\n::error::b\", namespace: \"c\\n::error::d\"}\n\
                 spec: {podSelector: {matchLabels: {app: \"x\\n::error::y\"}}, ingress: [{}]}\n";
    for command in [["check", "-"], ["audit", "-"]] {
        let done = run(&command, input);
        assert!(done.out.contains("any-port"), "{}", done.out);
        assert!(!done.out.lines().any(|line| line.starts_with("::")), "{command:?}: {}", done.out);
    }
}
