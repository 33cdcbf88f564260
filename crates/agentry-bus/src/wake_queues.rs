//! Wakes queued in this process: one queue per mode and priority.

use std::collections::VecDeque;

use agentry_core::agent::{ExecutionMode, ModeSet};
use agentry_core::task::Priority;

/// Queues by mode and priority.
#[derive(Debug)]
pub(crate) struct WakeQueues<E> {
    queues: [[VecDeque<E>; 3]; 4],
    len: usize,
}

impl<E> Default for WakeQueues<E> {
    fn default() -> Self {
        Self { queues: Default::default(), len: 0 }
    }
}

impl<E> WakeQueues<E> {
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn push(&mut self, mode: ExecutionMode, priority: Priority, entry: E) {
        self.queues[mode as usize][priority as usize].push_back(entry);
        self.len += 1;
    }

    /// Takes up to `limit` entries of these modes, high priorities first.
    pub fn take(&mut self, modes: ModeSet, limit: usize) -> Vec<E> {
        let mut taken = Vec::new();
        for priority in [Priority::High, Priority::Normal, Priority::Low] {
            for mode in modes.iter() {
                let queue = &mut self.queues[mode as usize][priority as usize];
                let count = queue.len().min(limit - taken.len());
                taken.extend(queue.drain(..count));
            }
        }
        self.len -= taken.len();
        taken
    }
}
