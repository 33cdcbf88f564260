//! Tasks that other processes watch, according to their recent notes.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use agentry_core::id::TaskId;

use super::wire::signals::Process;

/// Lifetime of a note about a watched task; a process that dies sends no more.
const EXPIRY: Duration = Duration::from_secs(60);
/// Interval at which a process repeats the tasks that it watches.
pub(super) const RENEW: Duration = Duration::from_secs(20);
/// Largest number of remembered tasks; no deltas are sent for further ones.
const MAX_TASKS: usize = 65_536;

/// Tasks that other processes watch.
#[derive(Debug, Default)]
pub(super) struct Interest {
    tasks: HashMap<TaskId, HashMap<Process, Instant>>,
}

impl Interest {
    pub fn add(&mut self, process: Process, task: TaskId, now: Instant) {
        if self.tasks.len() >= MAX_TASKS && !self.tasks.contains_key(&task) {
            self.expire(now);
            if self.tasks.len() >= MAX_TASKS {
                return;
            }
        }
        self.tasks.entry(task).or_default().insert(process, now + EXPIRY);
    }

    pub fn remove(&mut self, process: Process, task: TaskId) {
        if let Some(processes) = self.tasks.get_mut(&task) {
            processes.remove(&process);
            if processes.is_empty() {
                self.tasks.remove(&task);
            }
        }
    }

    /// Returns true when a process watches `task`.
    pub fn contains(&self, task: TaskId, now: Instant) -> bool {
        self.tasks.get(&task).is_some_and(|processes| processes.values().any(|until| *until > now))
    }

    /// Drops entries that were not renewed.
    pub fn expire(&mut self, now: Instant) {
        self.tasks.retain(|_, processes| {
            processes.retain(|_, until| *until > now);
            !processes.is_empty()
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interest_ends_with_the_last_process_or_with_time() {
        let (task, now) = (TaskId::from_parts(1, 1), Instant::now());
        let (one, two) = (Process([1; 16]), Process([2; 16]));
        let mut interest = Interest::default();
        assert!(!interest.contains(task, now));
        interest.add(one, task, now);
        interest.add(two, task, now + Duration::from_secs(30));
        interest.remove(one, task);
        assert!(interest.contains(task, now + Duration::from_secs(89)));
        assert!(!interest.contains(task, now + Duration::from_secs(90)));
        interest.expire(now + Duration::from_secs(90));
        assert!(interest.tasks.is_empty());
    }

    #[test]
    fn the_table_has_a_bound() {
        let now = Instant::now();
        let mut interest = Interest::default();
        for n in 0..=MAX_TASKS as u64 {
            interest.add(Process([1; 16]), TaskId::from_parts(n, 0), now);
        }
        assert_eq!(interest.tasks.len(), MAX_TASKS);
        interest.add(Process([1; 16]), TaskId::from_parts(u64::from(u32::MAX), 0), now + EXPIRY);
        assert_eq!(interest.tasks.len(), 1, "what is old makes room");
    }
}
