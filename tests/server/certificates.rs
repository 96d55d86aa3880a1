//! Certificates that change while the server runs.

use std::fs;
use std::time::SystemTime;

use crate::support::client::Protocol;
use crate::support::files::{CERTIFICATE, DAY, Files, LAST_GOOD, Leaf, Mount, reloads, until_detail};
use crate::support::reviews::good;
use crate::support::server::{Portcullis, until};

const EXPIRY: &str = "portcullis_certificate_expiry_timestamp_seconds";

/// Waits until new connections are shown this certificate.
async fn until_served(server: &Portcullis, leaf: &Leaf) {
    until("a new certificate", async || (server.client.serial().await? == leaf.serial).then_some(())).await;
    server.until_metric(EXPIRY, leaf.expires as f64).await;
}

#[tokio::test]
async fn a_new_certificate_is_served_and_open_connections_stay_open() {
    let files = Files::new();
    let (old, new) = (files.authority.days(10), files.authority.days(20));
    files.write_pair(&old);
    let server = files.serve(&[]).await;
    until_served(&server, &old).await;
    let mut open = [server.client.connect(Protocol::Http1).await, server.client.connect(Protocol::Http2).await];
    for connection in &mut open {
        connection.post("/validate", good("before")).await.unwrap();
    }

    files.write_pair(&new);
    until_served(&server, &new).await;
    for connection in &mut open {
        let answer = connection.post("/validate", good("after")).await.expect("the connection is still open");
        assert!(answer.allowed() && answer.header("connection").is_none(), "{answer:?}");
    }
    until_detail(&server, CERTIFICATE, "ok").await;
    assert_eq!(server.metric(&reloads(CERTIFICATE, "success")), 1.0);
}

#[tokio::test]
async fn each_swap_of_a_mounted_secret_is_noticed() {
    let files = Files::new();
    let leaf = files.authority.days(1);
    let mut mount = Mount::new(files.path("secret"), &[("tls.crt", &leaf.certificate), ("tls.key", &leaf.key)]);
    let pair = (mount.path.join("tls.crt"), mount.path.join("tls.key"));
    let arguments = ["--reload-every", "0.1"];
    let server = Portcullis::launch(files.dir.path(), (&pair.0, &pair.1), &files.authority.pem, &arguments).await;
    until_served(&server, &leaf).await;
    // Who watches the file with inotify notices the first by luck, and the others never.
    for days in 2..=4 {
        let leaf = files.authority.days(days);
        mount.swap(&[("tls.crt", &leaf.certificate), ("tls.key", &leaf.key)]);
        until_served(&server, &leaf).await;
    }
    assert_eq!(server.metric(&reloads(CERTIFICATE, "success")), 3.0);
}

#[tokio::test]
async fn half_a_pair_leaves_the_last_good_one_in_use() {
    let files = Files::new();
    let (first, second, third) = (files.authority.days(1), files.authority.days(2), files.authority.days(3));
    files.write_pair(&first);
    let server = files.serve(&[]).await;
    until_served(&server, &first).await;
    let failures = reloads(CERTIFICATE, "failure");

    files.write("tls.crt", &second.certificate);
    let detail = until_detail(&server, CERTIFICATE, LAST_GOOD).await;
    assert!(detail.contains("do not fit together"), "{detail}");
    assert_eq!(server.client.serial().await.unwrap(), first.serial);
    assert_eq!(server.metric(EXPIRY), first.expires as f64, "the gauge is about what is in use");
    assert_eq!(server.metric(&failures), 1.0);
    assert!(server.client.post("/validate", good("meanwhile")).await.allowed());
    files.write("tls.key", &second.key);
    until_served(&server, &second).await;
    until_detail(&server, CERTIFICATE, "ok").await;

    // A copy that was cut off.
    files.write("tls.key", &third.key);
    files.write("tls.crt", third.certificate.split_at(third.certificate.len() / 2).0);
    until_detail(&server, CERTIFICATE, "PEM").await;
    assert_eq!(server.client.serial().await.unwrap(), second.serial);
    assert!(server.metric(&failures) >= 2.0);
    files.write("tls.crt", &third.certificate);
    until_served(&server, &third).await;
    until_detail(&server, CERTIFICATE, "ok").await;
    assert_eq!(server.metric(&reloads(CERTIFICATE, "success")), 2.0);

    // A change that is taken back.
    files.write("tls.crt", &second.certificate);
    until_detail(&server, CERTIFICATE, LAST_GOOD).await;
    files.write("tls.crt", &third.certificate);
    until_detail(&server, CERTIFICATE, "ok").await;
    assert_eq!(server.client.serial().await.unwrap(), third.serial);
}

#[tokio::test]
async fn a_pair_that_is_away_for_a_moment_is_in_use_all_the_time() {
    let files = Files::new();
    let (first, second) = (files.authority.days(1), files.authority.days(2));
    files.write_pair(&first);
    let server = files.serve(&[]).await;
    until_served(&server, &first).await;
    let remove = || ["tls.crt", "tls.key"].map(|name| fs::remove_file(files.path(name)).unwrap());

    remove();
    let detail = until_detail(&server, CERTIFICATE, LAST_GOOD).await;
    assert!(detail.contains("tls.crt: No such file"), "{detail}");
    assert_eq!(server.client.serial().await.unwrap(), first.serial);
    assert!(server.metric(&reloads(CERTIFICATE, "failure")) >= 1.0);
    files.write_pair(&second);
    until_served(&server, &second).await;
    until_detail(&server, CERTIFICATE, "ok").await;

    // The same pair as before comes back.
    remove();
    until_detail(&server, CERTIFICATE, "No such file").await;
    files.write_pair(&second);
    until_detail(&server, CERTIFICATE, "ok").await;
    assert_eq!(server.client.serial().await.unwrap(), second.serial);
}

#[tokio::test]
async fn an_expired_certificate_makes_it_unready_until_there_is_another() {
    let files = Files::new();
    let expired = files.authority.leaf(SystemTime::now() - DAY);
    files.write_pair(&expired);
    let server = files.serve(&[]).await;
    let (status, answer) = until("an answer of /readyz", async || server.readyz()).await;
    assert_eq!((status, &answer["detail"]["certificate"]), (503, &"expired".into()), "{answer}");
    assert_eq!(server.metric(EXPIRY), expired.expires as f64);
    let new = files.authority.days(1);
    files.write_pair(&new);
    until_served(&server, &new).await;
    server.until_ready().await;
}
