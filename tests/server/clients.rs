//! Client certificates over real TLS: who gets an answer, who gets a reason, and a CA that is replaced.

use std::fs;
use std::path::Path;

use crate::support::client::{Client, Protocol};
use crate::support::pki::{Authority, Identity};
use crate::support::reviews::good;
use crate::support::server::{Portcullis, until};
use tempfile::TempDir;

const REFUSED: &str = r#"portcullis_admission_refused_total{reason="client"}"#;

/// The CA of clients, its certificates, and a server that requires them.
struct Rig {
    dir: TempDir,
    authority: Authority,
    server: Portcullis,
}

impl Rig {
    async fn start(arguments: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::new(&dir.path().join("clients"));
        let file = dir.path().join("client-ca.crt");
        fs::copy(&authority.certificate, &file).unwrap();
        let flag = format!("--client-ca={}", file.display());
        let server = Portcullis::start(&[&[&flag, "--reload-every=0.1"], arguments].concat()).await;
        Self { dir, authority, server }
    }

    fn client(&self, identity: &Identity) -> Client {
        self.server.client.with_identity(identity)
    }

    /// Replaces the file of client CAs.
    fn replace_ca(&self, content: &[u8]) {
        let (new, file) = (self.dir.path().join("new"), self.dir.path().join("client-ca.crt"));
        fs::write(&new, content).unwrap();
        fs::rename(new, file).unwrap();
    }

    fn status(&self) -> String {
        self.server.readyz().unwrap().1["detail"]["clientCA"].as_str().unwrap().to_owned()
    }
}

fn other_authority(dir: &Path) -> Authority {
    Authority::new(&dir.join("others"))
}

/// Returns true if a review is answered on a new connection.
async fn is_answered(client: &Client) -> bool {
    match client.try_connect(Protocol::Http1).await {
        Ok(mut connection) => match connection.post("/validate", good("asked")).await {
            Ok(answer) => answer.status == 200,
            Err(_) => false,
        },
        Err(_) => false,
    }
}

#[tokio::test]
async fn only_a_certificate_of_the_ca_with_the_name_gets_an_answer() {
    let rig = Rig::start(&["--client-name", "kube-apiserver"]).await;
    let named = rig.client(&rig.authority.client("kube-apiserver", "none"));
    let other_name = rig.client(&rig.authority.client("kubelet", "none"));
    let foreign = other_authority(rig.dir.path()).client("kube-apiserver", "none");
    let foreign = rig.client(&foreign);
    for protocol in Protocol::ALL {
        for path in ["/validate", "/mutate"] {
            let answer = named.connect(protocol).await.post(path, good("named")).await.unwrap();
            assert!(answer.allowed(), "{answer}");
            let answer = other_name.connect(protocol).await.post(path, good("other")).await.unwrap();
            assert_eq!(answer.status, 403, "{answer}");
            let text = "client certificate names kubelet are not accepted (--client-name)\n";
            assert_eq!(answer.text, text);
            let answer = rig.server.client.connect(protocol).await.post(path, good("none")).await.unwrap();
            assert_eq!(answer.status, 401, "{answer}");
            assert!(answer.text.starts_with("a client certificate is required (--client-ca); "), "{answer}");
        }
    }
    assert_eq!(rig.server.metric(REFUSED), 8.0);
    let handshakes = r#"portcullis_admission_refused_total{reason="handshake"}"#;
    let before = rig.server.metric(handshakes);
    assert!(!is_answered(&foreign).await, "a certificate of another CA fails the handshake");
    rig.server.until_metric(handshakes, before + 1.0).await;
    assert_eq!(rig.status(), "ok");
    assert_eq!(rig.server.admin("/livez").unwrap().0, 200, "probes need no certificate");
}

#[tokio::test]
async fn an_alternative_name_counts_and_without_names_every_certificate_of_the_ca() {
    let rig = Rig::start(&["--client-name=api.example.com,10.0.0.7"]).await;
    for (host, status) in [("api.example.com", 200), ("10.0.0.7", 200), ("other.example.com", 403)] {
        let client = rig.client(&rig.authority.client_for("someone", &[host]));
        let answer = client.post("/validate", good("named")).await;
        assert_eq!(answer.status, status, "{host}: {answer}");
    }
    let rig = Rig::start(&[]).await;
    assert!(is_answered(&rig.client(&rig.authority.client("someone", "none"))).await);
    assert!(!is_answered(&rig.server.client).await);
}

#[tokio::test]
async fn a_replaced_ca_is_trusted_and_a_broken_one_is_not_taken() {
    let rig = Rig::start(&[]).await;
    let next = other_authority(rig.dir.path());
    let (old, new) = (rig.client(&rig.authority.client("old", "none")), rig.client(&next.client("new", "none")));
    assert!(is_answered(&old).await && !is_answered(&new).await);

    rig.replace_ca(b"-----BEGIN CERTIFICATE-----\nno\n-----END CERTIFICATE-----\n");
    until("the fault is reported", async || rig.status().starts_with("using the last good client CA").then_some(()))
        .await;
    assert_eq!(rig.server.readyz().unwrap().0, 200, "it stays ready");
    assert!(is_answered(&old).await);
    rig.replace_ca(b"");
    until("an empty file is a fault", async || rig.status().contains("no certificate").then_some(())).await;
    assert!(!is_answered(&rig.server.client).await, "an empty file opens nothing");

    rig.replace_ca(&fs::read(&next.certificate).unwrap());
    until("the new CA is in use", async || is_answered(&new).await.then_some(())).await;
    assert_eq!(rig.status(), "ok");
    assert!(!is_answered(&old).await);
}
