//! Why packets of an endpoint take the bridge though the fast path is on.

use serde::{Deserialize, Serialize};

/// What keeps an endpoint's packets on the bridge: somebody there has a say in them, or would not see them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Detour {
    /// `--fast-path off`.
    Off,
    /// The kernel has no `bpf_redirect_peer`.
    Kernel,
    /// It does not enforce.
    Mode,
    /// The engine filters between the containers of its network.
    Network,
    /// Its bridge filters by VLAN.
    Vlan,
    /// Its port is isolated, or does not forward.
    Port,
    /// Its interface is no veth into another namespace.
    Interface,
    /// Its interface has a queueing discipline.
    Queue,
    /// Its interface has programs of others.
    Program,
}

impl Detour {
    /// Every reason, in the order in which they are told.
    pub const ALL: [Self; 9] = [
        Self::Off,
        Self::Kernel,
        Self::Mode,
        Self::Network,
        Self::Vlan,
        Self::Port,
        Self::Interface,
        Self::Queue,
        Self::Program,
    ];

    /// For people, of one endpoint.
    pub const fn describe(self) -> &'static str {
        match self {
            Self::Off => "switched off",
            Self::Kernel => "no bpf_redirect_peer in this kernel",
            Self::Mode => "in audit or off",
            Self::Network => "on a network with enable_icc=false",
            Self::Vlan => "on a bridge that filters by VLAN",
            Self::Port => "isolated or blocked at the bridge",
            Self::Interface => "not a veth into another namespace",
            Self::Queue => "with a queueing discipline",
            Self::Program => "with programs of others",
        }
    }
}
