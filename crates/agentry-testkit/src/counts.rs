//! Counters of injected faults, by name: a fault that never happened proves nothing.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// Counters by name; a counter that was never raised is missing.
#[derive(Debug, Default)]
pub struct FaultCounts(Mutex<BTreeMap<String, u64>>);

impl FaultCounts {
    /// Raises a counter by one.
    pub fn add(&self, name: impl Into<String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(name.into()).or_default() += 1;
    }

    /// Returns all counters.
    pub fn all(&self) -> BTreeMap<String, u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
