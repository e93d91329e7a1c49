//! The agent of dfw: one per node, fills the kernel's maps from labels and says what it sees.
//!
//! Down: `source` -> `model::Inventory` -> `policy` -> compiled entries -> `reconcile` -> `datapath`.
//! Up: `datapath` -> `telemetry` -> HTTP and `cli`. docs/architecture.md has the map and the invariants.

pub mod cli;
pub mod config;
pub mod datapath;
pub mod exit;
pub mod model;
pub mod policy;
pub mod reconcile;
pub mod run;
pub mod source;
pub mod telemetry;
