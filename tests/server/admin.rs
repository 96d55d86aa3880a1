//! The admin address answers probes, whatever else the process does.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::server::{Portcullis, get, get_with};
use arc_swap::ArcSwap;
use portcullis::admission::Knowledge;
use portcullis::baseline::PolicySet;
use portcullis::config::Configuration;
use portcullis::server::{Certificates, Limits, Readiness, Server, Shared, Stop};
use portcullis::telemetry::Metrics;
use portcullis::view::View;

/// Maximum time that a probe may take.
const BAR: Duration = Duration::from_millis(50);

/// The time that the fastest of three probes takes: the machine runs other tests as well.
fn fastest_probe(address: SocketAddr, path: &str, status: u16) -> Duration {
    let probe = || {
        let started = Instant::now();
        let answer = get(address, path).unwrap_or_else(|| panic!("{path} is not answered"));
        assert_eq!(answer.0, status, "{}", answer.1);
        started.elapsed()
    };
    (0..3).map(|_| probe()).min().unwrap()
}

fn shared() -> Arc<Shared> {
    let configuration = Configuration::shipped().unwrap();
    let policies = PolicySet::shipped(&configuration.site.label_domain).unwrap();
    Arc::new(Shared {
        knowledge: ArcSwap::from_pointee(Knowledge::new(configuration, View::default(), policies)),
        lookup: None,
        readiness: Readiness::default(),
        metrics: Metrics::default(),
        limits: Limits::default(),
    })
}

/// This test occupies the only thread of the runtime that serves webhooks.
#[tokio::test]
async fn probes_are_answered_while_every_thread_of_the_webhook_is_busy() {
    let shared = shared();
    let certificates = Arc::new(Certificates::awaited(&shared).unwrap());
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let server = Server::bind(Arc::clone(&shared), certificates, any, any).await.unwrap();
    let (_, admin) = server.addresses().unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn(server.run(async {
        let _ = stopped.await;
        Stop::Soon
    }));
    tokio::task::yield_now().await;
    for (path, status) in [("/livez", 200), ("/readyz", 503), ("/metrics", 200)] {
        let took = fastest_probe(admin, path, status);
        assert!(took < BAR, "{path} took {took:?}");
    }
    stop.send(()).unwrap();
    running.await.unwrap();
    assert!(TcpStream::connect(admin).is_err(), "a server that has ended listens nowhere");
}

#[tokio::test]
async fn a_server_that_never_runs_closes_its_admin_address() {
    let shared = shared();
    let certificates = Arc::new(Certificates::awaited(&shared).unwrap());
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let server = Server::bind(Arc::clone(&shared), certificates, any, any).await.unwrap();
    let (_, admin) = server.addresses().unwrap();
    assert_eq!(get(admin, "/livez").unwrap().0, 200);
    drop(server);
    let deadline = Instant::now() + Duration::from_secs(30);
    while TcpStream::connect(admin).is_ok() {
        assert!(Instant::now() < deadline, "the admin address is still open");
        thread::sleep(Duration::from_millis(10));
    }
}

#[tokio::test]
async fn clients_that_hold_connections_open_stop_no_probe() {
    let server = Portcullis::start(&[]).await;
    let mut held: Vec<TcpStream> = (0..200)
        .map(|_| {
            let mut stream = TcpStream::connect(server.admin_address()).unwrap();
            stream.write_all(b"GET /livez HTTP/1.1\r\n").unwrap();
            stream
        })
        .collect();
    let took = fastest_probe(server.admin_address(), "/livez", 200);
    assert!(took < BAR, "{took:?}");
    let mut open = 0;
    for stream in &mut held {
        stream.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
        match stream.read(&mut [0]) {
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => open += 1,
            Ok(0) | Err(_) => {}
            Ok(_) => panic!("half a request was answered"),
        }
    }
    assert!((1..=64).contains(&open), "{open} of 200 connections are open");
}

#[tokio::test]
async fn metrics_have_the_format_that_the_scraper_accepts() {
    let server = Portcullis::start(&[]).await;
    let (_, head, text) = get_with(server.admin_address(), "/metrics", "").unwrap();
    assert!(head.contains("content-type: text/plain; version=0.0.4; charset=utf-8"), "{head}");
    assert!(text.contains("# TYPE portcullis_admission_refused_total counter\n"), "{text}");
    assert!(!text.contains("# EOF") && !text.contains("# UNIT"), "{text}");
    let accept = "Accept: application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1\r\n";
    let (_, head, text) = get_with(server.admin_address(), "/metrics", accept).unwrap();
    assert!(head.contains("content-type: application/openmetrics-text; version=1.0.0; charset=utf-8"), "{head}");
    assert!(text.contains("# TYPE portcullis_admission_refused counter\n") && text.ends_with("# EOF\n"), "{text}");
}
