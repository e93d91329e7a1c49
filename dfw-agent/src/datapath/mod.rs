//! The kernel's side: the only room with aya.

pub mod fence;
pub mod figures;
pub mod links;
pub mod load;
mod mirror;
pub mod rings;
pub mod sys;
pub mod tables;
mod uninstall;

use std::{
    collections::BTreeSet, io, os::fd::AsRawFd, path::Path, sync::Arc, thread::sleep,
    time::Duration,
};

use aya::{
    Ebpf,
    maps::{MapData, PerCpuArray, RingBuf},
    programs::{SchedClassifier, TestRun as _, TestRunOptions},
};
use aya_log::EbpfLogger;
use dfw_common::maps as layout;
use tokio::io::unix::AsyncFd;

pub use self::uninstall::{UninstallReport, uninstall};
use self::{
    figures::Figures,
    links::LinkSet,
    load::{LoadError, Options, Pins, classifier, program},
    tables::{Tables, take},
};
use crate::{
    model::Role,
    policy::{Compiled, Held},
    reconcile::{self, Applied},
};

/// The event buffer.
pub type Events = RingBuf<MapData>;
/// What the programs log, on its way to the log.
pub type Traces = EbpfLogger<&'static dyn log::Log>;

/// How long connections that are older than dfw are taken in (docs/semantics.md section 4).
const ADOPTION: Duration = Duration::from_secs(60);
/// Events a second and processor.
const EVENT_RATE: u32 = 2_000;

/// The loaded programs, their links and their tables.
pub struct Datapath {
    // Keeps the programs loaded.
    object: Ebpf,
    links: LinkSet,
    tables: Tables,
    figures: Arc<Figures>,
    /// No earlier agent has attached anything.
    is_first: bool,
}

impl Datapath {
    /// Loads the programs and takes over what an earlier agent has left: maps with their contents, links with the new
    /// programs. Nothing is detached.
    ///
    /// # Errors
    /// What the kernel lacks or refuses, with the remedy.
    pub fn open(bpffs: &Path, options: Options) -> Result<Self, LoadError> {
        load::preflight(bpffs)?;
        let pins = Pins::new(bpffs);
        let mut object = load::load(&pins, options)?;
        let hz = measure_hz(classifier(&mut object, program::EMPTY)?)?;
        let capacities = (
            tables::capacity_of(&object, layout::POLICY)?,
            tables::capacity_of(&object, layout::FLOWS)?,
        );
        let mut tables = Tables::open(&mut object, pinned_counters(&pins)?)?;
        // Set by the first agent that came as far as attaching.
        let is_first = tables.settings().adopt_until == 0;
        tables.set(|settings| {
            settings.hz = hz;
            settings.event_rate = EVENT_RATE;
        })?;
        let figures = Arc::new(Figures::open(
            &mut object,
            pinned_counters(&pins)?,
            tables.occupancy(),
            capacities,
        )?);
        let links = LinkSet::open(&mut object, &pins)?;
        Ok(Self {
            object,
            links,
            tables,
            figures,
            is_first,
        })
    }

    /// Whether no earlier agent has attached anything.
    pub fn is_first(&self) -> bool {
        self.is_first
    }

    /// The figures, to be read from any thread.
    pub fn figures(&self) -> Arc<Figures> {
        Arc::clone(&self.figures)
    }

    /// The event buffer; it can be taken once.
    ///
    /// # Errors
    /// It was taken before.
    pub fn events(&mut self) -> Result<Events, LoadError> {
        take(&mut self.object, layout::EVENTS)
    }

    /// What the programs log, when they were loaded with [`Options::traces`]: to be flushed when it is [`readable`].
    ///
    /// # Errors
    /// The object has no log buffer.
    pub fn traces(&mut self) -> Result<Traces, LoadError> {
        EbpfLogger::init(&mut self.object).map_err(|error| LoadError::Bpf {
            action: "read what the programs log".to_owned(),
            source: io::Error::other(error),
        })
    }

    /// For connections that are older than dfw: from now on they are taken in for a while.
    ///
    /// # Errors
    /// The settings cannot be written.
    pub fn begin_adoption(&mut self) -> Result<(), LoadError> {
        let now = jiffies(classifier(&mut self.object, program::EMPTY)?)?;
        self.tables.set(|settings| {
            let ticks = settings.hz.saturating_mul(ADOPTION.as_secs() as u32);
            // Zero would mean never.
            settings.adopt_until = now.wrapping_add(ticks).max(1);
        })
    }

    /// Removes flows of endpoints that are gone and those long expired.
    ///
    /// # Errors
    /// The flow table cannot be read.
    pub fn sweep(&mut self) -> Result<usize, LoadError> {
        let now = jiffies(classifier(&mut self.object, program::EMPTY)?)?;
        self.figures
            .sweep(self.tables.settings(), now)
            .map_err(|source| LoadError::Map {
                name: layout::FLOWS,
                source,
            })
    }

    /// The identities that are in the kernel, and a number above each that is used there.
    pub fn held(&self) -> (u32, Held) {
        self.tables.held()
    }
}

impl reconcile::Datapath for Datapath {
    type Error = LoadError;

    fn attached(&self) -> BTreeSet<(u32, Role)> {
        self.links.complete()
    }

    fn touched(&self) -> BTreeSet<(u32, Role)> {
        self.links.touched()
    }

    fn attach(&mut self, ifindex: u32, role: Role) -> Result<(), LoadError> {
        self.links.attach(ifindex, role)
    }

    fn detach(&mut self, ifindex: u32, role: Role) -> Result<(), LoadError> {
        self.links.detach(ifindex, role)
    }

    fn endpoints(&self) -> BTreeSet<u32> {
        self.tables.endpoints().collect()
    }

    fn apply(&mut self, compiled: &Compiled, enforcing: bool) -> Result<Applied, LoadError> {
        self.tables.apply(compiled, enforcing)
    }

    fn reread(&mut self) -> Result<(), LoadError> {
        self.tables.reread()
    }
}

/// A buffer of the kernel that can be waited for.
pub trait Buffer: AsRawFd {}

impl Buffer for Events {}
impl Buffer for Traces {}

/// A buffer, to be waited for. Needs a tokio runtime.
///
/// # Errors
/// The runtime refuses the descriptor.
pub fn readable<B: Buffer>(buffer: B) -> io::Result<AsyncFd<B>> {
    // SAFETY: both kinds own their map's descriptor and give the same one until they are dropped.
    unsafe { AsyncFd::register(buffer) }.map_err(io::Error::from)
}

fn pinned_counters(pins: &Pins) -> Result<PerCpuArray<MapData, u64>, LoadError> {
    let name = layout::ENDPOINT_COUNTERS;
    let failed = |source| LoadError::Map { name, source };
    let data = MapData::from_pin(pins.maps().join(name)).map_err(failed)?;
    let map = aya::maps::Map::from_map_data(data).map_err(failed)?;
    PerCpuArray::try_from(map).map_err(failed)
}

/// The kernel's jiffies, low 32 bits.
fn jiffies(empty: &SchedClassifier) -> Result<u32, LoadError> {
    let frame = [0; 64];
    let options = TestRunOptions {
        data_in: Some(&frame),
        ..TestRunOptions::new()
    };
    empty
        .test_run(options)
        .map(|result| result.return_value)
        .map_err(|source| LoadError::Program {
            name: program::EMPTY,
            source,
        })
}

/// How fast jiffies run (CONFIG_HZ): no interface says, so it is measured.
fn measure_hz(empty: &SchedClassifier) -> Result<u32, LoadError> {
    const CHOICES: [u32; 4] = [100, 250, 300, 1000];
    let before = std::time::Instant::now();
    let first = jiffies(empty)?;
    sleep(Duration::from_millis(100));
    let ticks = jiffies(empty)?.wrapping_sub(first);
    let rate = f64::from(ticks) / before.elapsed().as_secs_f64();
    let off = |choice: u32| (f64::from(choice) - rate).abs() / f64::from(choice);
    let best = CHOICES
        .into_iter()
        .min_by(|a, b| off(*a).total_cmp(&off(*b)));
    Ok(best.unwrap_or(CHOICES[0]))
}
