//! The server at its limits: who asks too much is refused, and nobody else notices.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::support::client::{Protocol, Sent};
use crate::support::reviews::good;
use crate::support::server::{Portcullis, serve, until};
use hyper::{Method, Version};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// How large a body may be.
const LIMIT: usize = 32 * 1024 * 1024;

fn refused(reason: &str) -> String {
    format!(r#"portcullis_admission_refused_total{{reason="{reason}"}}"#)
}

/// A review of this size. Space before it changes nothing.
fn of_size(size: usize) -> String {
    let review = good("large");
    format!("{}{review}", " ".repeat(size - review.len()))
}

#[tokio::test]
async fn one_request_too_many_is_refused_and_takes_nothing_from_the_others() {
    let server = Portcullis::start(&["--max-in-flight", "1"]).await;
    for protocol in Protocol::ALL {
        let review = good("slow");
        let (rest, body) = Sent::open(Some(review.len()));
        let mut slow = server.client.connect(protocol).await;
        let answer = tokio::spawn(async move { slow.post("/validate?timeout=30s", body).await });
        server.until_metric("portcullis_admission_in_flight", 1.0).await;

        let mut other = server.client.connect(protocol).await;
        let answered = other.post("/validate", good("too-many")).await.unwrap();
        assert_eq!(answered.status, 429, "{answered}");
        assert_eq!(answered.text, "too many requests in flight (limit 1, or 96 MiB of bodies); retry\n");

        rest.send(review.into()).unwrap();
        assert_eq!(answer.await.unwrap().unwrap().response()["uid"], "slow");
        server.until_metric("portcullis_admission_in_flight", 0.0).await;
        let answered = other.post("/validate", good("again")).await.expect("the connection can be used on");
        assert_eq!(answered.response()["uid"], "again");
        assert!(server.client.post("/mutate", good("new")).await.allowed());
    }
    assert_eq!(server.metric(&refused("overload")), 2.0);
}

/// Sends a body that is too large, in each way, each on a connection of its own.
async fn send_too_much(server: &Portcullis, size: usize) {
    for protocol in Protocol::ALL {
        for body in [Sent::from(of_size(size)), Sent::chunked(of_size(size))] {
            let answer = server.client.connect(protocol).await.post("/validate", body).await;
            let answer = answer.unwrap_or_else(|fault| panic!("{size} bytes over {protocol:?}: {fault:?}"));
            assert_eq!(answer.status, 413, "{answer}");
            assert_eq!(answer.text, "the body exceeds the limit of 33554432 bytes\n");
        }
    }
    assert_eq!(server.metric(&refused("too-large")), 4.0);
    server.until_metric("portcullis_admission_in_flight", 0.0).await;
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused_with_the_limit() {
    let server = Portcullis::start(&[]).await;
    for protocol in Protocol::ALL {
        let path = "/validate?timeout=30s";
        let largest = server.client.connect(protocol).await.post(path, of_size(LIMIT)).await.unwrap();
        // An unoptimized build on a busy machine may be late.
        assert!(largest.status == 504 || largest.allowed(), "{largest}");
    }
    send_too_much(&server, LIMIT + 1).await;
}

#[tokio::test]
async fn whoever_is_still_sending_too_much_hears_why_it_is_refused() {
    let server = Portcullis::start(&[]).await;
    // More than any buffer on the way takes. A connection that is closed before it was read to its end is reset, and the
    // answer with it.
    send_too_much(&server, 2 * LIMIT).await;
}

#[tokio::test]
async fn a_body_that_says_that_it_is_too_large_is_not_waited_for() {
    let server = Portcullis::start(&[]).await;
    for protocol in Protocol::ALL {
        let (_rest, body) = Sent::open(Some(LIMIT + 1));
        let answer = server.client.connect(protocol).await.post("/validate?timeout=3s", body).await.unwrap();
        assert_eq!(answer.status, 413, "{answer}");
    }
}

#[tokio::test]
async fn a_body_that_is_not_whole_in_time_is_refused() {
    let server = Portcullis::start(&[]).await;
    for protocol in Protocol::ALL {
        let (rest, body) = Sent::open(None);
        rest.send("{".into()).unwrap();
        let answer = server.client.connect(protocol).await.post("/validate?timeout=1s", body).await.unwrap();
        assert_eq!(answer.status, 504, "{answer}");
        assert!(answer.text.starts_with("the body was incomplete at the deadline"), "{answer}");
    }
    assert_eq!(server.metric(&refused("deadline")), 2.0);
    assert_eq!(server.metric("portcullis_admission_in_flight"), 0.0);
}

#[tokio::test]
async fn clients_that_never_get_to_a_request_stop_nobody() {
    let server = Portcullis::start(&["--max-in-flight", "4"]).await;
    let mut held = Vec::new();
    for start in [
        &b""[..],
        // The start of a handshake: a record of 512 bytes that does not come.
        &b"\x16\x03\x01\x02\x00\x01"[..],
    ] {
        for _ in 0..20 {
            let mut stream = TcpStream::connect(server.address()).await.unwrap();
            stream.write_all(start).await.unwrap();
            held.push(stream);
        }
    }
    for protocol in Protocol::ALL {
        for _ in 0..5 {
            let mut stream = server.client.tls(protocol).await.unwrap();
            stream.write_all(b"P").await.unwrap();
            stream.flush().await.unwrap();
            tokio::spawn(async move {
                let mut answer = Vec::new();
                let _ = stream.read_to_end(&mut answer).await;
            });
        }
    }
    server.until_metric("portcullis_connections", 50.0).await;
    for protocol in Protocol::ALL {
        let mut connection = server.client.connect(protocol).await;
        assert!(connection.post("/validate", good("served")).await.unwrap().allowed());
    }

    let before = server.metric(&refused("handshake"));
    let mut plain = TcpStream::connect(server.address()).await.unwrap();
    plain.write_all(b"POST /validate HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    // It may be reset instead, since the server has not read all of it.
    let _ = plain.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP/"), "plain HTTP is not answered: {answer:?}");
    server.until_metric(&refused("handshake"), before + 1.0).await;
    assert!(server.client.post("/validate", good("still-served")).await.allowed());
}

#[tokio::test]
async fn other_methods_and_paths_are_answered_with_what_there_is() {
    let server = Portcullis::start(&[]).await;
    for protocol in Protocol::ALL {
        let mut connection = server.client.connect(protocol).await;
        for path in ["/validate", "/mutate"] {
            let answer = connection.request(Method::GET, path, "").await.unwrap();
            assert_eq!((answer.status, answer.header("allow")), (405, Some("POST")), "{answer}");
        }
        for path in ["/", "/validate/", "/Validate", "/metrics", "/readyz", "/validate%2F..%2Fmutate"] {
            let answer = connection.post(path, good("lost")).await.unwrap();
            assert_eq!(answer.status, 404, "{answer}");
            let told = format!("unknown path {path}; POST an AdmissionReview to /validate or /mutate\n");
            assert_eq!(answer.text, told);
        }
        let answer = connection.post("/validate", good("found")).await.unwrap();
        assert!(answer.allowed());
        assert_eq!(answer.version, if protocol == Protocol::Http2 { Version::HTTP_2 } else { Version::HTTP_11 });
    }
}

#[tokio::test]
async fn connections_that_go_away_are_forgotten() {
    let server = Portcullis::start(&[]).await;
    for round in 0..100 {
        let opened = TcpStream::connect(server.address()).await.unwrap();
        let mut broken = TcpStream::connect(server.address()).await.unwrap();
        broken.write_all(b"\x16\x03\x01\x02\x00\x01").await.unwrap();
        let protocol = Protocol::ALL[round % 2];
        let secured = server.client.tls(protocol).await.unwrap();
        let ready = server.client.connect(protocol).await;
        let mut half = server.client.connect(protocol).await;
        let (rest, body) = Sent::open(Some(1000));
        rest.send("{".into()).unwrap();
        tokio::select! {
            answer = half.post("/validate", body) => panic!("half a body was answered: {answer:?}"),
            () = tokio::time::sleep(Duration::from_millis(2)) => {}
        }
        drop((opened, broken, secured, ready, half));
    }
    server.until_metric("portcullis_connections", 0.0).await;
    server.until_metric("portcullis_admission_in_flight", 0.0).await;
    assert!(server.client.post("/validate", good("after")).await.allowed());
}

// A certificate of its own.

#[tokio::test]
async fn the_line_to_try_a_certificate_of_its_own_with_works() {
    let dir = tempfile::Builder::new().prefix("portcullis-self-signed-").tempdir().unwrap();
    let out = dir.path().join("stdout");
    let mut server = serve([0, 0])
        .args(["--self-signed", "--certs", "certs"])
        .current_dir(dir.path())
        .stdout(File::create(&out).unwrap())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let line = until("a line to try it with", async || {
        let text = fs::read_to_string(&out).unwrap();
        let line = text.lines().find(|line| line.trim_start().starts_with("curl "))?.trim().to_owned();
        text.contains("kubectl apply").then_some(line)
    })
    .await;
    fs::write(dir.path().join("review.json"), good("tried")).unwrap();
    let tried =
        Command::new("sh").args(["-c", &format!("{line} --silent --show-error")]).current_dir(dir.path()).output();
    server.kill().unwrap();
    server.wait().unwrap();
    let tried = tried.unwrap();
    if tried.status.code() == Some(127) {
        // Not `eprintln!`, which the harness captures.
        let _ = writeln!(io::stderr(), "SKIPPED, without curl: {line}");
        return;
    }
    let said = String::from_utf8_lossy(&tried.stderr);
    assert!(tried.status.success(), "{line}\n{said}");
    let answer: Value = serde_json::from_slice(&tried.stdout).unwrap();
    assert_eq!(answer["response"]["uid"], "tried", "{answer}");
}
