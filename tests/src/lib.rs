//! What the tests on real kernels and engines are made of: network namespaces, Docker engines, the agent.
//!
//! Real things only. Whatever is made carries a name that begins with `dfwt`, belongs to a value, and goes away with it.
//! As everywhere in tests, what cannot be done panics and says why; root is needed for all of it.

pub mod agent;
pub mod bridge;
pub mod campaign;
pub mod canary;
pub mod cost;
pub mod crowd;
pub mod engine;
pub mod frame;
pub mod http;
pub mod inventory;
pub mod leaks;
pub mod namespace;
pub mod oracle;
pub mod process;
pub mod prometheus;
pub mod proxy;
pub mod receipts;
pub mod rules;
pub mod runtime;
pub mod scratch;
pub mod table;
pub mod tap;
pub mod wait;

mod image;

pub use agent::Agent;
pub use bridge::{Bridge, Endpoint};
pub use dfw_probe::{Attempt, Listener, Outcome, Protocol};
pub use engine::{Container, Engine, EngineOptions};
pub use inventory::Inventory;
pub use namespace::{Namespace, NetNs};
pub use prometheus::Prometheus;
pub use tap::Tap;
