//! The catalogue of attacks: each is carried out, with real frames from a real interface, and what the others' kernels
//! got is captured at their ends. Which row of docs/security.md a test belongs to is said there.
//!
//! Without dfw every attack arrives, with dfw none does, and its reason is counted. So a test fails where dfw lets
//! something through, and also where the attack itself is none.

mod discovery;
mod engine;
mod flows;
mod frames;
mod lab;
mod neighbours;
mod packets;
mod sniffing;
mod stage;
