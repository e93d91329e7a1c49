//! The flow table: positions by key, and the flows at their positions.

use aya::maps::{Array, HashMap, MapData, MapError};
use dfw_common::{
    key::FlowKey,
    value::{Flow, RingEntry},
};

/// Both maps of the table.
pub(super) struct Flows {
    positions: HashMap<MapData, FlowKey, u32>,
    ring: Array<MapData, RingEntry>,
}

impl Flows {
    /// Of the maps FLOWS and FLOW_RING.
    pub(super) const fn new(
        positions: HashMap<MapData, FlowKey, u32>,
        ring: Array<MapData, RingEntry>,
    ) -> Self {
        Self { positions, ring }
    }

    /// The keys of all flows; a key that cannot be read ends it, and so does the ring's length: a walk begins anew when its
    /// place is removed under it.
    pub(super) fn keys(&self) -> impl Iterator<Item = FlowKey> {
        let limit = usize::try_from(self.ring.len()).unwrap_or(usize::MAX);
        self.positions.keys().take(limit).map_while(Result::ok)
    }

    /// All flows. What is recycled at this moment is left out.
    pub(super) fn iter(&self) -> impl Iterator<Item = (FlowKey, Flow)> {
        self.keys().filter_map(|key| {
            let position = self.positions.get(&key, 0).ok()?;
            let entry = self.ring.get(&position, 0).ok()?;
            entry.key.is(&key).then_some((key, entry.flow))
        })
    }

    /// Removes the position of a flow that is over, or whose ends are not there any more: the datapath takes it for none
    /// anyway, and gives its position to another.
    ///
    /// # Errors
    /// It is gone already, or the map refuses.
    pub(super) fn remove(&mut self, key: &FlowKey) -> Result<(), MapError> {
        self.positions.remove(key)
    }
}
