//! The machine as a whole.

use procfs::{CurrentSI, KernelStats};

/// Counters of the machine since it was started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MachineCounters {
    pub all: u64,
    /// Ticks in which something ran.
    pub busy: u64,
    /// Ticks that the host took away.
    pub steal: u64,
}

impl MachineCounters {
    /// Reads the counters from `/proc/stat`.
    pub fn now() -> Result<Self, procfs::ProcError> {
        let cpu = KernelStats::current()?.total;
        let idle = cpu.idle + cpu.iowait.unwrap_or(0);
        let busy = cpu.user + cpu.nice + cpu.system + cpu.irq.unwrap_or(0) + cpu.softirq.unwrap_or(0);
        let steal = cpu.steal.unwrap_or(0);
        Ok(Self { all: idle + busy + steal, busy, steal })
    }

    /// Returns the share of the time since `earlier` in which processors ran something, from 0 to 1.
    pub fn busy_since(&self, earlier: &Self) -> f64 {
        share(self.busy.saturating_sub(earlier.busy), self.all.saturating_sub(earlier.all))
    }

    /// Returns the share of the time since `earlier` that the host took away, from 0 to 1.
    pub fn steal_since(&self, earlier: &Self) -> f64 {
        share(self.steal.saturating_sub(earlier.steal), self.all.saturating_sub(earlier.all))
    }
}

fn share(part: u64, all: u64) -> f64 {
    if all == 0 { 0.0 } else { part as f64 / all as f64 }
}

/// Returns the number of processors that this process may use.
pub fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get)
}
