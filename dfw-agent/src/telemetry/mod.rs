//! What the agent says of itself: metrics, health, the command socket, flow events, logs. Reads the [`View`] that the
//! reconciler publishes and the figures of the kernel; changes neither.
//!
//! [`View`]: crate::model::View

mod collector;
pub mod events;
pub mod history;
pub mod http;
mod kernel;
pub mod learned;
pub mod ledger;
pub mod listen;
pub mod log;
pub mod metrics;
pub mod observe;
pub mod orders;
pub mod text;

pub use self::{
    kernel::{EndpointCounter, Kernel, KernelFigures, MapFill, ReasonCounter},
    metrics::Metrics,
};
