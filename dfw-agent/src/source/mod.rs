//! Where endpoints come from: the engine or the inventory file says who there is, netlink says where.

pub mod deny;
pub mod docker;
pub mod inventory;
pub mod netlink;

use std::future::Future;

use crate::model::{Finding, Snapshot};

/// Says who there is. Always has the last good answer at hand, so that nothing waits for an engine that hangs.
pub trait Source {
    /// `docker` or `inventory`.
    fn name(&self) -> &'static str;

    /// Waits until [`snapshot`](Self::snapshot), [`findings`](Self::findings) or whether it is connected or synced differ
    /// from what they were when the last wait ended; the first wait ends with the first full reading. Cancel-safe. Panics if
    /// the part that reads has panicked.
    fn changed(&mut self) -> impl Future<Output = ()>;

    /// The last good answer.
    fn snapshot(&self) -> &Snapshot;

    /// What is wrong with the source itself.
    fn findings(&self) -> &[Finding];

    /// How the source fares.
    fn status(&self) -> SourceStatus;
}

/// How a source fares.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SourceStatus {
    /// Whether it answers now.
    pub connected: bool,
    /// Whether it was read in full since start.
    pub synced: bool,
    /// Events taken in so far.
    pub events: u64,
    /// Full readings so far.
    pub resyncs: u64,
}
