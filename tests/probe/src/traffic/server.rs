//! The end that answers.

use std::{
    io::{self, Read as _, Write as _},
    net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    thread,
};

use socket2::{Domain, Socket, Type};

use super::{CHUNK, DATAGRAM, LAST};

/// Serves every mode on one port, TCP and UDP, on both address families, until the process ends.
#[derive(Debug)]
pub struct Server {
    port: u16,
}

/// What a client wants of a connection: its first byte.
pub(super) mod wish {
    /// Each byte back.
    pub(in super::super) const ECHO: u8 = b'e';
    /// At the end the number of bytes that came.
    pub(in super::super) const COUNT: u8 = b'c';
}

impl Server {
    /// Serves in the network namespace of the calling thread; port 0 is any that is free.
    ///
    /// # Errors
    /// As `bind(2)`: a port that is in use.
    pub fn start(port: u16) -> io::Result<Self> {
        let listener = bind(Type::STREAM, port)?;
        listener.listen(1024)?;
        let listener: TcpListener = listener.into();
        let port = listener.local_addr()?.port();
        let datagrams: UdpSocket = bind(Type::DGRAM, port)?.into();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                serve(stream);
            }
        });
        thread::spawn(move || answer(&datagrams));
        Ok(Self { port })
    }

    /// Where it serves.
    pub fn port(&self) -> u16 {
        self.port
    }
}

fn bind(kind: Type, port: u16) -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV6, kind, None)?;
    socket.set_only_v6(false)?;
    socket.set_reuse_address(true)?;
    socket.bind(&SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)).into())?;
    Ok(socket)
}

/// One client after the other: nothing is started between two connections. A client that goes away ends its own only.
fn serve(mut stream: TcpStream) {
    let mut wish = [0];
    if stream.set_nodelay(true).is_err() || stream.read_exact(&mut wish).is_err() {
        return;
    }
    let _ = if wish == [wish::COUNT] {
        count(&mut stream)
    } else {
        echo(&mut stream, wish)
    };
}

/// The first byte is the first request.
fn echo(stream: &mut TcpStream, mut byte: [u8; 1]) -> io::Result<()> {
    loop {
        stream.write_all(&byte)?;
        if stream.read(&mut byte)? == 0 {
            return Ok(());
        }
    }
}

fn count(stream: &mut TcpStream) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK * 4];
    let mut total = 0_u64;
    loop {
        match stream.read(&mut buffer)? {
            0 => return stream.write_all(&total.to_be_bytes()),
            length => total += length as u64,
        }
    }
}

fn answer(socket: &UdpSocket) {
    let mut datagram = [0; DATAGRAM];
    loop {
        // An ICMP error about an earlier answer shows up here, and is none of the next client's business.
        if let Ok((_, client)) = socket.recv_from(&mut datagram)
            && datagram[0] == LAST
        {
            let _ = socket.send_to(&datagram, client);
        }
    }
}
