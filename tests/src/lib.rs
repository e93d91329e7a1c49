//! What the tests on real kernels and engines are made of: network namespaces, Docker engines, the agent.
//!
//! Real things only. Whatever is made carries a name that begins with `dfwt`, belongs to a value, and goes away with it.
//! As everywhere in tests, what cannot be done panics and says why; root is needed for all of it.

pub mod agent;
pub mod bridge;
pub mod campaign;
pub mod canary;
pub mod compose;
pub mod container;
pub mod cost;
pub mod crowd;
pub mod engine;
pub mod frame;
pub mod http;
pub mod image;
pub mod inventory;
pub mod leaks;
pub mod machine;
pub mod namespace;
pub mod oracle;
pub mod prefixes;
pub mod process;
pub mod prometheus;
pub mod proxy;
pub mod receipts;
pub mod root;
pub mod rules;
pub mod runtime;
pub mod scratch;
pub mod table;
pub mod tap;
pub mod wait;

pub use agent::Agent;
pub use bridge::{Bridge, Endpoint};
pub use container::Container;
pub use dfw_probe::{Attempt, Listener, Outcome, Protocol};
pub use engine::{Engine, EngineOptions};
pub use inventory::Inventory;
pub use machine::Machine;
pub use namespace::{Namespace, NetNs};
pub use prometheus::Prometheus;
pub use root::Root;
pub use tap::Tap;
