//! One try to reach something.

use std::{
    fmt,
    io::{self, ErrorKind, Read as _},
    net::{IpAddr, SocketAddr, TcpStream},
    str::FromStr,
    time::Duration,
};

use socket2::{Domain, Socket, Type};

use crate::icmp;

/// How long to wait for what shall come; reached on a busy machine only.
const COMES: Duration = Duration::from_secs(3);
/// How long to wait for what shall not come.
const STAYS_AWAY: Duration = Duration::from_millis(300);

/// What is sent. ICMP is an echo request of the family of the address; its port is ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// A connection, and its greeting.
    Tcp,
    /// A datagram, and its answer.
    Udp,
    /// An echo request of ICMP or ICMPv6, and its reply. Needs root.
    Icmp,
}

impl FromStr for Protocol {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "tcp" => Ok(Self::Tcp),
            "udp" => Ok(Self::Udp),
            "icmp" => Ok(Self::Icmp),
            _ => Err(format!("`{text}` is none of tcp, udp, icmp")),
        }
    }
}

/// What came of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A [`crate::Listener`] answered, and saw this source. ICMP: the reply came; the source is the target itself.
    Answered(SocketAddr),
    /// The connection was accepted, but no listener spoke: a proxy, or another server.
    Accepted,
    /// TCP reset, or ICMP port unreachable.
    Refused,
    /// Nothing came before the time was over.
    Silent,
    /// The kernel knows no way, or an ICMP error came back.
    Unreachable,
}

impl Outcome {
    /// Whether a listener was reached.
    pub const fn is_answered(self) -> bool {
        matches!(self, Self::Answered(_))
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answered(seen_as) => write!(f, "answered {seen_as}"),
            Self::Accepted => f.write_str("accepted"),
            Self::Refused => f.write_str("refused"),
            Self::Silent => f.write_str("silent"),
            Self::Unreachable => f.write_str("unreachable"),
        }
    }
}

/// One try to reach something from the network namespace of the calling thread.
#[derive(Clone, Copy, Debug)]
pub struct Attempt {
    /// What is sent.
    pub protocol: Protocol,
    /// Where to. An IPv6 link-local address needs its scope.
    pub to: SocketAddr,
    /// The own address and port, where they matter; port 0 lets the kernel choose.
    pub from: Option<SocketAddr>,
    /// How long to wait for each step.
    pub patience: Duration,
}

impl Attempt {
    /// An attempt from any port, waiting for a second.
    pub const fn new(protocol: Protocol, to: SocketAddr) -> Self {
        Self {
            protocol,
            to,
            from: None,
            patience: Duration::from_secs(1),
        }
    }

    /// The same with the patience that is needed to see an answer, or that there is none.
    pub const fn expecting(self, answer: bool) -> Self {
        Self {
            patience: if answer { COMES } else { STAYS_AWAY },
            ..self
        }
    }

    /// Tries.
    ///
    /// # Errors
    /// What is no answer to the question: no socket could be made or bound, say.
    pub fn run(&self) -> io::Result<Outcome> {
        let result = match self.protocol {
            Protocol::Tcp => self.connect().map(|stream| greeting(stream, self.patience)),
            Protocol::Udp => self.ask(),
            Protocol::Icmp => icmp::echo(self),
        };
        match result {
            Ok(outcome) => Ok(outcome),
            Err(error) => outcome(&error).ok_or(error),
        }
    }

    /// Opens a TCP connection that stays open, past the greeting of a [`crate::Listener`]; what is sent comes back.
    ///
    /// # Errors
    /// As `connect(2)`; `TimedOut` when nothing came.
    pub fn connect(&self) -> io::Result<TcpStream> {
        let socket = self.socket(Type::STREAM)?;
        socket.connect_timeout(&self.to.into(), self.patience)?;
        Ok(socket.into())
    }

    fn ask(&self) -> io::Result<Outcome> {
        let socket = self.socket(Type::DGRAM)?;
        socket.connect(&self.to.into())?;
        socket.set_read_timeout(Some(self.patience))?;
        socket.send(b"who am i")?;
        let mut answer = [0; 128];
        let length = (&socket).read(&mut answer)?;
        Ok(parse(&answer[..length]).map_or(Outcome::Accepted, Outcome::Answered))
    }

    fn socket(&self, kind: Type) -> io::Result<Socket> {
        let socket = Socket::new(Domain::for_address(self.to), kind, None)?;
        if let Some(from) = self.from {
            socket.set_reuse_address(true)?;
            socket.bind(&from.into())?;
        }
        Ok(socket)
    }
}

fn greeting(mut stream: TcpStream, patience: Duration) -> Outcome {
    let mut text = Vec::new();
    let mut byte = [0];
    // A refusal to set the time is met again when reading.
    let _ = stream.set_read_timeout(Some(patience));
    while let Ok(1) = stream.read(&mut byte) {
        if byte == *b"\n" {
            return parse(&text).map_or(Outcome::Accepted, Outcome::Answered);
        }
        text.push(byte[0]);
    }
    Outcome::Accepted
}

fn parse(text: &[u8]) -> Option<SocketAddr> {
    std::str::from_utf8(text).ok()?.trim().parse().ok()
}

/// What an error of the network says about the way; none for any other error.
fn outcome(error: &io::Error) -> Option<Outcome> {
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "ErrorKind is not exhaustive"
    )]
    match error.kind() {
        ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset => Some(Outcome::Refused),
        ErrorKind::TimedOut | ErrorKind::WouldBlock => Some(Outcome::Silent),
        ErrorKind::HostUnreachable
        | ErrorKind::NetworkUnreachable
        | ErrorKind::PermissionDenied => Some(Outcome::Unreachable),
        _ => None,
    }
}

/// An IPv4 address that an IPv6 socket shows in its mapped form, as what it is.
pub(crate) fn canonical(addr: SocketAddr) -> SocketAddr {
    match addr.ip().to_canonical() {
        IpAddr::V4(v4) => SocketAddr::new(IpAddr::V4(v4), addr.port()),
        IpAddr::V6(_) => addr,
    }
}
