//! The fleet of a process: one pointer, replaced on a reload.

use std::sync::Arc;

use agentry_core::fleet::Fleet;
use arc_swap::ArcSwap;
use tokio::sync::watch;

/// The fleet of this process. Cheap to clone; reading it takes no lock.
#[derive(Debug, Clone)]
pub struct FleetHandle {
    current: Arc<ArcSwap<Fleet>>,
    changes: Arc<watch::Sender<u64>>,
}

impl FleetHandle {
    /// Returns a handle that holds this fleet.
    #[must_use]
    pub fn new(fleet: Fleet) -> Self {
        Self { current: Arc::new(ArcSwap::from_pointee(fleet)), changes: Arc::new(watch::Sender::new(0)) }
    }

    /// Returns the fleet as it is now.
    #[must_use]
    pub fn current(&self) -> Arc<Fleet> {
        self.current.load_full()
    }

    /// Replaces the fleet and notifies all receivers of [`Self::changes`].
    pub fn replace(&self, fleet: Fleet) {
        self.current.store(Arc::new(fleet));
        self.changes.send_modify(|generation| *generation += 1);
    }

    /// Returns a receiver whose value changes with every reload.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}
