//! From what is missing to what is done about it. Pure.

use std::{collections::BTreeSet, fmt};

/// Something that a task cannot do without.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Need {
    /// What people call it.
    pub(crate) name: &'static str,
    /// What brings it on Debian 12.
    pub(crate) fix: Fix,
    /// What brings it elsewhere.
    pub(crate) by_hand: &'static str,
}

/// What brings a need on Debian 12.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Fix {
    /// Debian packages.
    Packages(&'static [&'static str]),
    /// A program from crates.io.
    Crate(&'static Crate),
}

/// A program from crates.io.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Crate {
    pub(crate) name: &'static str,
    pub(crate) version: &'static str,
    /// More arguments of `cargo install`.
    pub(crate) arguments: &'static [&'static str],
    pub(crate) environment: &'static [(&'static str, &'static str)],
    /// Debian packages that it takes to build it.
    pub(crate) packages: &'static [&'static str],
}

/// What the plan depends on.
#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) system: System,
    /// Whether this process may install packages.
    pub(crate) root: bool,
}

/// An operating system, as /etc/os-release names it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum System {
    Debian12,
    Other(String),
}

impl System {
    /// Reads the text of /etc/os-release (os-release(5)).
    pub(crate) fn parse(release: &str) -> Self {
        let field = |name: &str| {
            let value = release
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
            value.unwrap_or_default().trim_matches(['"', '\''])
        };
        match (field("ID"), field("VERSION_ID")) {
            ("debian", "12") => Self::Debian12,
            _ if field("PRETTY_NAME").is_empty() => Self::Other("this system".to_owned()),
            _ => Self::Other(field("PRETTY_NAME").to_owned()),
        }
    }
}

/// What to do, in this order.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) packages: BTreeSet<&'static str>,
    pub(crate) crates: Vec<&'static Crate>,
}

/// Why nothing is done, and what to do by hand.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Packages are installed by root only.
    NotRoot(BTreeSet<&'static str>),
    /// Only Debian 12's packages are known.
    UnknownSystem(String, Vec<(&'static str, &'static str)>),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotRoot(packages) => {
                let packages: Vec<_> = packages.iter().copied().collect();
                write!(
                    f,
                    "root is needed to install Debian packages: run\n  sudo apt-get install --no-install-recommends {}\n\
                     and then this again",
                    packages.join(" ")
                )
            }
            Self::UnknownSystem(system, needs) => {
                write!(f, "on {system} please install by hand:")?;
                needs
                    .iter()
                    .try_for_each(|(name, by_hand)| write!(f, "\n  {name}: {by_hand}"))
            }
        }
    }
}

/// Decides what to do about what is missing.
pub(crate) fn plan(missing: &[&Need], machine: &Machine) -> Result<Plan, Refusal> {
    if let System::Other(name) = &machine.system {
        let needs = missing
            .iter()
            .map(|need| (need.name, need.by_hand))
            .collect();
        return Err(Refusal::UnknownSystem(name.clone(), needs));
    }
    let mut plan = Plan::default();
    for need in missing {
        match &need.fix {
            Fix::Packages(packages) => plan.packages.extend(*packages),
            Fix::Crate(wanted) => {
                plan.packages.extend(wanted.packages);
                plan.crates.push(wanted);
            }
        }
    }
    if plan.packages.is_empty() || machine.root {
        Ok(plan)
    } else {
        Err(Refusal::NotRoot(plan.packages))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOOL: Crate = Crate {
        name: "tool",
        version: "1.0.0",
        arguments: &[],
        environment: &[],
        packages: &["libtool-dev", "g++"],
    };
    const FROM_DEBIAN: Need = Need {
        name: "compiler",
        fix: Fix::Packages(&["g++"]),
        by_hand: "get a compiler",
    };
    const FROM_CRATES: Need = Need {
        name: "tool",
        fix: Fix::Crate(&TOOL),
        by_hand: "get tool",
    };

    fn debian(root: bool) -> Machine {
        Machine {
            system: System::Debian12,
            root,
        }
    }

    #[test]
    fn packages_of_a_crate_come_with_it_and_once() {
        let plan = plan(&[&FROM_DEBIAN, &FROM_CRATES], &debian(true)).expect("root on Debian 12");
        assert_eq!(plan.packages, BTreeSet::from(["g++", "libtool-dev"]));
        assert_eq!(plan.crates, [&TOOL]);
    }

    #[test]
    fn nothing_missing_is_nothing_to_do_even_without_root() {
        assert_eq!(plan(&[], &debian(false)), Ok(Plan::default()));
    }

    #[test]
    fn without_root_the_very_command_is_named() {
        let refusal = plan(&[&FROM_CRATES], &debian(false)).expect_err("no root");
        assert!(
            refusal
                .to_string()
                .contains("--no-install-recommends g++ libtool-dev")
        );
    }

    #[test]
    fn another_system_is_told_each_need() {
        let release = "ID=fedora\nVERSION_ID=43\nPRETTY_NAME=\"Fedora Linux 43\"\n";
        let machine = Machine {
            system: System::parse(release),
            root: true,
        };
        let refusal = plan(&[&FROM_DEBIAN, &FROM_CRATES], &machine).expect_err("not Debian");
        assert_eq!(
            refusal.to_string(),
            "on Fedora Linux 43 please install by hand:\n  compiler: get a compiler\n  tool: get tool"
        );
    }

    #[test]
    fn only_debian_12_is_debian_12() {
        assert_eq!(
            System::parse("VERSION_ID=\"12\"\nID=debian\n"),
            System::Debian12
        );
        assert_eq!(System::parse(""), System::Other("this system".to_owned()));
        let newer = "PRETTY_NAME='Debian GNU/Linux 13 (trixie)'\nID=debian\nVERSION_ID=13";
        assert_eq!(
            System::parse(newer),
            System::Other("Debian GNU/Linux 13 (trixie)".to_owned())
        );
    }
}
