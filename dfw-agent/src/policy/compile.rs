//! From an inventory to everything the kernel's policy maps shall hold.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use dfw_common::{
    addr::Mac,
    key::{AddressKey, NetworkId, PolicyKey, PrefixKey},
    reason::Direction,
    value::{Address, PolicyEntry, Prefix},
};

use super::{
    DEFAULT_PREFIX,
    address::{self, Class, Classes},
    file::NodePolicy,
    flatten,
    index::Index,
    intern::{Held, Identities, Interner},
    label::{self, Declared},
    limits,
    mode::Mode,
    resolve::{Part, Policy, Resolved},
    stance::{Override, Stance, Stances},
    standing::{LastGood, Standing, State},
    warn::{self, Present},
};
use crate::model::{Container, Endpoint, Finding, Inventory, Network};

/// The node's settings that policy depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Mode of endpoints without rules of their own.
    pub unlabelled: Mode,
    /// Prefix of the labels, with its final dot; not empty.
    pub prefix: String,
    /// What the node's policy file says.
    pub node: Arc<NodePolicy>,
    /// Modes that hold for a while; of several that select an endpoint the last counts.
    pub overrides: Vec<Override>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            unlabelled: Mode::Audit,
            prefix: DEFAULT_PREFIX.to_owned(),
            node: Arc::default(),
            overrides: Vec::new(),
        }
    }
}

/// Compiles inventories. Its memory is the numbers it has given, the last good policy of each container, and the
/// policies of the compilation before.
#[derive(Debug)]
pub struct Compiler {
    interner: Interner,
    last_good: LastGood,
    outgoing: BTreeMap<u32, Policy>,
    held: Held,
}

/// What the kernel shall hold, and what people shall be told.
///
/// The meaning of a policy number and of an identity never changes, so that a `(policy, identity)` entry is a fact. It is
/// applied without a wrong verdict on the way in this order: write `policy`; write `prefixes`, then `addresses`, then
/// delete those that are no longer there in the opposite order; write `endpoints`; delete stale policy entries. For this
/// `policy` also has the policies of the compilation before, for the new identities: an endpoint meets those before it
/// gets its new policy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Compiled {
    /// By host-side ifindex.
    pub endpoints: BTreeMap<u32, CompiledEndpoint>,
    /// Exact addresses.
    pub addresses: BTreeMap<AddressKey, Address>,
    /// By length in bits (those of the network included) and key.
    pub prefixes: BTreeMap<(u32, PrefixKey), Prefix>,
    /// Headers and port prefixes.
    pub policy: BTreeMap<PolicyKey, PolicyEntry>,
    /// What the rules say.
    pub rules: RuleTexts,
    /// Errors and warnings, sorted; those of the inventory itself not included.
    pub findings: Vec<Finding>,
}

/// Text of each rule, by policy and number.
pub type RuleTexts = Arc<BTreeMap<(u32, u16), RuleText>>;

/// An endpoint and the policy it is judged by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompiledEndpoint {
    /// ifindex of the bridge.
    pub network: NetworkId,
    /// The container's MAC.
    pub mac: Mac,
    /// What happens to what is denied.
    pub mode: Mode,
    /// Number of the policy; 0 allows nothing.
    pub policy: u32,
    /// By its labels or the node's file, not by `--unlabelled`.
    pub governed: bool,
    /// In its mode by an [`Override`].
    pub overridden: bool,
    /// Compose project or stack; empty if none.
    pub project: String,
    /// Service for metrics: compose's or Swarm's, else the first group, else `other`.
    pub service: String,
    /// Whether its labels are in force.
    pub state: State,
    /// Rules in force, in canonical order, as `label: "text"`; what a ceiling says is not among them.
    pub rules: Vec<String>,
}

/// A rule for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleText {
    /// Canonical text.
    pub text: String,
    /// Where it stands: key of its label, or file, line and key in the node's file.
    pub label: String,
    /// It is part of a ceiling, and takes away what it does not allow.
    pub ceiling: bool,
    /// Its side.
    pub direction: Direction,
    /// Each new flow that it decides is logged.
    pub log: bool,
}

impl Compiler {
    /// A compiler that gives numbers from `first_id` on, which must be above each policy and identity that the kernel
    /// holds. `held` has the identities that it holds.
    pub fn new(first_id: u32, held: Held) -> Self {
        Self {
            interner: Interner::new(first_id),
            last_good: LastGood::default(),
            outgoing: BTreeMap::new(),
            held,
        }
    }

    /// Compiles an inventory. Bad labels become findings; they never fail the whole.
    pub fn compile(&mut self, inventory: &Inventory, options: &Options) -> Compiled {
        let mut compiled = Compiled::default();
        let containers = containers(inventory);
        let declared: BTreeMap<&str, Declared> = containers
            .iter()
            .map(|(id, container)| (*id, label::read(&container.labels, &options.prefix)))
            .collect();
        let standings = self.standings(&containers, &declared, &mut compiled.findings);

        let mut in_force = self.endpoints(inventory, &standings, options, &mut compiled);
        let current = in_force.clone();
        in_force.append(&mut self.outgoing);
        let index = Index::new(in_force.values().flat_map(|rules| rules.iter()));
        let classes = address::classify(inventory, &standings, &index);

        let mut identities = self.interner.identities(&index);
        let held = std::mem::take(&mut self.held);
        name_classes(&classes, &mut identities, &held, &mut compiled);
        let holders = identities.finish();
        let mut texts = BTreeMap::new();
        for (policy, rules) in &in_force {
            let holders = |selector: &_| {
                let position = index.position(selector);
                position
                    .and_then(|p| holders.get(&p))
                    .map(Vec::as_slice)
                    .unwrap_or_default()
            };
            match flatten::policy(*policy, rules, holders) {
                Some(laid) => {
                    compiled.policy.extend(laid.entries);
                    limits::clipped(*policy, rules, &laid.clipped, inventory, &mut compiled);
                }
                None => limits::too_large(*policy, inventory, &mut compiled),
            }
            let numbered = (0..).zip(rules.iter());
            texts.extend(numbered.map(|(n, rule)| ((*policy, n), rule.text())));
        }
        compiled.rules = Arc::new(texts);
        self.interner.retain_policies(&in_force);
        self.last_good.retain(&containers);
        self.outgoing = current;

        compiled.findings.extend(classes.findings);
        let warnings = warnings(inventory, &containers, &declared, &standings);
        compiled.findings.extend(warnings);
        compiled.findings.sort();
        compiled.findings.dedup();
        compiled
    }

    fn standings<'a>(
        &mut self,
        containers: &BTreeMap<&'a str, &'a Arc<Container>>,
        declared: &BTreeMap<&'a str, Declared>,
        findings: &mut Vec<Finding>,
    ) -> BTreeMap<&'a str, Standing> {
        let mut standings = BTreeMap::new();
        for (id, container) in containers {
            let declared = &declared[id];
            let (standing, errors) = self.last_good.stand(container, declared);
            findings.extend(about(
                container,
                declared.errors.iter().cloned().chain(errors),
            ));
            // The owner of a shared namespace governs it, and its groups are the peers that others name.
            if container.shares.is_none() {
                standings.insert(*id, standing);
            }
        }
        standings
    }

    /// Gives each endpoint its policy, and returns the policies.
    fn endpoints(
        &mut self,
        inventory: &Inventory,
        standings: &BTreeMap<&str, Standing>,
        options: &Options,
        compiled: &mut Compiled,
    ) -> BTreeMap<u32, Policy> {
        let networks: BTreeMap<NetworkId, &Network> = inventory
            .networks
            .iter()
            .map(|bound| (bound.ifindex, &bound.network))
            .collect();
        let mut stances = Stances::new(options);
        let mut policies = BTreeMap::new();
        let mut is_loose = false;
        for endpoint in &inventory.endpoints {
            let container = &endpoint.container;
            let standing = standings.get(container.id.as_str());
            let network = networks.get(&endpoint.network).copied();
            let mut stance = stances.of(container, network, standing);
            if stance.mode == Mode::Off {
                stance.rules = Policy::default();
            }
            is_loose |= stance.is_under_ceiling && stance.mode != Mode::Enforce;
            let policy = self.interner.policy(&stance.rules);
            if policy != 0 {
                policies
                    .entry(policy)
                    .or_insert_with(|| Policy::clone(&stance.rules));
            }
            let one = compiled_endpoint(endpoint, standing, &stance, policy);
            compiled.endpoints.insert(endpoint.ifindex, one);
        }
        compiled.findings.extend(stances.findings());
        compiled.findings.extend(limits::not_enforced(is_loose));
        policies
    }
}

fn compiled_endpoint(
    endpoint: &Endpoint,
    standing: Option<&Standing>,
    stance: &Stance,
    policy: u32,
) -> CompiledEndpoint {
    let container = &endpoint.container;
    let group = standing
        .and_then(|standing| standing.groups.first())
        .map(String::as_str);
    let own = stance.rules.iter().filter(|rule| rule.part == Part::Own);
    CompiledEndpoint {
        network: endpoint.network,
        mac: endpoint.mac,
        mode: stance.mode,
        policy,
        governed: stance.governed,
        overridden: stance.overridden,
        project: container.project().unwrap_or_default().to_owned(),
        service: container.service().or(group).unwrap_or("other").to_owned(),
        state: standing.map_or(State::Ready, |standing| standing.state),
        rules: own.map(Resolved::display).collect(),
    }
}

/// Every container once, by id.
fn containers(inventory: &Inventory) -> BTreeMap<&str, &Arc<Container>> {
    let of_endpoints = inventory
        .endpoints
        .iter()
        .map(|endpoint| &endpoint.container);
    let all = of_endpoints.chain(&inventory.containers);
    all.map(|container| (container.id.as_str(), container))
        .collect()
}

fn name_classes(
    classes: &Classes,
    identities: &mut Identities<'_>,
    held: &Held,
    compiled: &mut Compiled,
) {
    for (key, class) in &classes.addresses {
        let Class {
            kind,
            ref set,
            ifindex,
            network,
        } = *class;
        let identity = identities.name(set, held.addresses.get(key).copied());
        compiled.addresses.insert(
            *key,
            Address {
                kind,
                identity,
                ifindex,
                network,
            },
        );
    }
    for (key, class) in &classes.prefixes {
        let identity = identities.name(&class.set, held.prefixes.get(key).copied());
        compiled.prefixes.insert(
            *key,
            Prefix {
                kind: class.kind,
                identity,
            },
        );
    }
}

fn warnings(
    inventory: &Inventory,
    containers: &BTreeMap<&str, &Arc<Container>>,
    declared: &BTreeMap<&str, Declared>,
    standings: &BTreeMap<&str, Standing>,
) -> Vec<Finding> {
    let bound = inventory
        .endpoints
        .iter()
        .map(|e| (e.container.id.as_str(), &e.addresses));
    let recorded = containers.values().flat_map(|container| {
        container
            .attachments
            .iter()
            .map(|a| (container.id.as_str(), &a.addresses))
    });
    let has_v6: HashSet<&str> = bound
        .chain(recorded)
        .filter(|(_, addresses)| addresses.iter().any(address::is_global_v6))
        .map(|(id, _)| id)
        .collect();
    let mut findings = Vec::new();
    let mut present = Vec::new();
    for (id, container) in containers {
        let declared = &declared[id];
        let mut own = warn::of_container(declared, container, has_v6.contains(id));
        if let Some(standing) = standings.get(id) {
            own.extend(warn::of_rules(declared, &container.labels));
            present.push(Present {
                container,
                declared,
                groups: &standing.groups,
            });
        }
        findings.extend(about(container, own));
    }
    findings.extend(warn::no_such_peer(
        &present,
        &inventory.networks,
        |_, _, _| true,
    ));
    findings
}

fn about(
    container: &Container,
    findings: impl IntoIterator<Item = Finding>,
) -> impl Iterator<Item = Finding> {
    findings.into_iter().map(|finding| Finding {
        subject: container.name.clone(),
        ..finding
    })
}

impl Resolved {
    fn text(&self) -> RuleText {
        let Self {
            text,
            label,
            direction,
            log,
            part,
            ..
        } = self;
        RuleText {
            text: text.clone(),
            label: label.clone(),
            ceiling: *part != Part::Own,
            direction: *direction,
            log: *log,
        }
    }
}
