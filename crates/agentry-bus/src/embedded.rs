//! The bus of one process: queues in memory, nothing durable, nothing to connect to.

use std::sync::{Arc, Mutex};

use agentry_core::agent::{ExecutionMode, ModeSet};
use agentry_core::event::Event;
use agentry_core::id::TaskId;
use async_trait::async_trait;
use tokio::sync::Notify;

use crate::lanes::Lanes;
use crate::listeners::{Listeners, lock};
use crate::port::{BusError, EventBus, Signal, Signals, Wake, Wakes};

/// Wakes that wait for a consumer at most; further ones are dropped and found by recovery in the store.
const MAX_WAKES: usize = 100_000;

/// The bus of one process.
#[derive(Debug, Clone)]
pub struct EmbeddedBus {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    waiting: Mutex<Waiting>,
    arrived: Notify,
    listeners: Listeners,
}

#[derive(Debug, Default)]
struct Waiting {
    lanes: Lanes<Wake>,
    dropped: [u64; 4],
}

impl Default for EmbeddedBus {
    fn default() -> Self {
        Self::new()
    }
}

impl EmbeddedBus {
    /// An empty bus.
    #[must_use]
    pub fn new() -> Self {
        Self {
            shared: Arc::new(Shared { waiting: Mutex::default(), arrived: Notify::new(), listeners: Listeners::new() }),
        }
    }
}

#[async_trait]
impl EventBus for EmbeddedBus {
    fn wake(&self, wakes: Vec<Wake>) {
        let count = wakes.len();
        {
            let mut waiting = lock(&self.shared.waiting);
            for wake in wakes {
                if waiting.lanes.len() >= MAX_WAKES {
                    waiting.dropped[wake.mode as usize] += 1;
                } else {
                    waiting.lanes.push(wake.mode, wake.priority, wake);
                }
            }
        }
        if count > 0 {
            // Consumers of different modes wait on one bell; each looks into its own lanes.
            self.shared.arrived.notify_waiters();
        }
    }

    fn wakes(&self, modes: ModeSet) -> Box<dyn Wakes> {
        let seen = lock(&self.shared.waiting).dropped;
        Box::new(EmbeddedWakes { shared: Arc::clone(&self.shared), modes, seen_dropped: seen })
    }

    fn signal(&self, signal: Signal) {
        self.shared.listeners.tell(signal);
    }

    fn signals(&self) -> Box<dyn Signals> {
        self.shared.listeners.signals()
    }

    fn is_watched(&self, task: TaskId) -> bool {
        self.shared.listeners.is_watched(task)
    }

    fn watch(&self, task: TaskId) -> Box<dyn Signals> {
        Box::new(self.shared.listeners.watch(task))
    }

    async fn publish(&self, event: &Event) -> Result<(), BusError> {
        if self.shared.listeners.anybody() {
            self.signal(Signal::Event(Arc::new(event.clone())));
        }
        Ok(())
    }

    fn is_heard_outside(&self, _topic: &str) -> bool {
        false
    }

    fn depth(&self) -> usize {
        lock(&self.shared.waiting).lanes.len()
    }
}

struct EmbeddedWakes {
    shared: Arc<Shared>,
    modes: ModeSet,
    seen_dropped: [u64; 4],
}

#[async_trait]
impl Wakes for EmbeddedWakes {
    async fn next(&mut self, limit: usize) -> Vec<Wake> {
        loop {
            let bell = self.shared.arrived.notified();
            tokio::pin!(bell);
            // Registered before looking, so that a wake between the look and the wait is heard.
            bell.as_mut().enable();
            let taken = lock(&self.shared.waiting).lanes.take(self.modes, limit.max(1));
            if !taken.is_empty() {
                return taken;
            }
            bell.await;
        }
    }

    fn overflowed(&mut self) -> bool {
        let dropped = lock(&self.shared.waiting).dropped;
        let modes = ExecutionMode::ALL.into_iter().filter(|mode| self.modes.contains(*mode));
        let overflowed = modes.into_iter().any(|mode| dropped[mode as usize] != self.seen_dropped[mode as usize]);
        self.seen_dropped = dropped;
        overflowed
    }
}
