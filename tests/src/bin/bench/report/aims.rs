//! What dfw aims at, beside what it is compared with.

use dfw_tests::cost::Aim;

use super::ratios::Of;
use crate::contenders::NO_FILTER;

/// One comparison that matters.
pub(crate) struct Comparison {
    pub(crate) of: Of,
    pub(crate) trial: &'static str,
    pub(crate) id: &'static str,
    pub(crate) to: &'static str,
    /// None is aimed at where it is reported only.
    pub(crate) aim: Option<Aim>,
}

const fn rate(
    id: &'static str,
    to: &'static str,
    trial: &'static str,
    at_least: f64,
) -> Comparison {
    Comparison {
        of: Of::Rate,
        trial,
        id,
        to,
        aim: Some(Aim::AtLeast(at_least)),
    }
}

const fn reported(id: &'static str, to: &'static str, trial: &'static str) -> Comparison {
    Comparison {
        of: Of::Rate,
        trial,
        id,
        to,
        aim: None,
    }
}

/// Those whose contenders were not measured are left out of the report.
pub(crate) const COMPARISONS: &[Comparison] = &[
    rate("dfw", "plain", "rr", 1.05),
    rate("dfw", "plain", "crr", 1.0),
    rate("dfw", "plain", "udp", 1.15),
    rate("dfw", "plain", "bulk", 0.97),
    Comparison {
        of: Of::P99,
        trial: "rr",
        id: "dfw",
        to: "plain",
        aim: Some(Aim::AtMost(1.05)),
    },
    rate("dfw-off", "plain", "rr", 0.97),
    rate("dfw-off", "plain", "crr", 0.95),
    rate("dfw-off", "plain", "udp", 0.95),
    rate("dfw-off", "plain", "bulk", 0.97),
    rate("dfw", "docker", "rr", 1.2),
    rate("dfw", "docker", "crr", 1.2),
    rate("dfw", "docker", "udp", 1.5),
    rate("dfw", "whalewall-containers", "rr", 1.25),
    rate("dfw", "whalewall-containers", "crr", 1.25),
    rate("dfw", "whalewall-containers", "udp", 1.5),
    rate("dfw-10k", "iptables-10k", "rr", 5.0),
    rate("dfw-10k", "iptables-10k", "crr", 4.0),
    rate("dfw-10k", "iptables-10k", "udp", 10.0),
    rate("drop-dfw", "drop-nft-ip", "drop", 1.25),
    rate("drop-dfw", "drop-nft-bridge", "drop", 1.25),
    reported("uplink-dfw-native", "uplink-nft", "uplink"),
    reported("uplink-dfw-generic", "uplink-nft", "uplink"),
    reported("uplink-dfw-native", "uplink-nft", "uplink6"),
    reported("uplink-dfw-generic", "uplink-nft", "uplink6"),
    reported("uplink-dfw-native", "uplink-nft", "uplink-pass"),
    reported("uplink-dfw-generic", "uplink-nft", "uplink-pass"),
    reported("uplink-dfw-native", "uplink-nft", "uplink-pass6"),
    reported("uplink-dfw-generic", "uplink-nft", "uplink-pass6"),
    reported("uplink-dfw-native", NO_FILTER, "uplink-pass"),
    reported("uplink-dfw-native", NO_FILTER, "uplink-pass6"),
    reported("uplink-dfw-generic", NO_FILTER, "uplink-pass"),
    reported("uplink-dfw-generic", NO_FILTER, "uplink-pass6"),
];
