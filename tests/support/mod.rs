//! What the tests that go over the wire share.

#![allow(dead_code, reason = "each test file compiles all of this and uses a part of it")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on says so by a panic"
)]

pub(crate) mod browser;
pub(crate) mod client;
pub(crate) mod command;
pub(crate) mod control_plane;
pub(crate) mod exposed;
pub(crate) mod files;
pub(crate) mod golden;
pub(crate) mod installation;
pub(crate) mod limit;
pub(crate) mod load;
pub(crate) mod pki;
pub(crate) mod played;
pub(crate) mod process;
pub(crate) mod reviews;
pub(crate) mod schema;
pub(crate) mod server;
pub(crate) mod service;
pub(crate) mod verdict;
pub(crate) mod xml;

use std::net::TcpListener;
use std::sync::atomic::{AtomicU32, Ordering};

/// Ports on loopback that are free, and stay so: connections and whoever asks for any port get others, from 32768 up. Each
/// process begins elsewhere, and none is given away twice.
pub(crate) fn free_ports<const COUNT: usize>() -> [u16; COUNT] {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    const FIRST: u32 = 12_000;
    const RANGE: u32 = 20_000;
    let begin = std::process::id().wrapping_mul(7_919);
    [(); COUNT].map(|()| {
        let mut ports = (0..RANGE).map(|_| {
            let step = NEXT.fetch_add(1, Ordering::Relaxed);
            u16::try_from(FIRST + begin.wrapping_add(step) % RANGE).expect("ports are below 65536")
        });
        ports.find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()).expect("loopback has a free port")
    })
}
