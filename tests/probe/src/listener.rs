//! Servers that tell each client how it is seen.

use std::{
    io::{self, ErrorKind, Read as _, Write as _},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use socket2::{Domain, Socket, Type};

use crate::attempt::canonical;

/// How long a blocked server takes to notice that it shall stop.
const STEP: Duration = Duration::from_millis(100);

/// TCP and UDP servers on every address of both families. TCP: greets with the client's address and port on a line, then
/// echoes. UDP: answers with the client's address and port. Ends when dropped.
#[derive(Debug)]
pub struct Listener {
    stop: Arc<AtomicBool>,
    servers: Vec<JoinHandle<()>>,
}

impl Listener {
    /// Listens in the network namespace of the calling thread.
    ///
    /// # Errors
    /// As `bind(2)`: a port that is in use.
    pub fn start(tcp: &[u16], udp: &[u16]) -> io::Result<Self> {
        let mut listener = Self {
            stop: Arc::default(),
            servers: Vec::new(),
        };
        for port in tcp {
            let socket = bind(Type::STREAM, *port)?;
            socket.listen(128)?;
            let stop = Arc::clone(&listener.stop);
            listener
                .servers
                .push(thread::spawn(move || accept(&socket.into(), &stop)));
        }
        for port in udp {
            let socket = bind(Type::DGRAM, *port)?;
            let stop = Arc::clone(&listener.stop);
            listener
                .servers
                .push(thread::spawn(move || answer(&socket.into(), &stop)));
        }
        Ok(listener)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for server in self.servers.drain(..) {
            // A server that panicked has said so.
            let _ = server.join();
        }
    }
}

/// On both families; on IPv4 alone where the kernel has no IPv6.
fn bind(kind: Type, port: u16) -> io::Result<Socket> {
    let (socket, any): (_, SocketAddr) = match Socket::new(Domain::IPV6, kind, None) {
        Ok(socket) => {
            socket.set_only_v6(false)?;
            (socket, (Ipv6Addr::UNSPECIFIED, port).into())
        }
        Err(_) => (
            Socket::new(Domain::IPV4, kind, None)?,
            (Ipv4Addr::UNSPECIFIED, port).into(),
        ),
    };
    socket.set_reuse_address(true)?;
    socket.set_read_timeout(Some(STEP))?;
    socket.bind(&any.into())?;
    Ok(socket)
}

fn accept(listener: &TcpListener, stop: &Arc<AtomicBool>) {
    while !stop.load(Ordering::Relaxed) {
        if let Ok((stream, client)) = listener.accept() {
            let stop = Arc::clone(stop);
            // A client that goes away ends its own thread only.
            thread::spawn(move || greet_and_echo(stream, client, &stop));
        }
    }
}

fn greet_and_echo(mut stream: TcpStream, client: SocketAddr, stop: &AtomicBool) -> io::Result<()> {
    writeln!(stream, "{}", canonical(client))?;
    stream.set_read_timeout(Some(STEP))?;
    let mut buffer = [0; 64 * 1024];
    while !stop.load(Ordering::Relaxed) {
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => stream.write_all(&buffer[..length])?,
            Err(error) if is_pause(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn answer(socket: &UdpSocket, stop: &AtomicBool) {
    let mut buffer = [0; 2048];
    while !stop.load(Ordering::Relaxed) {
        // An ICMP error about an earlier answer shows up here, and is none of the next client's business.
        if let Ok((_, client)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(canonical(client).to_string().as_bytes(), client);
        }
    }
}

fn is_pause(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}
