//! The bus of one process: in-memory queues without durability or connections.

use std::sync::{Arc, Mutex};

use agentry_core::agent::{ExecutionMode, ModeSet};
use agentry_core::event::Event;
use agentry_core::id::TaskId;
use async_trait::async_trait;
use tokio::sync::Notify;

use crate::listeners::{Listeners, lock};
use crate::port::{BusError, EventBus, Signal, Signals, Wake, Wakes};
use crate::wake_queues::WakeQueues;

/// Largest number of queued wakes; further ones are dropped, and recovery finds their tasks in the store.
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
    queues: WakeQueues<Wake>,
    dropped: [u64; 4],
}

impl Default for EmbeddedBus {
    fn default() -> Self {
        Self::new()
    }
}

impl EmbeddedBus {
    /// Creates an empty bus.
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
                if waiting.queues.len() >= MAX_WAKES {
                    waiting.dropped[wake.mode as usize] += 1;
                } else {
                    waiting.queues.push(wake.mode, wake.priority, wake);
                }
            }
        }
        if count > 0 {
            // Consumers of different modes share one notification; each checks its own queues.
            self.shared.arrived.notify_waiters();
        }
    }

    fn wakes(&self, modes: ModeSet) -> Box<dyn Wakes> {
        let seen = lock(&self.shared.waiting).dropped;
        Box::new(EmbeddedWakes { shared: Arc::clone(&self.shared), modes, seen_dropped: seen })
    }

    fn signal(&self, signal: Signal) {
        self.shared.listeners.send(signal);
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
        if self.shared.listeners.has_signal_listeners() {
            self.signal(Signal::Event(Arc::new(event.clone())));
        }
        Ok(())
    }

    fn is_heard_outside(&self, _topic: &str) -> bool {
        false
    }

    fn depth(&self) -> usize {
        lock(&self.shared.waiting).queues.len()
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
            // Registered before the check, so that a wake between check and wait is not missed.
            bell.as_mut().enable();
            let taken = lock(&self.shared.waiting).queues.take(self.modes, limit.max(1));
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
