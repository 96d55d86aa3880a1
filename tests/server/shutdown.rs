//! How the server ends: it says so first, and loses nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::support::client::{Answer, Client, Connection, Fault, Protocol, Sent};
use crate::support::reviews::good;
use crate::support::server::{Portcullis, until};
use hyper::body::Bytes;
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::JoinHandle;

/// Waits until the server says that it is stopping.
async fn until_stopping(server: &Portcullis) {
    let (status, detail) = until("/readyz says that it is stopping", async || {
        server.readyz().filter(|(_, detail)| detail["state"] == "stopping")
    })
    .await;
    assert_eq!((status, &detail["ready"]), (503, &false.into()), "{detail}");
}

/// Whether nobody listens any more.
async fn until_refused(client: &Client) {
    until("the end of the listener", async || client.tls(Protocol::Http1).await.err().map(drop)).await;
}

/// A request whose body is half sent, and the rest of it.
struct Half {
    answer: JoinHandle<(Connection, Result<Answer, Fault>)>,
    sender: UnboundedSender<Bytes>,
    rest: String,
}

impl Half {
    /// Sends one half, and waits until the server has begun with it.
    async fn send(server: &Portcullis, mut connection: Connection, uid: &str) -> Self {
        let before = server.metric("portcullis_admission_in_flight");
        let (sender, body) = Sent::open(None);
        let mut first = good(uid);
        let rest = first.split_off(100);
        sender.send(first.into()).unwrap();
        let answer = tokio::spawn(async move {
            let answer = connection.post("/validate?timeout=30s", body).await;
            (connection, answer)
        });
        server.until_metric("portcullis_admission_in_flight", before + 1.0).await;
        Self { answer, sender, rest }
    }

    /// Sends the other half.
    async fn finish(self) -> Answer {
        let Self { answer, sender, rest } = self;
        sender.send(rest.into()).unwrap();
        // That was all of it.
        drop(sender);
        answer.await.unwrap().1.expect("a request that is under way is answered")
    }
}

#[tokio::test]
async fn a_server_that_is_stopping_says_so_and_serves_on() {
    // Long enough for all of this on a slow machine.
    let mut server = Portcullis::start(&["--stop-after", "5"]).await;
    let mut http1 = server.client.connect(Protocol::Http1).await;
    let mut http2 = server.client.connect(Protocol::Http2).await;
    let answer = http1.post("/validate", good("before-1")).await.unwrap();
    assert!(
        answer.allowed() && answer.header("connection").is_none(),
        "a server that is not stopping keeps its connections"
    );
    assert!(http2.post("/validate", good("before-2")).await.unwrap().allowed());

    server.signal("TERM");
    until_stopping(&server).await;
    assert_eq!(server.admin("/livez").unwrap().0, 200, "a server that is killed while it stops loses requests");

    let answer = http1.post("/validate", good("old-1")).await.unwrap();
    assert!(answer.allowed() && answer.closes(), "{answer:?}");
    assert_eq!(answer.response()["uid"], "old-1");
    let again = http1.post("/validate", good("old-1")).await;
    assert!(matches!(again, Err(Fault::NotTaken(_))), "what says that it closes closes: {again:?}");

    let answer = server.client.post("/mutate", good("new-1")).await;
    assert!(answer.allowed() && answer.closes(), "{answer:?}");
    for (connection, uid) in [(&mut http2, "old-2"), (&mut server.client.connect(Protocol::Http2).await, "new-2")] {
        let answer = connection.post("/validate", good(uid)).await.unwrap();
        assert!(answer.allowed() && answer.header("connection").is_none(), "HTTP/2 has GOAWAY instead: {answer:?}");
        assert_eq!(answer.response()["uid"], uid);
    }
    let refused = server.client.post("/validate", "no review").await;
    assert!(refused.status == 400 && refused.closes(), "{refused:?}");

    // Idle connections, one of either protocol, hold nothing up.
    let _idle = server.client.connect(Protocol::Http1).await;
    assert_eq!(server.end().await.code(), Some(0), "{}", server.log());
    let again = http2.post("/validate", good("late")).await;
    assert!(matches!(again, Err(Fault::NotTaken(_))), "an HTTP/2 connection ends with GOAWAY: {again:?}");
    let log = server.log();
    assert!(
        log.contains("graceful shutdown: not ready, still serving") && log.contains(r#""message":"stopped""#),
        "{log}"
    );
    assert!(!log.contains("still under way"), "idle connections are not waited for: {log}");
}

#[tokio::test]
async fn a_request_under_way_over_http2_is_answered_after_goaway() {
    let mut server = Portcullis::start(&["--stop-after", "0.2"]).await;
    let connection = server.client.connect(Protocol::Http2).await;
    let mut other = connection.share().unwrap();
    let half = Half::send(&server, connection, "under-way").await;

    server.signal("TERM");
    until("GOAWAY", async || match other.post("/validate", good("too-late")).await {
        Ok(answer) => {
            assert!(answer.allowed(), "{answer}");
            None
        }
        Err(Fault::NotTaken(_)) => Some(()),
        Err(Fault::Lost(why)) => panic!("a request was lost: {why}"),
    })
    .await;
    assert!(other.is_closed());
    until_refused(&server.client).await;

    let answer = half.finish().await;
    assert!(answer.allowed(), "{answer}");
    assert_eq!(answer.response()["uid"], "under-way");
    assert_eq!(server.end().await.code(), Some(0), "{}", server.log());
}

#[tokio::test]
async fn a_request_under_way_over_http1_is_answered_after_the_listener_has_closed() {
    let mut server = Portcullis::start(&["--stop-after", "0.2"]).await;
    // It has been used before, as the ones of an API server.
    let mut connection = server.client.connect(Protocol::Http1).await;
    connection.post("/validate", good("before")).await.unwrap();
    let half = Half::send(&server, connection, "under-way").await;

    server.signal("TERM");
    until_refused(&server.client).await;
    let answer = half.finish().await;
    assert!(answer.allowed() && answer.closes(), "{answer:?}");
    assert_eq!(answer.response()["uid"], "under-way");
    assert_eq!(server.end().await.code(), Some(0), "{}", server.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_is_lost_in_a_shutdown() {
    let mut server = Portcullis::start(&["--stop-after", "1"]).await;
    let stopping = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = [Protocol::Http1, Protocol::Http1, Protocol::Http1, Protocol::Http2, Protocol::Http2]
        .into_iter()
        .map(|protocol| tokio::spawn(send_until_refused(server.client.clone(), protocol, Arc::clone(&stopping))))
        .collect();
    server.until_metric("portcullis_connections", 5.0).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    stopping.store(true, Ordering::Release);
    server.signal("TERM");
    let mut lost = Vec::new();
    for client in clients {
        let told = client.await.unwrap();
        assert!(told.after > 0, "none was answered while the server was stopping: {told:?}");
        lost.extend(told.lost);
    }
    assert_eq!(server.end().await.code(), Some(0), "{}", server.log());
    assert!(lost.is_empty(), "{} requests were lost:\n{}", lost.len(), lost.join("\n"));
}

/// What a client has seen.
#[derive(Debug, Default)]
struct Seen {
    /// How many requests were answered after the signal.
    after: usize,
    lost: Vec<String>,
}

/// Sends one request after the other, and opens a new connection whenever it is told to, until nobody listens.
async fn send_until_refused(client: Client, protocol: Protocol, stopping: Arc<AtomicBool>) -> Seen {
    let mut seen = Seen::default();
    // A connection that cannot be opened is the end, and there is no end before the signal.
    while let Ok(mut connection) = client.try_connect(protocol).await {
        let mut sent = 0;
        loop {
            match connection.post("/validate", good("any")).await {
                Ok(answer) => {
                    assert!(answer.allowed(), "{answer}");
                    sent += 1;
                    seen.after += usize::from(stopping.load(Ordering::Acquire));
                    if answer.closes() {
                        break;
                    }
                }
                Err(Fault::NotTaken(_)) => break,
                Err(Fault::Lost(why)) => {
                    seen.lost.push(format!("{protocol:?}, after {sent} answers on this connection: {why}"));
                    break;
                }
            }
        }
    }
    assert!(stopping.load(Ordering::Acquire), "a connection was refused before the server was asked to stop");
    seen
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let mut server = Portcullis::start(&["--stop-after", "600"]).await;
    server.signal("TERM");
    until_stopping(&server).await;
    server.signal("TERM");
    let status = server.end().await;
    assert_eq!(status.code(), Some(130), "whoever waits for it is told that it did not end in order");
}

#[tokio::test]
async fn an_interrupt_skips_the_delay_and_loses_nothing() {
    let mut server = Portcullis::start(&["--stop-after", "600"]).await;
    let connection = server.client.connect(Protocol::Http2).await;
    let half = Half::send(&server, connection, "under-way").await;
    server.signal("INT");
    until_refused(&server.client).await;
    assert!(half.finish().await.allowed());
    assert_eq!(server.end().await.code(), Some(0), "{}", server.log());
}
