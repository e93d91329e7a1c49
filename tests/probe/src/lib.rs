//! Real packets for the tests: a listener that tells each client how it is seen, and attempts to reach something.
//!
//! A socket belongs to the network namespace in which it was made, so both work inside any namespace that a thread can
//! enter; the binary `dfw-probe` does the same inside a container.

mod attempt;
mod blast;
mod icmp;
mod listener;
pub mod traffic;

pub use attempt::{Attempt, Outcome, Protocol};
pub use blast::{Target, blast};
pub use listener::Listener;
