//! Rows of the table, and how one is tried: by the shipped object in the kernel and by the same code on plain maps.

use std::collections::BTreeMap;

use dfw_agent::datapath::load::program;
use dfw_common::{
    backstop::backstop,
    decide::{Hook, Outcome, Place, Scratch, decide},
    maps,
    plain::{Plain, Tables},
    reason::{Direction, Reason, Verdict},
    uplink::uplink,
    value::Flow,
};
use dfw_tests::frame::{Ip, Upper};

use crate::{
    kernel::{Kernel, xdp_action},
    scenario::{self, BRIDGE, ENDPOINTS, Family, UNCLAIMED, Who},
    state::{self, Learned},
};

/// Where a frame is seen.
#[derive(Clone, Copy, Debug)]
pub(crate) enum At {
    /// A hook of an endpoint.
    Endpoint(Place),
    /// A hook of the bridge.
    Bridge(Hook),
    /// An uplink.
    Uplink,
}

/// At the hook where somebody sends.
pub(crate) fn from(who: Who) -> At {
    At::Endpoint(Place {
        hook: Hook::From,
        ifindex: who.ifindex(),
        ingress: who.ifindex(),
    })
}

/// At the hook where somebody receives, having come by the interface `ingress`; 0 is the host itself.
pub(crate) fn to(who: Who, ingress: u32) -> At {
    At::Endpoint(Place {
        hook: Hook::To,
        ifindex: who.ifindex(),
        ingress,
    })
}

/// At the hook where a port sends that nobody has an identity for.
pub(crate) fn unclaimed() -> At {
    At::Endpoint(Place {
        hook: Hook::From,
        ifindex: UNCLAIMED,
        ingress: UNCLAIMED,
    })
}

/// A frame of an IP packet between two.
pub(crate) fn packet(family: Family, sender: Who, receiver: Who, upper: Upper) -> Ip {
    Ip {
        macs: [receiver.mac(), sender.mac()],
        source: sender.ip(family),
        destination: receiver.ip(family),
        hops: 64,
        options: Vec::new(),
        extensions: Vec::new(),
        fragment: None,
        upper,
    }
}

/// What happens before the frame of a row.
pub(crate) enum Step {
    /// A frame is seen.
    Seen(At, Vec<u8>),
    /// The agent writes; the epoch is bumped afterwards, as it does.
    Written(fn(&mut Tables)),
    /// The agent is about to: the epoch is still the old one.
    Halfway(fn(&mut Tables)),
    /// Nothing, for so many seconds.
    Silence(u32),
    /// The flow table becomes something that it should not be.
    Corrupted,
}

/// What must become of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Expect {
    pass: bool,
    own: Option<(Verdict, Reason)>,
    peer: Option<(Who, Reason)>,
}

/// Passes and is counted.
pub(crate) fn allow(reason: Reason) -> Expect {
    expect(true, Some((Verdict::Allow, reason)))
}

/// Passes and is counted as what would have been dropped.
pub(crate) fn audit(reason: Reason) -> Expect {
    expect(true, Some((Verdict::Audit, reason)))
}

/// Dropped and counted.
pub(crate) fn deny(reason: Reason) -> Expect {
    expect(false, Some((Verdict::Deny, reason)))
}

/// Passes and counts nowhere.
pub(crate) fn silent() -> Expect {
    expect(true, None)
}

fn expect(pass: bool, own: Option<(Verdict, Reason)>) -> Expect {
    Expect {
        pass,
        own,
        peer: None,
    }
}

impl Expect {
    /// Dropped after all: the receiver denies it.
    pub(crate) fn but_denied_by(self, peer: Who, reason: Reason) -> Self {
        Self {
            pass: false,
            peer: Some((peer, reason)),
            ..self
        }
    }

    /// Whether the frame goes on.
    pub(crate) fn passes(&self) -> bool {
        self.pass
    }

    /// The reasons in it.
    pub(crate) fn reasons(&self) -> impl Iterator<Item = Reason> {
        let own = self.own.map(|(_, reason)| reason);
        own.into_iter().chain(self.peer.map(|(_, reason)| reason))
    }
}

/// One row.
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) before: Vec<Step>,
    pub(crate) at: At,
    pub(crate) frame: Vec<u8>,
    pub(crate) expect: Expect,
    /// Where the fast path is on: who gets it past the bridge, if anybody, and counts it as what. None: nothing is said,
    /// and what the receiver's hook would say counts.
    pub(crate) past: Option<Option<(Who, Reason)>>,
}

/// A frame that is the first of all.
pub(crate) fn row(name: impl Into<String>, at: At, frame: impl Into<Bytes>, expect: Expect) -> Row {
    Row {
        name: name.into(),
        before: Vec::new(),
        at,
        frame: frame.into().0,
        expect,
        past: None,
    }
}

/// A frame, or the packet that it carries.
pub(crate) struct Bytes(Vec<u8>);

impl From<Vec<u8>> for Bytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

impl From<Ip> for Bytes {
    fn from(packet: Ip) -> Self {
        Self(packet.frame())
    }
}

impl Row {
    /// Something that happens before; steps are told in their order.
    pub(crate) fn after(mut self, step: Step) -> Self {
        self.before.push(step);
        self
    }

    /// A frame that is seen before.
    pub(crate) fn seen(self, at: At, frame: impl Into<Bytes>) -> Self {
        self.after(Step::Seen(at, frame.into().0))
    }

    /// It goes to a neighbour past the bridge, who counts it as this.
    pub(crate) fn past(self, peer: Who, reason: Reason) -> Self {
        Self {
            past: Some(Some((peer, reason))),
            ..self
        }
    }

    /// It takes the bridge.
    pub(crate) fn bridged(self) -> Self {
        Self {
            past: Some(None),
            ..self
        }
    }

    /// What the agent writes before.
    pub(crate) fn written(self, change: fn(&mut Tables)) -> Self {
        self.after(Step::Written(change))
    }
}

/// Where a program sends a frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Fate {
    #[default]
    Dropped,
    /// On its way, which is the bridge's.
    Passed,
    /// To its receiver at once.
    Redirected,
}

impl Fate {
    fn of(outcome: &Outcome) -> Self {
        match (outcome.pass, outcome.redirect) {
            (false, _) => Self::Dropped,
            (true, false) => Self::Passed,
            (true, true) => Self::Redirected,
        }
    }
}

impl From<bool> for Fate {
    fn from(pass: bool) -> Self {
        if pass { Self::Passed } else { Self::Dropped }
    }
}

/// What became of a frame, and the packets that it was counted as.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) fate: Fate,
    pub(crate) reasons: BTreeMap<(Direction, Verdict, Reason), u64>,
    /// By ifindex.
    pub(crate) endpoints: BTreeMap<(u32, Direction, Verdict), u64>,
}

impl Seen {
    fn count(&mut self, ifindex: u32, direction: Direction, verdict: Verdict, reason: Reason) {
        *self
            .reasons
            .entry((direction, verdict, reason))
            .or_default() += 1;
        // The packets of nobody who is known are counted by reason only.
        if ENDPOINTS.iter().any(|who| who.ifindex() == ifindex) {
            *self
                .endpoints
                .entry((ifindex, direction, verdict))
                .or_default() += 1;
        }
    }

    /// What a row says, where the way past the bridge is open or not, and `past` is said where the row says nothing.
    fn expected(row: &Row, is_open: bool, past: Past) -> Self {
        let mut seen = Self {
            fate: row.expect.pass.into(),
            ..Self::default()
        };
        let (ifindex, hook) = match row.at {
            At::Endpoint(place) => (place.ifindex, place.hook),
            At::Bridge(hook) => (0, hook),
            At::Uplink => (0, Hook::To),
        };
        if let Some((verdict, reason)) = row.expect.own {
            seen.count(ifindex, direction(hook), verdict, reason);
        }
        if let Some((peer, reason)) = row.expect.peer {
            seen.count(peer.ifindex(), Direction::Ingress, Verdict::Deny, reason);
        }
        let said = row
            .past
            .map(|past| past.map(|(who, reason)| (who.ifindex(), reason)));
        if let Some((peer, reason)) = said.unwrap_or(past).filter(|_| is_open) {
            seen.fate = Fate::Redirected;
            seen.count(peer, Direction::Ingress, Verdict::Allow, reason);
        }
        seen
    }

    /// What happened beyond an earlier reading of the same counters.
    pub(crate) fn since(mut self, earlier: &Self) -> Self {
        for (key, packets) in &mut self.reasons {
            *packets -= earlier.reasons.get(key).copied().unwrap_or(0);
        }
        for (key, packets) in &mut self.endpoints {
            *packets -= earlier.endpoints.get(key).copied().unwrap_or(0);
        }
        self.reasons.retain(|_, packets| *packets > 0);
        self.endpoints.retain(|_, packets| *packets > 0);
        self
    }

    /// Adds what another frame was counted as.
    pub(crate) fn add(&mut self, other: &Self) {
        for (key, packets) in &other.reasons {
            *self.reasons.entry(*key).or_default() += packets;
        }
        for (key, packets) in &other.endpoints {
            *self.endpoints.entry(*key).or_default() += packets;
        }
    }
}

pub(crate) fn direction(hook: Hook) -> Direction {
    match hook {
        Hook::From => Direction::Egress,
        Hook::To => Direction::Ingress,
    }
}

/// The kernel and the plain maps, with the same contents.
pub(crate) struct Lab<'k> {
    pub(crate) kernel: &'k mut Kernel,
    pub(crate) plain: Plain,
    base: Tables,
    is_changed: bool,
    /// Whether the way past the bridge is open.
    is_open: bool,
}

/// Who gets a frame past the bridge, and counts it as what.
type Past = Option<(u32, Reason)>;

impl<'k> Lab<'k> {
    /// The scenario, with or without the way past the bridge.
    pub(crate) fn new(kernel: &'k mut Kernel, is_open: bool) -> Self {
        // As on any kernel of CONFIG_HZ up to 1000; what counts is that tests are faster than timeouts.
        let mut base = scenario::tables(1000);
        for endpoint in base.endpoints.values_mut() {
            endpoint.redirects = u32::from(is_open);
        }
        kernel.write(&base);
        let plain = Plain::new(base.clone(), scenario::FLOWS as usize);
        Self {
            kernel,
            plain,
            base,
            is_changed: false,
            is_open,
        }
    }

    /// As at first.
    pub(crate) fn reset(&mut self) {
        if self.is_changed {
            self.kernel.write(&self.base);
            self.is_changed = false;
        }
        self.kernel.forget(&self.base);
        self.plain = Plain::new(self.base.clone(), scenario::FLOWS as usize);
        self.plain.now = self.kernel.now();
    }

    /// Changes the tables as the agent would.
    pub(crate) fn change(&mut self, change: impl FnOnce(&mut Tables)) {
        change_as_agent(&mut self.plain.tables, change);
        self.kernel.write(&self.plain.tables);
        self.is_changed = true;
    }

    /// Tries a row; says what is not as it should be.
    pub(crate) fn check(&mut self, row: &Row) -> Result<(), String> {
        self.reset();
        for step in &row.before {
            self.step(step);
        }
        let (plain, past) = self.try_on_plain_maps(row.at, &row.frame);
        let expected = Seen::expected(row, self.is_open, past);
        let mut seen = Vec::new();
        if state::takes(&row.frame) {
            let before = self.counters();
            let fate = self.in_kernel(row.at, &row.frame);
            let after = self.counters();
            seen.push((
                "kernel",
                Seen {
                    fate,
                    ..after.since(&before)
                },
            ));
        }
        seen.push(("plain maps", plain));
        if seen.len() > 1 {
            self.compare_learned(&row.name)?;
        }
        for (who, seen) in seen {
            if seen != expected {
                let name = &row.name;
                return Err(format!(
                    "{name}: {who}\n  expected {expected:?}\n  seen     {seen:?}"
                ));
            }
        }
        Ok(())
    }

    /// Whether the kernel has seen in audit what plain maps have.
    pub(crate) fn compare_learned(&mut self, name: &str) -> Result<(), String> {
        let kernel = self.kernel.learned(&self.plain.tables);
        let plain = Learned::on_plain_maps(&self.plain);
        if kernel == plain {
            return Ok(());
        }
        Err(format!(
            "{name}: what was seen\n  in the kernel  {kernel:?}\n  on plain maps  {plain:?}"
        ))
    }

    /// Lets something happen.
    pub(crate) fn step(&mut self, step: &Step) {
        self.step_on_plain_maps(step);
        match step {
            Step::Seen(at, frame) => {
                self.in_kernel(*at, frame);
            }
            Step::Written(_) | Step::Halfway(_) => {
                self.kernel.write(&self.plain.tables);
                self.is_changed = true;
            }
            Step::Silence(_) | Step::Corrupted => {
                let hz = self.base.settings.hz;
                self.kernel
                    .change_flows(|_, entry| age(&mut entry.flow, step, hz));
            }
        }
    }

    fn step_on_plain_maps(&mut self, step: &Step) {
        match step {
            Step::Seen(at, frame) => {
                self.on_plain_maps(*at, frame);
            }
            Step::Halfway(change) => change(&mut self.plain.tables),
            Step::Written(change) => {
                let now = self.plain.now;
                change_as_agent(&mut self.plain.tables, |tables| {
                    change(tables);
                    // The length of a window becomes its end.
                    let window = &mut tables.settings.adopt_until;
                    *window = if *window == 0 {
                        0
                    } else {
                        now.wrapping_add(*window)
                    };
                });
            }
            Step::Silence(_) | Step::Corrupted => {
                let hz = self.base.settings.hz;
                let flows = self.plain.flows.values_mut();
                flows.for_each(|flow| age(flow, step, hz));
            }
        }
    }

    /// Whether plain maps already miss what a row says: quick.
    pub(crate) fn is_suspect(&mut self, row: &Row) -> bool {
        self.plain = Plain::new(self.base.clone(), scenario::FLOWS as usize);
        for step in &row.before {
            self.step_on_plain_maps(step);
        }
        let (seen, past) = self.try_on_plain_maps(row.at, &row.frame);
        seen != Seen::expected(row, self.is_open, past)
    }

    /// Everything that the kernel has counted.
    pub(crate) fn counters(&mut self) -> Seen {
        counters(self.kernel)
    }

    /// Where a frame goes in the kernel.
    pub(crate) fn in_kernel(&mut self, at: At, frame: &[u8]) -> Fate {
        fate(self.kernel, at, frame)
    }

    /// What becomes of a frame on plain maps.
    pub(crate) fn on_plain_maps(&mut self, at: At, frame: &[u8]) -> Seen {
        self.try_on_plain_maps(at, frame).0
    }

    fn try_on_plain_maps(&mut self, at: At, frame: &[u8]) -> (Seen, Past) {
        let mut scratch = Scratch::new();
        let mut seen = Seen::default();
        let mut past = None;
        match at {
            At::Endpoint(place) => {
                let before = self.is_open.then(|| self.plain.clone());
                let mut outcome = decide(&mut self.plain, &frame, &place, &mut scratch);
                let is_there = scenario::INTERFACES.contains(&outcome.peer_ifindex);
                if outcome.redirect && !(is_there && frame.len() <= LARGEST) {
                    outcome.over_the_bridge();
                }
                if let Some(before) = before.filter(|_| outcome.redirect) {
                    past = Some((outcome.peer_ifindex, outcome.peer.reason));
                    hold_against_the_bridge(before, place, frame, &outcome);
                }
                seen.fate = Fate::of(&outcome);
                let own = (place.ifindex, direction(place.hook), outcome.own);
                let peer = (outcome.peer_ifindex, Direction::Ingress, outcome.peer);
                for (ifindex, direction, tally) in [own, peer] {
                    if tally.is_counted {
                        seen.count(ifindex, direction, tally.verdict, tally.reason);
                    }
                }
            }
            At::Bridge(hook) => {
                let exists = |ifindex| scenario::INTERFACES.contains(&ifindex);
                let reason = backstop(&self.plain, &frame, BRIDGE, hook, &mut scratch, exists);
                seen.fate = reason.is_none().into();
                if let Some(reason) = reason {
                    seen.count(0, direction(hook), Verdict::Deny, reason);
                }
            }
            At::Uplink => {
                let reason = uplink(&self.plain, &frame, &mut scratch);
                seen.fate = reason.is_none().into();
                if let Some(reason) = reason {
                    seen.count(0, Direction::Ingress, Verdict::Deny, reason);
                }
            }
        }
        (seen, past)
    }
}

/// The largest frame that an interface takes: its MTU and an Ethernet header.
pub(crate) const LARGEST: usize = 1514;

/// What is redirected would have come through on the bridge too, and counted the same.
fn hold_against_the_bridge(mut plain: Plain, place: Place, frame: &[u8], redirected: &Outcome) {
    for endpoint in plain.tables.endpoints.values_mut() {
        endpoint.redirects = 0;
    }
    let sent = decide(&mut plain, &frame, &place, &mut Scratch::new());
    let receivers = Place {
        hook: Hook::To,
        ifindex: redirected.peer_ifindex,
        ingress: place.ifindex,
    };
    let received = decide(&mut plain, &frame, &receivers, &mut Scratch::new());
    assert!(
        sent.pass && received.pass && received.own == redirected.peer && sent.own == redirected.own,
        "{frame:02x?} is redirected at {place:?}: {redirected:?}\non the bridge: {sent:?}\n{received:?}"
    );
}

/// Everything that the kernel has counted.
pub(crate) fn counters(kernel: &mut Kernel) -> Seen {
    let mut seen = Seen::default();
    let packets = kernel.counters();
    for direction in Direction::ALL {
        for verdict in Verdict::ALL {
            for reason in Reason::ALL {
                let index = maps::counter_index(direction, verdict, *reason);
                let packets = packets[index as usize];
                seen.reasons.insert((direction, verdict, *reason), packets);
            }
            for who in ENDPOINTS {
                let slot = maps::endpoint_slot(who.ifindex(), 0);
                let index = maps::endpoint_counter_index(slot, direction, verdict);
                let packets = kernel.endpoint_counter(index);
                seen.endpoints
                    .insert((who.ifindex(), direction, verdict), packets);
            }
        }
    }
    seen
}

/// Where a frame goes in the kernel.
pub(crate) fn fate(kernel: &mut Kernel, at: At, frame: &[u8]) -> Fate {
    let (program, ifindex, ingress) = match at {
        At::Endpoint(place) => {
            let program = match place.hook {
                Hook::From => program::FROM_ENDPOINT,
                Hook::To => program::TO_ENDPOINT,
            };
            (program, place.ifindex, place.ingress)
        }
        At::Bridge(Hook::From) => (program::FROM_BRIDGE, BRIDGE, BRIDGE),
        At::Bridge(Hook::To) => (program::TO_BRIDGE, BRIDGE, 0),
        At::Uplink => {
            return match kernel.run_uplink(frame, 1).0 {
                xdp_action::XDP_PASS => Fate::Passed,
                xdp_action::XDP_DROP => Fate::Dropped,
                other => panic!("the uplink returns {other}"),
            };
        }
    };
    match kernel.run(program, ifindex, ingress, frame, 1).0 {
        // TCX_NEXT, TCX_DROP and TCX_REDIRECT; a test run carries none of them out.
        -1 => Fate::Passed,
        2 => Fate::Dropped,
        7 => Fate::Redirected,
        other => panic!("{program} returns {other}"),
    }
}

/// Changes tables as the agent would: the epoch last.
fn change_as_agent(tables: &mut Tables, change: impl FnOnce(&mut Tables)) {
    change(tables);
    let epoch = &mut tables.settings.epoch;
    *epoch = epoch.wrapping_add(1);
}

/// What silence or corruption makes of a flow.
fn age(flow: &mut Flow, step: &Step, hz: u32) {
    match step {
        Step::Silence(seconds) => flow.seen = flow.seen.wrapping_sub(seconds * hz),
        Step::Corrupted => flow.sides[0].reason = u8::MAX,
        Step::Seen(..) | Step::Written(_) | Step::Halfway(_) => {}
    }
}
