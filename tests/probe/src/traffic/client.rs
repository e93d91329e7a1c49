//! The end that measures.

use std::{
    fmt,
    io::{self, ErrorKind, Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpStream, UdpSocket},
    str::FromStr,
    time::{Duration, Instant},
};

use socket2::{Domain, Socket, Type};

use super::{BURST, CHUNK, DATAGRAM, LAST, Mode, SMALL, server::wish};

/// How long an answer may take until the measurement fails.
const PATIENCE: Duration = Duration::from_secs(5);

/// One measurement.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// What is sent.
    pub mode: Mode,
    /// A [`super::Server`].
    pub to: SocketAddr,
    /// Not counted: caches, neighbours and windows settle.
    pub warm_up: Duration,
    /// Counted.
    pub time: Duration,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Measured {
    /// A second: requests, connections, datagrams that were received, or bytes that were.
    pub rate: f64,
    /// Nanoseconds that a request took, half of them and 99 of 100 at most; where there are requests.
    pub times: Option<(u64, u64)>,
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.rate)?;
        match self.times {
            Some((median, p99)) => write!(f, " {median} {p99}"),
            None => Ok(()),
        }
    }
}

impl FromStr for Measured {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no measurement");
        let mut words = text.split_whitespace();
        let rate = words.next().and_then(|word| word.parse().ok());
        let mut time = || words.next().and_then(|word| word.parse().ok());
        let times = time().zip(time());
        Ok(Self {
            rate: rate.ok_or_else(wrong)?,
            times,
        })
    }
}

impl Load {
    /// Measures.
    ///
    /// # Errors
    /// The server does not answer, or no more.
    pub fn run(&self) -> io::Result<Measured> {
        match self.mode {
            Mode::Requests => self.requests(),
            Mode::Connections => self.connections(),
            Mode::Datagrams => self.datagrams(),
            Mode::Stream => self.stream(None, CHUNK),
            Mode::Segments => self.stream(Some(SMALL as u32), SMALL),
        }
    }

    fn connect(&self, segment: Option<u32>) -> io::Result<TcpStream> {
        let socket = Socket::new(Domain::for_address(self.to), Type::STREAM, None)?;
        if let Some(bytes) = segment {
            socket.set_tcp_mss(bytes)?;
        }
        socket.set_tcp_nodelay(true)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.connect_timeout(&self.to.into(), PATIENCE)?;
        // connect_timeout(3) leaves it as poll(2) wanted it.
        socket.set_nonblocking(false)?;
        Ok(socket.into())
    }

    fn requests(&self) -> io::Result<Measured> {
        let mut stream = self.connect(None)?;
        self.timed(|| exchange(&mut stream))
    }

    fn connections(&self) -> io::Result<Measured> {
        self.timed(|| exchange(&mut TcpStream::connect(self.to)?))
    }

    /// Requests until the time is over.
    fn timed(&self, mut request: impl FnMut() -> io::Result<()>) -> io::Result<Measured> {
        let warm = Instant::now() + self.warm_up;
        while Instant::now() < warm {
            request()?;
        }
        let mut times = Vec::with_capacity(1 << 16);
        let begin = Instant::now();
        let end = begin + self.time;
        let mut last = begin;
        while last < end {
            request()?;
            let now = Instant::now();
            times.push((now - last).as_nanos() as u64);
            last = now;
        }
        let rate = times.len() as f64 / (last - begin).as_secs_f64();
        times.sort_unstable();
        let at = |hundredths: usize| times[(times.len() - 1) * hundredths / 100];
        Ok(Measured {
            rate,
            times: Some((at(50), at(99))),
        })
    }

    fn datagrams(&self) -> io::Result<Measured> {
        let any = if self.to.is_ipv4() {
            "0.0.0.0:0"
        } else {
            "[::]:0"
        };
        let socket = UdpSocket::bind(any)?;
        socket.connect(self.to)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        let burst = || {
            let mut datagram = [0; DATAGRAM];
            for _ in 1..BURST {
                socket.send(&datagram)?;
            }
            datagram[0] = LAST;
            socket.send(&datagram)?;
            socket.recv(&mut datagram).map(drop)
        };
        let warm = Instant::now() + self.warm_up;
        while Instant::now() < warm {
            burst()?;
        }
        let begin = Instant::now();
        let mut sent = 0;
        while begin.elapsed() < self.time {
            burst()?;
            sent += BURST;
        }
        Ok(Measured {
            rate: sent as f64 / begin.elapsed().as_secs_f64(),
            times: None,
        })
    }

    /// The server says at the end how much has come, so that nothing counts that lies in a buffer.
    fn stream(&self, segment: Option<u32>, write: usize) -> io::Result<Measured> {
        let mut stream = self.connect(segment)?;
        stream.write_all(&[wish::COUNT])?;
        let data = vec![0; write];
        let begin = Instant::now();
        while begin.elapsed() < self.warm_up + self.time {
            stream.write_all(&data)?;
        }
        stream.shutdown(Shutdown::Write)?;
        let mut total = [0; 8];
        stream.read_exact(&mut total)?;
        Ok(Measured {
            rate: u64::from_be_bytes(total) as f64 / begin.elapsed().as_secs_f64(),
            times: None,
        })
    }
}

fn exchange(stream: &mut TcpStream) -> io::Result<()> {
    let mut byte = [wish::ECHO];
    stream.write_all(&byte)?;
    match stream.read(&mut byte)? {
        0 => Err(ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}
