//! Room: policy.

use std::collections::BTreeMap;

use crate::model::{Container, Finding};

/// Checks the labels of one container.
pub fn check_labels(
    _labels: &BTreeMap<String, String>,
    _project: Option<&str>,
    _prefix: &str,
) -> Vec<Finding> {
    Vec::new()
}

/// Checks one container: its labels, and what they mean for its published ports.
pub fn check_container(_container: &Container, _prefix: &str) -> Vec<Finding> {
    Vec::new()
}
