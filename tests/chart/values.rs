//! The values: each file in `ci` renders objects that an API server takes, and mistakes are named in one line.

use std::fs;

use portcullis::config::Configuration;
use serde_json::{Value, json};

use super::support::command::run;
use super::support::control_plane::ControlPlane;
use super::{CHART, Helm, objects, root, value_files};

/// The kinds of other projects in the chart: group, version, plural and kind. Their CRDs accept every field here, because the
/// originals are not part of this repository.
const OTHER_KINDS: [(&str, &str, &str, &str); 5] = [
    ("monitoring.coreos.com", "v1", "servicemonitors", "ServiceMonitor"),
    ("monitoring.coreos.com", "v1", "prometheusrules", "PrometheusRule"),
    ("cert-manager.io", "v1", "certificates", "Certificate"),
    ("cert-manager.io", "v1", "issuers", "Issuer"),
    ("cilium.io", "v2", "ciliumnetworkpolicies", "CiliumNetworkPolicy"),
];

/// Returns the arguments of helm for the defaults and for each file.
fn all_values() -> Vec<Vec<String>> {
    let files = value_files().into_iter().map(|file| vec![format!("--values={file}")]);
    std::iter::once(Vec::new()).chain(files).collect()
}

fn borrowed(arguments: &[String]) -> Vec<&str> {
    arguments.iter().map(String::as_str).collect()
}

#[test]
fn every_file_passes_helm_lint_and_the_rules_of_portcullis() {
    let Some(helm) = Helm::find() else { return };
    for values in all_values() {
        let lint = helm.run(&[&["lint", "--strict", CHART][..], &borrowed(&values)].concat());
        assert_eq!(lint.code, 0, "{values:?}: {}{}", lint.out, lint.err);
        let rendered = helm.template("portcullis-system", &borrowed(&values));
        let check = run(&["check", "-"], &rendered);
        assert_eq!(check.code, 0, "{values:?}: {}", check.out);
        assert!(check.out.contains("no findings in "), "{values:?}: {}", check.out);
    }
}

#[test]
fn every_file_renders_a_valid_configuration_and_arguments_of_serve() {
    let Some(helm) = Helm::find() else { return };
    let help = run(&["serve", "--help"], "").out;
    for values in all_values() {
        let objects = objects(&helm.template("guard", &borrowed(&values)));
        let configuration = objects.iter().find_map(|object| object["data"]["portcullis.yaml"].as_str()).unwrap();
        let configuration = Configuration::read(configuration).unwrap();
        assert_eq!(configuration.site.namespace, "guard", "{values:?}");
        let deployment = objects.iter().find(|object| object["kind"] == "Deployment").unwrap();
        let pod = &deployment["spec"]["template"]["spec"];
        let account = pod["serviceAccountName"].as_str().unwrap();
        assert_eq!(
            configuration.site.baseline.username,
            format!("system:serviceaccount:guard:{account}"),
            "{values:?}"
        );
        for argument in &pod["containers"][0]["args"].as_array().unwrap()[1..] {
            let flag = argument.as_str().unwrap().split('=').next().unwrap();
            assert!(help.contains(&format!("{flag} ")) || help.contains(&format!("{flag}\n")), "{flag} in {help}");
        }
    }
}

#[test]
fn an_api_server_accepts_what_every_file_renders() {
    let Some(helm) = Helm::find() else { return };
    let Some(plane) = ControlPlane::start() else { return };
    let crds: Vec<Value> = OTHER_KINDS.iter().map(|kind| crd(*kind)).collect();
    let made = plane.apply(&json!({"apiVersion": "v1", "kind": "List", "items": crds}).to_string(), &[]);
    assert!(made.ok, "{made}");
    let waited = plane.kubectl(&["wait", "--for=condition=Established", "crd", "--all", "--timeout=30s"]);
    assert!(waited.ok, "{waited}");
    // Pod Security warns about a workload whose pods it would reject.
    let namespace = "{apiVersion: v1, kind: Namespace, metadata: {name: portcullis-system, labels: \
                     {pod-security.kubernetes.io/enforce: restricted, pod-security.kubernetes.io/warn: restricted}}}";
    let made = plane.apply(namespace, &[]);
    assert!(made.ok, "{made}");
    let accepts = |rendered: &str| {
        let accepted = plane.apply(rendered, &["--server-side", "--dry-run=server", "--validate=strict"]);
        assert!(accepted.ok, "{accepted}");
        assert!(!accepted.stderr.contains("Warning"), "{accepted}");
        let count = accepted.stdout.lines().count();
        assert_eq!(count, objects(rendered).len(), "{accepted}");
    };
    for values in all_values() {
        accepts(&helm.template("portcullis-system", &borrowed(&values)));
    }
    // Names of the maximum length, and names that YAML reads as other types.
    let made = plane.kubectl(&["create", "namespace", "1234"]);
    assert!(made.ok, "{made}");
    for release in LONG_RELEASES {
        accepts(&helm.template_release(release, "portcullis-system", &[]));
    }
    let everything = "--values=deploy/chart/ci/everything.yaml";
    accepts(&helm.template_release(
        "1234",
        "1234",
        &[everything, "--set-string=fullnameOverride=true,webhooks.name=1e3"],
    ));
}

/// Release names of the maximum length that Helm accepts.
const LONG_RELEASES: [&str; 2] =
    ["release-of-the-platform-team-in-region-europe-west-11", "portcullis-of-the-platform-team-in-region-europe-we-1"];

#[test]
fn a_long_release_name_leaves_room_for_the_longest_suffix() {
    let Some(helm) = Helm::find() else { return };
    for release in LONG_RELEASES {
        let objects = objects(&helm.template_release(release, "guard", &[]));
        for object in &objects {
            let name = object["metadata"]["name"].as_str().unwrap();
            assert!(name.len() <= 63 && !name.contains("--"), "{} {name}", object["kind"]);
        }
    }
}

#[test]
fn a_release_name_that_no_service_can_have_is_named_in_one_line() {
    let Some(helm) = Helm::find() else { return };
    for (release, name) in [("1prod", "1prod-portcullis"), ("prod.eu", "prod.eu-portcullis")] {
        let done = helm.run(&["template", release, CHART]);
        let expected = format!(
            "release name {release}: a Service cannot be named {name} (expected lower-case letters, digits and hyphens, \
             starting with a letter); set fullnameOverride"
        );
        assert!(done.err.lines().any(|line| line.ends_with(&expected)), "{}", done.err);
        helm.template_release(release, "guard", &["--set=fullnameOverride=gate"]);
    }
}

fn find<'a>(objects: &'a [Value], kind: &str, name: &str) -> &'a Value {
    let is_it = |object: &&Value| object["kind"] == kind && object["metadata"]["name"] == name;
    objects.iter().find(is_it).unwrap_or_else(|| panic!("no {kind} {name}"))
}

#[test]
fn pod_labels_of_the_user_replace_the_defaults() {
    let Some(helm) = Helm::find() else { return };
    let labels =
        r#"--set-json=networkPolicy={"prometheus": {"podLabels": {"app": "p"}}, "dns": {"podLabels": {"app": "dns"}}}"#;
    for (arguments, prometheus, dns) in [
        (&[][..], json!({"app.kubernetes.io/name": "prometheus"}), json!({"k8s-app": "kube-dns"})),
        (&[labels], json!({"app": "p"}), json!({"app": "dns"})),
    ] {
        let objects = objects(&helm.template("guard", arguments));
        let spec = &find(&objects, "NetworkPolicy", "portcullis")["spec"];
        assert_eq!(spec["ingress"][1]["from"][0]["podSelector"]["matchLabels"], prometheus);
        assert_eq!(spec["egress"][0]["to"][0]["podSelector"]["matchLabels"], dns);
        let objects =
            crate::objects(&helm.template("guard", &[arguments, &["--set=networkPolicy.kind=cilium"]].concat()));
        let spec = &find(&objects, "CiliumNetworkPolicy", "portcullis")["spec"];
        let with = |mut labels: Value, namespace: &str| {
            labels["k8s:io.kubernetes.pod.namespace"] = json!(namespace);
            labels
        };
        assert_eq!(spec["ingress"][2]["fromEndpoints"][0]["matchLabels"], with(prometheus, "monitoring"));
        assert_eq!(spec["egress"][0]["toEndpoints"][0]["matchLabels"], with(dns, "kube-system"));
    }
}

#[test]
fn the_ports_of_the_cluster_dns_are_a_value() {
    let Some(helm) = Helm::find() else { return };
    let ports = |arguments: &[&str]| {
        let objects = objects(&helm.template("guard", arguments));
        find(&objects, "NetworkPolicy", "portcullis")["spec"]["egress"][0]["ports"].clone()
    };
    let both = |port: u16| [json!({"protocol": "UDP", "port": port}), json!({"protocol": "TCP", "port": port})];
    assert_eq!(ports(&[]), json!(both(53)));
    assert_eq!(ports(&["--set=networkPolicy.dns.ports={53,5353}"]), json!([both(53), both(5353)].concat()));
}

#[test]
fn cert_manager_gets_dns_names_and_addresses_apart() {
    let Some(helm) = Helm::find() else { return };
    let objects = objects(&helm.template("1234", &["--values=deploy/chart/ci/cert-manager.yaml"]));
    let spec = &find(&objects, "Certificate", "portcullis")["spec"];
    assert_eq!(spec["dnsNames"], json!(["portcullis.1234.svc", "portcullis.1234.svc.cluster.local", "*.example.com"]));
    assert_eq!(spec["ipAddresses"], json!(["10.0.0.7", "fd00::7"]));
}

#[test]
fn values_keep_their_text() {
    let Some(helm) = Helm::find() else { return };
    let policy = "  # A comment: indented\nkind: NetworkPolicy\n";
    let policies = json!({"baseline/1.yaml": policy}).to_string();
    let (policies, names) = (format!("--set-json=policies={policies}"), json!(["a: b #c", "'d'"]).to_string());
    let clients = format!(r#"--set-json=clientCA={{"configMapName": "123", "names": {names}}}"#);
    let extra = format!("--set-json=certificate.extraNames={names}");
    let text = helm.template_release("1e3", "123", &["--set-string=fullnameOverride=no", &policies, &clients, &extra]);
    let objects = objects(&text);
    for object in &objects {
        let metadata = &object["metadata"];
        assert!(
            metadata["name"].is_string() && metadata["labels"]["app.kubernetes.io/instance"] == "1e3",
            "{metadata}"
        );
        let namespace = &metadata["namespace"];
        assert!(namespace.is_null() || namespace == "123" || namespace == "default", "{metadata}");
    }
    assert_eq!(find(&objects, "ConfigMap", "no-policies")["data"], json!({"baseline.1.yaml": policy}));
    let pod = &find(&objects, "Deployment", "no")["spec"]["template"]["spec"];
    let arguments = pod["containers"][0]["args"].as_array().unwrap();
    for argument in ["--client-name=a: b #c", "--client-name='d'", "--tls-name=a: b #c", "--tls-name='d'"] {
        assert!(arguments.contains(&json!(argument)), "{argument} in {arguments:?}");
    }
    assert_eq!(pod["volumes"][2]["configMap"]["name"], "123");
}

#[test]
fn a_release_has_only_the_rights_that_its_values_need() {
    let Some(helm) = Helm::find() else { return };
    for (values, secrets, webhooks) in [
        ("webhooks.mode=manage", true, json!(["get", "create", "patch"])),
        ("webhooks.mode=report", true, json!(["get", "patch"])),
        ("webhooks.mode=off", true, json!(["get", "patch"])),
        ("certificate.source=certManager,webhooks.mode=report", false, json!(["get"])),
        ("certificate.source=secret,webhooks.mode=report", false, json!(["get"])),
        ("certificate.source=secret,webhooks.mode=off", false, Value::Null),
    ] {
        let objects = objects(&helm.template("guard", &["--set-string", values]));
        let rules = |kind: &str| find(&objects, kind, "portcullis")["rules"].as_array().unwrap().clone();
        let about = |rules: Vec<Value>, resource: &str| -> Vec<Value> {
            rules.into_iter().filter(|rule| rule["resources"].as_array().unwrap().contains(&json!(resource))).collect()
        };
        let of_secrets = about(rules("Role"), "secrets");
        assert_eq!(of_secrets.len(), if secrets { 2 } else { 0 }, "{values}: {of_secrets:?}");
        let of_webhooks = about(rules("ClusterRole"), "validatingwebhookconfigurations");
        let named: Vec<&Value> = of_webhooks.iter().filter(|rule| rule.get("resourceNames").is_some()).collect();
        assert_eq!(named.first().map_or(Value::Null, |rule| rule["verbs"].clone()), webhooks, "{values}");
        assert_eq!(of_webhooks.len() - named.len(), 1, "the view reads all of them");
    }
}

#[test]
fn alerts_follow_the_names_of_the_release() {
    let Some(helm) = Helm::find() else { return };
    let rules = |arguments: &[&str]| {
        let values = ["--set=prometheusRule.enabled=true", "--values=deploy/chart/ci/names.yaml"];
        let text = helm.template_release("prod", "guard", &[&values, arguments].concat());
        find(&objects(&text), "PrometheusRule", "gate")["spec"].clone()
    };
    let field = |rules: &Value, alert: &str, field: &str| {
        let all = rules["groups"][0]["rules"].as_array().unwrap().clone();
        let rule = all.into_iter().find(|rule| rule["alert"] == alert).unwrap();
        rule.pointer(field).unwrap().as_str().unwrap().to_owned()
    };
    let alone = rules(&[]);
    assert_eq!(field(&alone, "PortcullisDown", "/expr"), r#"absent(up{job=~".*gate.*"} == 1)"#);
    let deployment = r#"{namespace="guard",deployment="gate"}"#;
    assert_eq!(
        field(&alone, "PortcullisNotReady", "/expr"),
        format!("kube_deployment_status_replicas_available{deployment} < kube_deployment_spec_replicas{deployment}")
    );
    for alert in ["PortcullisDown", "PortcullisUnreachable"] {
        let description = field(&alone, alert, "/annotations/description");
        assert!(
            description.ends_with("validatingwebhookconfiguration,mutatingwebhookconfiguration gate-webhooks"),
            "{description}"
        );
        assert!(description.contains("annotate namespace guard "), "{description}");
    }
    // The Prometheus Operator names the job after the Service.
    let scraped = rules(&["--set=serviceMonitor.enabled=true,configuration.labelDomain=np.example.com"]);
    assert_eq!(field(&scraped, "PortcullisDown", "/expr"), r#"absent(up{namespace="guard",job="gate"} == 1)"#);
    assert!(field(&scraped, "PortcullisFailedOpen", "/annotations/description").contains("'!np.example.com/profile'"));
}

fn crd((group, version, plural, kind): (&str, &str, &str, &str)) -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.{group}")},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"plural": plural, "singular": kind.to_lowercase(), "kind": kind},
            "versions": [{
                "name": version, "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}},
            }],
        },
    })
}

#[test]
fn bad_values_are_named_in_one_line() {
    let Some(helm) = Helm::find() else { return };
    for (values, expected) in [
        ("preset=strict", "- preset: preset must be one of the following: \"observe\", \"warn\", \"enforce\""),
        ("replicas=0", "- replicas: Must be greater than or equal to 1"),
        ("image.tagg=1", "- image: Additional property tagg is not allowed"),
        ("service.port=70000", "- service.port: Must be less than or equal to 65535"),
        (
            "networkPolicy.kind=calico",
            "- networkPolicy.kind: networkPolicy.kind must be one of the following: \"kubernetes\", \"cilium\", \"none\"",
        ),
        ("replica=1", "- (root): Additional property replica is not allowed"),
        (
            "certificate.source=secret",
            "webhooks.mode: manage requires certificate.source: builtin, not secret; set webhooks.mode: report",
        ),
        ("service.port=8080", "service.port: 8080 is the port of the metrics in the same Service; choose another one"),
        ("fullnameOverride=1gate", "- fullnameOverride: Does not match pattern '^([a-z]([-a-z0-9]*[a-z0-9])?)?$'"),
        ("configuration.preset=warn", "configuration.preset is set by the chart; remove it and set the value preset"),
        (
            "stopAfterSeconds=60",
            "terminationGracePeriodSeconds: 45 is less than stopAfterSeconds plus 20 s for requests in flight (80)",
        ),
    ] {
        let done = helm.run(&["template", "portcullis", CHART, "--set", values]);
        assert_ne!(done.code, 0, "{values}");
        assert!(done.err.lines().any(|line| line.ends_with(expected)), "{values}: {}", done.err);
    }
}

/// The image is the only value that a user has to set; nothing in the chart names a registry.
#[test]
fn the_image_is_a_tag_or_a_digest() {
    let Some(helm) = Helm::find() else { return };
    let image = |arguments: &[&str]| {
        let objects = objects(&helm.template("portcullis-system", arguments));
        let deployment = objects.iter().find(|object| object["kind"] == "Deployment").unwrap();
        deployment["spec"]["template"]["spec"]["containers"][0]["image"].as_str().unwrap().to_owned()
    };
    let chart = fs::read_to_string(root().join(CHART).join("Chart.yaml")).unwrap();
    assert!(chart.contains(&format!("appVersion: {}\n", env!("CARGO_PKG_VERSION"))), "{chart}");
    assert_eq!(image(&[]), format!("portcullis:{}", env!("CARGO_PKG_VERSION")));
    assert_eq!(image(&["--set-string=image.repository=r.example/p,image.tag=7"]), "r.example/p:7");
    let digest = format!("sha256:{}", "a".repeat(64));
    let set = format!("--set=image.repository=r.example/p,image.digest={digest}");
    assert_eq!(image(&[&set]), format!("r.example/p@{digest}"));
}
