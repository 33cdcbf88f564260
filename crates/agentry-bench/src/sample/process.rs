//! One process and its children.

use std::collections::HashMap;

use procfs::process::{MMapPath, Process};

/// Children of children that are followed.
const MAX_DEPTH: usize = 4;
/// Processes of one part at most: PostgreSQL has one for each connection.
const MAX_PROCESSES: usize = 1_000;

/// Memory of processes, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Memory {
    /// Proportional set size: a page that n processes share counts 1/n for each.
    pub pss: u64,
    /// Pages that only this process has.
    pub private: u64,
}

impl std::ops::AddAssign for Memory {
    fn add_assign(&mut self, other: Self) {
        self.pss += other.pss;
        self.private += other.private;
    }
}

/// Memory of a process; `None` when it is gone or not ours to look at.
#[must_use]
pub fn memory_of(pid: u32) -> Option<Memory> {
    let rollup = process(pid)?.smaps_rollup().ok()?;
    let mut memory = Memory::default();
    for map in rollup.memory_map_rollup.iter().filter(|map| map.pathname != MMapPath::Vdso) {
        let of = |name: &str| map.extension.map.get(name).copied().unwrap_or(0);
        memory += Memory { pss: of("Pss"), private: of("Private_Clean") + of("Private_Dirty") };
    }
    Some(memory)
}

fn process(pid: u32) -> Option<Process> {
    Process::new(i32::try_from(pid).ok()?).ok()
}

/// A process and its living descendants.
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

/// What threads have used so far. Threads that have ended stay in the sum as they were last seen.
#[derive(Debug, Clone, Default)]
pub(super) struct Threads {
    seen: HashMap<i32, (u64, u64)>,
    alive: usize,
}

impl Threads {
    /// Looks at every thread of a process.
    pub(super) fn look(&mut self, pid: u32) {
        let tasks = process(pid).and_then(|process| process.tasks().ok());
        for task in tasks.into_iter().flatten().flatten() {
            if let Ok(seen) = task.schedstat() {
                self.seen.insert(task.tid, (seen.sum_exec_runtime, seen.run_delay));
                self.alive += 1;
            }
        }
    }

    /// Before a new look.
    pub(super) fn begin(&mut self) {
        self.alive = 0;
    }

    /// Nanoseconds on a processor and nanoseconds of waiting for one.
    pub(super) fn sums(&self) -> (u64, u64) {
        self.seen.values().fold((0, 0), |(ran, waited), (more, wait)| (ran + more, waited + wait))
    }

    pub(super) fn alive(&self) -> usize {
        self.alive
    }
}

/// Processor time of a process and its living descendants so far, in nanoseconds.
///
/// The kernel books a thread's time when it leaves the processor or at a tick, and a kernel that stops the tick of a
/// processor with one runnable thread may be up to a second behind for a thread that never leaves it.
#[must_use]
pub fn usage_of(pid: u32) -> u64 {
    let mut threads = Threads::default();
    family(pid).into_iter().for_each(|pid| threads.look(pid));
    threads.sums().0
}

/// Open file descriptors of a process; `None` when it is gone.
#[must_use]
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
        let memory = memory_of(pid).unwrap();
        assert!(memory.pss > 500_000 && memory.private > 100_000 && memory.private <= memory.pss * 2, "{memory:?}");
        assert!(descriptors_of(pid).unwrap() >= 3);
        assert_eq!(memory_of(u32::MAX), None);
    }

    #[test]
    fn children_belong_to_the_family() {
        let mut child = std::process::Command::new("sleep").arg("30").spawn().unwrap();
        assert!(family(std::process::id()).contains(&child.id()));
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
