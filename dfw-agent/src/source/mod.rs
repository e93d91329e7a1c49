//! Where endpoints come from: the engine or the inventory file says who there is, netlink says where.

pub mod netlink;
