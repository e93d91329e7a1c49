//! The program on uplinks: attached by XDP link, pinned, held, swapped without a gap.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    os::fd::{AsFd as _, OwnedFd},
    path::PathBuf,
    time::{Duration, Instant},
};

use aya::Ebpf;

use super::{
    load::{self, LoadError, Pins},
    sys,
};
use crate::{model::XdpMode, reconcile::Tampering};

/// An interface that could not be attached to is let be for so long: each try may take its link down.
const AGAIN: Duration = Duration::from_secs(60);

/// A link on an uplink.
#[derive(Debug)]
struct Held {
    link: OwnedFd,
    mode: XdpMode,
    /// It has the program of an earlier agent.
    is_former: bool,
}

/// Every link on an uplink, in the pin's name as `uplink-2-native`.
#[derive(Debug)]
pub(super) struct Uplinks {
    pins: PathBuf,
    program: OwnedFd,
    held: BTreeMap<u32, Held>,
    /// When an interface refused last, and how.
    refused: BTreeMap<u32, (Instant, i32)>,
}

impl Uplinks {
    /// Takes what an earlier agent has pinned; its program stays until [`Uplinks::set`].
    pub(super) fn open(pins: &Pins, object: &mut Ebpf) -> Result<Self, LoadError> {
        let name = load::program::UPLINK;
        let program = load::xdp(object)?
            .fd()
            .map_err(|source| LoadError::Program { name, source })?
            .as_fd()
            .try_clone_to_owned()
            .map_err(|source| LoadError::Bpf {
                action: format!("hold the program {name}"),
                source,
            })?;
        let mut uplinks = Self {
            pins: pins.links(),
            program,
            held: BTreeMap::new(),
            refused: BTreeMap::new(),
        };
        let entries =
            fs::read_dir(&uplinks.pins).map_err(|source| uplinks.pins_error("list", source))?;
        for entry in entries.filter_map(Result::ok) {
            let Some((ifindex, mode)) = entry.file_name().to_str().and_then(parse) else {
                continue;
            };
            let link = sys::open_pinned(&entry.path())
                .map_err(|source| failed("open", ifindex, source))?;
            let info = sys::link_info(link.as_fd())
                .map_err(|source| failed("look at", ifindex, source))?;
            if info.ifindex == ifindex {
                let is_former = true;
                uplinks.held.insert(
                    ifindex,
                    Held {
                        link,
                        mode,
                        is_former,
                    },
                );
            } else {
                // The interface is gone, or somebody has detached it: it is attached anew.
                uplinks.unpin(ifindex, mode)?;
            }
        }
        Ok(uplinks)
    }

    /// Makes the program be on exactly these interfaces, by number and name; how each has it.
    pub(super) fn set(
        &mut self,
        wanted: &BTreeMap<u32, String>,
    ) -> BTreeMap<u32, Result<XdpMode, LoadError>> {
        let surplus: Vec<u32> = self.held.keys().copied().collect();
        for ifindex in surplus
            .into_iter()
            .filter(|ifindex| !wanted.contains_key(ifindex))
        {
            if let Err(error) = self.remove(ifindex) {
                tracing::warn!(%error, "not detached");
            }
        }
        self.refused
            .retain(|ifindex, _| wanted.contains_key(ifindex));
        let wanted = wanted.iter();
        wanted
            .map(|(ifindex, name)| (*ifindex, self.place(*ifindex, name)))
            .collect()
    }

    fn place(&mut self, ifindex: u32, name: &str) -> Result<XdpMode, LoadError> {
        if let Some(held) = self.held.get_mut(&ifindex) {
            if !held.is_former {
                return Ok(held.mode);
            }
            match sys::update_link(held.link.as_fd(), self.program.as_fd()) {
                Ok(()) => {
                    held.is_former = false;
                    return Ok(held.mode);
                }
                Err(error) if error.raw_os_error() == Some(libc::ENOLINK) => {
                    self.remove(ifindex)?
                }
                Err(source) => return Err(failed("update", ifindex, source)),
            }
        }
        if let Some((when, errno)) = self.refused.get(&ifindex)
            && when.elapsed() < AGAIN
        {
            return Err(refused(ifindex, io::Error::from_raw_os_error(*errno)));
        }
        tracing::warn!(
            interface = name,
            "attaching to an uplink: its driver may take the link down for a moment"
        );
        self.attach(ifindex, name)
    }

    fn attach(&mut self, ifindex: u32, name: &str) -> Result<XdpMode, LoadError> {
        let (link, mode) = self.link(ifindex, name).map_err(|error| {
            let errno = error.raw_os_error().unwrap_or(libc::EIO);
            self.refused.insert(ifindex, (Instant::now(), errno));
            refused(ifindex, error)
        })?;
        self.refused.remove(&ifindex);
        let held = Held {
            link,
            mode,
            is_former: false,
        };
        self.held.insert(ifindex, held);
        self.pin(ifindex)?;
        tracing::info!(interface = name, mode = mode.name(), "uplink");
        Ok(mode)
    }

    /// A link in the best mode that the interface has.
    fn link(&self, ifindex: u32, name: &str) -> io::Result<(OwnedFd, XdpMode)> {
        let program = self.program.as_fd();
        match sys::attach_xdp(program, ifindex, true) {
            Ok(link) => Ok((link, XdpMode::Native)),
            Err(error) if is_final(&error) => Err(error),
            Err(error) => {
                tracing::info!(interface = name, %error, "its driver has no XDP for dfw: generic");
                let link = sys::attach_xdp(program, ifindex, false)?;
                Ok((link, XdpMode::Generic))
            }
        }
    }

    /// Attaches what was detached by force, and pins what is not pinned any more.
    pub(super) fn repair(&mut self, found: &mut Vec<Tampering<LoadError>>) {
        let pinned: BTreeSet<String> = fs::read_dir(&self.pins)
            .into_iter()
            .flatten()
            .filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned()))
            .collect();
        let held: Vec<u32> = self.held.keys().copied().collect();
        for ifindex in held {
            let Some(Held { link, mode, .. }) = self.held.get(&ifindex) else {
                continue;
            };
            let is_attached =
                sys::link_info(link.as_fd()).is_ok_and(|info| info.ifindex == ifindex);
            if is_attached && pinned.contains(&name(ifindex, *mode)) {
                continue;
            }
            let (what, repaired) = if is_attached {
                (
                    "the pin of the link on XDP was removed; it is pinned again",
                    self.pin(ifindex),
                )
            } else {
                let mode = *mode;
                self.held.remove(&ifindex);
                let repaired = self
                    .unpin(ifindex, mode)
                    .and_then(|()| self.attach(ifindex, &format!("interface {ifindex}")));
                if repaired.as_ref().is_err_and(is_gone) {
                    // Netlink tells of it too, and that it is no tampering.
                    continue;
                }
                (
                    "dfw's program was detached from XDP; it is attached again",
                    repaired.map(drop),
                )
            };
            found.push(Tampering {
                ifindex: Some(ifindex),
                what: what.to_owned(),
                repaired,
            });
        }
    }

    fn pin(&self, ifindex: u32) -> Result<(), LoadError> {
        let Some(held) = self.held.get(&ifindex) else {
            return Ok(());
        };
        let path = self.pins.join(name(ifindex, held.mode));
        sys::pin(held.link.as_fd(), &path).map_err(|source| LoadError::Pins {
            action: "pin",
            path,
            source,
        })
    }

    fn remove(&mut self, ifindex: u32) -> Result<(), LoadError> {
        if let Some(held) = self.held.get(&ifindex) {
            self.unpin(ifindex, held.mode)?;
        }
        self.held.remove(&ifindex);
        Ok(())
    }

    fn unpin(&self, ifindex: u32, mode: XdpMode) -> Result<(), LoadError> {
        let path = self.pins.join(name(ifindex, mode));
        match fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => Err(LoadError::Pins {
                action: "remove",
                path,
                source,
            }),
            _ => Ok(()),
        }
    }

    fn pins_error(&self, action: &'static str, source: io::Error) -> LoadError {
        LoadError::Pins {
            action,
            path: self.pins.clone(),
            source,
        }
    }
}

fn name(ifindex: u32, mode: XdpMode) -> String {
    format!("uplink-{ifindex}-{}", mode.name())
}

fn parse(pin: &str) -> Option<(u32, XdpMode)> {
    let (ifindex, mode) = pin.strip_prefix("uplink-")?.split_once('-')?;
    let mode = [XdpMode::Native, XdpMode::Generic]
        .into_iter()
        .find(|known| known.name() == mode)?;
    Some((ifindex.parse().ok()?, mode))
}

/// Whether the other mode would not be attached either.
fn is_final(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EBUSY | libc::EEXIST | libc::ENODEV | libc::EPERM)
    )
}

fn is_gone(error: &LoadError) -> bool {
    matches!(error, LoadError::Bpf { source, .. } if source.raw_os_error() == Some(libc::ENODEV))
}

fn failed(verb: &str, ifindex: u32, source: io::Error) -> LoadError {
    LoadError::Bpf {
        action: format!("{verb} the link uplink-{ifindex}"),
        source,
    }
}

fn refused(ifindex: u32, source: io::Error) -> LoadError {
    if matches!(source.raw_os_error(), Some(libc::EBUSY | libc::EEXIST)) {
        let action = format!(
            "attach the link uplink-{ifindex}: another XDP program is there (`ip link` shows it), and dfw takes nobody's place"
        );
        return LoadError::Bpf { action, source };
    }
    failed("attach", ifindex, source)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_pins() {
        for mode in [XdpMode::Native, XdpMode::Generic] {
            assert_eq!(parse(&name(17, mode)), Some((17, mode)));
        }
        for bad in [
            "",
            "uplink-",
            "uplink-1",
            "uplink-x-native",
            "uplink-1-native-new",
            "endpoint-1-ingress",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
