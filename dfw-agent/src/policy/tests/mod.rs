//! Tests of the whole room.

mod addresses;
mod ceiling;
mod explain;
mod file;
mod governed;
mod grammar;
mod kernel;
mod messages;
mod node;
mod oracle;
mod ports;
mod properties;
mod random;
mod scale;
mod suggest;
mod tricky;
mod updates;
