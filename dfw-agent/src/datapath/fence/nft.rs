//! As much of nf_tables' netlink as the fence needs: messages to bytes, answers to attributes (linux/netfilter/nf_tables.h).
//!
//! Attributes are in network byte order, but for interface indexes, which are compared as the kernel holds them.

use std::io;

use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_NETFILTER};

/// Kinds of messages.
pub(super) mod message {
    pub(in super::super) const NEW_TABLE: u8 = 0;
    pub(in super::super) const NEW_CHAIN: u8 = 3;
    pub(in super::super) const NEW_RULE: u8 = 6;
    pub(in super::super) const GET_RULE: u8 = 7;
    pub(in super::super) const NEW_SET: u8 = 9;
    pub(in super::super) const NEW_ELEMENTS: u8 = 12;
    pub(in super::super) const GET_ELEMENTS: u8 = 13;
    pub(in super::super) const DELETE_ELEMENTS: u8 = 14;
    /// As delete, but what is not there is no error (kernel commit e1a1b0e2ce5a, Linux 6.3).
    pub(in super::super) const DESTROY_TABLE: u8 = 26;
}

const SUBSYSTEM: u16 = libc::NFNL_SUBSYS_NFTABLES as u16;
const BRIDGE: u8 = libc::NFPROTO_BRIDGE as u8;
const NESTED: u16 = 1 << 15;
/// struct nlmsghdr and struct nfgenmsg.
const HEADERS: usize = 16 + 4;

/// Attributes under construction.
#[derive(Clone, Debug, Default)]
pub(super) struct Attributes(Vec<u8>);

impl Attributes {
    pub(super) fn bytes(mut self, kind: u16, value: &[u8]) -> Self {
        // What dfw sends is far shorter than the 64 KiB that a length may say.
        let length = (4 + value.len()) as u16;
        self.0.extend(length.to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    pub(super) fn number(self, kind: u16, value: u32) -> Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    pub(super) fn text(self, kind: u16, value: &str) -> Self {
        self.bytes(kind, &[value.as_bytes(), &[0]].concat())
    }

    pub(super) fn nested(self, kind: u16, inner: Self) -> Self {
        self.bytes(kind | NESTED, &inner.0)
    }
}

/// Messages that take effect all at once or not at all.
#[derive(Debug)]
pub(super) struct Batch {
    bytes: Vec<u8>,
    messages: u32,
}

impl Batch {
    pub(super) fn new() -> Self {
        let mut batch = Self {
            bytes: Vec::new(),
            messages: 0,
        };
        batch.end_with(libc::NFNL_MSG_BATCH_BEGIN as u16);
        batch
    }

    pub(super) fn add(mut self, kind: u8, attributes: &Attributes) -> Self {
        let flags = libc::NLM_F_REQUEST | libc::NLM_F_ACK | libc::NLM_F_CREATE;
        self.messages += 1;
        let number = self.messages;
        write(
            &mut self.bytes,
            SUBSYSTEM << 8 | u16::from(kind),
            flags,
            number,
            BRIDGE,
            attributes,
        );
        self
    }

    /// The kernel looks for the subsystem in the header's resource id.
    fn end_with(&mut self, kind: u16) {
        let start = self.bytes.len();
        write(
            &mut self.bytes,
            kind,
            libc::NLM_F_REQUEST,
            0,
            libc::AF_UNSPEC as u8,
            &Attributes::default(),
        );
        self.bytes[start + 18..start + 20].copy_from_slice(&SUBSYSTEM.to_be_bytes());
    }

    /// Sends it and waits for the kernel's word on each message.
    ///
    /// # Errors
    /// The first refusal; nothing has changed then.
    pub(super) fn commit(mut self) -> io::Result<()> {
        self.end_with(libc::NFNL_MSG_BATCH_END as u16);
        let socket = open()?;
        socket.send(&self.bytes, 0)?;
        let (mut answers, mut first) = (0, Ok(()));
        while answers < self.messages {
            let (datagram, _) = socket.recv_from_full()?;
            for answer in messages(&datagram) {
                if let Body::Result(result) = answer {
                    answers += 1;
                    // The kernel's own order; after a refusal of the batch as a whole nothing more comes.
                    if result.is_err() && first.is_ok() {
                        return result;
                    }
                    first = first.and(result);
                }
            }
        }
        first
    }
}

/// Asks for a dump.
///
/// # Errors
/// ENOENT when the table is not there.
pub(super) fn dump(kind: u8, attributes: &Attributes) -> io::Result<Vec<Vec<u8>>> {
    let socket = open()?;
    let mut request = Vec::new();
    write(
        &mut request,
        SUBSYSTEM << 8 | u16::from(kind),
        libc::NLM_F_REQUEST | libc::NLM_F_DUMP,
        1,
        BRIDGE,
        attributes,
    );
    socket.send(&request, 0)?;
    let mut found = Vec::new();
    loop {
        let (datagram, _) = socket.recv_from_full()?;
        for message in messages(&datagram) {
            match message {
                Body::Attributes(bytes) => found.push(bytes.to_vec()),
                Body::Result(result) => return result.map(|()| found),
                Body::Done => return Ok(found),
            }
        }
    }
}

/// The values of the attributes of one kind, in their order.
pub(super) fn find(bytes: &[u8], kind: u16) -> impl Iterator<Item = &[u8]> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        loop {
            let (header, _) = rest.split_at_checked(4)?;
            let length = usize::from(u16::from_ne_bytes([header[0], header[1]]));
            let this = u16::from_ne_bytes([header[2], header[3]]) & !NESTED;
            let value = rest.get(4..length)?;
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
            if this == kind {
                return Some(value);
            }
        }
    })
}

fn open() -> io::Result<Socket> {
    let mut socket = Socket::new(NETLINK_NETFILTER)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    // The agent must not hang where the kernel does not answer.
    socket.set_non_blocking(true)?;
    Ok(socket)
}

fn write(
    bytes: &mut Vec<u8>,
    kind: u16,
    flags: libc::c_int,
    number: u32,
    family: u8,
    attributes: &Attributes,
) {
    let length = (HEADERS + attributes.0.len()) as u32;
    bytes.extend(length.to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend((flags as u16).to_ne_bytes());
    bytes.extend(number.to_ne_bytes());
    bytes.extend(0_u32.to_ne_bytes());
    // struct nfgenmsg: family, version 0, resource id 0.
    bytes.extend([family, 0, 0, 0]);
    bytes.extend(&attributes.0);
}

enum Body<'a> {
    Attributes(&'a [u8]),
    Result(io::Result<()>),
    Done,
}

fn messages(datagram: &[u8]) -> impl Iterator<Item = Body<'_>> {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        let (header, _) = rest.split_at_checked(16)?;
        let length = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]) as usize;
        let kind = libc::c_int::from(u16::from_ne_bytes([header[4], header[5]]));
        let body = rest.get(16..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(match kind {
            libc::NLMSG_DONE => Body::Done,
            libc::NLMSG_ERROR => Body::Result(match body.first_chunk() {
                Some(code) if i32::from_ne_bytes(*code) == 0 => Ok(()),
                Some(code) => Err(io::Error::from_raw_os_error(-i32::from_ne_bytes(*code))),
                None => Err(io::ErrorKind::UnexpectedEof.into()),
            }),
            _ => Body::Attributes(body.get(4..).unwrap_or_default()),
        })
    })
}
