//! A container of an engine under test.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use serde_json::Value;

use crate::{Engine, NetNs, process};

/// A container; it goes with its engine at the latest.
#[derive(Debug)]
pub struct Container<'engine> {
    pub(crate) engine: &'engine Engine,
    pub(crate) id: String,
}

impl Container<'_> {
    /// Its full id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// A field of `docker inspect`, as a Go template: `{{.State.Pid}}`.
    ///
    /// # Panics
    /// When it is gone, or there is no such field.
    #[track_caller]
    pub fn inspect(&self, template: &str) -> String {
        self.engine
            .docker(&["inspect", "--format", template, &self.id])
    }

    /// Its network namespace.
    ///
    /// # Panics
    /// When it does not run.
    #[track_caller]
    pub fn netns(&self) -> NetNs {
        NetNs::of_process(
            self.inspect("{{.State.Pid}}")
                .parse()
                .expect("a process id"),
        )
    }

    /// Its addresses on a network; the default one is `bridge`. IPv6 only where the network has it.
    ///
    /// # Panics
    /// When it is not on that network.
    #[track_caller]
    pub fn addresses(&self, network: &str) -> (Ipv4Addr, Option<Ipv6Addr>) {
        let networks = self.inspect("{{json .NetworkSettings.Networks}}");
        let networks: Value = serde_json::from_str(&networks).expect("docker prints JSON");
        let field = |name: &str| networks[network][name].as_str().unwrap_or_default();
        let v4 = field("IPAddress").parse();
        let v4 = v4.unwrap_or_else(|_| panic!("{} is not on {network}: {networks}", self.id));
        (v4, field("GlobalIPv6Address").parse().ok())
    }

    /// Both its addresses on a network, with a port.
    ///
    /// # Panics
    /// When it is not on that network, or has no IPv6 there.
    #[track_caller]
    pub fn at(&self, network: &str, port: u16) -> [SocketAddr; 2] {
        let (v4, v6) = self.addresses(network);
        let v6 = v6.unwrap_or_else(|| panic!("{} has no IPv6 on {network}", self.id));
        [(v4, port).into(), (v6, port).into()]
    }

    /// Runs a command inside that must succeed, and returns what it printed, trimmed.
    ///
    /// # Panics
    /// When it fails.
    #[track_caller]
    pub fn exec(&self, command: &[&str]) -> String {
        let mut exec = self.engine.command(&["exec", &self.id]);
        process::run(exec.args(command)).trim().to_owned()
    }

    /// Stops and removes it now.
    ///
    /// # Panics
    /// When the engine refuses.
    #[track_caller]
    pub fn remove(self) {
        self.engine.docker(&["rm", "--force", &self.id]);
    }
}
