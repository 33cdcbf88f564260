//! Processor time, memory and descriptors of one process and its children.

use std::collections::HashMap;

use procfs::process::{MMapPath, Process};

/// Generations of descendants that are followed.
const MAX_DEPTH: usize = 4;
/// Largest number of processes of one part: PostgreSQL has one for each connection.
const MAX_PROCESSES: usize = 1_000;

/// Returns the proportional set size of a process in bytes, in which a page that n processes share counts 1/n for each;
/// `None` when the process is gone or may not be read.
pub fn pss_of(pid: u32) -> Option<u64> {
    let rollup = process(pid)?.smaps_rollup().ok()?;
    let maps = rollup.memory_map_rollup.iter().filter(|map| map.pathname != MMapPath::Vdso);
    Some(maps.filter_map(|map| map.extension.map.get("Pss")).sum())
}

fn process(pid: u32) -> Option<Process> {
    Process::new(i32::try_from(pid).ok()?).ok()
}

/// Returns a process and its living descendants.
pub(super) fn family(root: u32) -> Vec<u32> {
    let mut all = vec![root];
    let mut level = vec![root];
    for _ in 0..MAX_DEPTH {
        level = level.iter().flat_map(|pid| children(*pid)).collect();
        all.extend(&level);
        if level.is_empty() || all.len() > MAX_PROCESSES {
            break;
        }
    }
    all
}

fn children(pid: u32) -> Vec<u32> {
    let tasks = process(pid).and_then(|process| process.tasks().ok());
    tasks.into_iter().flatten().flatten().filter_map(|task| task.children().ok()).flatten().collect()
}

/// Processor time of threads so far. Threads that have ended stay in the sum as they were last seen.
#[derive(Debug, Clone, Default)]
pub(super) struct Threads {
    seen: HashMap<i32, (u64, u64)>,
    alive: usize,
}

impl Threads {
    /// Reads the times of every thread of a process.
    pub(super) fn look(&mut self, pid: u32) {
        let tasks = process(pid).and_then(|process| process.tasks().ok());
        for task in tasks.into_iter().flatten().flatten() {
            if let Ok(seen) = task.schedstat() {
                self.seen.insert(task.tid, (seen.sum_exec_runtime, seen.run_delay));
                self.alive += 1;
            }
        }
    }

    /// Resets the count of living threads before a new sample.
    pub(super) fn begin(&mut self) {
        self.alive = 0;
    }

    /// Returns the nanoseconds on a processor and the nanoseconds of waiting for one.
    pub(super) fn sums(&self) -> (u64, u64) {
        self.seen.values().fold((0, 0), |(ran, waited), (more, wait)| (ran + more, waited + wait))
    }

    pub(super) fn alive(&self) -> usize {
        self.alive
    }
}

/// Returns the processor time of a process and its living descendants so far, in nanoseconds.
///
/// The kernel books a thread's time when it leaves the processor or at a tick, and a kernel that stops the tick of a
/// processor with one runnable thread may be up to a second behind for a thread that never leaves it.
pub fn usage_of(pid: u32) -> u64 {
    let mut threads = Threads::default();
    family(pid).into_iter().for_each(|pid| threads.look(pid));
    threads.sums().0
}

/// Returns the number of open file descriptors of a process; `None` when it is gone.
pub fn descriptors_of(pid: u32) -> Option<usize> {
    process(pid)?.fd_count().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "no runtime here, and leaving the processor is what is wanted")]
    fn our_own_process_uses_memory_and_time() {
        let pid = std::process::id();
        let before = usage_of(pid);
        let mut sum = 0_u64;
        for number in 0..5_000_000_u64 {
            sum = std::hint::black_box(sum.wrapping_mul(31).wrapping_add(number));
        }
        // Off the processor for a moment: that is when the kernel books the time for certain.
        std::thread::sleep(std::time::Duration::from_millis(1));
        assert!(usage_of(pid) > before, "{sum}");
        assert!(pss_of(pid).unwrap() > 500_000);
        assert!(descriptors_of(pid).unwrap() >= 3);
        assert_eq!(pss_of(u32::MAX), None);
    }

    #[test]
    fn children_belong_to_the_family() {
        let mut child = std::process::Command::new("sleep").arg("30").spawn().unwrap();
        assert!(family(std::process::id()).contains(&child.id()));
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
