//! How the parts of an event are written in JSON, and read again by the commands.

use std::{fmt::Display, str::FromStr};

use dfw_common::reason::{Direction, Reason, Verdict};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

use super::Protocol;

/// What has a name in the one list of verdicts, directions and reasons.
pub(in crate::telemetry) trait Named: Copy + 'static {
    const ALL: &'static [Self];

    fn name(self) -> &'static str;
}

macro_rules! named {
    ($($kind:ty: $all:expr;)+) => {
        $(impl Named for $kind {
            const ALL: &'static [Self] = $all;

            fn name(self) -> &'static str {
                <$kind>::name(self)
            }
        })+
    };
}

named! {
    Direction: &Direction::ALL;
    Verdict: &Verdict::ALL;
    Reason: Reason::ALL;
}

/// By its name.
pub(in crate::telemetry) mod named {
    use super::{Deserialize, Deserializer, Error, Named, Serializer};

    pub(in crate::telemetry) fn serialize<T: Named, S: Serializer>(
        value: &T,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(value.name())
    }

    pub(in crate::telemetry) fn deserialize<'de, T: Named, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<T, D::Error> {
        let name = String::deserialize(deserializer)?;
        let found = T::ALL.iter().find(|value| value.name() == name);
        found
            .copied()
            .ok_or_else(|| D::Error::custom(format!("`{name}` is not known here")))
    }
}

/// What events share, as if each had its own.
pub(super) mod shared {
    use std::sync::Arc;

    use super::{Deserialize, Deserializer, Serialize, Serializer};

    pub(in crate::telemetry::events) fn serialize<T: Serialize, S: Serializer>(
        value: &Option<Arc<T>>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        value.as_deref().serialize(serializer)
    }

    pub(in crate::telemetry::events) fn deserialize<
        'de,
        T: Deserialize<'de>,
        D: Deserializer<'de>,
    >(
        deserializer: D,
    ) -> Result<Option<Arc<T>>, D::Error> {
        Ok(Option::deserialize(deserializer)?.map(Arc::new))
    }
}

/// Milliseconds since 1970.
pub(in crate::telemetry) mod millis {
    use std::time::{Duration, SystemTime, UNIX_EPOCH};

    use super::{Deserialize, Deserializer, Error, Serializer};

    pub(in crate::telemetry) fn serialize<S: Serializer>(
        time: &SystemTime,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        serializer.serialize_u64(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    pub(in crate::telemetry) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<SystemTime, D::Error> {
        let since = Duration::from_millis(u64::deserialize(deserializer)?);
        UNIX_EPOCH
            .checked_add(since)
            .ok_or_else(|| D::Error::custom("a time beyond all clocks"))
    }
}

impl Serialize for Protocol {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Protocol {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(D::Error::custom)
    }
}

impl FromStr for Protocol {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        fn number<T: FromStr>(text: &str) -> Result<T, String>
        where
            T::Err: Display,
        {
            text.parse().map_err(|error| format!("{text}: {error}"))
        }
        match word {
            "tcp" => return Ok(Self::Tcp),
            "udp" => return Ok(Self::Udp),
            "sctp" => return Ok(Self::Sctp),
            "arp" => return Ok(Self::Ethertype(super::ETHERTYPE_ARP)),
            _ => {}
        }
        if let Some(kind) = word.strip_prefix("icmp/") {
            Ok(Self::Icmp(number(kind)?))
        } else if let Some(kind) = word.strip_prefix("icmp6/") {
            Ok(Self::Icmp6(number(kind)?))
        } else if let Some(protocol) = word.strip_prefix("proto-") {
            Ok(Self::Ip(number(protocol)?))
        } else if let Some(ethertype) = word.strip_prefix("ethertype-0x") {
            u16::from_str_radix(ethertype, 16)
                .map(Self::Ethertype)
                .map_err(|error| format!("{ethertype}: {error}"))
        } else {
            Err(format!("`{word}` is no protocol"))
        }
    }
}
