//! What was seen of a service while it was in audit. Plain values: where they come from is the datapath's matter, what
//! follows from them is that of `suggest`. Their JSON is what the agent keeps and what it answers: fields are added, never
//! renamed.

use std::{collections::BTreeMap, fmt, net::IpAddr};

use dfw_common::reason::Direction;
use serde::{Deserialize, Serialize};

use crate::model::{Container, LearnedView};

/// Whose labels would say it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Subject {
    /// A service of a compose project, or of Swarm where `project` is empty.
    Service {
        /// The project.
        project: String,
        /// The service.
        service: String,
    },
    /// A container that belongs to no service, by its name.
    Container(String),
}

/// The other end of what was seen.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SeenPeer {
    /// A service or container of this node.
    Subject(Subject),
    /// This host, and whatever docker-proxy carries.
    Host,
    /// Neither a container nor this host.
    World(IpAddr),
    /// A multicast or broadcast address.
    Group(IpAddr),
}

/// One kind of flow that a subject opened or took.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Sighting {
    /// Egress: the subject opened it. Ingress: the peer did.
    #[serde(with = "direction")]
    pub direction: Direction,
    /// The other end.
    pub peer: SeenPeer,
    /// IP protocol.
    pub protocol: u8,
    /// The port that was dialled, as the subject's side of the rules sees it; ICMP: the type; else 0.
    pub port: u16,
}

/// How often, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Times {
    /// Flows.
    pub flows: u64,
    /// The first, seconds since 1970.
    pub first: u64,
    /// The last, seconds since 1970.
    pub last: u64,
}

/// All that was seen of a subject.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// What was seen.
    #[serde(with = "list")]
    pub sightings: BTreeMap<Sighting, Times>,
    /// Flows that were seen and for which there was no room, or whose other end has no name any more: what is suggested
    /// from this is incomplete when it is not 0.
    pub missing: u64,
}

/// One subject's record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Whose.
    pub subject: Subject,
    /// Since when it is kept, seconds since 1970: since dfw came, or since it was forgotten.
    pub since: u64,
    /// What was seen.
    #[serde(flatten)]
    pub seen: Seen,
}

/// All that the agent has learned on this node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Learned {
    /// Since when, seconds since 1970.
    pub since: u64,
    /// By subject, in order.
    pub records: Vec<Record>,
    /// Flows that were seen and whose own end has no name any more, or no room: any record may lack them.
    pub missing: u64,
    /// Why it does not outlive the agent, when it does not.
    #[serde(default)]
    pub unkept: Option<String>,
}

impl Learned {
    /// What people are told of it at a glance.
    pub fn figures(&self) -> LearnedView {
        let seen = self.records.iter().map(|record| &record.seen);
        let sizes = seen.clone().map(|seen| seen.sightings.len());
        LearnedView {
            since: self.since,
            sightings: sizes.clone().sum(),
            subjects: sizes.filter(|size| *size > 0).count(),
            missing: seen
                .map(|seen| seen.missing)
                .fold(self.missing, u64::saturating_add),
        }
    }
}

impl Subject {
    /// Whose labels a container has: those of its service, else its own.
    pub fn of(project: Option<&str>, service: Option<&str>, container: &str) -> Self {
        match service {
            Some(service) => Self::Service {
                project: project.unwrap_or_default().to_owned(),
                service: service.to_owned(),
            },
            None => Self::Container(container.to_owned()),
        }
    }
}

impl From<&Container> for Subject {
    fn from(container: &Container) -> Self {
        Self::of(container.project(), container.service(), &container.name)
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Service { project, service } if project.is_empty() => f.write_str(service),
            Self::Service { project, service } => write!(f, "{project}/{service}"),
            Self::Container(name) => f.write_str(name),
        }
    }
}

/// By its name.
mod direction {
    use super::{Deserialize, Direction};
    use serde::{Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(value: &Direction, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(value.name())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Direction, D::Error> {
        let name = String::deserialize(from)?;
        let found = Direction::ALL.into_iter().find(|one| one.name() == name);
        found.ok_or_else(|| D::Error::custom(format!("`{name}` is no direction")))
    }
}

/// Sightings with their times, one object each: keys of JSON are words.
mod list {
    use super::{BTreeMap, Deserialize, Serialize, Sighting, Times};
    use serde::{Deserializer, Serializer};

    #[derive(Serialize)]
    struct Line<'a> {
        #[serde(flatten)]
        sighting: &'a Sighting,
        #[serde(flatten)]
        times: &'a Times,
    }

    #[derive(Deserialize)]
    struct OwnedLine {
        #[serde(flatten)]
        sighting: Sighting,
        #[serde(flatten)]
        times: Times,
    }

    pub(super) fn serialize<S: Serializer>(
        sightings: &BTreeMap<Sighting, Times>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.collect_seq(
            sightings
                .iter()
                .map(|(sighting, times)| Line { sighting, times }),
        )
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<BTreeMap<Sighting, Times>, D::Error> {
        let lines = Vec::<OwnedLine>::deserialize(from)?;
        let pairs = lines.into_iter().map(|line| (line.sighting, line.times));
        Ok(pairs.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let web = Subject::of(Some("shop"), Some("web"), "shop-web-1");
        let sighting = |peer| Sighting {
            direction: Direction::Egress,
            peer,
            protocol: 6,
            port: 5432,
        };
        let times = Times {
            flows: 3,
            first: 1,
            last: 2,
        };
        let peers = [
            SeenPeer::Subject(Subject::of(Some("shop"), None, "a \"name\"")),
            SeenPeer::Host,
            SeenPeer::World("2001:db8::1".parse().expect("an address")),
            SeenPeer::Group("224.0.0.251".parse().expect("an address")),
        ];
        let record = Record {
            subject: web,
            since: 1,
            seen: Seen {
                sightings: peers.map(|peer| (sighting(peer), times)).into(),
                missing: 7,
            },
        };
        let learned = Learned {
            since: 1,
            records: vec![record],
            ..Learned::default()
        };
        let text = serde_json::to_string(&learned).expect("JSON");
        assert!(
            text.contains(
                r#"{"direction":"egress","peer":"host","protocol":6,"port":5432,"flows":3,"first":1,"last":2}"#
            ),
            "{text}"
        );
        assert_eq!(
            serde_json::from_str::<Learned>(&text).expect("read"),
            learned
        );
    }
}
