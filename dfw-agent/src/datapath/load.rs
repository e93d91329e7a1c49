//! What the kernel must have, the BPF object, and the pins that outlive the agent.

use std::{
    collections::BTreeMap,
    fs, io,
    os::fd::{AsFd as _, OwnedFd},
    path::{Path, PathBuf},
};

use aya::{
    Ebpf, EbpfError, EbpfLoader,
    programs::{ProgramError, ProgramFd, ProgramType, SchedClassifier, Xdp},
    sys::{BpfHelper, is_helper_supported},
};
use caps::{CapSet, Capability};
use dfw_common::maps as layout;
use thiserror::Error;

use super::{sys, tables};

/// The object, built from dfw-ebpf by the build script.
pub static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/dfw.bpf.o"));

/// The object's constant that says whether packets are redirected past bridges.
const FAST_PATH: &str = "DFW_FAST_PATH";

/// First kernel with TCX (kernel commit e420bed02507).
pub const KERNEL: (u32, u32) = (6, 6);

/// All that the agent needs: to load programs and maps, to attach and to ask netlink, and for the verifier to take
/// programs that compare pointers with packet ends through a map's value.
pub const CAPABILITIES: [Capability; 3] = [
    Capability::CAP_BPF,
    Capability::CAP_NET_ADMIN,
    Capability::CAP_PERFMON,
];

/// The programs of the object.
pub mod program {
    /// TCX ingress of an endpoint's veth.
    pub const FROM_ENDPOINT: &str = "dfw_from_ep";
    /// TCX egress of an endpoint's veth.
    pub const TO_ENDPOINT: &str = "dfw_to_ep";
    /// TCX ingress of a bridge device.
    pub const FROM_BRIDGE: &str = "dfw_from_br";
    /// TCX egress of a bridge device.
    pub const TO_BRIDGE: &str = "dfw_to_br";
    /// XDP of an uplink.
    pub const UPLINK: &str = "dfw_uplink";
    /// Does nothing but return the low bits of jiffies.
    pub const EMPTY: &str = "dfw_empty";

    /// Those that are attached by TCX.
    pub const HOOKED: [&str; 4] = [FROM_ENDPOINT, TO_ENDPOINT, FROM_BRIDGE, TO_BRIDGE];
    /// All classifiers.
    pub const CLASSIFIERS: [&str; 5] = [FROM_ENDPOINT, TO_ENDPOINT, FROM_BRIDGE, TO_BRIDGE, EMPTY];
}

/// Why the datapath cannot be set up. Every message names the remedy.
#[derive(Debug, Error)]
pub enum LoadError {
    /// The kernel is too old.
    #[error("Linux {found} has no TCX; dfw needs Linux {}.{} or newer (on Debian 12: apt install -t bookworm-backports linux-image-amd64)", KERNEL.0, KERNEL.1)]
    OldKernel {
        /// Release of the running kernel.
        found: String,
    },
    /// Neither root nor the capabilities.
    #[error(
        "missing {missing}: run dfw as root, or give it CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON (docker: --cap-add BPF --cap-add NET_ADMIN --cap-add PERFMON)"
    )]
    Capabilities {
        /// Names of what is missing.
        missing: String,
    },
    /// Something before the kernel refuses bpf(2).
    #[error(
        "bpf(2) is refused though dfw has the capabilities: {source}: a system call filter stands before the kernel that does not know CAP_BPF; use a newer container runtime, or none of its filters (docker: --security-opt seccomp=unconfined): dfw installs one of its own"
    )]
    Filtered {
        /// What it answers.
        #[source]
        source: io::Error,
    },
    /// The pin directory is not on a bpffs.
    #[error("{} is not on a BPF file system: mount one with `mount -t bpf bpf /sys/fs/bpf` (docker: -v /sys/fs/bpf:/sys/fs/bpf), or name one by --bpffs", path.display())]
    NotBpffs {
        /// What `--bpffs` says.
        path: PathBuf,
    },
    /// A file-system operation under the pin directory failed.
    #[error("cannot {action} {}: {source}", path.display())]
    Pins {
        /// What was tried.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The kernel refused the object or a map.
    #[error("the kernel refuses the BPF object: {0}")]
    Object(#[from] EbpfError),
    /// The verifier refused a program.
    #[error("the kernel refuses the program {name}: {source}")]
    Program {
        /// Which.
        name: &'static str,
        /// Why.
        #[source]
        source: ProgramError,
    },
    /// The object has no such program or map: it was not built from this source.
    #[error("the BPF object has no {0}; rebuild dfw")]
    Missing(&'static str),
    /// A map could not be used.
    #[error("map {name}: {source}")]
    Map {
        /// Which.
        name: &'static str,
        /// Why.
        #[source]
        source: aya::maps::MapError,
    },
    /// A map has no room for the new policy. Nothing was written.
    #[error(
        "map {name} is full: the policy needs {needed} entries and there is room for {capacity}; the last good policy stays in force. Use fewer rules, groups instead of many addresses, or split the node"
    )]
    Full {
        /// Which map.
        name: &'static str,
        /// Entries that the policy needs.
        needed: usize,
        /// Entries there is room for.
        capacity: usize,
    },
    /// The kernel holds something else than was written.
    #[error("map {name} does not hold what was written: somebody else writes to it")]
    ReadBack {
        /// Which map.
        name: &'static str,
    },
    /// A bpf(2) command of this crate failed.
    #[error("cannot {action}: {source}")]
    Bpf {
        /// What was tried.
        action: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl LoadError {
    /// Whether the remedy is a capability, a kernel or a mount: exit code 77 of docs.
    pub fn is_capability(&self) -> bool {
        matches!(
            self,
            Self::OldKernel { .. }
                | Self::Capabilities { .. }
                | Self::Filtered { .. }
                | Self::NotBpffs { .. }
        )
    }
}

/// What may differ from one load to the next.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Capacity of the policy map other than the layout's, for tests of what happens when it is full.
    pub policy_entries: Option<u32>,
    /// Capacity of the flow table and its ring; a power of two.
    pub flows: Option<u32>,
    /// Version of the layout other than the object's own, for tests of what a change of it does.
    pub version: Option<u32>,
    /// The programs redirect packets past bridges where the port table says so.
    pub fast_path: bool,
    /// The programs log each drop, slowly; [`super::Datapath::traces`] has what they write.
    pub traces: bool,
}

/// Where maps and links are pinned: the maps of each layout apart, the links, which outlive a change of it, together.
#[derive(Clone, Debug)]
pub struct Pins {
    root: PathBuf,
    version: u32,
}

impl Pins {
    /// Under the directory that `--bpffs` names.
    pub fn new(bpffs: &Path) -> Self {
        Self::of_version(bpffs, layout::ABI_VERSION)
    }

    /// Of another version of the layout.
    pub fn of_version(bpffs: &Path, version: u32) -> Self {
        let root = bpffs.to_owned();
        Self { root, version }
    }

    /// Directory of the maps.
    pub fn maps(&self) -> PathBuf {
        self.own().join("maps")
    }

    /// Directory of the links.
    pub fn links(&self) -> PathBuf {
        self.root.join("links")
    }

    fn own(&self) -> PathBuf {
        self.root.join(format!("v{}", self.version))
    }

    /// Directories of every version.
    ///
    /// # Errors
    /// The root cannot be read; that it is not there is no error.
    pub fn versions(&self) -> io::Result<Vec<PathBuf>> {
        let entries = match fs::read_dir(&self.root) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other?,
        };
        let paths = entries.map(|entry| entry.map(|entry| entry.path()));
        paths
            .filter(|path| path.as_ref().map_or(true, |path| is_version(path)))
            .collect()
    }

    /// Directories of the other versions.
    ///
    /// # Errors
    /// As [`Pins::versions`].
    pub fn others(&self) -> io::Result<Vec<PathBuf>> {
        let mut versions = self.versions()?;
        versions.retain(|path| *path != self.own());
        Ok(versions)
    }

    fn create(&self) -> Result<(), LoadError> {
        for path in [self.maps(), self.links()] {
            fs::create_dir_all(&path).map_err(|source| LoadError::Pins {
                action: "create",
                path,
                source,
            })?;
        }
        Ok(())
    }
}

fn is_version(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    name.and_then(|name| name.strip_prefix('v'))
        .is_some_and(|number| number.parse::<u32>().is_ok())
}

/// Checks kernel, capabilities and the pin directory before anything is touched.
///
/// # Errors
/// What is missing, with the remedy.
pub fn preflight(bpffs: &Path) -> Result<(), LoadError> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    check_kernel(release.trim())?;
    check_capabilities()?;
    check_bpffs(bpffs)
}

/// Whether a kernel of this release has TCX.
///
/// # Errors
/// [`LoadError::OldKernel`] when it has not, or when the release cannot be read.
pub fn check_kernel(release: &str) -> Result<(), LoadError> {
    let mut numbers = release
        .split(|c: char| !c.is_ascii_digit())
        .map(|part| part.parse::<u32>().unwrap_or(0));
    let found = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if found < KERNEL {
        return Err(LoadError::OldKernel {
            found: release.to_owned(),
        });
    }
    Ok(())
}

/// Whether the kernel has what the programs need to redirect packets into the other end of a veth (Linux 5.10, 9aa1206e8f48).
/// What cannot be found out is taken for no: packets take the bridge then.
pub fn can_redirect() -> bool {
    let helper = BpfHelper::BPF_FUNC_redirect_peer;
    is_helper_supported(ProgramType::SchedClassifier, helper).unwrap_or(false)
}

/// Whether this process may load and attach.
///
/// # Errors
/// [`LoadError::Capabilities`] with the names of what is missing, or [`LoadError::Filtered`].
pub fn check_capabilities() -> Result<(), LoadError> {
    let has = caps::read(None, CapSet::Effective).unwrap_or_default();
    let missing: Vec<_> = CAPABILITIES
        .into_iter()
        .filter(|need| !has.contains(need))
        .map(|need| need.to_string())
        .collect();
    if !missing.is_empty() {
        return Err(LoadError::Capabilities {
            missing: missing.join(", "),
        });
    }
    sys::is_reached().map_err(|source| LoadError::Filtered { source })
}

/// Whether a directory is, or would be, on a BPF file system.
///
/// # Errors
/// [`LoadError::NotBpffs`] when it is not.
pub fn check_bpffs(bpffs: &Path) -> Result<(), LoadError> {
    // The directory itself may not exist yet; its nearest ancestor says on what file system it would be.
    let Some(there) = bpffs.ancestors().find(|path| path.exists()) else {
        return Err(LoadError::NotBpffs {
            path: bpffs.to_owned(),
        });
    };
    let statfs = sys::file_system(there).map_err(|source| LoadError::Pins {
        action: "look at",
        path: there.to_owned(),
        source,
    })?;
    if statfs == libc::BPF_FS_MAGIC {
        Ok(())
    } else {
        Err(LoadError::NotBpffs {
            path: bpffs.to_owned(),
        })
    }
}

/// Loads the object with its maps pinned (those that are pinned already are taken over) and its programs verified.
///
/// # Errors
/// What the kernel refuses.
pub fn load(pins: &Pins, options: Options) -> Result<Ebpf, LoadError> {
    let is_new = !pins.own().exists();
    pins.create()?;
    let loaded = load_into(pins, options);
    if loaded.is_err() && is_new {
        // Maps that no program will ever use. What cannot be removed is removed by the next agent, or by uninstalling.
        let _: Result<_, _> = super::uninstall::remove_version(&pins.own());
    }
    loaded
}

fn load_into(pins: &Pins, options: Options) -> Result<Ebpf, LoadError> {
    let directory = pins.maps();
    let mut loader = EbpfLoader::new();
    // The kernel's own types, which aya has read unasked: 13 MB, and nothing in the object refers to them.
    loader.btf(None);
    for name in layout::PINNED {
        loader.map_pin_path(name, directory.join(name));
    }
    if let Some(entries) = options.policy_entries {
        loader.map_max_entries(layout::POLICY, entries);
    }
    if let Some(entries) = options.flows {
        loader.map_max_entries(layout::FLOWS, entries);
        loader.map_max_entries(layout::FLOW_RING, entries);
    }
    let fast_path = u32::from(options.fast_path);
    loader.override_global(FAST_PATH, &fast_path, true);
    // aya-log-ebpf's name; 0 is nothing, 5 everything.
    let log_level = if options.traces { 5_u8 } else { 0 };
    loader.override_global(aya_log::LEVEL, &log_level, true);
    #[cfg(feature = "mutants")]
    let left_out = dfw_common::mutant::number();
    #[cfg(feature = "mutants")]
    loader.override_global(dfw_common::mutant::VARIABLE, &left_out, true);
    let mut object = loader.load(OBJECT)?;
    for name in program::CLASSIFIERS {
        classifier(&mut object, name)?
            .load()
            .map_err(|source| LoadError::Program { name, source })?;
    }
    let name = program::UPLINK;
    xdp(&mut object)?
        .load()
        .map_err(|source| LoadError::Program { name, source })?;
    Ok(object)
}

/// The programs for hooks, by name.
pub type Programs = BTreeMap<&'static str, OwnedFd>;

/// Those of a loaded object.
///
/// # Errors
/// [`LoadError::Missing`] when it has none of such a name; no descriptors are left.
pub fn programs(object: &mut Ebpf) -> Result<Programs, LoadError> {
    let mut programs = Programs::new();
    for name in program::HOOKED {
        let fd: &ProgramFd = classifier(object, name)?
            .fd()
            .map_err(|source| LoadError::Program { name, source })?;
        let fd = fd.as_fd().try_clone_to_owned();
        let fd = fd.map_err(|source| LoadError::Bpf {
            action: format!("hold the program {name}"),
            source,
        })?;
        programs.insert(name, fd);
    }
    Ok(programs)
}

/// The same programs once more, on the same maps: the kernel takes no program twice into one hook (EEXIST, bpf_mprog_attach
/// in kernel/bpf/mprog.c), and to go first again without a gap is to be in it twice for a moment.
///
/// # Errors
/// What the kernel refuses; that the pinned maps are not those of the first load.
pub fn twins(
    pins: &Pins,
    options: Options,
    maps: &[(&'static str, u32)],
) -> Result<Programs, LoadError> {
    let mut object = load_into(pins, options)?;
    for (name, id) in maps {
        if map_id(&object, name)? != *id {
            return Err(LoadError::ReadBack { name });
        }
    }
    programs(&mut object)
}

/// Names and numbers of the pinned maps of a loaded object.
///
/// # Errors
/// A map that cannot be asked.
pub fn map_ids(object: &Ebpf) -> Result<Vec<(&'static str, u32)>, LoadError> {
    let ids = layout::PINNED.into_iter();
    ids.map(|name| Ok((name, map_id(object, name)?))).collect()
}

fn map_id(object: &Ebpf, name: &'static str) -> Result<u32, LoadError> {
    let map = tables::descriptor(object, name)?;
    sys::map_id(map.as_fd()).map_err(|source| LoadError::Bpf {
        action: format!("look at the map {name}"),
        source,
    })
}

/// A program of the object.
///
/// # Errors
/// [`LoadError::Missing`] when the object has none of this name.
pub fn classifier<'a>(
    object: &'a mut Ebpf,
    name: &'static str,
) -> Result<&'a mut SchedClassifier, LoadError> {
    object
        .program_mut(name)
        .and_then(|program| <&mut SchedClassifier>::try_from(program).ok())
        .ok_or(LoadError::Missing(name))
}

/// The program for uplinks.
///
/// # Errors
/// [`LoadError::Missing`] when the object has none.
pub fn xdp(object: &mut Ebpf) -> Result<&mut Xdp, LoadError> {
    object
        .program_mut(program::UPLINK)
        .and_then(|program| <&mut Xdp>::try_from(program).ok())
        .ok_or(LoadError::Missing(program::UPLINK))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(not(feature = "mutants"))]
    fn nothing_can_be_left_out_of_what_is_shipped() {
        let mut words = OBJECT.windows(10);
        assert!(!words.any(|word| word == b"DFW_MUTANT"));
    }

    #[test]
    fn kernels() {
        for good in ["6.6.0", "6.6-rc1", "6.18.44-fc", "7.0", "10.1.2-generic"] {
            assert!(check_kernel(good).is_ok(), "{good}");
        }
        for bad in ["6.1.0-23-amd64", "6.5.13", "5.15.0", "", "linux"] {
            let error = check_kernel(bad).expect_err(bad);
            assert!(
                error.is_capability() && error.to_string().contains("6.6"),
                "{error}"
            );
        }
    }
}
