//! The machine as a whole.

use procfs::{CpuPressure, Current, CurrentSI, KernelStats};

/// Counters of the machine since it was started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Machine {
    /// Ticks of all processors.
    pub all: u64,
    /// Those in which something ran.
    pub busy: u64,
    /// Those that the host took away; they are in none of the above states.
    pub steal: u64,
    /// Microseconds in which something waited for a processor (PSI, some); 0 where the kernel does not say.
    pub waited: u64,
    /// Bytes that went over loopback.
    pub loopback: u64,
}

impl Machine {
    /// As it is now.
    ///
    /// # Errors
    /// Why `/proc/stat` cannot be read.
    pub fn now() -> Result<Self, procfs::ProcError> {
        let cpu = KernelStats::current()?.total;
        let idle = cpu.idle + cpu.iowait.unwrap_or(0);
        let busy = cpu.user + cpu.nice + cpu.system + cpu.irq.unwrap_or(0) + cpu.softirq.unwrap_or(0);
        let steal = cpu.steal.unwrap_or(0);
        // Pressure and network counters are told by most kernels, and nothing depends on them.
        let waited = CpuPressure::current().map_or(0, |pressure| pressure.some.total);
        let loopback = procfs::net::dev_status().ok().and_then(|devices| Some(devices.get("lo")?.sent_bytes));
        Ok(Self { all: idle + busy + steal, busy, steal, waited, loopback: loopback.unwrap_or(0) })
    }

    /// Part of the time since `earlier` in which processors ran something, from 0 to 1.
    #[must_use]
    pub fn busy_since(&self, earlier: &Self) -> f64 {
        share(self.busy.saturating_sub(earlier.busy), self.all.saturating_sub(earlier.all))
    }

    /// Part of the time since `earlier` that the host took away, from 0 to 1.
    #[must_use]
    pub fn steal_since(&self, earlier: &Self) -> f64 {
        share(self.steal.saturating_sub(earlier.steal), self.all.saturating_sub(earlier.all))
    }
}

fn share(part: u64, all: u64) -> f64 {
    if all == 0 { 0.0 } else { part as f64 / all as f64 }
}

/// Processors that this process may use.
#[must_use]
pub fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get)
}
