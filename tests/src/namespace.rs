//! Network namespaces.

use std::{
    fs::{self, File},
    net::SocketAddr,
    ops::Deref,
    os::fd::AsFd as _,
    panic,
    path::{Path, PathBuf},
    process::Command,
    thread,
};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::{Attempt, Protocol, process, scratch};

/// A network namespace that somebody else keeps: of a container, say. Stays usable while this value lives.
#[derive(Debug)]
pub struct NetNs {
    file: File,
    path: PathBuf,
}

impl NetNs {
    /// The namespace of a process.
    ///
    /// # Panics
    /// When the process is gone.
    #[track_caller]
    pub fn of_process(pid: u32) -> Self {
        Self::open(PathBuf::from(format!("/proc/{pid}/ns/net")))
    }

    #[track_caller]
    fn open(path: PathBuf) -> Self {
        let file = File::open(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Self { file, path }
    }

    /// The same namespace once more; it stays usable while either value lives.
    ///
    /// # Panics
    /// When there are no descriptors left.
    pub fn again(&self) -> Self {
        let file = self.file.try_clone().expect("descriptors are left");
        Self {
            file,
            path: self.path.clone(),
        }
    }

    /// A file that stands for it (`setns(2)`).
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A command that will run inside. Mounts stay as they are: `ip netns exec` would hide the BPF file system.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net={}", self.path.display()))
            .arg("--")
            .arg(program);
        command
    }

    /// Runs a command line inside, split at blanks, and returns what it printed.
    ///
    /// # Panics
    /// When it fails.
    #[track_caller]
    pub fn run(&self, line: &str) -> String {
        let mut words = line.split_ascii_whitespace();
        let program = words.next().expect("a command has a name");
        process::run(self.command(program).args(words))
    }

    /// Runs a closure in a thread inside; sockets that it makes stay inside. `/proc/sys/net` is the namespace's own too.
    ///
    /// # Panics
    /// When the closure does, or the namespace cannot be entered.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let inside = scope.spawn(|| {
                move_into_link_name_space(self.file.as_fd(), Some(LinkNameSpaceType::Network))
                    .unwrap_or_else(|error| panic!("enter {}: {error}", self.path.display()));
                work()
            });
            inside
                .join()
                .unwrap_or_else(|cause| panic::resume_unwind(cause))
        })
    }

    /// Tries a TCP connection from inside, and asserts whether a [`crate::Listener`] answers.
    ///
    /// # Panics
    /// When it is not as said; names the moment.
    #[track_caller]
    pub fn assert_reaches(&self, when: &str, to: SocketAddr, is_allowed: bool) {
        let attempt = Attempt::new(Protocol::Tcp, to).expecting(is_allowed);
        let outcome = self.enter(|| attempt.run());
        let outcome = outcome.expect("the attempt is possible");
        assert_eq!(outcome.is_answered(), is_allowed, "{when}: {to} {outcome}");
    }

    /// Sets a sysctl under `/proc/sys/net`, for this namespace alone: `ipv4/ip_forward`, say.
    ///
    /// # Panics
    /// When the kernel does not know it or refuses the value.
    #[track_caller]
    pub fn sysctl(&self, name: &str, value: &str) {
        let path = format!("/proc/sys/net/{name}");
        let result = self.enter(|| fs::write(&path, value));
        result.unwrap_or_else(|error| panic!("{path} = {value}: {error}"));
    }
}

/// A network namespace of one's own, with `lo` up. Dropped, it is deleted with all its links.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    netns: NetNs,
}

impl Namespace {
    /// Makes one.
    ///
    /// # Panics
    /// Without root.
    #[track_caller]
    #[expect(clippy::new_without_default, reason = "it makes a namespace")]
    pub fn new() -> Self {
        let name = scratch::name();
        process::run(Command::new("ip").args(["netns", "add", &name]));
        let netns = NetNs::open(Path::new("/run/netns").join(&name));
        let namespace = Self { name, netns };
        namespace.run("ip link set lo up");
        // Addresses are there at once: no test waits for duplicate address detection.
        namespace.sysctl("ipv6/conf/default/accept_dad", "0");
        namespace
    }

    /// Takes over one that an earlier process made.
    ///
    /// # Panics
    /// When it is not there.
    #[track_caller]
    pub fn adopt(name: &str) -> Self {
        let netns = NetNs::open(Path::new("/run/netns").join(name));
        let name = name.to_owned();
        Self { name, netns }
    }

    /// Its name for `ip`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Joins two namespaces by a pair of veths, both up.
    ///
    /// # Panics
    /// When a name is taken.
    #[track_caller]
    pub fn veth(&self, name: &str, peer: &Self, peer_name: &str) {
        let peer_place = &peer.name;
        self.run(&format!(
            "ip link add {name} type veth peer name {peer_name} netns {peer_place}"
        ));
        self.run(&format!("ip link set {name} up"));
        peer.run(&format!("ip link set {peer_name} up"));
    }
}

impl Deref for Namespace {
    type Target = NetNs;

    fn deref(&self) -> &NetNs {
        &self.netns
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let deleted = Command::new("ip")
            .args(["netns", "delete", &self.name])
            .output();
        if !deleted.is_ok_and(|output| output.status.success()) {
            eprintln!("cannot delete the network namespace {}", self.name);
        }
    }
}
