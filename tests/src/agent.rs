//! The agent under test: the binary `dfw`, run as users run it.

use std::{
    env,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Output},
    time::Duration,
};

use serde_json::Value;

use crate::{
    Inventory, NetNs, http,
    http::Metrics,
    leaks,
    process::{self, Daemon, Signal},
    scratch::Scratch,
    wait,
};

const PATIENCE: Duration = Duration::from_secs(20);

/// Every agent is alone in its network namespace, so the port is free.
const LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 10339);

/// What deploy files and docs/security.md grant, and no more: the bounding set is what root cannot have back either.
const SHIPPED: [&str; 3] = [
    "--bounding-set=-all,+bpf,+net_admin,+perfmon",
    "--inh-caps=-all",
    "--",
];

/// An agent in a network namespace, with a BPF file system and a socket of its own. Its state outlives its process.
/// Dropped, it is ended and uninstalled.
#[derive(Debug)]
pub struct Agent<'host> {
    daemon: Option<Daemon>,
    netns: &'host NetNs,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    bpffs: PathBuf,
    scratch: Scratch,
}

impl<'host> Agent<'host> {
    /// Starts `dfw run` with more arguments (`--docker-host`, `--inventory`, …) and waits until it is ready.
    ///
    /// # Panics
    /// When it is not ready in time; shows the end of its log.
    #[track_caller]
    pub fn start(netns: &'host NetNs, arguments: &[&str]) -> Self {
        Self::start_with(netns, arguments, &[])
    }

    /// As [`Agent::start`], with more environment.
    ///
    /// # Panics
    /// When it is not ready in time; shows the end of its log.
    #[track_caller]
    pub fn start_with(
        netns: &'host NetNs,
        arguments: &[&str],
        environment: &[(&str, &str)],
    ) -> Self {
        let scratch = Scratch::new();
        let bpffs = scratch.bpffs().join("dfw");
        let arguments = arguments
            .iter()
            .map(|argument| (*argument).to_owned())
            .collect();
        let mut agent = Self {
            daemon: None,
            netns,
            arguments,
            environment: Vec::new(),
            bpffs,
            scratch,
        };
        agent.set_environment(environment);
        agent.start_again();
        agent
    }

    /// Starts it on the state that an earlier process left, and waits until it is ready.
    ///
    /// # Panics
    /// When it runs already, or is not ready in time.
    #[track_caller]
    pub fn start_again(&mut self) {
        self.launch();
        let daemon = self.daemon.as_mut().expect("it was just started");
        daemon.expect("dfw is ready", PATIENCE, || {
            let ready = self.netns.enter(|| http::get(LISTEN, "/readyz"));
            ready.is_ok_and(|(status, _)| status == 200).then_some(())
        });
    }

    /// As [`Agent::start_again`], and waits for nothing.
    ///
    /// # Panics
    /// When it runs already.
    #[track_caller]
    pub fn launch(&mut self) {
        assert!(self.daemon.is_none(), "the agent runs already");
        let mut command = self.netns.command("setpriv");
        command
            .args(SHIPPED)
            .arg(binary())
            .arg("run")
            .args(&self.arguments)
            .arg("--bpffs")
            .arg(&self.bpffs);
        command
            .arg("--socket")
            .arg(self.socket())
            .arg("--state")
            .arg(self.state())
            .args(["--listen", &LISTEN.to_string()]);
        without_settings(&mut command).envs(self.environment.iter().cloned());
        let log = self.scratch.path().join("dfw.log");
        self.daemon = Some(Daemon::start(&mut command, &log));
    }

    /// What its next start finds in its environment.
    pub fn set_environment(&mut self, environment: &[(&str, &str)]) {
        let environment = environment.iter();
        self.environment = environment
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
    }

    /// What its next start is told instead of an argument's value.
    ///
    /// # Panics
    /// When it was not told any.
    #[track_caller]
    pub fn set_argument(&mut self, name: &str, value: &str) {
        let mut arguments = self.arguments.iter().skip(1).zip(self.arguments.iter());
        let at = arguments.position(|(_, before)| before == name);
        value.clone_into(&mut self.arguments[at.expect("it has that argument") + 1]);
    }

    /// Kills it without warning; its pins stay.
    ///
    /// # Panics
    /// When it does not run.
    #[track_caller]
    pub fn kill(&mut self) {
        self.daemon_to_end().kill();
    }

    /// Ends it by SIGTERM; its pins stay.
    ///
    /// # Panics
    /// When it does not run.
    #[track_caller]
    pub fn terminate(&mut self) -> ExitStatus {
        self.daemon_to_end().stop()
    }

    #[track_caller]
    fn daemon_to_end(&mut self) -> Daemon {
        let daemon = self.daemon.take().expect("the agent runs");
        leaks::note_agent(daemon.pid());
        daemon
    }

    /// Sends it a signal: SIGSTOP, say.
    ///
    /// # Panics
    /// When it does not run.
    #[track_caller]
    pub fn signal(&mut self, signal: Signal) {
        self.daemon.as_mut().expect("the agent runs").signal(signal);
    }

    /// Waits until it has ended by itself, successfully.
    ///
    /// # Panics
    /// When it does not run, goes on, or fails.
    #[track_caller]
    pub fn expect_ended(&mut self) {
        let mut daemon = self.daemon.take().expect("the agent runs");
        let status = wait::expect("dfw ends", PATIENCE, || daemon.ended());
        assert!(status.success(), "{status}\n{}", self.log());
    }

    /// Its process id.
    ///
    /// # Panics
    /// When it does not run.
    #[track_caller]
    pub fn pid(&self) -> u32 {
        self.daemon.as_ref().expect("the agent runs").pid()
    }

    /// What it logged, over all its runs.
    pub fn log(&self) -> String {
        let log = std::fs::read(self.scratch.path().join("dfw.log")).unwrap_or_default();
        String::from_utf8_lossy(&log).into_owned()
    }

    /// The `milliseconds` of the lines of its log with this message, sorted.
    pub fn milliseconds(&self, message: &str) -> Vec<f64> {
        let log = self.log();
        let lines = log.lines().filter(|line| line.contains(message));
        let figures = lines.filter_map(|line| {
            let rest = line.split("milliseconds=").nth(1)?;
            rest.split(' ').next()?.parse().ok()
        });
        let mut figures: Vec<f64> = figures.collect();
        figures.sort_by(f64::total_cmp);
        figures
    }

    /// Status and body of a GET.
    ///
    /// # Panics
    /// When it does not answer.
    #[track_caller]
    pub fn get(&self, path: &str) -> (u16, String) {
        let answer = self.netns.enter(|| http::get(LISTEN, path));
        answer.unwrap_or_else(|error| panic!("{path}: {error}\n{}", self.log()))
    }

    /// What Prometheus would read.
    ///
    /// # Panics
    /// When it does not answer.
    #[track_caller]
    pub fn metrics(&self) -> Metrics {
        Metrics::parse(&self.get("/metrics").1)
    }

    /// Waits until the metrics are as wanted, and returns them.
    ///
    /// # Panics
    /// When they never are; shows the last ones.
    #[track_caller]
    pub fn expect_metrics(&self, what: &str, wanted: impl Fn(&Metrics) -> bool) -> Metrics {
        let seen = wait::until(PATIENCE, || Some(self.metrics()).filter(&wanted));
        seen.unwrap_or_else(|| panic!("{what}: not in\n{}", self.get("/metrics").1))
    }

    /// What the agent knows, as `dfw status` has it.
    ///
    /// # Panics
    /// When it does not answer.
    #[track_caller]
    pub fn status(&self) -> Value {
        let output = self.command(&["status", "-o", "json"]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "dfw status: {said}\n{}",
            self.log()
        );
        serde_json::from_slice(&output.stdout).expect("dfw prints JSON")
    }

    /// Waits until its status is as wanted, and returns it.
    ///
    /// # Panics
    /// When it never is; shows the last one.
    #[track_caller]
    pub fn expect_status(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let seen = wait::until(PATIENCE, || Some(self.status()).filter(&wanted));
        seen.unwrap_or_else(|| panic!("{what}: not in\n{:#}\n{}", self.status(), self.log()))
    }

    /// Waits until so many endpoints are known, and the policy of each is in force.
    ///
    /// # Panics
    /// When they never are.
    #[track_caller]
    pub fn expect_ready(&self, what: &str, endpoints: usize) -> Value {
        self.expect_status(what, |status| {
            let known = status["endpoints"]
                .as_array()
                .map(Vec::as_slice)
                .unwrap_or_default();
            known.len() == endpoints && known.iter().all(|endpoint| endpoint["state"] == "ready")
        })
    }

    /// Writes the inventory and waits until the agent has taken it over.
    ///
    /// # Panics
    /// When it does not, or says that something failed.
    #[track_caller]
    pub fn expect_taken(&self, inventory: &Inventory) -> Value {
        let listings = |status: &Value| status["resyncs"].as_u64();
        let before = listings(&self.status());
        inventory.write();
        let status = self.expect_status("the inventory is taken over", |status| {
            listings(status) > before
        });
        assert!(status["error"].is_null(), "{status:#}");
        status
    }

    /// Runs another command of `dfw` against it: `ls`, `status`, …
    pub fn command(&self, arguments: &[&str]) -> Output {
        let mut command = self.netns.command(&binary());
        process::output(command.args(arguments).arg("--socket").arg(self.socket()))
    }

    /// Where its pins are.
    pub fn bpffs(&self) -> &Path {
        &self.bpffs
    }

    /// Where it answers commands.
    pub fn socket(&self) -> PathBuf {
        self.scratch.path().join("dfw.sock")
    }

    /// Where it keeps what it has learned.
    pub fn state(&self) -> PathBuf {
        self.scratch.path().join("state")
    }

    /// Runs `dfw uninstall` on its state.
    pub fn uninstall(&self) -> Output {
        let mut command = self.netns.command(&binary());
        command.arg("uninstall").arg("--bpffs").arg(&self.bpffs);
        command.arg("--state").arg(self.state());
        process::output(command.arg("--socket").arg(self.socket()))
    }
}

impl Drop for Agent<'_> {
    fn drop(&mut self) {
        // Its log, where the test fails for another reason.
        if std::thread::panicking() {
            eprintln!("--- log of dfw\n{}", self.log());
        }
        if self.daemon.is_some() {
            drop(self.daemon_to_end());
        }
        let output = self.uninstall();
        if !output.status.success() {
            eprintln!("dfw uninstall: {}", String::from_utf8_lossy(&output.stderr));
        }
    }
}

/// Runs a `dfw run` that must end by itself, through a wrapper (`setpriv …`) if there is one: its exit code and what it
/// said.
///
/// # Panics
/// When it goes on.
#[track_caller]
pub fn refused(netns: &NetNs, wrapper: &[&str], arguments: &[&str]) -> (Option<i32>, String) {
    let scratch = Scratch::new();
    let binary = binary();
    let line = [wrapper, &[&binary, "run"], arguments].concat();
    let mut command = netns.command(line[0]);
    without_settings(command.args(&line[1..]));
    let mut daemon = Daemon::start(&mut command, &scratch.path().join("dfw.log"));
    let status = wait::until(PATIENCE, || daemon.ended());
    let status = status.unwrap_or_else(|| panic!("dfw {arguments:?} goes on\n{}", daemon.log()));
    (status.code(), daemon.log())
}

/// The user's own settings are not under test; which check is left out (`cargo xtask mutate`) and which way packets take
/// (`cargo xtask test`) is.
fn without_settings(command: &mut Command) -> &mut Command {
    for (name, _) in env::vars_os() {
        let is_under_test = name == "DFW_MUTANT" || name == "DFW_FAST_PATH";
        let is_setting = name.to_string_lossy().starts_with("DFW_") && !is_under_test;
        if is_setting || name == "DOCKER_HOST" {
            command.env_remove(name);
        }
    }
    command
}

/// The binary that `cargo xtask test` built, or the newest that lies beside the test.
pub fn binary() -> String {
    if let Ok(binary) = env::var("DFW_BIN") {
        return binary;
    }
    let own = env::current_exe().expect("a process knows its binary");
    let beside = own
        .ancestors()
        .skip(1)
        .take(2)
        .map(|directory| directory.join("dfw"));
    let found = beside
        .into_iter()
        .find(|binary| Command::new(binary).arg("--version").output().is_ok());
    found
        .expect("dfw is built: cargo build --bin dfw")
        .display()
        .to_string()
}
