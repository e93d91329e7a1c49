//! Level-triggered loop: desired state against what the kernel holds. Knows traits only.

use std::collections::BTreeSet;

use crate::{
    model::Role,
    policy::Compiled,
};

/// What a change came to.
pub use crate::datapath::tables::Applied;

/// The kernel, as far as reconciling needs it.
pub trait Datapath {
    /// Why something cannot be done.
    type Error: std::error::Error;
    fn attached(&self) -> BTreeSet<(u32, Role)>;
    fn is_attached(&self, ifindex: u32, role: Role) -> bool;
    fn attach(&mut self, ifindex: u32, role: Role) -> Result<(), Self::Error>;
    fn detach(&mut self, ifindex: u32, role: Role) -> Result<(), Self::Error>;
    fn endpoints(&self) -> BTreeSet<u32>;
    fn apply(&mut self, compiled: &Compiled, enforcing: bool) -> Result<Applied, Self::Error>;
    fn reread(&mut self) -> Result<(), Self::Error>;
}
