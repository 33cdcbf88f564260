//! Tasks that execute in this process, each under one lease.

use std::collections::HashMap;
use std::sync::Mutex;

use agentry_core::id::TaskId;
use agentry_store::Lease;
use tokio_util::sync::CancellationToken;

use crate::context::lock;

/// The running tasks and their cancellation tokens.
#[derive(Default)]
pub(crate) struct Running {
    tasks: Mutex<HashMap<TaskId, (Lease, CancellationToken)>>,
}

/// A task that executes until this is dropped.
pub(crate) struct Execution<'a> {
    running: &'a Running,
    lease: Lease,
    /// Cancelled to stop the task.
    pub cancel: CancellationToken,
}

impl Running {
    /// Registers a task; `None` if it already executes under the same lease. A store that lost a claim in a power
    /// failure may grant the same lease again, and then the running execution is the right one.
    pub fn begin(&self, lease: Lease) -> Option<Execution<'_>> {
        let cancel = CancellationToken::new();
        let mut tasks = lock(&self.tasks);
        if let Some((known, older)) = tasks.get(&lease.task) {
            if *known == lease {
                return None;
            }
            // The older lease is stale: the store refuses its writes.
            older.cancel();
        }
        tasks.insert(lease.task, (lease, cancel.clone()));
        Some(Execution { running: self, lease, cancel })
    }

    /// Stops a task, if it executes here.
    pub fn cancel(&self, task: TaskId) {
        if let Some((_, cancel)) = lock(&self.tasks).get(&task) {
            cancel.cancel();
        }
    }

    /// Returns the executing tasks.
    pub fn tasks(&self) -> Vec<TaskId> {
        lock(&self.tasks).keys().copied().collect()
    }
}

impl Drop for Execution<'_> {
    fn drop(&mut self) {
        let mut tasks = lock(&self.running.tasks);
        if tasks.get(&self.lease.task).is_some_and(|(lease, _)| *lease == self.lease) {
            tasks.remove(&self.lease.task);
        }
    }
}

#[cfg(test)]
mod tests {
    use agentry_core::id::WorkerId;

    use super::*;

    fn lease(epoch: u32) -> Lease {
        Lease { task: TaskId::from_parts(1, 1), epoch, worker: WorkerId::from_parts(1, 2) }
    }

    #[test]
    fn one_lease_executes_once() {
        let running = Running::default();
        let first = running.begin(lease(1)).expect("nothing executes yet");
        assert!(running.begin(lease(1)).is_none(), "the same lease again");
        drop(first);
        assert!(running.tasks().is_empty());
        assert!(running.begin(lease(1)).is_some());
    }

    #[test]
    fn a_later_lease_stops_the_earlier_execution_and_outlives_its_end() {
        let running = Running::default();
        let stale = running.begin(lease(1)).expect("nothing executes yet");
        let fresh = running.begin(lease(2)).expect("another lease");
        assert!(stale.cancel.is_cancelled() && !fresh.cancel.is_cancelled());
        drop(stale);
        assert_eq!(running.tasks(), [lease(2).task]);
        running.cancel(lease(2).task);
        assert!(fresh.cancel.is_cancelled());
    }
}
