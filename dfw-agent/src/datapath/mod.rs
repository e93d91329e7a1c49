//! The kernel's side: the only room with aya.

pub mod expedite;
pub mod fence;
pub mod figures;
mod flows;
pub mod links;
mod lists;
pub mod load;
pub mod memory;
mod mirror;
pub mod rings;
pub mod seen;
pub mod sys;
pub mod tables;
mod uninstall;
mod uplink;
mod watch;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    os::fd::AsRawFd,
    path::{Path, PathBuf},
    sync::Arc,
    thread::{sleep, spawn},
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
    expedite::Switch,
    fence::Fence,
    figures::Figures,
    links::{LinkSet, Twins},
    lists::Lists,
    load::{LoadError, Options, Pins, classifier, program},
    seen::Sightings,
    tables::{Tables, take},
    uninstall::remove_version,
    uplink::Uplinks,
    watch::MapPins,
};
use crate::{
    model::{Detour, Role, XdpMode},
    policy::{Blocks, Compiled, Held},
    reconcile::{self, Applied, Attached, Tampering},
};

/// The event buffer.
pub type Events = RingBuf<MapData>;
/// What the programs log, on its way to the log.
pub type Traces = EbpfLogger<&'static dyn log::Log>;

/// How long connections that are older than dfw are taken in (docs/semantics.md section 4).
const ADOPTION: Duration = Duration::from_secs(60);
/// Events a second and processor. The agent reads as many of a few processors in a fraction of one, and leaves what is too
/// much in the buffer.
const EVENT_RATE: u32 = 6_000;

/// Where an agent with this command socket writes down that it has set a switch of the host: beside the socket, because
/// a BPF file system holds no files.
pub fn marker(socket: &Path) -> PathBuf {
    socket.with_extension("rcu-expedited")
}

/// The loaded programs, their links and their tables.
pub struct Datapath {
    // Keeps the programs loaded.
    object: Ebpf,
    links: LinkSet,
    fence: Fence,
    uplinks: Uplinks,
    lists: Lists,
    tables: Tables,
    figures: Arc<Figures>,
    sightings: Arc<Sightings>,
    map_pins: MapPins,
    /// Maps of other versions, while links may still be using them.
    others: Vec<PathBuf>,
    looks_at_pins: bool,
    /// No earlier agent has attached anything.
    is_first: bool,
    /// Why nothing is redirected.
    detour: Option<Detour>,
}

impl Datapath {
    /// Loads the programs and takes over what an earlier agent has left: maps with their contents, and links, whose programs
    /// stay until [`reconcile::Datapath::take_over`]. Nothing is detached. `marker` is that of [`marker`].
    ///
    /// # Errors
    /// What the kernel lacks or refuses, with the remedy.
    pub fn open(bpffs: &Path, marker: PathBuf, options: Options) -> Result<Self, LoadError> {
        load::preflight(bpffs)?;
        let detour = match options.fast_path {
            true if load::can_redirect() => None,
            true => Some(Detour::Kernel),
            false => Some(Detour::Off),
        };
        let options = Options {
            fast_path: detour.is_none(),
            ..options
        };
        let pins = Pins::of_version(bpffs, options.version.unwrap_or(layout::ABI_VERSION));
        let mut object = load::load(&pins, options)?;
        let map_pins = MapPins::open(&object, pins.maps())?;
        let programs = load::programs(&mut object)?;
        let twins = {
            let (pins, ids) = (pins.clone(), load::map_ids(&object)?);
            Twins::Coming(spawn(move || {
                let twins = load::twins(&pins, options, &ids);
                memory::give_back();
                twins
            }))
        };
        let capacities = (
            tables::capacity_of(&object, layout::POLICY)?,
            tables::capacity_of(&object, layout::FLOWS)?,
        );
        let mut tables = Tables::open(&mut object, pinned_counters(&pins)?)?;
        // Maps of this version know of a first agent when it came as far as attaching.
        let is_known = tables.settings().adopt_until != 0;
        let hz = match tables.settings().hz {
            0 => measure_hz(classifier(&mut object, program::EMPTY)?)?,
            // Pinned maps are of this boot, so it is still true.
            known => known,
        };
        tables.set(|settings| {
            settings.hz = hz;
            settings.event_rate = EVENT_RATE;
        })?;
        let now = jiffies(classifier(&mut object, program::EMPTY)?)?;
        let sightings = Arc::new(Sightings::open(&mut object, now, hz)?);
        let figures = Arc::new(Figures::open(
            &mut object,
            Arc::clone(&sightings),
            pinned_counters(&pins)?,
            tables.occupancy(),
            capacities,
        )?);
        let uplinks = Uplinks::open(&pins, &mut object)?;
        let lists = Lists::open(&mut object)?;
        let links = LinkSet::open(&pins, programs, twins, Switch::new(marker))?;
        let others = pins.others().map_err(|source| LoadError::Pins {
            action: "list the versions under",
            path: bpffs.to_owned(),
            source,
        })?;
        let is_first = !is_known && links.touched().is_empty() && others.is_empty();
        Ok(Self {
            object,
            links,
            fence: Fence::default(),
            uplinks,
            lists,
            tables,
            figures,
            sightings,
            map_pins,
            others,
            looks_at_pins: false,
            is_first,
            detour,
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

    /// What is seen in audit, to be read from any thread.
    pub fn sightings(&self) -> Arc<Sightings> {
        Arc::clone(&self.sightings)
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

    fn plan(&mut self, ifindex: u32, role: Role) {
        self.links.plan(ifindex, role);
    }

    fn attach_next(&mut self) -> Option<Attached<LoadError>> {
        self.links.attach_next()
    }

    fn take_over(&mut self) -> Result<(), LoadError> {
        self.links.swap()?;
        for directory in std::mem::take(&mut self.others) {
            tracing::warn!(
                from = %directory.display(),
                "another map layout is in force: connections that are open are not carried over, they have to be opened again"
            );
            remove_version(&directory).map_err(|source| LoadError::Pins {
                action: "remove the maps under",
                path: directory,
                source,
            })?;
        }
        Ok(())
    }

    fn detach(&mut self, ifindex: u32, role: Role) -> Result<(), LoadError> {
        self.links.detach(ifindex, role)
    }

    fn endpoints(&self) -> BTreeSet<u32> {
        self.tables.endpoints().collect()
    }

    fn apply(
        &mut self,
        compiled: &Compiled,
        enforcing: bool,
        redirects: &BTreeSet<u32>,
    ) -> Result<Applied, LoadError> {
        self.tables.apply(compiled, enforcing, redirects)
    }

    fn detour(&self) -> Option<Detour> {
        self.detour
    }

    fn crowded(&self) -> BTreeSet<u32> {
        self.links.crowded()
    }

    fn fence(&mut self, known: Option<&BTreeSet<u32>>) -> Result<(), LoadError> {
        self.fence.set(known).map_err(|source| LoadError::Bpf {
            action: "keep ports apart that are not known yet, by nf_tables of the bridge family"
                .to_owned(),
            source,
        })
    }

    fn set_lists(
        &mut self,
        denied: Option<&Arc<Blocks>>,
        subnets: &Arc<Blocks>,
    ) -> Result<(), LoadError> {
        let result = self.lists.set(denied, subnets);
        self.figures.note_blocks(self.lists.len());
        result
    }

    fn set_uplinks(
        &mut self,
        wanted: &BTreeMap<u32, String>,
    ) -> BTreeMap<u32, Result<XdpMode, LoadError>> {
        self.uplinks.set(wanted)
    }

    fn repair(&mut self, thorough: bool) -> Vec<Tampering<LoadError>> {
        let mut found = self.links.repair();
        // Nothing gets through for want of a pin, so these may wait for the other round.
        self.looks_at_pins = !self.looks_at_pins;
        if self.looks_at_pins {
            self.links.repair_pins(&mut found);
            self.map_pins.repair(&mut found);
            self.uplinks.repair(&mut found);
        }
        match self.fence.look() {
            Ok(look) => {
                self.figures.note_fenced(look.dropped);
                if look.is_repaired {
                    found.push(tampered_fence(Ok(())));
                }
            }
            Err(source) => found.push(tampered_fence(Err(LoadError::Bpf {
                action: "restore the fence".to_owned(),
                source,
            }))),
        }
        let mut maps = self.tables.repair(thorough);
        match self.lists.repair() {
            Ok(false) => {}
            Ok(true) => maps.push((layout::UPLINK, Ok(1))),
            Err(error) => maps.push((layout::UPLINK, Err(error))),
        }
        found.extend(maps.into_iter().map(|(name, entries)| Tampering {
            ifindex: None,
            what: format!("entries of the map {name} were changed; they are as they were"),
            repaired: entries.map(drop),
        }));
        found
    }
}

fn tampered_fence(repaired: Result<(), LoadError>) -> Tampering<LoadError> {
    Tampering {
        ifindex: None,
        what: "the nf_tables table `bridge dfw` was changed; it is as it was".to_owned(),
        repaired,
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
