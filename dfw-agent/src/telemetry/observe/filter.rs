//! Which flows an observer wants.

use std::{collections::BTreeSet, fmt, net::IpAddr, str::FromStr};

use dfw_common::reason::{Reason, Verdict};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::Query;
use crate::{
    model::{Unanswerable, View},
    policy::nearest,
    telemetry::{
        events::{Class, End, FlowEvent, Party, Protocol, wire::Named},
        history::{Entry, Ring},
        text,
    },
};

/// An end of a flow, as people name it: a container, a service or a project by its name, `PROJECT/SERVICE`, an address, a
/// CIDR, `host` or `world`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peer {
    /// This host.
    Host,
    /// Neither a container nor this host.
    World,
    /// An address or those of a CIDR.
    Net(IpNet),
    /// One of an endpoint's names.
    Name(String),
}

/// Ports of one protocol or of each that has ports: `443`, `8000-8100`, `udp/53`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PortFilter {
    protocol: Option<Protocol>,
    low: u16,
    high: u16,
}

/// A question that was understood.
#[derive(Debug)]
pub(super) struct Filter {
    from: Vec<Peer>,
    to: Vec<Peer>,
    ports: Vec<PortFilter>,
    verdicts: Vec<Verdict>,
    reasons: Vec<Reason>,
}

impl From<&str> for Peer {
    fn from(word: &str) -> Self {
        match word {
            "host" => Self::Host,
            "world" => Self::World,
            _ => {
                let address = || word.parse::<IpAddr>().map(IpNet::from);
                let net = word.parse::<IpNet>().or_else(|_| address());
                net.map_or_else(|_| Self::Name(word.to_owned()), Self::Net)
            }
        }
    }
}

impl Peer {
    fn matches(&self, end: &End) -> bool {
        match self {
            Self::Host => end.class == Some(Class::Host),
            Self::World => end.class == Some(Class::World),
            Self::Net(net) => end.address.is_some_and(|address| net.contains(&address)),
            Self::Name(name) => end.party.as_ref().is_some_and(|party| party.is(name)),
        }
    }
}

impl Party {
    fn names(&self) -> [&str; 4] {
        [&self.name, &self.container, &self.project, &self.service]
    }

    fn is(&self, name: &str) -> bool {
        !name.is_empty() && self.names().contains(&name)
    }
}

impl FromStr for PortFilter {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        let (protocol, range) = match word.split_once('/') {
            None => (None, word),
            Some(("tcp", range)) => (Some(Protocol::Tcp), range),
            Some(("udp", range)) => (Some(Protocol::Udp), range),
            Some(("sctp", range)) => (Some(Protocol::Sctp), range),
            Some((other, range)) => {
                let right = nearest(other, ["tcp", "udp", "sctp"]);
                return Err(right.map_or_else(
                    || "only tcp, udp and sctp have ports".to_owned(),
                    |right| format!("did you mean `{right}/{range}`?"),
                ));
            }
        };
        let port = |text: &str| {
            let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
            let port = text.parse::<u16>().ok();
            let port = port.filter(|port| is_number && *port != 0);
            port.ok_or("write a port (443), a range (8000-8100) or either of a protocol (udp/53); a port is 1 to 65535")
        };
        let (low, high) = range.split_once('-').unwrap_or((range, range));
        let (low, high) = (port(low)?, port(high)?);
        if low > high {
            return Err(format!("did you mean `{high}-{low}`?"));
        }
        Ok(Self {
            protocol,
            low,
            high,
        })
    }
}

impl TryFrom<String> for PortFilter {
    type Error = String;

    fn try_from(word: String) -> Result<Self, String> {
        word.parse()
    }
}

impl fmt::Display for PortFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(protocol) = self.protocol {
            write!(f, "{protocol}/")?;
        }
        write!(f, "{}-{}", self.low, self.high)
    }
}

impl From<PortFilter> for String {
    fn from(range: PortFilter) -> Self {
        range.to_string()
    }
}

impl PortFilter {
    fn matches(&self, event: &FlowEvent) -> bool {
        let has = |end: &End| {
            end.port
                .is_some_and(|port| (self.low..=self.high).contains(&port))
        };
        self.protocol
            .is_none_or(|protocol| protocol == event.protocol)
            && (has(&event.source) || has(&event.destination))
    }
}

impl Filter {
    /// Understands a question, with the names of those who are there and of those who were.
    pub(super) fn new(query: &Query, view: &View, ring: &Ring) -> Result<Self, Unanswerable> {
        let here: Vec<Party> = view.endpoints.iter().map(Party::from).collect();
        let peers = |words: &[String]| -> Result<Vec<Peer>, Unanswerable> {
            words.iter().map(|word| peer(word, &here, ring)).collect()
        };
        Ok(Self {
            from: peers(&query.from)?,
            to: peers(&query.to)?,
            ports: query.ports.clone(),
            verdicts: named(&query.verdicts)?,
            reasons: named(&query.reasons)?,
        })
    }

    pub(super) fn matches(&self, event: &FlowEvent) -> bool {
        fn any<T>(wanted: &[T], is_it: impl Fn(&T) -> bool) -> bool {
            wanted.is_empty() || wanted.iter().any(is_it)
        }
        any(&self.verdicts, |verdict| *verdict == event.verdict)
            && any(&self.reasons, |reason| *reason == event.reason)
            && any(&self.ports, |ports| ports.matches(event))
            && any(&self.from, |peer| peer.matches(&event.source))
            && any(&self.to, |peer| peer.matches(&event.destination))
    }

    /// What is lost concerns every observer: it might have been what it waits for.
    pub(super) fn passes(&self, entry: &Entry) -> bool {
        match entry {
            Entry::Flow(event) => self.matches(event),
            Entry::Lost(_) => true,
        }
    }
}

fn peer(word: &str, here: &[Party], ring: &Ring) -> Result<Peer, Unanswerable> {
    let peer = Peer::from(word);
    let Peer::Name(name) = &peer else {
        return Ok(peer);
    };
    let was_here = || {
        let flows = ring.entries().filter_map(|entry| match entry {
            Entry::Flow(event) => Some([&event.source.party, &event.destination.party]),
            Entry::Lost(_) => None,
        });
        flows.flatten().flatten().any(|party| party.is(name))
    };
    if here.iter().any(|party| party.is(name)) || was_here() {
        return Ok(peer);
    }
    let names: BTreeSet<&str> = here
        .iter()
        .flat_map(Party::names)
        .chain(["host", "world"])
        .collect();
    Err(Unanswerable {
        message: format!("nobody here is called `{}`", text::escape(name)),
        hint: match nearest(name, names) {
            Some(right) => format!("did you mean `{right}`?"),
            None => "`dfw ls` has the names; an address, a CIDR, `host` and `world` go as well"
                .to_owned(),
        },
    })
}

fn named<T: Named>(words: &[String]) -> Result<Vec<T>, Unanswerable> {
    let find = |word: &String| {
        let found = T::ALL.iter().find(|value| value.name() == word);
        found.copied().ok_or_else(|| Unanswerable {
            message: format!("the agent knows no `{}`", text::escape(word)),
            hint: "use the `dfw` of the agent's version".to_owned(),
        })
    };
    words.iter().map(find).collect()
}
