//! Traffic without a pause that tells afterwards what became of it: an allowed flow must lose nothing, a denied one must
//! deliver nothing.

use std::{
    io::{self, ErrorKind, Read as _, Write as _},
    net::{SocketAddr, TcpStream, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use nix::sys::socket::{setsockopt, sockopt::RcvBufForce};

use crate::{Attempt, NetNs, Protocol};

/// One datagram each.
const STEP: Duration = Duration::from_millis(1);
/// Datagrams that nobody has read yet: those of some seconds.
const BUFFER: usize = 8 << 20;
/// How long the last packets may be on their way.
const TAIL: Duration = Duration::from_millis(300);
/// How long a transfer may stand still before it counts as cut; longer than TCP needs to send a lost packet again.
const STALL: Duration = Duration::from_secs(5);

/// How long a transfer is watched.
const WATCH: Duration = Duration::from_millis(500);

/// Both canaries, to run through every fault: what is allowed must lose nothing, what is denied must deliver nothing.
#[derive(Debug, Default)]
pub struct Canaries {
    transfers: Vec<Transfer>,
    allowed: Vec<Datagrams>,
    denied: Vec<Datagrams>,
}

impl Canaries {
    /// Adds a connection to a [`crate::Listener`] that must go on.
    ///
    /// # Panics
    /// When it does not come about.
    #[track_caller]
    pub fn transfer(&mut self, from: &NetNs, to: SocketAddr) {
        self.transfers.push(Transfer::open(from, to));
    }

    /// Adds datagrams that must arrive.
    ///
    /// # Panics
    /// As [`Datagrams::start`].
    #[track_caller]
    pub fn allow(&mut self, from: &NetNs, to: &NetNs, address: SocketAddr) {
        self.allowed.push(Datagrams::start(from, to, address));
    }

    /// Adds datagrams that must not arrive.
    ///
    /// # Panics
    /// As [`Datagrams::start`].
    #[track_caller]
    pub fn deny(&mut self, from: &NetNs, to: &NetNs, address: SocketAddr) {
        self.denied.push(Datagrams::start(from, to, address));
    }

    /// Asserts after a moment that every transfer goes on.
    ///
    /// # Panics
    /// When one stands still.
    #[track_caller]
    pub fn assert_going_on(&self, when: &str) {
        thread::sleep(WATCH);
        assert!(
            self.transfers.iter().all(Transfer::goes_on),
            "a transfer stands still: {when}"
        );
    }

    /// Stops all of them, asserts that nothing was lost or leaked, and tells the figures in a line.
    ///
    /// # Panics
    /// When something was, or nothing was sent.
    #[track_caller]
    pub fn assert_unharmed(self) -> String {
        let transfers = self.transfers.len();
        let transferred: u64 = self
            .transfers
            .into_iter()
            .map(|transfer| transfer.stop().expect("no transfer was cut"))
            .sum();
        let allowed = tally(self.allowed);
        let denied = tally(self.denied);
        let line = format!(
            "{transfers} transfers carried {transferred} bytes; allowed: {} of {} datagrams arrived; denied: {} of {}",
            allowed.arrived, allowed.sent, denied.arrived, denied.sent
        );
        assert!(allowed.sent > 1000 && denied.sent > 1000, "{line}");
        assert_eq!(allowed.sent, allowed.arrived, "lost: {line}");
        assert_eq!(denied.arrived, 0, "leaked: {line}");
        line
    }
}

fn tally(flows: Vec<Datagrams>) -> Tally {
    flows.into_iter().map(Datagrams::stop).fold(
        Tally {
            sent: 0,
            arrived: 0,
        },
        |sum, flow| Tally {
            sent: sum.sent + flow.sent,
            arrived: sum.arrived + flow.arrived,
        },
    )
}

/// What became of a flow of datagrams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tally {
    /// Datagrams that the sender sent.
    pub sent: u64,
    /// Datagrams that arrived.
    pub arrived: u64,
}

/// A flow of numbered datagrams, a thousand a second.
#[derive(Debug)]
pub struct Datagrams {
    stop: Arc<AtomicBool>,
    arrived: Arc<AtomicU64>,
    sender: JoinHandle<u64>,
    receiver: JoinHandle<()>,
}

impl Datagrams {
    /// Starts sending to an address in another namespace.
    ///
    /// # Panics
    /// When the address is in use, or is not one of `to`.
    #[track_caller]
    pub fn start(from: &NetNs, to: &NetNs, address: SocketAddr) -> Self {
        let stop: Arc<AtomicBool> = Arc::default();
        let arrived: Arc<AtomicU64> = Arc::default();
        let inside = to.enter(|| UdpSocket::bind(address));
        let inside = inside.unwrap_or_else(|error| panic!("bind {address}: {error}"));
        inside.set_read_timeout(Some(TAIL)).expect("not zero");
        // A receiver that gets no processor for a while must not look like a firewall that loses something.
        setsockopt(&inside, RcvBufForce, &BUFFER).expect("root may have it");
        let outside = from.enter(|| {
            let any: SocketAddr = match address {
                SocketAddr::V4(_) => ([0; 4], 0).into(),
                SocketAddr::V6(_) => ([0_u16; 8], 0).into(),
            };
            UdpSocket::bind(any).and_then(|socket| socket.connect(address).map(|()| socket))
        });
        let outside = outside.unwrap_or_else(|error| panic!("connect {address}: {error}"));
        let (ending, counter) = (Arc::clone(&stop), Arc::clone(&arrived));
        let receiver = thread::spawn(move || receive(&inside, &counter, &ending));
        let ending = Arc::clone(&stop);
        let sender = thread::spawn(move || send(&outside, &ending));
        Self {
            stop,
            arrived,
            sender,
            receiver,
        }
    }

    /// Datagrams that arrived so far.
    pub fn arrived(&self) -> u64 {
        self.arrived.load(Ordering::Relaxed)
    }

    /// Stops, waits for the last ones, and tells.
    ///
    /// # Panics
    /// When a thread did.
    pub fn stop(self) -> Tally {
        self.stop.store(true, Ordering::Relaxed);
        let sent = self.sender.join().expect("no panic");
        self.receiver.join().expect("no panic");
        Tally {
            sent,
            arrived: self.arrived.load(Ordering::Relaxed),
        }
    }
}

fn send(socket: &UdpSocket, stop: &AtomicBool) -> u64 {
    let mut sent = 0_u64;
    while !stop.load(Ordering::Relaxed) {
        // Where nobody answers to the address resolution, the kernel says so here.
        if socket.send(&sent.to_be_bytes()).is_ok() {
            sent += 1;
        }
        thread::sleep(STEP);
    }
    sent
}

fn receive(socket: &UdpSocket, arrived: &AtomicU64, stop: &AtomicBool) {
    let mut next = [0; 8];
    loop {
        match socket.recv(&mut next) {
            Ok(_) => {
                arrived.fetch_add(1, Ordering::Relaxed);
            }
            // The time is over: nothing came since the sender stopped.
            Err(_) if stop.load(Ordering::Relaxed) => return,
            Err(_) => {}
        }
    }
}

/// An open TCP connection to a [`crate::Listener`] over which data goes both ways without a pause.
#[derive(Debug)]
pub struct Transfer {
    stop: Arc<AtomicBool>,
    bytes: Arc<AtomicU64>,
    worker: JoinHandle<io::Result<()>>,
}

impl Transfer {
    /// Opens one from a namespace.
    ///
    /// # Panics
    /// When the connection does not come about.
    #[track_caller]
    pub fn open(from: &NetNs, to: SocketAddr) -> Self {
        let stream = from.enter(|| Attempt::new(Protocol::Tcp, to).connect());
        Self::start(stream.unwrap_or_else(|error| panic!("{to}: {error}")))
    }

    /// Takes a connection into use.
    pub fn start(stream: TcpStream) -> Self {
        let stop: Arc<AtomicBool> = Arc::default();
        let bytes: Arc<AtomicU64> = Arc::default();
        let (ending, counter) = (Arc::clone(&stop), Arc::clone(&bytes));
        let worker = thread::spawn(move || echo(stream, &counter, &ending));
        Self {
            stop,
            bytes,
            worker,
        }
    }

    /// Bytes that came back so far.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Whether it goes on: data comes back within the next seconds.
    pub fn goes_on(&self) -> bool {
        let before = self.bytes();
        // What was on its way does not count.
        crate::wait::until(STALL, || (self.bytes() > before + 64 * 1024).then_some(())).is_some()
    }

    /// Stops, and tells the bytes that came back.
    ///
    /// # Errors
    /// What cut the connection; `TimedOut` when it stood still for seconds.
    ///
    /// # Panics
    /// When its thread did.
    pub fn stop(self) -> io::Result<u64> {
        self.stop.store(true, Ordering::Relaxed);
        self.worker.join().expect("no panic")?;
        Ok(self.bytes.load(Ordering::Relaxed))
    }
}

fn echo(mut stream: TcpStream, bytes: &AtomicU64, stop: &AtomicBool) -> io::Result<()> {
    stream.set_read_timeout(Some(STALL))?;
    stream.set_write_timeout(Some(STALL))?;
    let block = [b'x'; 8 * 1024];
    let mut back = [0; 8 * 1024];
    while !stop.load(Ordering::Relaxed) {
        let result = stream.write_all(&block).and_then(|()| {
            // All of it, or the buffers between would fill; the greeting makes no difference.
            stream.read_exact(&mut back)?;
            bytes.fetch_add(back.len() as u64, Ordering::Relaxed);
            Ok(())
        });
        // What a read with a time limit calls running into it.
        result.map_err(|error| {
            if error.kind() == ErrorKind::WouldBlock {
                ErrorKind::TimedOut.into()
            } else {
                error
            }
        })?;
        thread::sleep(STEP);
    }
    Ok(())
}
