//! The kernel's side: the only room with aya.

pub mod links;
pub mod load;
pub mod rings;
pub mod sys;
mod uninstall;

pub use self::uninstall::{UninstallReport, uninstall};
