//! What reconciling asks of the kernel, and whom it tells of what it did.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use crate::{
    model::{Detour, Role, XdpMode},
    policy::{Blocks, Compiled},
};

/// What a change of policy came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Writes and deletions.
    pub writes: usize,
    /// Epoch in force afterwards.
    pub epoch: u32,
    /// Endpoints for which there was no room: they stay closed.
    pub unplaced: Vec<u32>,
}

/// One step of attaching.
#[derive(Debug)]
pub struct Attached<E> {
    /// Whose hook it was.
    pub ifindex: u32,
    /// How far that interface is now.
    pub progress: Result<Progress, E>,
}

/// How far an interface is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// One hook has its program.
    One,
    /// Both have.
    Both,
}

/// Something in the kernel that others changed.
#[derive(Debug)]
pub struct Tampering<E> {
    /// Whose programs it concerns; none where it concerns all.
    pub ifindex: Option<u32>,
    /// What was found and done, for people.
    pub what: String,
    /// Whether it is as it was.
    pub repaired: Result<(), E>,
}

/// The kernel, as far as reconciling needs it.
pub trait Datapath {
    /// Why something cannot be done; says the remedy.
    type Error: std::error::Error;

    /// Interfaces with both programs of a role.
    fn attached(&self) -> BTreeSet<(u32, Role)>;

    /// Interfaces with any program of ours.
    fn touched(&self) -> BTreeSet<(u32, Role)>;

    /// Plans to attach both programs of a role to an interface. Attached already does no harm.
    fn plan(&mut self, ifindex: u32, role: Role);

    /// Attaches one of the planned programs, first in its hook: of all that are planned, the senders' side comes first.
    /// None when nothing is left. It fails also when the interface has gone meanwhile.
    fn attach_next(&mut self) -> Option<Attached<Self::Error>>;

    /// The policy is in the maps: whatever an earlier agent has attached is to judge by them from now on. Done already
    /// does no harm.
    ///
    /// # Errors
    /// What is in force stays so.
    fn take_over(&mut self) -> Result<(), Self::Error>;

    /// Detaches them.
    ///
    /// # Errors
    /// A pin that cannot be removed.
    fn detach(&mut self, ifindex: u32, role: Role) -> Result<(), Self::Error>;

    /// ifindexes of the endpoints whose policy is in the kernel.
    fn endpoints(&self) -> BTreeSet<u32>;

    /// Makes the kernel hold what was compiled; between the endpoints in `redirects` packets go past their bridge.
    ///
    /// # Errors
    /// The last good policy is in force then.
    fn apply(
        &mut self,
        compiled: &Compiled,
        enforcing: bool,
        redirects: &BTreeSet<u32>,
    ) -> Result<Applied, Self::Error>;

    /// What keeps every packet on the bridge; none when some may be redirected past it.
    fn detour(&self) -> Option<Detour>;

    /// Interfaces that have programs of others beside ours, as far as was seen at the last look.
    fn crowded(&self) -> BTreeSet<u32>;

    /// Keeps apart all ports of bridges that are not in the set, whoever's they are; none: keeps nobody apart.
    ///
    /// # Errors
    /// What was in force stays so.
    fn fence(&mut self, known: Option<&BTreeSet<u32>>) -> Result<(), Self::Error>;

    /// Makes uplinks judge by these lists; without the first one that in force stays.
    ///
    /// # Errors
    /// What was in force stays so.
    fn set_lists(
        &mut self,
        denied: Option<&Arc<Blocks>>,
        subnets: &Arc<Blocks>,
    ) -> Result<(), Self::Error>;

    /// Makes exactly these interfaces uplinks, by number and name; how each is attached.
    fn set_uplinks(
        &mut self,
        wanted: &BTreeMap<u32, String>,
    ) -> BTreeMap<u32, Result<XdpMode, Self::Error>>;

    /// Looks for what others changed and puts it right: programs, pins and the small maps; when `thorough`, all maps.
    fn repair(&mut self, thorough: bool) -> Vec<Tampering<Self::Error>>;
}

/// Who is told of what metrics count.
pub trait Observer {
    /// These endpoints are about to lose their counters.
    fn retire(&mut self, ifindexes: &[u32]);
    /// A port got its policy, this long after its link was seen.
    fn governed(&mut self, ifindex: u32, after: Duration);
    /// Something that others had changed was put right.
    fn repaired(&mut self);
}
