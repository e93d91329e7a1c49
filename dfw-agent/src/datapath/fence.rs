//! The fence: on a node that enforces, two ports of bridges that dfw does not know yet exchange nothing.
//!
//! The programs on a port close it, and those on a bridge's own device close host and world to whom they do not know. What is
//! left are two ports that both have no programs: born while no agent runs, or a moment ago. No hook of BPF sees a frame
//! from one to the other, so an nf_tables table of the bridge family does: `bridge dfw`, a set of the ports that are known, and
//! one rule that drops what goes between two others that are veths. The table is not owned by a process, for it must stay
//! while the agent is away; what others do to it is put right by [`Fence::look`].

mod nft;

use std::{collections::BTreeSet, io};

use self::nft::{Attributes, Batch, dump, find, message};

const TABLE: &str = "dfw";
const KNOWN: &str = "known";
const CHAIN: &str = "forward";
/// Before the filters of others (NF_BR_PRI_FILTER_BRIDGED), in the hook between two ports of a bridge.
const PRIORITY: i32 = -201;
/// NF_BR_FORWARD of linux/netfilter_bridge.h.
const HOOK: u32 = 2;
/// nft's own number for a set of interface indexes; only `nft list` looks at it.
const TYPE_IFINDEX: u32 = 20;
/// Elements in one message: an attribute holds at most 64 KiB.
const ELEMENTS: usize = 1000;

/// What was dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dropped {
    /// Packets.
    pub packets: u64,
    /// Bytes of frames.
    pub bytes: u64,
}

/// What a look found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Look {
    /// Dropped since the last look.
    pub dropped: Dropped,
    /// Somebody had removed or changed it, and it is as it was again.
    pub is_repaired: bool,
}

/// The table as it should be.
#[derive(Debug, Default)]
pub struct Fence {
    state: State,
    counted: Dropped,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum State {
    /// Whatever an earlier agent has left.
    #[default]
    Former,
    /// There is none.
    Absent,
    /// It lets these ports be.
    Around(BTreeSet<u32>),
}

impl Fence {
    /// Makes the kernel hold a fence that lets these ports be, or none at all.
    ///
    /// # Errors
    /// What nf_tables says, EOPNOTSUPP or EAFNOSUPPORT where the kernel has no bridge family. Nothing has changed then.
    pub fn set(&mut self, known: Option<&BTreeSet<u32>>) -> io::Result<()> {
        match (&self.state, known) {
            (State::Absent, None) => Ok(()),
            (State::Around(before), Some(known)) if before == known => Ok(()),
            (State::Former | State::Around(_), None) => {
                remove()?;
                self.state = State::Absent;
                Ok(())
            }
            (State::Former | State::Absent, Some(known)) => self.build(known),
            (State::Around(before), Some(known)) => {
                let gone: Vec<u32> = before.difference(known).copied().collect();
                let new: Vec<u32> = known.difference(before).copied().collect();
                let batch = elements(Batch::new(), message::NEW_ELEMENTS, &new);
                match elements(batch, message::DELETE_ELEMENTS, &gone).commit() {
                    Ok(()) => {
                        self.state = State::Around(known.clone());
                        Ok(())
                    }
                    // Somebody else has been there.
                    Err(_) => self.build(known),
                }
            }
        }
    }

    /// Reads what the rule dropped, and puts right what others did to the table.
    ///
    /// # Errors
    /// It is not as it should be and cannot be put right.
    pub fn look(&mut self) -> io::Result<Look> {
        let State::Around(known) = self.state.clone() else {
            return Ok(Look::default());
        };
        let seen = counted().and_then(|counted| Ok((counted, members()?)));
        match seen {
            Ok((Some(counted), members)) if members == known => {
                let dropped = Dropped {
                    packets: counted.packets.saturating_sub(self.counted.packets),
                    bytes: counted.bytes.saturating_sub(self.counted.bytes),
                };
                self.counted = counted;
                Ok(Look {
                    dropped,
                    is_repaired: false,
                })
            }
            Ok(_) | Err(_) => {
                self.build(&known)?;
                Ok(Look {
                    dropped: Dropped::default(),
                    is_repaired: true,
                })
            }
        }
    }

    /// The whole table in one step, in place of one that an earlier agent may have left.
    fn build(&mut self, known: &BTreeSet<u32>) -> io::Result<()> {
        let in_table = |name| Attributes::default().text(1, TABLE).text(name, CHAIN);
        let hook = Attributes::default()
            .number(1, HOOK)
            .number(2, PRIORITY as u32);
        let chain = in_table(3)
            .nested(4, hook)
            .number(5, libc::NF_ACCEPT as u32)
            .text(7, "filter");
        let set = Attributes::default()
            .text(1, TABLE)
            .text(2, KNOWN)
            .number(3, 0)
            .number(4, TYPE_IFINDEX)
            .number(5, 4)
            .number(10, 1);
        let batch = Batch::new()
            .add(message::DESTROY_TABLE, &table())
            .add(message::NEW_TABLE, &table())
            .add(message::NEW_SET, &set)
            .add(message::NEW_CHAIN, &chain)
            .add(message::NEW_RULE, &in_table(2).nested(4, rule()));
        let known_ports: Vec<u32> = known.iter().copied().collect();
        elements(batch, message::NEW_ELEMENTS, &known_ports).commit()?;
        self.state = State::Around(known.clone());
        self.counted = Dropped::default();
        Ok(())
    }
}

/// Removes the table; that there is none is no error.
///
/// # Errors
/// What nf_tables says.
pub fn remove() -> io::Result<()> {
    let removed = Batch::new().add(message::DESTROY_TABLE, &table()).commit();
    match removed {
        // A kernel without nf_tables, or without its bridge family, has no such table.
        Err(error) if is_unsupported(&error) => Ok(()),
        removed => removed,
    }
}

/// Whether the kernel has no nf_tables for bridges.
pub fn is_unsupported(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EPROTONOSUPPORT | libc::EAFNOSUPPORT | libc::EOPNOTSUPP | libc::ENOENT)
    )
}

fn table() -> Attributes {
    Attributes::default().text(1, TABLE)
}

/// `iif != @known oif != @known meta iifkind "veth" counter drop`
fn rule() -> Attributes {
    const IIF: u32 = libc::NFT_META_IIF as u32;
    const OIF: u32 = libc::NFT_META_OIF as u32;
    const IIF_KIND: u32 = 26;
    // Registers of 16 bytes; the first that holds data.
    const REGISTER: u32 = libc::NFT_REG_1 as u32;
    let meta = |key| {
        let load = Attributes::default().number(1, REGISTER).number(2, key);
        expression("meta", load)
    };
    let is_not_known = || {
        let lookup = Attributes::default()
            .text(1, KNOWN)
            .number(2, REGISTER)
            .number(4, 1)
            .number(5, libc::NFT_LOOKUP_F_INV as u32);
        expression("lookup", lookup)
    };
    let mut kind = [0; 16];
    kind[..4].copy_from_slice(b"veth");
    let is_veth = Attributes::default()
        .number(1, REGISTER)
        .number(2, libc::NFT_CMP_EQ as u32)
        .nested(3, Attributes::default().bytes(1, &kind));
    let verdict = Attributes::default().number(1, libc::NF_DROP as u32);
    let drop = Attributes::default()
        .number(1, libc::NFT_REG_VERDICT as u32)
        .nested(2, Attributes::default().nested(2, verdict));
    let expressions = [
        meta(IIF),
        is_not_known(),
        meta(OIF),
        is_not_known(),
        meta(IIF_KIND),
        expression("cmp", is_veth),
        expression("counter", Attributes::default()),
        expression("immediate", drop),
    ];
    expressions
        .into_iter()
        .fold(Attributes::default(), |rule, expression| {
            rule.nested(1, expression)
        })
}

fn expression(name: &str, data: Attributes) -> Attributes {
    Attributes::default().text(1, name).nested(2, data)
}

fn elements(batch: Batch, kind: u8, ports: &[u32]) -> Batch {
    ports.chunks(ELEMENTS).fold(batch, |batch, ports| {
        let list = ports.iter().fold(Attributes::default(), |list, port| {
            let key = Attributes::default().bytes(1, &port.to_ne_bytes());
            list.nested(1, Attributes::default().nested(1, key))
        });
        let elements = Attributes::default()
            .text(1, TABLE)
            .text(2, KNOWN)
            .nested(3, list);
        batch.add(kind, &elements)
    })
}

/// What the rule has counted; none when it is not the only one in its chain.
fn counted() -> io::Result<Option<Dropped>> {
    let of_chain = Attributes::default().text(1, TABLE).text(2, CHAIN);
    let rules = dump(message::GET_RULE, &of_chain)?;
    let [rule] = rules.as_slice() else {
        return Ok(None);
    };
    let number = |counter: &[u8], kind| {
        let value = find(counter, kind).next()?;
        Some(u64::from_be_bytes(value.try_into().ok()?))
    };
    let expressions = find(rule, 4).flat_map(|list| find(list, 1));
    let counters =
        expressions.filter(|expression| find(expression, 1).any(|name| name == b"counter\0"));
    let found = counters.flat_map(|expression| find(expression, 2)).next();
    Ok(found.and_then(|counter| {
        Some(Dropped {
            bytes: number(counter, 1)?,
            packets: number(counter, 2)?,
        })
    }))
}

fn members() -> io::Result<BTreeSet<u32>> {
    let of_set = Attributes::default().text(1, TABLE).text(2, KNOWN);
    let parts = dump(message::GET_ELEMENTS, &of_set)?;
    let lists = parts.iter().flat_map(|part| find(part, 3));
    let keys = lists
        .flat_map(|list| find(list, 1))
        .flat_map(|element| find(element, 1))
        .flat_map(|key| find(key, 1));
    Ok(keys
        .filter_map(|value| Some(u32::from_ne_bytes(value.try_into().ok()?)))
        .collect())
}
