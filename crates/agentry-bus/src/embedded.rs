//! The bus of one process: queues in memory, nothing durable, nothing to connect to.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use agentry_core::agent::{ExecutionMode, ModeSet};
use agentry_core::event::Event;
use agentry_core::id::TaskId;
use agentry_core::task::Priority;
use async_trait::async_trait;
use tokio::sync::{Notify, broadcast};

use crate::port::{BusError, EventBus, Received, Signal, Signals, Wake, Wakes};

/// Wakes that wait for a consumer at most; further ones are dropped and found by recovery in the store.
const MAX_WAKES: usize = 100_000;
/// Signals that a slow listener may lag behind before it misses some.
const SIGNAL_BACKLOG: usize = 4_096;
/// Signals about one task that a slow watcher may lag behind.
const WATCH_BACKLOG: usize = 256;

/// The bus of one process.
#[derive(Debug, Clone)]
pub struct EmbeddedBus {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    lanes: Mutex<Lanes>,
    arrived: Notify,
    signals: broadcast::Sender<Signal>,
    watchers: Mutex<HashMap<TaskId, broadcast::Sender<Signal>>>,
    watched: AtomicUsize,
}

/// One queue for each mode and priority.
#[derive(Debug, Default)]
struct Lanes {
    queues: [[VecDeque<Wake>; 3]; 4],
    len: usize,
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
            shared: Arc::new(Shared {
                lanes: Mutex::default(),
                arrived: Notify::new(),
                signals: broadcast::Sender::new(SIGNAL_BACKLOG),
                watchers: Mutex::default(),
                watched: AtomicUsize::new(0),
            }),
        }
    }
}

/// A poisoned lock guards plain queues that no panic can leave half changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    fn watchers_of(&self, task: TaskId) -> Option<broadcast::Sender<Signal>> {
        if self.watched.load(Ordering::Acquire) == 0 {
            return None;
        }
        lock(&self.watchers).get(&task).cloned()
    }
}

#[async_trait]
impl EventBus for EmbeddedBus {
    fn wake(&self, wakes: Vec<Wake>) {
        let count = wakes.len();
        {
            let mut lanes = lock(&self.shared.lanes);
            for wake in wakes {
                let mode = wake.mode as usize;
                if lanes.len >= MAX_WAKES {
                    lanes.dropped[mode] += 1;
                } else {
                    lanes.queues[mode][wake.priority as usize].push_back(wake);
                    lanes.len += 1;
                }
            }
        }
        if count > 0 {
            // Consumers of different modes wait on one bell; each looks into its own lanes.
            self.shared.arrived.notify_waiters();
        }
    }

    fn wakes(&self, modes: ModeSet) -> Box<dyn Wakes> {
        let seen = lock(&self.shared.lanes).dropped;
        Box::new(EmbeddedWakes { shared: Arc::clone(&self.shared), modes, seen_dropped: seen })
    }

    fn signal(&self, signal: Signal) {
        match &signal {
            Signal::Progress { task, .. } | Signal::Delta { task, .. } => {
                if let Some(watchers) = self.shared.watchers_of(*task) {
                    let _nobody_listens = watchers.send(signal);
                }
            }
            _ => {
                let _nobody_listens = self.shared.signals.send(signal);
            }
        }
    }

    fn signals(&self) -> Box<dyn Signals> {
        Box::new(EmbeddedSignals { receiver: self.shared.signals.subscribe() })
    }

    fn is_watched(&self, task: TaskId) -> bool {
        self.shared.watchers_of(task).is_some()
    }

    fn watch(&self, task: TaskId) -> Box<dyn Signals> {
        let mut watchers = lock(&self.shared.watchers);
        let sender = watchers.entry(task).or_insert_with(|| broadcast::Sender::new(WATCH_BACKLOG));
        let receiver = sender.subscribe();
        self.shared.watched.store(watchers.len(), Ordering::Release);
        Box::new(Watch { shared: Arc::clone(&self.shared), task, receiver: Some(receiver) })
    }

    async fn publish(&self, event: &Event) -> Result<(), BusError> {
        self.signal(Signal::Event(Arc::new(event.clone())));
        Ok(())
    }

    fn has_foreign_consumers(&self) -> bool {
        false
    }

    fn depth(&self) -> usize {
        lock(&self.shared.lanes).len
    }
}

struct EmbeddedWakes {
    shared: Arc<Shared>,
    modes: ModeSet,
    seen_dropped: [u64; 4],
}

impl EmbeddedWakes {
    fn take(&self, limit: usize) -> Vec<Wake> {
        let mut lanes = lock(&self.shared.lanes);
        let mut taken = Vec::new();
        for priority in [Priority::High, Priority::Normal, Priority::Low] {
            for mode in self.modes.iter() {
                let queue = &mut lanes.queues[mode as usize][priority as usize];
                let count = queue.len().min(limit - taken.len());
                taken.extend(queue.drain(..count));
            }
        }
        lanes.len -= taken.len();
        taken
    }
}

#[async_trait]
impl Wakes for EmbeddedWakes {
    async fn next(&mut self, limit: usize) -> Vec<Wake> {
        loop {
            let bell = self.shared.arrived.notified();
            tokio::pin!(bell);
            // Registered before looking, so that a wake between the look and the wait is heard.
            bell.as_mut().enable();
            let taken = self.take(limit.max(1));
            if !taken.is_empty() {
                return taken;
            }
            bell.await;
        }
    }

    fn overflowed(&mut self) -> bool {
        let dropped = lock(&self.shared.lanes).dropped;
        let modes = ExecutionMode::ALL.into_iter().filter(|mode| self.modes.contains(*mode));
        let overflowed = modes.into_iter().any(|mode| dropped[mode as usize] != self.seen_dropped[mode as usize]);
        self.seen_dropped = dropped;
        overflowed
    }
}

struct EmbeddedSignals {
    receiver: broadcast::Receiver<Signal>,
}

#[async_trait]
impl Signals for EmbeddedSignals {
    async fn next(&mut self) -> Received {
        received(self.receiver.recv().await)
    }
}

fn received(result: Result<Signal, broadcast::error::RecvError>) -> Received {
    match result {
        Ok(signal) => Received::Signal(signal),
        Err(broadcast::error::RecvError::Lagged(_)) => Received::Missed,
        Err(broadcast::error::RecvError::Closed) => Received::Closed,
    }
}

struct Watch {
    shared: Arc<Shared>,
    task: TaskId,
    receiver: Option<broadcast::Receiver<Signal>>,
}

#[async_trait]
impl Signals for Watch {
    async fn next(&mut self) -> Received {
        match &mut self.receiver {
            Some(receiver) => received(receiver.recv().await),
            None => Received::Closed,
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut watchers = lock(&self.shared.watchers);
        self.receiver = None;
        if watchers.get(&self.task).is_some_and(|sender| sender.receiver_count() == 0) {
            watchers.remove(&self.task);
        }
        self.shared.watched.store(watchers.len(), Ordering::Release);
    }
}
