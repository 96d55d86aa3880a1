//! The Grafana dashboard: every expression uses metrics and labels that exist, and returns data.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use super::skipped;
use super::support::exposed::{self, Series};

/// The labels that a scrape adds.
const TARGET: [&str; 4] = ["namespace", "job", "instance", "pod"];

/// The series of other exporters in the dashboard.
const OTHERS: [&str; 9] = [
    r#"up{namespace="portcullis-system",job="portcullis",instance="10.0.0.1:8080"}"#,
    r#"kube_deployment_status_replicas_available{namespace="portcullis-system",deployment="portcullis"}"#,
    r#"kube_deployment_spec_replicas{namespace="portcullis-system",deployment="portcullis"}"#,
    r#"kube_pod_container_resource_limits{namespace="portcullis-system",pod="p",container="portcullis",resource="memory"}"#,
    r#"kube_pod_container_status_restarts_total{namespace="portcullis-system",pod="p",container="portcullis"}"#,
    r#"container_memory_working_set_bytes{namespace="portcullis-system",pod="p",container="portcullis"}"#,
    r#"container_cpu_usage_seconds_total{namespace="portcullis-system",pod="p",container="portcullis"}"#,
    r#"apiserver_admission_webhook_rejection_count{name="policies.portcullis.dev",error_type="calling_webhook_error"}"#,
    r#"apiserver_admission_webhook_fail_open_count{name="policies.portcullis.dev"}"#,
];

/// Names of PromQL that are no metrics.
const KEYWORDS: [&str; 9] = ["and", "or", "unless", "bool", "offset", "by", "without", "on", "ignoring"];

fn dashboard() -> Value {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/dashboard/portcullis.json");
    serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap()
}

fn array(value: &Value) -> &[Value] {
    value.as_array().unwrap()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text"))
}

/// A query of a panel.
struct Query {
    panel: String,
    expression: String,
    legend: String,
}

/// Returns every query, with a value in place of each variable.
fn queries() -> Vec<Query> {
    let dashboard = dashboard();
    let targets = array(&dashboard["panels"]).iter().flat_map(|panel| {
        let targets = panel["targets"].as_array().into_iter().flatten();
        targets.map(|target| (text(&panel["title"]).to_owned(), target.clone()))
    });
    targets
        .map(|(panel, target)| {
            let expression = text(&target["expr"])
                .replace("$namespace", "portcullis-system")
                .replace("$job", "portcullis")
                .replace("$__rate_interval", "5m")
                .replace("$__range", "1h");
            assert!(!expression.contains('$'), "{panel}: unknown variable in {expression}");
            Query { panel, expression, legend: text(&target["legendFormat"]).to_owned() }
        })
        .collect()
}

/// The metrics and labels that an expression names.
#[derive(Debug, Default, PartialEq)]
struct Names {
    metrics: Vec<String>,
    labels: Vec<String>,
}

/// Returns the names in an expression: labels are in braces, or in the parentheses after `by`, `without`, `on` and `ignoring`.
fn names(expression: &str) -> Names {
    let mut names = Names::default();
    let (mut rest, mut in_labels, mut last) = (expression, false, "");
    while let Some(first) = rest.chars().next() {
        let is_word = |letter: char| letter.is_ascii_alphanumeric() || letter == '_' || letter == ':';
        let length = match first {
            '"' => rest[1..].find('"').unwrap() + 2,
            _ if is_word(first) => rest.find(|letter| !is_word(letter)).unwrap_or(rest.len()),
            _ => first.len_utf8(),
        };
        let (token, after) = rest.split_at(length);
        let next = after.trim_start();
        let is_called = ["(", "by ", "without "].iter().any(|call| next.starts_with(call));
        match token {
            "{" => in_labels = true,
            "(" => in_labels = ["by", "without", "on", "ignoring"].contains(&last),
            "}" | ")" => in_labels = false,
            _ if !first.is_ascii_alphabetic() => {}
            _ if in_labels => names.labels.push(token.to_owned()),
            _ if !is_called && !KEYWORDS.contains(&token) => names.metrics.push(token.to_owned()),
            _ => {}
        }
        if !token.trim().is_empty() {
            last = token;
        }
        rest = after;
    }
    names
}

#[test]
fn names_are_found_in_expressions() {
    let names = names(r#"sum by (a, b) (rate(x_total{c="d e",f=~"g"}[5m])) / on (h) count(y == 0) or vector(0)"#);
    assert_eq!(names.metrics, ["x_total", "y"]);
    assert_eq!(names.labels, ["a", "b", "c", "f", "h"]);
}

/// The labels of a legend such as `{{kind}}`.
fn legend_labels(legend: &str) -> impl Iterator<Item = &str> {
    legend.split("{{").skip(1).map(|rest| rest.split_once("}}").unwrap().0)
}

#[test]
fn every_expression_uses_metrics_and_labels_that_exist() {
    let exposed_text = exposed::text();
    let mut known: BTreeMap<&str, Vec<&str>> = exposed::labels(&exposed_text);
    for labels in known.values_mut() {
        labels.extend(TARGET);
    }
    let others = OTHERS.join(" 1\n") + " 1";
    known.extend(exposed::labels(&others));
    let mut used = Vec::new();
    for Query { panel, expression, legend } in queries() {
        let names = names(&expression);
        assert!(!names.metrics.is_empty(), "{panel}: {expression}");
        let labels = |metric: &String| {
            known.get(metric.as_str()).unwrap_or_else(|| panic!("{panel}: metric {metric} is not exposed"))
        };
        let all: Vec<&str> = names.metrics.iter().flat_map(labels).copied().collect();
        for label in names.labels.iter().map(String::as_str).chain(legend_labels(&legend)) {
            assert!(all.contains(&label), "{panel}: label {label} of {expression} is not exposed");
        }
        used.extend(names.metrics);
    }
    // A metric of the server that the dashboard leaves out is a decision, not an oversight.
    for name in known.keys().filter(|name| !name.ends_with("_sum") && !name.ends_with("_count")) {
        assert!(used.iter().any(|metric| metric == name), "no panel shows {name}");
    }
}

/// A legend shows a label only if the aggregation keeps it.
#[test]
fn legends_use_labels_that_the_expression_keeps() {
    for Query { panel, expression, legend } in queries() {
        let calls =
            |name: &&str| expression.contains(&format!("{name} by (")) || expression.contains(&format!("{name}("));
        let is_aggregated = ["sum", "min", "max", "count"].iter().any(calls);
        for label in legend_labels(&legend).filter(|_| is_aggregated) {
            let grouped = expression.split(" by (").skip(1).filter_map(|rest| rest.split_once(')'));
            let mut kept = grouped.flat_map(|(labels, _)| labels.split(", "));
            assert!(kept.any(|kept| kept == label), "{panel}: {expression} drops label {label} of its legend");
        }
    }
}

/// promtool evaluates every expression on the series that the server and the other exporters have.
#[test]
fn every_expression_returns_data() {
    let exposed_text = exposed::text();
    let own = exposed::series(&exposed_text).map(|Series { name, labels }| {
        let own = labels.into_iter().map(|(label, value)| format!("{label}={value}"));
        let target = TARGET.iter().zip(["portcullis-system", "portcullis", "10.0.0.1:8080", "p"]);
        let all: Vec<String> = own.chain(target.map(|(label, value)| format!("{label}=\"{value}\""))).collect();
        format!("{name}{{{}}}", all.join(","))
    });
    let series: Vec<Value> =
        own.chain(OTHERS.map(str::to_owned)).map(|series| json!({"series": series, "values": "0+1x120"})).collect();
    let queries = queries();
    assert!(queries.len() > 40, "{}", queries.len());
    let tests: Vec<Value> = queries
        .iter()
        .map(|query| {
            let expression = format!("count({}) > bool 0", query.expression);
            json!({"expr": expression, "eval_time": "90m", "exp_samples": [{"labels": "{}", "value": 1}]})
        })
        .collect();
    let file = json!({
        "evaluation_interval": "1m",
        "tests": [{"interval": "1m", "input_series": series, "promql_expr_test": tests}],
    });
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("dashboard.test");
    fs::write(&path, file.to_string()).unwrap();
    match Command::new("promtool").args(["test", "rules"]).arg(&path).output() {
        Ok(output) => {
            let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
            assert!(output.status.success(), "{said}");
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => skipped("there is no promtool"),
        Err(error) => panic!("promtool: {error}"),
    }
}

#[test]
fn grafana_can_import_it() {
    let dashboard = dashboard();
    assert!(dashboard["schemaVersion"].as_u64().unwrap() >= 38, "Grafana 10");
    assert_eq!((&dashboard["uid"], &dashboard["id"]), (&json!("portcullis"), &Value::Null));
    for field in ["__inputs", "__requires"] {
        assert_eq!(dashboard.get(field), None, "the sidecar of Grafana does not fill {field}");
    }
    let variables: Vec<&str> = array(&dashboard["templating"]["list"]).iter().map(|it| text(&it["name"])).collect();
    assert_eq!(variables, ["datasource", "namespace", "job"]);
    let (mut ids, mut cells) = (Vec::new(), Vec::new());
    for panel in array(&dashboard["panels"]) {
        let title = text(&panel["title"]);
        ids.push(panel["id"].as_u64().unwrap());
        let [x, y, w, h] = ["x", "y", "w", "h"].map(|field| panel["gridPos"][field].as_u64().unwrap());
        assert!(x + w <= 24, "{title} is wider than the grid");
        cells.extend((x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y))));
        if panel["type"] == "row" {
            continue;
        }
        assert!(!text(&panel["description"]).is_empty(), "{title} has no description");
        for part in array(&panel["targets"]).iter().chain([panel]) {
            assert_eq!(part["datasource"], json!({"type": "prometheus", "uid": "${datasource}"}), "{title}");
        }
    }
    for mut all in [cells.into_iter().map(|(x, y)| y * 24 + x).collect(), ids] {
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count, "panels overlap, or share an id");
    }
}

/// The descriptions of panels name alerts, whose runbooks an operator reads next.
#[test]
fn it_names_every_alert() {
    let rules = include_str!("../../deploy/alerts/portcullis.rules");
    let alerts = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: "));
    let dashboard = dashboard();
    let panels = array(&dashboard["panels"]);
    let descriptions: Vec<&str> = panels.iter().filter_map(|panel| panel["description"].as_str()).collect();
    for alert in alerts.clone() {
        assert!(descriptions.iter().any(|text| text.contains(alert)), "no panel names {alert}");
    }
    for word in descriptions.iter().flat_map(|text| text.split([' ', ',', '.', '(', ')'])) {
        let is_alert = word.len() > "Portcullis".len() && word.starts_with("Portcullis");
        assert!(!is_alert || alerts.clone().any(|alert| alert == word), "there is no alert {word}");
    }
}
