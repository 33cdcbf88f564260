//! Listeners of this process: to all signals, or to those about one task.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use agentry_core::id::TaskId;
use async_trait::async_trait;
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

use crate::port::{ReceiveOutcome, Signal, Signals};

/// Signals that a slow listener may lag behind before it misses some.
const SIGNAL_BACKLOG: usize = 4_096;
/// Signals about one task that a slow watcher may lag behind.
const WATCH_BACKLOG: usize = 256;

#[derive(Debug, Clone)]
pub(crate) struct Listeners {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    signals: broadcast::Sender<ReceiveOutcome>,
    watchers: Mutex<HashMap<TaskId, broadcast::Sender<ReceiveOutcome>>>,
    watched: AtomicUsize,
    closed: CancellationToken,
}

/// Locks plain queues and maps, which no panic can leave half changed, so a poisoned lock is ignored.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Listeners {
    pub fn new() -> Self {
        Self {
            shared: Arc::new(Shared {
                signals: broadcast::Sender::new(SIGNAL_BACKLOG),
                watchers: Mutex::default(),
                watched: AtomicUsize::new(0),
                closed: CancellationToken::new(),
            }),
        }
    }

    /// Sends a signal about one task to its watchers and any other signal to all listeners.
    pub fn send(&self, signal: Signal) {
        match &signal {
            Signal::Progress { task, .. } | Signal::Delta { task, .. } | Signal::Restart { task } => {
                if let Some(watchers) = self.shared.watchers_of(*task) {
                    let _nobody_listens = watchers.send(ReceiveOutcome::Signal(signal));
                }
            }
            _ => {
                let _nobody_listens = self.shared.signals.send(ReceiveOutcome::Signal(signal));
            }
        }
    }

    pub fn has_signal_listeners(&self) -> bool {
        self.shared.signals.receiver_count() > 0
    }

    /// Subscribes to all signals that are not about one task.
    pub fn signals(&self) -> Box<dyn Signals> {
        Box::new(Listener { receiver: self.shared.signals.subscribe(), closed: self.shared.closed.clone() })
    }

    pub fn is_watched(&self, task: TaskId) -> bool {
        self.shared.watchers_of(task).is_some()
    }

    pub fn watch(&self, task: TaskId) -> Watch {
        let mut watchers = lock(&self.shared.watchers);
        let sender = watchers.entry(task).or_insert_with(|| broadcast::Sender::new(WATCH_BACKLOG));
        let receiver = sender.subscribe();
        self.shared.watched.store(watchers.len(), Ordering::Release);
        let listener = Listener { receiver, closed: self.shared.closed.clone() };
        Watch { shared: Arc::clone(&self.shared), task, listener: Some(listener) }
    }
}

/// Methods for a bus with other processes.
impl Listeners {
    pub fn watched(&self) -> Vec<TaskId> {
        lock(&self.shared.watchers).keys().copied().collect()
    }

    pub fn watched_count(&self) -> usize {
        self.shared.watched.load(Ordering::Acquire)
    }

    pub fn missed(&self) {
        let _nobody_listens = self.shared.signals.send(ReceiveOutcome::Missed);
        self.missed_by_watchers();
    }

    /// Notifies the watchers of all tasks that signals were lost.
    pub fn missed_by_watchers(&self) {
        for watchers in lock(&self.shared.watchers).values() {
            let _nobody_listens = watchers.send(ReceiveOutcome::Missed);
        }
    }

    pub fn close(&self) {
        self.shared.closed.cancel();
    }
}

impl Shared {
    fn watchers_of(&self, task: TaskId) -> Option<broadcast::Sender<ReceiveOutcome>> {
        if self.watched.load(Ordering::Acquire) == 0 {
            return None;
        }
        lock(&self.watchers).get(&task).cloned()
    }
}

#[derive(Debug)]
struct Listener {
    receiver: broadcast::Receiver<ReceiveOutcome>,
    closed: CancellationToken,
}

#[async_trait]
impl Signals for Listener {
    async fn next(&mut self) -> ReceiveOutcome {
        let result = tokio::select! {
            biased;
            result = self.receiver.recv() => result,
            () = self.closed.cancelled() => return ReceiveOutcome::Closed,
        };
        match result {
            Ok(received) => received,
            Err(broadcast::error::RecvError::Lagged(_)) => ReceiveOutcome::Missed,
            Err(broadcast::error::RecvError::Closed) => ReceiveOutcome::Closed,
        }
    }
}

/// A watch of one task, which ends when the last one is dropped.
#[derive(Debug)]
pub(crate) struct Watch {
    shared: Arc<Shared>,
    task: TaskId,
    listener: Option<Listener>,
}

#[async_trait]
impl Signals for Watch {
    async fn next(&mut self) -> ReceiveOutcome {
        match &mut self.listener {
            Some(listener) => listener.next().await,
            None => ReceiveOutcome::Closed,
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut watchers = lock(&self.shared.watchers);
        self.listener = None;
        if watchers.get(&self.task).is_some_and(|sender| sender.receiver_count() == 0) {
            watchers.remove(&self.task);
        }
        self.shared.watched.store(watchers.len(), Ordering::Release);
    }
}
