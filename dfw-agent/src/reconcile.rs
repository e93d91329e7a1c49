//! Level-triggered loop: desired state against what the kernel holds.
