//! The figures that only the kernel has.

use std::error::Error;

use dfw_common::reason::{Direction, Reason, Verdict};

/// Whoever can read the maps.
pub trait Kernel: Send + Sync {
    /// The figures of this moment. Called from a thread that may block, for each scrape.
    ///
    /// # Errors
    /// A map that cannot be read; the scrape then has no figures of the kernel and the error is logged.
    fn read(&self) -> Result<KernelFigures, Box<dyn Error + Send + Sync>>;

    /// Events not sent so far, as in [`KernelFigures::events_lost`]: cheap, for whoever reads the events.
    ///
    /// # Errors
    /// A map that cannot be read.
    fn events_lost(&self) -> Result<u64, Box<dyn Error + Send + Sync>>;
}

/// What the maps hold, summed over the CPUs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KernelFigures {
    /// Node-wide counters; those that are zero may be left out.
    pub counters: Vec<ReasonCounter>,
    /// Counters of endpoints; those that are zero may be left out.
    pub endpoints: Vec<EndpointCounter>,
    /// Entries of the flow table.
    pub flows: u64,
    /// How full each map is that can be full.
    pub maps: Vec<MapFill>,
    /// Events sent since load.
    pub events: u64,
    /// Events not sent: over the rate, or no room in the buffer.
    pub events_lost: u64,
}

/// A node-wide counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReasonCounter {
    /// Side that was judged.
    pub direction: Direction,
    /// What became of the packets.
    pub verdict: Verdict,
    /// Why.
    pub reason: Reason,
    /// Packets.
    pub packets: u64,
    /// Bytes of the Ethernet frames.
    pub bytes: u64,
}

/// A counter of one endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndpointCounter {
    /// Host-side ifindex.
    pub ifindex: u32,
    /// Side that was judged.
    pub direction: Direction,
    /// What became of the packets.
    pub verdict: Verdict,
    /// Packets.
    pub packets: u64,
}

/// How full a map is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapFill {
    /// Its name in [`dfw_common::maps`].
    pub name: &'static str,
    /// Entries in use.
    pub entries: u64,
    /// Entries there is room for.
    pub capacity: u64,
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::{Mutex, PoisonError};

    use super::*;

    /// Figures that a test sets; an error where it set none.
    #[derive(Default)]
    pub(in crate::telemetry) struct Fixed(Mutex<Option<KernelFigures>>);

    impl Fixed {
        pub(in crate::telemetry) fn set(&self, figures: Option<KernelFigures>) {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = figures;
        }
    }

    impl Kernel for Fixed {
        fn read(&self) -> Result<KernelFigures, Box<dyn Error + Send + Sync>> {
            let figures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            figures.clone().ok_or_else(|| "the maps are gone".into())
        }

        fn events_lost(&self) -> Result<u64, Box<dyn Error + Send + Sync>> {
            Ok(self.read()?.events_lost)
        }
    }
}
