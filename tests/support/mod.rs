//! What the tests that go over the wire share.

#![allow(dead_code, reason = "each test file compiles all of this and uses a part of it")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on says so by a panic"
)]

pub(crate) mod client;
pub(crate) mod control_plane;
pub(crate) mod files;
pub(crate) mod installation;
pub(crate) mod pki;
pub(crate) mod process;
pub(crate) mod reviews;
pub(crate) mod server;
pub(crate) mod service;
pub(crate) mod verdict;

use std::net::TcpListener;

/// Ports on loopback that were free a moment ago. All of them are held until the last is found, so they differ.
pub(crate) fn free_ports<const COUNT: usize>() -> [u16; COUNT] {
    let held = [(); COUNT].map(|()| TcpListener::bind("127.0.0.1:0").expect("loopback has a free port"));
    held.map(|listener| listener.local_addr().expect("a listener that is bound has an address").port())
}
