//! What a Service does on one machine: one address in front of several servers, of which each connection gets one.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

/// One address in front of several. It takes connections as long as the process lives.
pub(crate) struct Service {
    port: u16,
    backends: Arc<Mutex<Vec<SocketAddr>>>,
    /// The clients' side of the connections that may be open.
    clients: Arc<Mutex<Vec<TcpStream>>>,
}

impl Service {
    pub(crate) fn new() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let backends: Arc<Mutex<Vec<SocketAddr>>> = Arc::default();
        let behind = Arc::clone(&backends);
        let clients: Arc<Mutex<Vec<TcpStream>>> = Arc::default();
        let connected = Arc::clone(&clients);
        thread::spawn(move || {
            for (turn, client) in listener.incoming().flatten().enumerate() {
                let backends = behind.lock().unwrap().clone();
                // The first that takes the connection, as from one that is ready.
                let order = (0..backends.len()).map(|next| backends[(turn + next) % backends.len()]);
                let Some(server) = order.filter_map(|address| TcpStream::connect(address).ok()).next() else {
                    continue;
                };
                let mut connected = connected.lock().unwrap_or_else(PoisonError::into_inner);
                connected.retain(|client| client.peer_addr().is_ok());
                connected.extend(client.try_clone());
                join(client, server);
            }
        });
        Self { port, backends, clients }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Breaks every connection that is open. New ones are taken.
    pub(crate) fn cut(&self) {
        for client in self.clients.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            let _ = client.shutdown(Shutdown::Both);
        }
    }

    /// Who answers from now on. Connections that are open stay where they are.
    pub(crate) fn set_backends(&self, ports: &[u16]) {
        let addresses = ports.iter().map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, *port)));
        *self.backends.lock().unwrap() = addresses.collect();
    }
}

/// Passes on what either says, until one of them ends.
fn join(client: TcpStream, server: TcpStream) {
    // Otherwise a small message waits for the acknowledgement of the one before, 40 ms, which no Service does.
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (to_server, to_client) = (server.try_clone(), client.try_clone());
    let (Ok(to_server), Ok(to_client)) = (to_server, to_client) else { return };
    thread::spawn(move || pass(client, to_server));
    thread::spawn(move || pass(server, to_client));
}

fn pass(mut from: TcpStream, mut to: TcpStream) {
    let mut buffer = [0; 16 * 1024];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => break,
            Ok(read) => {
                if to.write_all(&buffer[..read]).is_err() {
                    break;
                }
            }
        }
    }
    let _ = to.shutdown(Shutdown::Both);
    let _ = from.shutdown(Shutdown::Both);
}
