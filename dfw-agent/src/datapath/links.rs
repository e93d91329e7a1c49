//! The programs on interfaces: attached first in their hook, pinned, held, swapped without a gap.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    os::fd::{AsFd as _, OwnedFd},
    path::PathBuf,
};

use aya::{Ebpf, programs::ProgramFd};

use crate::model::Role;

use super::{
    load::{LoadError, Pins, classifier, program},
    sys::{self, TcxHook},
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

/// One link: interface, role and hook, in the pin's name as `endpoint-17-ingress`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Place {
    ifindex: u32,
    role: Role,
    hook: TcxHook,
}

impl Place {
    fn name(self) -> String {
        let hook = match self.hook {
            TcxHook::Ingress => "ingress",
            TcxHook::Egress => "egress",
        };
        format!("{}-{}-{hook}", name_of(self.role), self.ifindex)
    }

    fn parse(name: &str) -> Option<Self> {
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
            ifindex,
            role,
            hook,
        })
    }
}

/// Every link, pinned and held.
#[derive(Debug)]
pub struct LinkSet {
    pins: PathBuf,
    programs: BTreeMap<&'static str, OwnedFd>,
    held: BTreeMap<Place, OwnedFd>,
}

impl LinkSet {
    /// Takes over what an earlier agent has pinned: each link gets this object's program in one step.
    ///
    /// # Errors
    /// What bpf(2) or the pin directory refuses. Links of interfaces that are gone are removed and are no error.
    pub fn open(object: &mut Ebpf, pins: &Pins) -> Result<Self, LoadError> {
        let mut programs = BTreeMap::new();
        for name in [
            program::FROM_ENDPOINT,
            program::TO_ENDPOINT,
            program::FROM_BRIDGE,
            program::TO_BRIDGE,
        ] {
            let fd: &ProgramFd = classifier(object, name)?
                .fd()
                .map_err(|source| LoadError::Program { name, source })?;
            let fd = fd
                .as_fd()
                .try_clone_to_owned()
                .map_err(|source| LoadError::Bpf {
                    action: format!("hold the program {name}"),
                    source,
                })?;
            programs.insert(name, fd);
        }
        let mut set = Self {
            pins: pins.links(),
            programs,
            held: BTreeMap::new(),
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
            let Some(place) = entry.file_name().to_str().and_then(Place::parse) else {
                continue;
            };
            let link =
                sys::open_pinned(&entry.path()).map_err(|source| failed("open", place, source))?;
            let program = &self.programs[program_of(place.role, place.hook)];
            match sys::update_link(link.as_fd(), program.as_fd()) {
                Ok(()) => {
                    self.held.insert(place, link);
                }
                // The interface is gone, and the link with it.
                Err(error) if error.raw_os_error() == Some(libc::ENOLINK) => self.unpin(place)?,
                Err(source) => return Err(failed("update", place, source)),
            }
        }
        Ok(())
    }

    /// Interfaces that have both links of a role.
    pub fn complete(&self) -> BTreeSet<(u32, Role)> {
        let has = |ifindex, role, hook| {
            self.held.contains_key(&Place {
                ifindex,
                role,
                hook,
            })
        };
        self.held
            .keys()
            .map(|place| (place.ifindex, place.role))
            .filter(|(ifindex, role)| HOOKS.iter().all(|hook| has(*ifindex, *role, *hook)))
            .collect()
    }

    /// Interfaces that have any link.
    pub fn touched(&self) -> BTreeSet<(u32, Role)> {
        self.held
            .keys()
            .map(|place| (place.ifindex, place.role))
            .collect()
    }

    /// Attaches both programs to an interface, first in their hooks. Attached already is no error.
    ///
    /// # Errors
    /// ENODEV when the interface is gone: the caller will hear of that by netlink.
    pub fn attach(&mut self, ifindex: u32, role: Role) -> Result<(), LoadError> {
        for hook in HOOKS {
            let place = Place {
                ifindex,
                role,
                hook,
            };
            if self.held.contains_key(&place) {
                continue;
            }
            let program = &self.programs[program_of(role, hook)];
            let link = sys::attach_first(program.as_fd(), ifindex, hook)
                .map_err(|source| failed("attach", place, source))?;
            let path = self.pins.join(place.name());
            sys::pin(link.as_fd(), &path).map_err(|source| LoadError::Pins {
                action: "pin",
                path,
                source,
            })?;
            self.held.insert(place, link);
        }
        Ok(())
    }

    /// Detaches an interface's programs: only for one that dfw no longer manages, or that is gone.
    ///
    /// # Errors
    /// A pin that cannot be removed.
    pub fn detach(&mut self, ifindex: u32, role: Role) -> Result<(), LoadError> {
        for hook in HOOKS {
            let place = Place {
                ifindex,
                role,
                hook,
            };
            self.unpin(place)?;
            self.held.remove(&place);
        }
        Ok(())
    }

    fn unpin(&self, place: Place) -> Result<(), LoadError> {
        let path = self.pins.join(place.name());
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

fn failed(verb: &str, place: Place, source: io::Error) -> LoadError {
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
            for hook in HOOKS {
                let place = Place {
                    ifindex: 17,
                    role,
                    hook,
                };
                assert_eq!(Place::parse(&place.name()), Some(place));
            }
        }
        for bad in [
            "",
            "endpoint",
            "endpoint-x-ingress",
            "endpoint-1-up",
            "endpoint-1-ingress-2",
            "host-1-egress",
        ] {
            assert_eq!(Place::parse(bad), None, "{bad}");
        }
    }
}
