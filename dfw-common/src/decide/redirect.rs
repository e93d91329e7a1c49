//! Past the bridge: which packets go from the sender's hook into the receiver's interface at once (section 12).

use super::{Outcome, established::own_tally};
use crate::{
    check::Check,
    packet::Headers,
    reason::Verdict,
    value::{Endpoint, Side, mode},
};

/// Whether packets of a flow that leave `me` may go past the bridge at all. `bridged` is that of the flow.
#[inline(always)]
pub(super) fn may_redirect(me: &Endpoint, bridged: u8) -> bool {
    Check::RedirectSwitch.holds(me.redirects != 0) && Check::RedirectBridged.holds(bridged == 0)
}

/// Whether a packet that passes at the hook of its sender `me` is one that the hook of its receiver would pass too, and that
/// nobody is to see between the two. `sides` are the sender's and the receiver's.
///
/// What the receiver's hook would ask besides holds already: the flow's ends are these two ports, for both addresses were
/// found to be theirs; it is not over; and the packet is of a kind that has a flow.
#[inline(always)]
pub(super) fn is_fit(
    me: &Endpoint,
    peer: &Endpoint,
    sides: [&Side; 2],
    epoch: u32,
    headers: &Headers,
) -> bool {
    let enforces = |end: &Endpoint| end.mode == mode::ENFORCE;
    let is_judged = |side: &Side| side.is_current(epoch);
    let allows = |side: &Side| side.verdict == Verdict::Allow as u8;
    Check::RedirectSwitch.holds(peer.redirects != 0)
        && Check::RedirectMac.holds(headers.destination_mac == peer.mac)
        && Check::RedirectEpoch.holds(is_judged(sides[0]) && is_judged(sides[1]))
        && Check::RedirectNetwork.holds(me.network == peer.network)
        // What an endpoint in audit or off lets pass takes the way that it would take without dfw.
        && Check::RedirectMode.holds(enforces(me) && enforces(peer))
        && Check::RedirectAllowed.holds(allows(sides[0]) && allows(sides[1]))
}

impl Outcome {
    /// Goes to the receiver at once, and counts there what the receiver's hook would have counted.
    #[inline(always)]
    pub(super) fn redirect_to(&mut self, peer: &Endpoint, theirs: &Side, from_initiator: bool) {
        self.redirect = true;
        self.peer = own_tally(peer, theirs, from_initiator);
        self.peer_ifindex = peer.ifindex;
    }
}
