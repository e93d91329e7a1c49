//! What the BPF programs and the agent of dfw must agree on, and the decision itself.
//!
//! Everything here is `no_std`, free of I/O, clocks and allocation. The same code is compiled into the BPF object, into
//! the agent (which writes the maps) and into the tests, so that what is tested is what runs in the kernel.

#![no_std]

#[cfg(any(
    test,
    feature = "user",
    all(feature = "mutants", not(target_arch = "bpf"))
))]
extern crate std;

pub mod addr;
pub mod backstop;
pub mod check;
pub mod conntrack;
pub mod decide;
pub mod env;
pub mod key;
pub mod maps;
#[cfg(feature = "mutants")]
pub mod mutant;
mod neighbour;
pub mod packet;
pub mod parse;
pub mod policy;
pub mod reason;
pub mod uplink;
pub mod value;

#[cfg(any(test, feature = "user"))]
pub mod plain;
#[cfg(feature = "user")]
mod pod;
#[cfg(test)]
mod tests;
