//! The kernel's side: the only room with aya.

pub mod load;
pub mod sys;
