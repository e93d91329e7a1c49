//! What others did to links and pins, and the way back.
//!
//! Level-triggered, like everything here: it does not matter what happened, only whether dfw's link comes first in its hook
//! and its pin is where it belongs. A hook is one system call, a directory of pins a few.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    os::fd::{AsFd as _, OwnedFd},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use aya::Ebpf;
use dfw_common::maps as layout;

use super::{
    links::{Copy, LinkSet, Place, failed},
    load::LoadError,
    sys::{self, TcxHook},
    tables::descriptor,
};
use crate::reconcile::Tampering;

/// How long one round of repairs may take: ports that appear meanwhile wait for its end. The rest is done in the next one.
const ROUND: Duration = Duration::from_millis(250);

impl LinkSet {
    /// Finds hooks in which another program comes before ours, or ours is not any more, and goes first again.
    pub fn repair(&mut self) -> Vec<Tampering<LoadError>> {
        let began = Instant::now();
        let mut found = Vec::new();
        let overtaken = self.overtaken(&mut found);
        let _expedited = self.switch.begin(overtaken.len());
        for place in overtaken {
            if began.elapsed() > ROUND {
                break;
            }
            found.extend(self.go_first(place));
        }
        found
    }

    /// Places whose link is not the first of its hook; those that come after the last one that was repaired first, so that
    /// a fight for some hooks does not keep the others waiting.
    fn overtaken(&mut self, found: &mut Vec<Tampering<LoadError>>) -> Vec<Place> {
        let mut overtaken = Vec::new();
        for (place, held) in &mut self.held {
            match sys::look(place.ifindex, place.hook) {
                Ok(hook) => {
                    held.is_crowded = hook.programs > 1;
                    if hook.first != held.id {
                        overtaken.push(*place);
                    }
                }
                // Netlink tells of it too, and that it is no tampering.
                Err(error) if is_gone(&error) => {}
                Err(error) => found.push(Tampering {
                    ifindex: Some(place.ifindex),
                    what: format!("the programs on {} cannot be told", side(*place)),
                    repaired: Err(failed("query the hook of", *place, error)),
                }),
            }
        }
        let next = overtaken.partition_point(|place| Some(*place) <= self.repaired_last);
        overtaken.rotate_left(next);
        overtaken
    }

    /// A new link of ours goes before everything, takes the pin, and only then the former one goes: there is no moment
    /// without ours.
    fn go_first(&mut self, place: Place) -> Option<Tampering<LoadError>> {
        let held = self.held.get(&place)?;
        let info = sys::link_info(held.link.as_fd()).ok();
        let is_detached = info.is_none_or(|info| info.ifindex == 0);
        let other = match held.copy {
            Copy::Former | Copy::Second => Copy::First,
            Copy::First => Copy::Second,
        };
        let repaired = self.attach(place, other);
        self.repaired_last = Some(place);
        if let Err(LoadError::Bpf { source, .. }) = &repaired
            && is_gone(source)
        {
            return None;
        }
        let side = side(place);
        let what = if is_detached {
            format!("dfw's program was detached from {side}; it is attached again")
        } else {
            format!("another program was placed before dfw's on {side}; dfw's is first again")
        };
        Some(Tampering {
            ifindex: Some(place.ifindex),
            what,
            repaired,
        })
    }

    /// Pins what is not pinned any more.
    pub fn repair_pins(&self, found: &mut Vec<Tampering<LoadError>>) {
        let pinned = match names(&self.pins) {
            Ok(pinned) => pinned,
            Err(error) => return found.push(unreadable(error)),
        };
        let pinned: BTreeSet<Place> = pinned
            .iter()
            .filter_map(|name| Place::parse(name))
            .collect();
        for place in self.held.keys().filter(|place| !pinned.contains(place)) {
            found.push(Tampering {
                ifindex: Some(place.ifindex),
                what: format!(
                    "the pin of the link on {} was removed; it is pinned again",
                    side(*place)
                ),
                repaired: self.pin(*place),
            });
        }
    }
}

/// The maps by their pins: what the next agent finds.
#[derive(Debug)]
pub(super) struct MapPins {
    directory: PathBuf,
    maps: BTreeMap<&'static str, OwnedFd>,
}

impl MapPins {
    /// Of an object whose maps nobody has taken yet.
    pub(super) fn open(object: &Ebpf, directory: PathBuf) -> Result<Self, LoadError> {
        let maps = layout::PINNED
            .into_iter()
            .map(|name| Ok((name, descriptor(object, name)?)));
        Ok(Self {
            directory,
            maps: maps.collect::<Result<_, LoadError>>()?,
        })
    }

    /// Pins what is not pinned any more.
    pub(super) fn repair(&self, found: &mut Vec<Tampering<LoadError>>) {
        let pinned = match names(&self.directory) {
            Ok(pinned) => pinned,
            Err(error) => return found.push(unreadable(error)),
        };
        for (name, map) in self
            .maps
            .iter()
            .filter(|(name, _)| !pinned.contains(**name))
        {
            let path = self.directory.join(name);
            found.push(Tampering {
                ifindex: None,
                what: format!("the pin of the map {name} was removed; it is pinned again"),
                repaired: sys::pin(map.as_fd(), &path).map_err(|source| LoadError::Pins {
                    action: "pin",
                    path,
                    source,
                }),
            });
        }
    }
}

/// What is pinned in a directory, which is made again when it is gone.
fn names(directory: &Path) -> Result<BTreeSet<String>, LoadError> {
    let list = || -> io::Result<BTreeSet<String>> {
        let entries = match fs::read_dir(directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                fs::create_dir_all(directory)?;
                fs::read_dir(directory)?
            }
            other => other?,
        };
        entries
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect()
    };
    list().map_err(|source| LoadError::Pins {
        action: "list",
        path: directory.to_owned(),
        source,
    })
}

fn unreadable(error: LoadError) -> Tampering<LoadError> {
    Tampering {
        ifindex: None,
        what: "the pins cannot be read".to_owned(),
        repaired: Err(error),
    }
}

/// A hook, for people.
fn side(place: Place) -> &'static str {
    match place.hook {
        TcxHook::Ingress => "TCX ingress",
        TcxHook::Egress => "TCX egress",
    }
}

fn is_gone(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ENODEV)
}
