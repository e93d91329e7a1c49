//! The programs on interfaces: attached first in their hook, pinned, held, swapped without a gap.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    os::fd::{AsFd as _, OwnedFd},
    path::PathBuf,
    thread::JoinHandle,
};

use super::{
    expedite::{Expedited, Switch},
    load::{LoadError, Pins, Programs, program},
    sys::{self, TcxHook},
};
use crate::{
    model::Role,
    reconcile::{Attached, Progress},
};

const ROLES: [Role; 2] = [Role::Endpoint, Role::Bridge];

fn name_of(role: Role) -> &'static str {
    match role {
        Role::Endpoint => "endpoint",
        Role::Bridge => "bridge",
    }
}

fn program_of(role: Role, hook: TcxHook) -> &'static str {
    match (role, hook) {
        (Role::Endpoint, TcxHook::Ingress) => program::FROM_ENDPOINT,
        (Role::Endpoint, TcxHook::Egress) => program::TO_ENDPOINT,
        (Role::Bridge, TcxHook::Ingress) => program::FROM_BRIDGE,
        (Role::Bridge, TcxHook::Egress) => program::TO_BRIDGE,
    }
}

/// Both hooks, the one that guards the others first.
const HOOKS: [TcxHook; 2] = [TcxHook::Ingress, TcxHook::Egress];

/// What a pin's name ends in while it is on its way to another's place.
const NEW: &str = "-new";

/// One link: interface, role and hook, in the pin's name as `endpoint-17-ingress`. In the order of attaching: a sender
/// that is not closed yet is worse than a receiver, whoever's it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) hook: TcxHook,
    role: Role,
    pub(super) ifindex: u32,
}

impl Place {
    pub(super) fn name(self) -> String {
        let hook = match self.hook {
            TcxHook::Ingress => "ingress",
            TcxHook::Egress => "egress",
        };
        format!("{}-{}-{hook}", name_of(self.role), self.ifindex)
    }

    pub(super) fn parse(name: &str) -> Option<Self> {
        let mut parts = name.split('-');
        let role = parts.next()?;
        let role = ROLES.into_iter().find(|known| name_of(*known) == role)?;
        let ifindex = parts.next()?.parse().ok()?;
        let hook = match (parts.next()?, parts.next()) {
            ("ingress", None) => TcxHook::Ingress,
            ("egress", None) => TcxHook::Egress,
            _ => return None,
        };
        Some(Self {
            hook,
            role,
            ifindex,
        })
    }

    /// The places on both hooks of an interface.
    fn both(ifindex: u32, role: Role) -> [Self; 2] {
        HOOKS.map(|hook| Self {
            hook,
            role,
            ifindex,
        })
    }
}

/// A link that is ours.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) link: OwnedFd,
    pub(super) id: u32,
    /// Whose program it has.
    pub(super) copy: Copy,
    /// Whether programs of others are in its hook too, as of the last look.
    pub(super) is_crowded: bool,
}

/// Which program a link has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Copy {
    /// That of an earlier agent.
    Former,
    /// Ours.
    First,
    /// Ours too: the other copy, see [`super::load::twins`].
    Second,
}

/// The second copy of the programs, which takes a while to be verified and is needed only for repairs.
#[derive(Debug)]
pub enum Twins {
    /// A thread loads it.
    Coming(JoinHandle<Result<Programs, LoadError>>),
    /// It is there; empty when that has failed.
    Here(Programs),
}

/// Every link, pinned and held.
#[derive(Debug)]
pub struct LinkSet {
    pub(super) pins: PathBuf,
    programs: Programs,
    twins: Twins,
    pub(super) held: BTreeMap<Place, Held>,
    /// What is to be attached.
    queue: BTreeSet<Place>,
    pub(super) switch: Switch,
    /// While the queue is a bulk.
    expedited: Option<Expedited>,
    /// Where the last repair was.
    pub(super) repaired_last: Option<Place>,
}

impl LinkSet {
    /// Takes what an earlier agent has pinned; its programs stay until [`LinkSet::swap`].
    ///
    /// # Errors
    /// What bpf(2) or the pin directory refuses. Links of interfaces that are gone are removed and are no error.
    pub fn open(
        pins: &Pins,
        programs: Programs,
        twins: Twins,
        switch: Switch,
    ) -> Result<Self, LoadError> {
        let mut set = Self {
            pins: pins.links(),
            programs,
            twins,
            held: BTreeMap::new(),
            queue: BTreeSet::new(),
            switch,
            expedited: None,
            repaired_last: None,
        };
        set.take_over()?;
        Ok(set)
    }

    fn take_over(&mut self) -> Result<(), LoadError> {
        let entries = fs::read_dir(&self.pins)
            .and_then(Iterator::collect::<io::Result<Vec<_>>>)
            .map_err(|source| LoadError::Pins {
                action: "list",
                path: self.pins.clone(),
                source,
            })?;
        for entry in entries {
            let name = entry.file_name();
            let name = name.to_str().unwrap_or_default();
            // An agent that died between two steps of `pin_over`.
            let unfinished = name.strip_suffix(NEW).and_then(Place::parse).is_some();
            let Some(place) = Place::parse(name) else {
                if unfinished {
                    self.unpin(name)?;
                }
                continue;
            };
            let link =
                sys::open_pinned(&entry.path()).map_err(|source| failed("open", place, source))?;
            let info =
                sys::link_info(link.as_fd()).map_err(|source| failed("look at", place, source))?;
            if info.is_on(place.ifindex, place.hook) {
                let held = Held {
                    link,
                    id: info.id,
                    copy: Copy::Former,
                    is_crowded: sys::look(place.ifindex, place.hook)
                        .is_ok_and(|hook| hook.programs > 1),
                };
                self.held.insert(place, held);
            } else {
                // The interface is gone, or somebody has detached or replaced the link: it is attached anew.
                self.unpin(name)?;
            }
        }
        Ok(())
    }

    /// Gives each link of an earlier agent this object's program in one step. To be called when the maps are filled:
    /// from then on every packet is judged by them. How many it were.
    ///
    /// # Errors
    /// What bpf(2) refuses; what was swapped stays so, and the next call does the rest.
    pub fn swap(&mut self) -> Result<usize, LoadError> {
        let mut gone = Vec::new();
        let mut swapped = 0;
        let former = self.held.iter_mut();
        for (place, held) in former.filter(|(_, held)| held.copy == Copy::Former) {
            let program = &self.programs[program_of(place.role, place.hook)];
            match sys::update_link(held.link.as_fd(), program.as_fd()) {
                Ok(()) => {
                    held.copy = Copy::First;
                    swapped += 1;
                }
                Err(error) if error.raw_os_error() == Some(libc::ENOLINK) => gone.push(*place),
                Err(source) => return Err(failed("update", *place, source)),
            }
        }
        for place in gone {
            self.remove(place)?;
        }
        Ok(swapped)
    }

    /// Interfaces that have both links of a role.
    pub fn complete(&self) -> BTreeSet<(u32, Role)> {
        self.touched()
            .into_iter()
            .filter(|(ifindex, role)| self.is_complete(*ifindex, *role))
            .collect()
    }

    fn is_complete(&self, ifindex: u32, role: Role) -> bool {
        let places = Place::both(ifindex, role);
        places.iter().all(|place| self.held.contains_key(place))
    }

    /// Interfaces that have any link.
    pub fn touched(&self) -> BTreeSet<(u32, Role)> {
        self.held
            .keys()
            .map(|place| (place.ifindex, place.role))
            .collect()
    }

    /// Interfaces that have programs of others in one of their hooks.
    pub fn crowded(&self) -> BTreeSet<u32> {
        let crowded = self.held.iter().filter(|(_, held)| held.is_crowded);
        crowded.map(|(place, _)| place.ifindex).collect()
    }

    /// Puts the hooks of an interface that have no link yet among those that [`LinkSet::attach_next`] takes.
    pub fn plan(&mut self, ifindex: u32, role: Role) {
        let missing = Place::both(ifindex, role)
            .into_iter()
            .filter(|place| !self.held.contains_key(place));
        self.queue.extend(missing);
    }

    /// Attaches one of the planned programs, first in its hook: the senders' side of all interfaces before the receivers'
    /// side of any. None when there is nothing left to do.
    pub fn attach_next(&mut self) -> Option<Attached<LoadError>> {
        if self.expedited.is_none() {
            self.expedited = self.switch.begin(self.queue.len());
        }
        let Some(place) = self.queue.pop_first() else {
            self.expedited = None;
            return None;
        };
        let (ifindex, role) = (place.ifindex, place.role);
        let progress = self.attach(place, Copy::First).map(|()| {
            if self.is_complete(ifindex, role) {
                Progress::Both
            } else {
                Progress::One
            }
        });
        if progress.is_err() {
            // One error for an interface is enough; the next pass tries both again.
            self.queue
                .retain(|other| (other.ifindex, other.role) != (ifindex, role));
        }
        Some(Attached { ifindex, progress })
    }

    /// Attaches first in the hook, whatever was there: the link that is replaced is detached only afterwards.
    ///
    /// # Errors
    /// ENODEV when the interface is gone: the caller hears of that by netlink.
    pub(super) fn attach(&mut self, place: Place, copy: Copy) -> Result<(), LoadError> {
        let name = program_of(place.role, place.hook);
        let programs = match copy {
            Copy::Former | Copy::First => &self.programs,
            Copy::Second => self.twins.get()?,
        };
        let program = programs.get(name).ok_or(LoadError::Missing(name))?;
        let link = sys::attach_first(program.as_fd(), place.ifindex, place.hook)
            .map_err(|source| failed("attach", place, source))?;
        let info =
            sys::link_info(link.as_fd()).map_err(|source| failed("look at", place, source))?;
        let held = Held {
            link,
            id: info.id,
            copy,
            is_crowded: sys::look(place.ifindex, place.hook).is_ok_and(|hook| hook.programs > 1),
        };
        let former = self.held.insert(place, held);
        let pinned = self.pin(place);
        drop(former);
        pinned
    }

    /// Pins a link that is held, in the place of whatever is pinned there.
    pub(super) fn pin(&self, place: Place) -> Result<(), LoadError> {
        let Some(held) = self.held.get(&place) else {
            return Ok(());
        };
        let path = self.pins.join(place.name());
        let failed = |source| LoadError::Pins {
            action: "pin",
            path: path.clone(),
            source,
        };
        match sys::pin(held.link.as_fd(), &path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            other => return other.map_err(failed),
        }
        // A rename leaves no moment without a pin.
        let new = format!("{}{NEW}", place.name());
        self.unpin(&new)?;
        let new = self.pins.join(new);
        sys::pin(held.link.as_fd(), &new)
            .and_then(|()| fs::rename(&new, &path))
            .map_err(failed)
    }

    /// Detaches an interface's programs: only for one that dfw no longer manages, or that is gone.
    ///
    /// # Errors
    /// A pin that cannot be removed.
    pub fn detach(&mut self, ifindex: u32, role: Role) -> Result<(), LoadError> {
        for place in Place::both(ifindex, role) {
            self.queue.remove(&place);
            self.remove(place)?;
        }
        Ok(())
    }

    fn remove(&mut self, place: Place) -> Result<(), LoadError> {
        self.unpin(&place.name())?;
        self.held.remove(&place);
        Ok(())
    }

    fn unpin(&self, name: &str) -> Result<(), LoadError> {
        let path = self.pins.join(name);
        match fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => Err(LoadError::Pins {
                action: "remove",
                path,
                source,
            }),
            _ => Ok(()),
        }
    }
}

impl Twins {
    /// Waits for it if it is not there yet.
    fn get(&mut self) -> Result<&Programs, LoadError> {
        if let Self::Coming(_) = self
            && let Self::Coming(thread) = std::mem::replace(self, Self::Here(Programs::new()))
        {
            let loaded = thread
                .join()
                .unwrap_or(Err(LoadError::Missing("second copy")))?;
            *self = Self::Here(loaded);
        }
        match self {
            Self::Here(programs) => Ok(programs),
            Self::Coming(_) => Err(LoadError::Missing("second copy")),
        }
    }
}

pub(super) fn failed(verb: &str, place: Place, source: io::Error) -> LoadError {
    LoadError::Bpf {
        action: format!("{verb} the link {}", place.name()),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_pins() {
        for role in ROLES {
            for place in Place::both(17, role) {
                assert_eq!(Place::parse(&place.name()), Some(place));
            }
        }
        for bad in [
            "",
            "endpoint",
            "endpoint-x-ingress",
            "endpoint-1-up",
            "endpoint-1-ingress-2",
            "endpoint-1-ingress-new",
            "host-1-egress",
        ] {
            assert_eq!(Place::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn senders_come_first() {
        let places = [(7, Role::Bridge), (9, Role::Endpoint), (3, Role::Endpoint)]
            .map(|(ifindex, role)| Place::both(ifindex, role));
        let order: BTreeSet<Place> = places.into_iter().flatten().collect();
        let names: Vec<String> = order.into_iter().map(Place::name).collect();
        let expected = [
            "endpoint-3-ingress",
            "endpoint-9-ingress",
            "bridge-7-ingress",
            "endpoint-3-egress",
            "endpoint-9-egress",
            "bridge-7-egress",
        ];
        assert_eq!(names, expected);
    }
}
