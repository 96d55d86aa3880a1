//! What the server counts and logs.

use std::fs;
use std::io::{self, Write as _};
use std::process::{Command, Stdio};

use crate::support::client::Protocol;
use crate::support::reviews::{any_port, backend_policy, create_as, delete, from, good, ingress};
use crate::support::server::{Portcullis, get_with};
use serde_json::{Value, json};

// What is counted.

/// The review of a new namespace.
fn namespace(uid: &str, name: &str, labels: &Value) -> String {
    let metadata = json!({"name": name, "labels": labels});
    create_as(uid, "alice", &json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}))
}

/// The review of a policy that lets everybody in on a port.
fn open_ingress(uid: &str) -> String {
    let rule = json!({"ports": [{"protocol": "TCP", "port": 8080}]});
    create_as(uid, "alice", &backend_policy("open", &ingress(&[rule])))
}

/// Reviews in which everything that a user may choose is odd, or as long as a user may like.
fn odd_reviews() -> Vec<String> {
    let odd = ["quo\"te}", "line\nbreak", "back\\slash", "ünïcödé\u{202e}", &"long".repeat(1000)];
    let mut reviews = Vec::new();
    for odd in odd {
        let metadata = json!({"name": odd, "namespace": odd, "labels": {odd: odd}});
        let object = json!({"apiVersion": format!("{odd}/v1"), "kind": odd, "metadata": metadata});
        reviews.push(create_as(odd, odd, &object));
        let mut known: Value = serde_json::from_str(&any_port(odd)).unwrap();
        known["request"]["userInfo"]["username"] = json!(odd);
        for field in ["name", "namespace"] {
            known["request"][field] = json!(odd);
            known["request"]["object"]["metadata"][field] = json!(odd);
        }
        reviews.push(known.to_string());
        known["request"]["operation"] = json!(odd);
        reviews.push(known.to_string());
    }
    reviews
}

/// The series of a metric, in order.
fn series<'a>(text: &'a str, name: &str) -> Vec<&'a str> {
    let mut lines: Vec<&str> = text.lines().filter(|line| line.starts_with(&format!("{name}{{"))).collect();
    lines.sort_unstable();
    lines
}

#[tokio::test]
async fn what_was_asked_is_what_is_counted() {
    let server = Portcullis::start(&[]).await;
    let mut connection = server.client.connect(Protocol::Http2).await;
    let wrong = json!({"network-policy.portcullis.dev/profile": "standart"});
    let delete = delete(&backend_policy("good", &ingress(&[from("frontend")]))).to_string();
    let secret =
        create_as("secret", "alice", &json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}}));
    let host = json!({"hostNetwork": true, "containers": []});
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "shop"}, "spec": host});
    for (path, times, body) in [
        ("/validate", 3, good("good")),
        ("/validate", 2, any_port("any-port")),
        ("/validate", 1, open_ingress("open")),
        ("/validate", 1, delete),
        ("/validate", 1, secret.clone()),
        ("/validate", 1, create_as("pod", "alice", &pod)),
        ("/validate", 2, namespace("wrong", "shop", &wrong)),
        ("/mutate", 1, namespace("new", "shop", &json!({}))),
        ("/mutate", 1, namespace("platform", "kube-system", &json!({}))),
        ("/mutate", 1, secret),
    ] {
        for _ in 0..times {
            assert_eq!(connection.post(path, body.clone()).await.unwrap().status, 200);
        }
    }
    for body in ["", "{}", "no JSON"] {
        assert_eq!(connection.post("/validate", body).await.unwrap().status, 400);
    }

    let text = server.metrics();
    assert_eq!(
        series(&text, "portcullis_admission_requests_total"),
        [
            r#"portcullis_admission_requests_total{endpoint="mutate",operation="create",kind="Namespace",decision="allowed"} 1"#,
            r#"portcullis_admission_requests_total{endpoint="mutate",operation="create",kind="Namespace",decision="patched"} 1"#,
            r#"portcullis_admission_requests_total{endpoint="mutate",operation="create",kind="other",decision="allowed"} 1"#,
            r#"portcullis_admission_requests_total{endpoint="validate",operation="create",kind="Namespace",decision="denied"} 2"#,
            r#"portcullis_admission_requests_total{endpoint="validate",operation="create",kind="NetworkPolicy",decision="allowed"} 3"#,
            r#"portcullis_admission_requests_total{endpoint="validate",operation="create",kind="NetworkPolicy",decision="denied"} 2"#,
            r#"portcullis_admission_requests_total{endpoint="validate",operation="create",kind="NetworkPolicy",decision="warned"} 1"#,
            r#"portcullis_admission_requests_total{endpoint="validate",operation="create",kind="Pod",decision="allowed"} 1"#,
            r#"portcullis_admission_requests_total{endpoint="validate",operation="create",kind="other",decision="allowed"} 1"#,
            r#"portcullis_admission_requests_total{endpoint="validate",operation="delete",kind="NetworkPolicy",decision="allowed"} 1"#,
        ]
    );
    assert_eq!(
        series(&text, "portcullis_admission_findings_total"),
        [
            r#"portcullis_admission_findings_total{rule="any-port",action="deny"} 2"#,
            r#"portcullis_admission_findings_total{rule="invalid-profile",action="deny"} 2"#,
            r#"portcullis_admission_findings_total{rule="open-ingress",action="warn"} 1"#,
        ]
    );
    assert_eq!(
        series(&text, "portcullis_admission_refused_total")
            .into_iter()
            .filter(|line| !line.ends_with(" 0"))
            .collect::<Vec<_>>(),
        [r#"portcullis_admission_refused_total{reason="not-a-review"} 3"#]
    );
    assert_eq!(
        series(&text, "portcullis_admission_duration_seconds_count"),
        [
            r#"portcullis_admission_duration_seconds_count{endpoint="mutate"} 3"#,
            r#"portcullis_admission_duration_seconds_count{endpoint="validate"} 11"#,
        ]
    );
    for gauge in ["portcullis_admission_in_flight 0", "portcullis_connections 1", "portcullis_configuration_good 1"] {
        assert!(text.lines().any(|line| line == gauge), "{gauge} in\n{text}");
    }
    assert!(text.contains(&format!(r#"portcullis_build_info{{version="{}"}} 1"#, env!("CARGO_PKG_VERSION"))));
}

#[tokio::test]
async fn no_label_has_a_value_that_a_user_chose() {
    let server = Portcullis::start(&[]).await;
    let mut connection = server.client.connect(Protocol::Http1).await;
    for path in ["/validate", "/mutate"] {
        for review in odd_reviews() {
            assert_eq!(connection.post(path, review).await.unwrap().status, 200);
        }
        assert_eq!(connection.post("/quo%22te", good("lost")).await.unwrap().status, 404);
    }
    let text = server.metrics();
    for line in series(&text, "portcullis_admission_requests_total") {
        let labels = line.split(['{', '}']).nth(1).unwrap();
        let values: Vec<&str> = labels.split('"').skip(1).step_by(2).collect();
        let [endpoint, operation, kind, decision] = values[..] else { panic!("{line}") };
        assert!(["validate", "mutate"].contains(&endpoint), "{line}");
        assert!(["create", "other"].contains(&operation), "{line}");
        assert!(["NetworkPolicy", "other"].contains(&kind), "{line}");
        assert!(["allowed", "denied"].contains(&decision), "{line}");
    }
    for odd in ["quo", "break", "slash", "\u{202e}", "longlong"] {
        assert!(!text.contains(odd), "{odd} in\n{text}");
    }
}

#[tokio::test]
async fn prometheus_reads_the_metrics_and_has_nothing_to_say_about_them() {
    if Command::new("promtool").arg("--version").output().is_err() {
        // Not `eprintln!`, which the harness captures.
        let _ = writeln!(io::stderr(), "SKIPPED, without promtool: what Prometheus makes of the metrics");
        return;
    }
    let server = Portcullis::start(&[]).await;
    for body in [good("good"), any_port("any-port"), "no review".to_owned()] {
        server.client.post("/validate", body).await;
    }
    let accept = "Accept: application/openmetrics-text\r\n";
    let (_, _, text) = get_with(server.admin_address(), "/metrics", accept).unwrap();
    assert!(text.ends_with("\n# EOF\n"), "{text}");

    // The one command of it that reads OpenMetrics wants times.
    let dir = tempfile::tempdir().unwrap();
    let timed = |line: &str| if line.starts_with('#') { format!("{line}\n") } else { format!("{line} 1800000000\n") };
    let (file, blocks) = (dir.path().join("metrics"), dir.path().join("blocks"));
    fs::write(&file, text.lines().map(timed).collect::<String>()).unwrap();
    let read = Command::new("promtool")
        .args(["tsdb", "create-blocks-from", "openmetrics"])
        .args([&file, &blocks])
        .output()
        .unwrap();
    assert!(read.status.success(), "{}\n{text}", String::from_utf8_lossy(&read.stderr));

    // The one that judges names reads the older format.
    let mut check = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let text = server.metrics();
    check.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let checked = check.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&[checked.stdout, checked.stderr].concat()).into_owned();
    assert!(checked.status.success() && said.is_empty(), "{said}\n{text}");
}

// What is logged.

#[tokio::test]
async fn a_denial_is_one_line_that_says_who_and_why() {
    let server = Portcullis::start(&[]).await;
    for body in [good("u-1"), any_port("u-2"), open_ingress("u-3"), any_port("u-4")] {
        server.client.post("/validate", body).await.response();
    }
    let lines = server.log_lines();
    let decisions: Vec<&Value> = lines.iter().filter(|line| !line["uid"].is_null()).collect();
    let uids: Vec<&str> = decisions.iter().map(|line| line["uid"].as_str().unwrap()).collect();
    assert_eq!(uids, ["u-2", "u-4"], "what is allowed is not worth a line");
    for (field, value) in [
        ("level", "INFO"),
        ("message", "denied"),
        ("endpoint", "validate"),
        ("operation", "CREATE"),
        ("kind", "NetworkPolicy"),
        ("namespace", "shop"),
        ("name", "any"),
        ("user", "mallory"),
        ("decision", "denied"),
        ("rules", "any-port at spec.ingress[0]"),
    ] {
        assert_eq!(decisions[0][field], value, "{}", decisions[0]);
    }
    assert!(lines.iter().all(|line| line["timestamp"].is_string() && line["level"].is_string()));
}

#[tokio::test]
async fn whoever_wants_to_know_it_all_gets_one_line_a_decision() {
    let server = Portcullis::start(&["--log-level", "debug"]).await;
    for protocol in Protocol::ALL {
        let mut connection = server.client.connect(protocol).await;
        for body in [good("u-1"), any_port("u-2"), open_ingress("u-3")] {
            connection.post("/validate", body.clone()).await.unwrap().response();
            connection.post("/mutate", body).await.unwrap().response();
        }
    }
    let lines = server.log_lines();
    let decisions: Vec<&Value> = lines.iter().filter(|line| line["decision"].is_string()).collect();
    assert_eq!(decisions.len(), 12);
    let told =
        |line: &&Value| ["uid", "user", "decision", "rules"].map(|field| line[field].as_str().unwrap().to_owned());
    assert_eq!(told(&decisions[0]), ["u-1", "alice", "allowed", ""]);
    assert_eq!(told(&decisions[2]), ["u-2", "mallory", "denied", "any-port at spec.ingress[0]"]);
    assert_eq!(told(&decisions[4]), ["u-3", "alice", "warned", "open-ingress at spec.ingress[0]"]);
}

#[tokio::test]
async fn a_log_is_one_json_object_a_line_whatever_users_write_and_keeps_secrets() {
    let server = Portcullis::start(&["--log-level", "debug"]).await;
    let mut connection = server.client.connect(Protocol::Http2).await;
    let odd = odd_reviews();
    for review in &odd {
        connection.post("/validate", review.clone()).await.unwrap().response();
    }
    let mut secretive: Value = serde_json::from_str(&any_port("secretive")).unwrap();
    secretive["request"]["object"]["metadata"]["annotations"] = json!({"token": "s3cr3t"});
    secretive["request"]["userInfo"]["extra"] = json!({"s3cr3t": ["s3cr3t"]});
    secretive["request"]["options"] = json!({"fieldManager": "s3cr3t"});
    connection.post("/validate?timeout=10s", secretive.to_string()).await.unwrap().response();
    let broken = secretive.to_string().replace("\"uid\"", "\"s3cr3t\"");
    assert_eq!(connection.post("/validate", broken).await.unwrap().status, 400);

    let lines = server.log_lines();
    assert_eq!(lines.iter().filter(|line| line["decision"].is_string()).count(), odd.len() + 1);
    assert!(lines.iter().any(|line| line["user"] == "line\nbreak"), "a name is logged as it is");
    let log = server.log();
    assert!(!log.contains("s3cr3t"), "{log}");
    let key = fs::read_to_string(server.file("portcullis.key")).unwrap();
    let key = key.lines().find(|line| !line.starts_with("---")).unwrap();
    assert!(!log.contains(key));
}
