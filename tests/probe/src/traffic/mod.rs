//! Load for measurements: requests and answers, connections, datagrams and streams, between a server and a client that
//! are each a process of their own.

mod client;
mod server;

use std::str::FromStr;

pub use client::{Load, Measured};
pub use server::Server;

/// Datagrams between two answers: as many as fit any receive buffer.
const BURST: u64 = 32;
/// The first bytes of a datagram.
const DATAGRAM: usize = 16;
/// The last datagram of a burst carries this in its first byte.
const LAST: u8 = 1;
/// Bytes of one write of a stream.
const CHUNK: usize = 64 * 1024;
/// Payload of a segment of a stream of small ones: what is left of the smallest datagram that everybody takes (RFC 9293).
const SMALL: usize = 536;

/// What is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// One byte there and one back, over one connection.
    Requests,
    /// A connection for each request: opened, one byte there and one back, closed.
    Connections,
    /// Datagrams of 16 bytes, of which every 32nd is answered.
    Datagrams,
    /// A stream in large writes.
    Stream,
    /// A stream in writes of 536 bytes, each a segment of its own.
    Segments,
}

impl Mode {
    /// Each of them.
    pub const ALL: [Self; 5] = [
        Self::Requests,
        Self::Connections,
        Self::Datagrams,
        Self::Stream,
        Self::Segments,
    ];

    /// Its name on the command line and in results.
    pub fn name(self) -> &'static str {
        match self {
            Self::Requests => "rr",
            Self::Connections => "crr",
            Self::Datagrams => "udp",
            Self::Stream => "bulk",
            Self::Segments => "small-bulk",
        }
    }
}

impl FromStr for Mode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|mode| mode.name() == text);
        found.ok_or_else(|| format!("`{text}` is none of rr, crr, udp, bulk, small-bulk"))
    }
}

#[cfg(test)]
mod tests {
    use std::{net::Ipv4Addr, time::Duration};

    use super::*;

    #[test]
    fn every_mode_measures_something() {
        let server = Server::start(0).expect("a port is free");
        for mode in Mode::ALL {
            let load = Load {
                mode,
                to: (Ipv4Addr::LOCALHOST, server.port()).into(),
                warm_up: Duration::from_millis(2),
                time: Duration::from_millis(20),
            };
            let measured = load.run().expect("it is answered");
            assert!(measured.rate > 0.0, "{mode:?}: {measured}");
            let has_times = matches!(mode, Mode::Requests | Mode::Connections);
            assert_eq!(measured.times.is_some(), has_times, "{mode:?}");
            if let Some((median, p99)) = measured.times {
                assert!(0 < median && median <= p99, "{mode:?}: {measured}");
            }
        }
    }

    #[test]
    fn results_are_read_as_they_were_written() {
        for times in [None, Some((20_000, 31_000))] {
            let measured = Measured {
                rate: 1234.5,
                times,
            };
            assert_eq!(measured.to_string().parse(), Ok(measured));
        }
        assert!("fast".parse::<Measured>().is_err());
    }
}
