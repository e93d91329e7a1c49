//! What the agent knows at one moment, published after each pass for metrics and commands.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::{Detour, OverrideView, Unprotected};

/// The node at a glance. It is the answer of the command socket too, so fields are added, never renamed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct View {
    /// Version of the agent.
    pub version: String,
    /// `docker` or `inventory`.
    pub source: String,
    /// Whether the source answers now.
    pub connected: bool,
    /// Whether the source was read in full since start.
    pub synced: bool,
    /// Whether each endpoint has its programs attached.
    pub attached: bool,
    /// `--unlabelled`: audit, enforce or off.
    pub unlabelled: String,
    /// What keeps every packet on the bridge; none when the fast path is on.
    #[serde(default)]
    pub fast_path: Option<Detour>,
    /// Policy epoch in force.
    pub epoch: u32,
    /// Full listings of the source so far.
    pub resyncs: u64,
    /// Events of the source so far.
    pub source_events: u64,
    /// Last error that left the last good policy in force, if the last pass failed.
    pub error: Option<String>,
    /// Governed ports.
    pub endpoints: Vec<EndpointView>,
    /// Managed networks.
    pub networks: Vec<NetworkView>,
    /// Addresses of this host.
    #[serde(default)]
    pub host_addresses: Vec<IpAddr>,
    /// What dfw does not protect.
    pub unprotected: Vec<UnprotectedView>,
    /// Errors and warnings of labels and of the node.
    pub findings: Vec<Finding>,
    /// Modes that hold for a while, whatever labels and file say; of several that select an endpoint the last counts.
    #[serde(default)]
    pub overrides: Vec<OverrideView>,
}

impl View {
    /// Why the node is not ready; none when it is.
    pub const fn not_ready(&self) -> Option<&'static str> {
        if !self.synced {
            Some("the containers were not read in full yet")
        } else if !self.attached {
            Some("an endpoint's programs are not attached")
        } else {
            None
        }
    }
}

/// One endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointView {
    /// Container name.
    pub container: String,
    /// Container id.
    pub id: String,
    /// Compose project or stack; empty if none.
    pub project: String,
    /// Service for metrics (docs/semantics.md section 11).
    pub service: String,
    /// Network name.
    pub network: String,
    /// Host-side interface.
    pub interface: String,
    /// Host-side ifindex.
    pub ifindex: u32,
    /// Addresses.
    pub addresses: Vec<IpAddr>,
    /// MAC.
    pub mac: String,
    /// enforce, audit or off.
    pub mode: String,
    /// Whether its labels or the node's file govern it, or `--unlabelled`.
    pub governed: bool,
    /// Whether `dfw mode` has switched its mode for a while.
    #[serde(default)]
    pub overridden: bool,
    /// Packets that were let through so far and that its mode enforce would have denied.
    #[serde(default)]
    pub audited: u64,
    /// `ready`, `error` (labels rejected), or `not-ready`.
    pub state: String,
    /// What keeps its packets on the bridge; none when those to and from neighbours are redirected past it.
    #[serde(default)]
    pub detour: Option<Detour>,
    /// Rules in force, as text.
    pub rules: Vec<String>,
}

impl EndpointView {
    /// `project/service` where it has both, else the container's name: how people are shown it.
    pub fn display_name(&self) -> String {
        if self.project.is_empty() {
            self.container.clone()
        } else {
            format!("{}/{}", self.project, self.service)
        }
    }
}

/// One network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkView {
    /// Engine's name.
    pub name: String,
    /// Bridge.
    pub bridge: String,
    /// Bridge's ifindex.
    pub ifindex: u32,
    /// Subnets.
    pub subnets: Vec<String>,
    /// Ports that are not containers.
    pub foreign_ports: Vec<String>,
}

/// A container that dfw does not protect, or protects less.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnprotectedView {
    /// Container name.
    pub container: String,
    /// Why.
    pub why: Unprotected,
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Worth knowing; policy is in force as written.
    Warning,
    /// The text was rejected; the last good policy (or none allowed) is in force.
    Error,
}

/// An error or warning about one container, label or rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Finding {
    /// How bad.
    pub level: Level,
    /// Stable kebab-case name, e.g. `image-label`, `bad-rule`, `no-such-peer`.
    pub code: String,
    /// Container or service concerned; empty for the node.
    pub subject: String,
    /// The label key concerned; empty if none.
    pub label: String,
    /// What is wrong and what to do, one sentence, no newline.
    pub message: String,
    /// The rejected text, if there is one.
    pub text: String,
    /// Byte range in `text`.
    pub span: Option<(usize, usize)>,
}

impl Finding {
    /// A finding about a whole container or the node, not about one label.
    pub fn new(level: Level, code: &str, subject: &str, message: String) -> Self {
        Self {
            level,
            code: code.to_owned(),
            subject: subject.to_owned(),
            label: String::new(),
            message,
            text: String::new(),
            span: None,
        }
    }
}
