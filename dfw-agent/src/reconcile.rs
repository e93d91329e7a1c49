//! Desired state against what the kernel holds. Level-triggered: a pass looks at everything and does what is missing, so
//! that it does not matter which event caused it or how many were lost. Knows traits only (`traits`); time is a parameter.

mod ports;
mod tampering;
mod traits;
mod uplink;
mod view;
mod ways;

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use self::{
    ports::{born_unseen, is_awaited, name_of, nameless_endpoint, wanted, with_programs},
    ways::detours,
};
pub use self::{
    traits::{Applied, Attached, Datapath, Observer, Progress, Tampering},
    uplink::Edge,
};
use crate::{
    model::{Finding, Inventory, Level, Links, Role, Snapshot, View, bind},
    policy::{self, Compiler, InForce, Mode, Options, RuleTexts, Select},
};

/// How long a port may be without an identity before `--unlabelled` decides (docs/semantics.md section 9).
const BIRTH: Duration = Duration::from_secs(2);
/// When a policy that the kernel refused is tried again. The compiler takes what it compiled for what is in force, so the
/// pass that puts an oversized policy right still has to make room for it, and only the next one does not.
const RETRY: Duration = Duration::from_secs(1);

/// What a pass found.
#[derive(Clone, Debug, Default)]
pub struct Pass {
    /// For metrics and commands; the source's own part is not filled in.
    pub view: View,
    /// Text of each rule in force.
    pub rules: RuleTexts,
    /// What the kernel holds from now on; none when it kept what it had.
    pub in_force: Option<InForce>,
    /// Ports that have their endpoint.
    pub bound: Vec<u32>,
    /// Ports of managed bridges that have none.
    pub unclaimed: Vec<u32>,
    /// When something changes by time alone: a birth that ends.
    pub due: Option<Instant>,
}

/// Compiles and applies, pass by pass.
pub struct Reconciler<D> {
    datapath: D,
    compiler: Compiler,
    options: Options,
    edge: Edge,
    /// As the last pass bound it.
    inventory: Arc<Inventory>,
    /// When the link of each port was first seen, while it has no policy.
    born: BTreeMap<u32, Instant>,
    /// Bridges that the last pass knew as managed.
    bridges: BTreeSet<u32>,
    /// Whether the programs are where the first pass wanted them.
    is_settled: bool,
    /// Policy epoch in force.
    epoch: u32,
    tampering: tampering::Memory,
    /// Ports that were born while no agent ran, and open until it came.
    were_open: BTreeSet<u32>,
}

impl<D: Datapath> Reconciler<D> {
    /// Nothing is done before the first pass.
    pub fn new(datapath: D, compiler: Compiler, options: Options) -> Self {
        Self {
            datapath,
            compiler,
            options,
            edge: Edge::default(),
            inventory: Arc::default(),
            born: BTreeMap::new(),
            bridges: BTreeSet::new(),
            is_settled: false,
            epoch: 0,
            tampering: tampering::Memory::default(),
            were_open: BTreeSet::new(),
        }
    }

    /// The datapath, for what is not reconciling.
    pub fn datapath(&mut self) -> &mut D {
        &mut self.datapath
    }

    /// What the next pass compiles with.
    pub fn set_options(&mut self, options: Options) {
        self.options = options;
    }

    /// What the next pass makes of uplinks.
    pub fn set_edge(&mut self, edge: Edge) {
        self.edge = edge;
    }

    /// Names of the containers that a selector selected at the last pass.
    ///
    /// # Errors
    /// None; says what to write instead.
    pub fn selected(&self, select: &Select) -> Result<BTreeSet<String>, String> {
        policy::selected(select, &self.inventory, &self.options)
    }

    /// Puts right what others changed, since the first pass succeeded. Whether there is news for the next pass to tell.
    pub fn watch(&mut self, thorough: bool, observer: &mut dyn Observer, now: Instant) -> bool {
        if !self.is_settled {
            return false;
        }
        let before = self.datapath.crowded();
        let mut is_news = false;
        for tampering in self.datapath.repair(thorough) {
            if tampering.repaired.is_ok() {
                observer.repaired();
            }
            is_news |= self.tampering.note(tampering, now);
        }
        is_news || self.datapath.crowded() != before
    }

    /// A veth became a port of a bridge: it is to be closed at once when the bridge is managed, before anybody knows whose
    /// it is. [`Reconciler::close_next`] does it.
    pub fn appeared(&mut self, ifindex: u32, bridge: u32, now: Instant) {
        if self.is_settled && self.bridges.contains(&bridge) {
            self.born.entry(ifindex).or_insert(now);
            self.datapath.plan(ifindex, Role::Endpoint);
        }
    }

    /// Attaches one program to a port that has appeared; none when all have both. What fails is tried again by the next
    /// pass.
    pub fn close_next(&mut self) -> Option<Attached<D::Error>> {
        self.datapath.attach_next()
    }

    /// When the link of a port without a policy was first seen.
    pub fn born(&self, ifindex: u32) -> Option<Instant> {
        self.born.get(&ifindex).copied()
    }

    /// One pass over everything.
    pub fn pass(
        &mut self,
        snapshot: &Snapshot,
        links: &Links,
        observer: &mut dyn Observer,
        now: Instant,
    ) -> Pass {
        let mut inventory = bind(snapshot, links);
        let mut findings = std::mem::take(&mut inventory.findings);
        self.bridges = inventory
            .networks
            .iter()
            .map(|network| network.ifindex)
            .collect();
        let bound: Vec<u32> = inventory
            .endpoints
            .iter()
            .map(|endpoint| endpoint.ifindex)
            .collect();
        let due = self.grow_up(&mut inventory, links, now);
        let wanted = wanted(&inventory);
        let enforcing = self.options.unlabelled == Mode::Enforce;
        // A port is closed before it is anybody's: at the bridge of a node that enforces, whom the maps call an endpoint
        // passes. Only where it was open so far the policy comes first, or the programs would cut what they do not know.
        let is_closed = self.is_settled || (enforcing && !self.datapath.touched().is_empty());
        let known = if is_closed {
            self.attach(&wanted, &mut findings);
            with_programs(&inventory, &self.datapath.attached())
        } else {
            Cow::Borrowed(&inventory)
        };
        let mut compiled = self.compiler.compile(&known, &self.options);
        findings.extend(compiled.findings.iter().cloned());
        let before = self.datapath.endpoints();
        let leaving: Vec<u32> = before
            .iter()
            .copied()
            .filter(|known| !compiled.endpoints.contains_key(known))
            .collect();
        if !leaving.is_empty() {
            observer.retire(&leaving);
        }
        let (all, crowded) = (self.datapath.detour(), self.datapath.crowded());
        let detours = detours(&compiled, &inventory, links, all, &crowded);
        let endpoints = compiled.endpoints.keys().copied();
        let redirects = endpoints
            .filter(|ifindex| !detours.contains_key(ifindex))
            .collect();
        let (applied, error) = match self.datapath.apply(&compiled, enforcing, &redirects) {
            Ok(applied) => (applied, None),
            Err(error) => (Applied::default(), Some(error.to_string())),
        };
        if error.is_none() {
            self.epoch = applied.epoch;
        }
        findings.extend(
            applied
                .unplaced
                .iter()
                .map(|ifindex| no_room(&name_of(*ifindex, &inventory, links))),
        );
        if error.is_none()
            && let Err(error) = self.datapath.take_over()
        {
            findings.push(node_error("not-taken-over", error.to_string()));
        }
        // Without a policy a node that enforces is closed; any other stays as it was.
        if !self.is_settled && (error.is_none() || enforcing) {
            if !enforcing {
                self.were_open = born_unseen(&wanted, &self.datapath.touched());
            }
            self.attach(&wanted, &mut findings);
            self.is_settled = true;
        }
        if error.is_none() {
            self.detach(&wanted, links, &mut findings);
        }
        if self.is_settled {
            self.fence(&wanted, links, enforcing, &mut findings);
        }
        let uplinks = if error.is_none() {
            self.uplinks(&inventory, links, &mut findings)
        } else {
            Vec::new()
        };
        let due = if error.is_some() {
            let again = now + RETRY;
            Some(due.map_or(again, |due| due.min(again)))
        } else {
            due
        };
        let governed = self.datapath.endpoints();
        for ifindex in bound.iter().filter(|ifindex| governed.contains(ifindex)) {
            if let Some(born) = self.born.remove(ifindex) {
                observer.governed(
                    *ifindex,
                    now.elapsed().saturating_add(now.duration_since(born)),
                );
            }
        }
        self.were_open
            .retain(|ifindex| links.links.contains_key(ifindex));
        findings.extend(
            self.were_open
                .iter()
                .map(|ifindex| was_open(&name_of(*ifindex, &inventory, links))),
        );
        findings.extend(
            self.tampering
                .findings(now, |ifindex| name_of(ifindex, &inventory, links)),
        );
        findings.sort();
        findings.dedup();
        let attached = self.datapath.attached();
        let is_complete = wanted.iter().all(|place| attached.contains(place));
        let view = view::View {
            inventory: &inventory,
            compiled: &compiled,
            governed: &governed,
            attached: &attached,
            detours: &detours,
            findings,
        };
        let mut view = view.build();
        view.fast_path = all;
        view.unlabelled = self.options.unlabelled.to_string();
        view.attached = is_complete && error.is_none();
        view.epoch = self.epoch;
        view.uplinks = uplinks;
        view.denied = self.edge.denied.as_ref().map(|denied| denied.prefixes());
        let is_applied = error.is_none();
        view.error = error;
        let unclaimed = inventory.unclaimed.iter();
        let unclaimed = unclaimed.map(|(ifindex, _)| *ifindex).collect();
        compiled
            .endpoints
            .retain(|ifindex, _| !applied.unplaced.contains(ifindex));
        self.inventory = Arc::new(inventory);
        Pass {
            view,
            rules: Arc::clone(&compiled.rules),
            in_force: is_applied.then(|| InForce {
                inventory: Arc::clone(&self.inventory),
                compiled,
                options: self.options.clone(),
            }),
            bound,
            unclaimed,
            due,
        }
    }

    /// A port that nobody claims is closed for [`BIRTH`]; then, on a node that does not enforce, it becomes an endpoint
    /// without a name, unless it may be that of a container with rules: then it stays closed until it is known. Returns
    /// when the next one grows up.
    fn grow_up(
        &mut self,
        inventory: &mut Inventory,
        links: &Links,
        now: Instant,
    ) -> Option<Instant> {
        self.born
            .retain(|ifindex, _| links.links.contains_key(ifindex));
        if self.options.unlabelled == Mode::Enforce {
            return None;
        }
        let mut due = None;
        let mut nameless = Vec::new();
        for (ifindex, bridge) in &inventory.unclaimed {
            if is_awaited(inventory, *bridge, &self.options) {
                continue;
            }
            // What was there before the first pass is older than that.
            let born = match self.born.get(ifindex) {
                Some(born) => *born,
                None if self.is_settled => *self.born.entry(*ifindex).or_insert(now),
                None => now.checked_sub(BIRTH).unwrap_or(now),
            };
            let end = born + BIRTH;
            if now < end {
                due = Some(due.map_or(end, |due: Instant| due.min(end)));
            } else if let Some(link) = links.links.get(ifindex) {
                nameless.push(nameless_endpoint(link, *bridge));
            }
        }
        inventory.endpoints.append(&mut nameless);
        due
    }

    fn attach(&mut self, wanted: &BTreeSet<(u32, Role)>, findings: &mut Vec<Finding>) {
        let attached = self.datapath.attached();
        for (ifindex, role) in wanted.difference(&attached) {
            self.datapath.plan(*ifindex, *role);
        }
        while let Some(step) = self.datapath.attach_next() {
            if let Err(error) = step.progress {
                findings.push(node_error("not-attached", error.to_string()));
            }
        }
    }

    /// On a node that enforces nobody may talk past the programs: not who is born a moment before its port has them, nor
    /// who is born while no agent runs. Ports that are to have none (other bridges', foreign ones) are let be.
    fn fence(
        &mut self,
        wanted: &BTreeSet<(u32, Role)>,
        links: &Links,
        enforcing: bool,
        findings: &mut Vec<Finding>,
    ) {
        let attached = self.datapath.attached();
        let is_let_be = |ifindex: u32| {
            let place = (ifindex, Role::Endpoint);
            attached.contains(&place) || !wanted.contains(&place)
        };
        let ports = links.links.values().filter(|link| link.bridge.is_some());
        let known: BTreeSet<u32> = ports
            .map(|link| link.ifindex)
            .filter(|ifindex| is_let_be(*ifindex))
            .collect();
        if let Err(error) = self.datapath.fence(enforcing.then_some(&known)) {
            findings.push(node_error("no-fence", error.to_string()));
        }
    }

    /// A port keeps its programs as long as it exists: without an identity it is closed. A bridge keeps them as long as
    /// it is managed.
    fn detach(
        &mut self,
        wanted: &BTreeSet<(u32, Role)>,
        links: &Links,
        findings: &mut Vec<Finding>,
    ) {
        for (ifindex, role) in self.datapath.touched().difference(wanted) {
            let exists = links.links.contains_key(ifindex);
            if (*role == Role::Bridge || !exists)
                && let Err(error) = self.datapath.detach(*ifindex, *role)
            {
                findings.push(node_error("not-detached", error.to_string()));
            }
        }
    }
}

fn was_open(subject: &str) -> Finding {
    let what = "its port appeared while no agent ran, and was open until now; \
                with `--unlabelled enforce` it would have been closed";
    Finding::new(Level::Warning, "was-open", subject, what.to_owned())
}

fn no_room(subject: &str) -> Finding {
    let message = "the table of endpoints is full: this one stays closed; remove containers or split the node";
    Finding::new(Level::Error, "endpoints-full", subject, message.to_owned())
}

fn node_error(code: &str, message: String) -> Finding {
    Finding::new(Level::Error, code, "", message)
}
