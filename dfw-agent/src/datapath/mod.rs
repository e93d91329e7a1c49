//! Room: datapath.
