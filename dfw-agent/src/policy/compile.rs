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
    address::{self, Class, Classes},
    flatten,
    index::Index,
    intern::{Held, Identities, Interner},
    label::{self, Declared},
    mode::Mode,
    resolve::{Policy, Resolved},
    standing::{LastGood, Standing, State},
    warn::{self, Present},
};
use crate::model::{Container, Endpoint, Finding, Inventory, Level};

/// The node's settings that policy depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Mode of endpoints without rules of their own.
    pub unlabelled: Mode,
    /// Prefix of the labels, with its final dot; not empty.
    pub prefix: String,
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
    /// By policy and number of the rule.
    pub rules: BTreeMap<(u32, u16), RuleText>,
    /// Errors and warnings, sorted; those of the inventory itself not included.
    pub findings: Vec<Finding>,
}

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
    /// By its own labels, not by `--unlabelled`.
    pub governed: bool,
    /// Compose project or stack; empty if none.
    pub project: String,
    /// Service for metrics: compose's or Swarm's, else the first group, else `other`.
    pub service: String,
    /// Whether its labels are in force.
    pub state: State,
    /// Rules in force, in canonical order, as `label: "text"`.
    pub rules: Vec<String>,
}

/// A rule for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleText {
    /// Canonical text.
    pub text: String,
    /// Key of its label.
    pub label: String,
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
        let standings = self.standings(&containers, &declared, options, &mut compiled.findings);

        let mut in_force = self.endpoints(inventory, &standings, options, &mut compiled.endpoints);
        let current = in_force.clone();
        in_force.append(&mut self.outgoing);
        let index = Index::new(in_force.values().flat_map(|rules| rules.iter()));
        let classes = address::classify(inventory, &standings, &index);

        let mut identities = self.interner.identities(&index);
        let held = std::mem::take(&mut self.held);
        name_classes(&classes, &mut identities, &held, &mut compiled);
        let holders = identities.finish();
        for (policy, rules) in &in_force {
            let holders = |selector: &_| {
                let position = index.position(selector);
                position
                    .and_then(|p| holders.get(&p))
                    .map(Vec::as_slice)
                    .unwrap_or_default()
            };
            match flatten::policy(*policy, rules, holders) {
                Some(entries) => compiled.policy.extend(entries),
                None => too_large(*policy, inventory, &mut compiled),
            }
            compiled.rules.extend(
                (0..)
                    .zip(rules.iter())
                    .map(|(n, rule)| ((*policy, n), rule.text())),
            );
        }
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
        options: &Options,
        findings: &mut Vec<Finding>,
    ) -> BTreeMap<&'a str, Standing> {
        let mut standings = BTreeMap::new();
        for (id, container) in containers {
            let declared = &declared[id];
            let (standing, errors) = self
                .last_good
                .stand(container, declared, options.unlabelled);
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
        endpoints: &mut BTreeMap<u32, CompiledEndpoint>,
    ) -> BTreeMap<u32, Policy> {
        let nothing = Policy::default();
        let mut policies = BTreeMap::new();
        for endpoint in &inventory.endpoints {
            let standing = standings.get(endpoint.container.id.as_str());
            let mode = standing.map_or(options.unlabelled, |standing| standing.mode);
            let rules = match (standing, mode) {
                (None, _) | (Some(_), Mode::Off) => &nothing,
                (Some(standing), Mode::Audit | Mode::Enforce) => &standing.rules,
            };
            let policy = self.interner.policy(rules);
            if policy != 0 {
                policies
                    .entry(policy)
                    .or_insert_with(|| Policy::clone(rules));
            }
            let compiled = compiled_endpoint(endpoint, standing, mode, policy, rules);
            endpoints.insert(endpoint.ifindex, compiled);
        }
        policies
    }
}

fn compiled_endpoint(
    endpoint: &Endpoint,
    standing: Option<&Standing>,
    mode: Mode,
    policy: u32,
    rules: &[Resolved],
) -> CompiledEndpoint {
    let container = &endpoint.container;
    let group = standing
        .and_then(|standing| standing.groups.first())
        .map(String::as_str);
    CompiledEndpoint {
        network: endpoint.network,
        mac: endpoint.mac,
        mode,
        policy,
        governed: standing.is_some_and(|standing| standing.governed),
        project: container.project().unwrap_or_default().to_owned(),
        service: container.service().or(group).unwrap_or("other").to_owned(),
        state: standing.map_or(State::Ready, |standing| standing.state),
        rules: rules.iter().map(Resolved::display).collect(),
    }
}

/// A policy without entries allows nothing; says so of each container that has it.
fn too_large(policy: u32, inventory: &Inventory, compiled: &mut Compiled) {
    for endpoint in &inventory.endpoints {
        let Some(found) = compiled.endpoints.get_mut(&endpoint.ifindex) else {
            continue;
        };
        if found.policy != policy {
            continue;
        }
        found.state = State::Error;
        let message = format!(
            "the rules need more than {} map entries, so nothing is allowed: name fewer single ports and peers",
            flatten::MAX_ENTRIES
        );
        compiled.findings.push(Finding {
            level: Level::Error,
            code: "policy-too-large".to_owned(),
            subject: endpoint.container.name.clone(),
            label: String::new(),
            message,
            text: String::new(),
            span: None,
        });
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
            ..
        } = self;
        RuleText {
            text: text.clone(),
            label: label.clone(),
            direction: *direction,
            log: *log,
        }
    }
}
