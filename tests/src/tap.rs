//! A raw end of the wire: frames go out as they are written, and everything that comes is seen.

use std::{
    collections::BTreeSet,
    io::{ErrorKind, Read as _, Write as _},
    os::fd::AsRawFd as _,
    time::{Duration, Instant},
};

use nix::{
    ifaddrs::getifaddrs,
    sys::socket::{LinkAddr, bind, setsockopt, sockopt::RcvBufForce},
};
use socket2::{Domain, Protocol, Socket, Type};

use crate::{NetNs, frame::Mac};

/// Every protocol, in network order (`linux/if_ether.h`).
const ETH_P_ALL: u16 = 0x0003_u16.to_be();
/// Frames that nobody has read yet; a burst of some thousands fits.
const BUFFER: usize = 16 << 20;
/// How long the last frame may be on its way on a busy machine.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long the others may take that were sent before it.
const TAIL: Duration = Duration::from_millis(30);

/// A packet socket (packet(7)). It sees what passes its interface in both directions, whoever it is for, before any
/// firewall of its own namespace and after all of the others'.
#[derive(Debug)]
pub struct Tap(Socket);

impl Tap {
    /// Opens one on an interface of a namespace.
    ///
    /// # Panics
    /// Without root, or when there is no such interface.
    #[track_caller]
    pub fn open(netns: &NetNs, interface: &str) -> Self {
        netns.enter(|| {
            let tap = Self::inside();
            bind(tap.0.as_raw_fd(), &link_address(interface))
                .unwrap_or_else(|error| panic!("bind to {interface}: {error}"));
            tap
        })
    }

    /// Opens one on all interfaces of a namespace, also those that come later. It only listens.
    ///
    /// # Panics
    /// Without root.
    #[track_caller]
    pub fn of_all(netns: &NetNs) -> Self {
        netns.enter(Self::inside)
    }

    fn inside() -> Self {
        let protocol = Protocol::from(i32::from(ETH_P_ALL));
        let socket = Socket::new(Domain::PACKET, Type::RAW, Some(protocol));
        let socket = socket.unwrap_or_else(|error| panic!("packet socket: {error}"));
        setsockopt(&socket, RcvBufForce, &BUFFER).expect("root may have it");
        Self(socket)
    }

    /// Sends a frame as it is.
    ///
    /// # Panics
    /// When the interface does not take it.
    #[track_caller]
    pub fn send(&self, frame: &[u8]) {
        let sent = (&self.0).write(frame);
        sent.unwrap_or_else(|error| panic!("send {} bytes: {error}", frame.len()));
    }

    /// All that passed since it was opened or last asked, up to a frame that is known to come, and shortly after it. On
    /// one way frames do not overtake each other: what was sent before and is not here does not come any more.
    ///
    /// # Panics
    /// When the last frame does not come.
    #[track_caller]
    pub fn until(&self, what: &str, is_last: impl Fn(&[u8]) -> bool) -> Vec<Vec<u8>> {
        let deadline = Instant::now() + PATIENCE;
        let mut frames = Vec::new();
        loop {
            match self.next(deadline) {
                Some(frame) => frames.push(frame),
                None => panic!("{what} does not come; {} frames did", frames.len()),
            }
            if frames.last().is_some_and(|frame| is_last(frame)) {
                frames.extend(self.during(TAIL));
                return frames;
            }
        }
    }

    /// All that passed since it was opened or last asked, and what passes in this time.
    pub fn during(&self, time: Duration) -> Vec<Vec<u8>> {
        let deadline = Instant::now() + time;
        let is_over = || Instant::now() >= deadline;
        std::iter::from_fn(|| if is_over() { None } else { self.next(deadline) }).collect()
    }

    /// The next frame; none when there is none until the deadline.
    fn next(&self, deadline: Instant) -> Option<Vec<u8>> {
        let left = deadline.saturating_duration_since(Instant::now());
        // Zero would mean for ever.
        let left = left.max(Duration::from_micros(1));
        self.0.set_read_timeout(Some(left)).expect("not zero");
        let mut buffer = [0; 1 << 16];
        match (&self.0).read(&mut buffer) {
            Ok(length) => Some(buffer[..length].to_vec()),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                None
            }
            // The interface went down: what it brought is there all the same.
            Err(error) if error.kind() == ErrorKind::NetworkDown => self.next(deadline),
            Err(error) => panic!("read frames: {error}"),
        }
    }
}

/// The MAC of an interface.
///
/// # Panics
/// When there is no such interface.
#[track_caller]
pub fn mac(netns: &NetNs, interface: &str) -> Mac {
    let address = netns.enter(|| link_address(interface));
    address.addr().expect("an Ethernet interface has a MAC")
}

/// The MACs of all interfaces of a namespace.
pub fn macs(netns: &NetNs) -> BTreeSet<Mac> {
    let addresses = netns.enter(|| getifaddrs().map(Iterator::collect::<Vec<_>>));
    let links = addresses.expect("addresses are listed").into_iter();
    links
        .filter_map(|link| link.address?.as_link_addr()?.addr())
        .collect()
}

/// In the namespace of the calling thread.
fn link_address(interface: &str) -> LinkAddr {
    let addresses = getifaddrs().expect("addresses are listed");
    let mut own = addresses.filter(|address| address.interface_name == interface);
    let found = own.find_map(|address| address.address?.as_link_addr().copied());
    found.unwrap_or_else(|| panic!("there is no {interface}"))
}
