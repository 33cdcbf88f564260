//! Use of the processors between two moments.

use std::collections::BTreeMap;

use super::machine::processors;
use super::sampler::{Part, Samples};

/// Processor use of one part.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct CpuUsage {
    /// Processor time in nanoseconds.
    pub nanos: u64,
    /// Share of one processor, from 0 to the number of processors.
    pub cores: f64,
    /// Share of the machine, from 0 to 1.
    pub machine: f64,
    /// Nanoseconds of waiting for a processor.
    pub waited: u64,
}

/// Processor use of each part and of the machine.
#[derive(Debug, Clone, Default)]
pub struct CpuLedger {
    /// Each part.
    pub parts: BTreeMap<Part, CpuUsage>,
    /// Share of the machine that was busy, other processes included, from 0 to 1.
    pub busy: f64,
    /// Share of the machine's time that the host took away, from 0 to 1.
    pub steal: f64,
}

impl CpuLedger {
    /// Compares the first with the last of these samples; empty when there are fewer than two.
    pub fn of(samples: &Samples) -> Self {
        let (Some(first), Some(last)) = (samples.all.first(), samples.all.last()) else { return Self::default() };
        let wall = last.at - first.at;
        if wall == 0 {
            return Self::default();
        }
        let share = |(part, now): (&Part, &super::PartSample)| {
            let before = first.parts.get(part).copied().unwrap_or_default();
            let nanos = now.cpu.saturating_sub(before.cpu);
            let cores = nanos as f64 / wall as f64;
            let waited = now.waited.saturating_sub(before.waited);
            (*part, CpuUsage { nanos, cores, machine: cores / processors() as f64, waited })
        };
        Self {
            parts: last.parts.iter().map(share).collect(),
            busy: last.machine.busy_since(&first.machine),
            steal: last.machine.steal_since(&first.machine),
        }
    }

    /// Returns the use of a part; zero when it has no processes.
    pub fn part(&self, part: Part) -> CpuUsage {
        self.parts.get(&part).copied().unwrap_or_default()
    }

    /// Returns the share of the machine that measuring used: harness and simulators, from 0 to 1.
    pub fn measuring(&self) -> f64 {
        self.part(Part::Harness).machine + self.part(Part::Simulators).machine
    }

    /// Returns the milliseconds of processor time of a part for each of `count` things; `None` for none.
    pub fn ms_per(&self, part: Part, count: u64) -> Option<f64> {
        (count > 0).then(|| self.part(part).nanos as f64 / 1e6 / count as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::super::machine::MachineCounters;
    use super::super::{PartSample, Sample};
    use super::*;

    #[test]
    fn a_ledger_is_the_difference_of_two_samples() {
        let sample = |at, cpu, busy| Sample {
            at,
            machine: MachineCounters { all: at / 10, busy, steal: busy / 10 },
            parts: BTreeMap::from([(Part::Sut, PartSample { cpu, ..PartSample::default() })]),
        };
        let samples = Samples { all: vec![sample(1_000, 50, 10), sample(2_000, 550, 60)], ..Samples::default() };
        let ledger = CpuLedger::of(&samples);
        assert_eq!(ledger.part(Part::Sut).nanos, 500);
        assert!((ledger.part(Part::Sut).cores - 0.5).abs() < 1e-9);
        assert!((ledger.busy - 0.5).abs() < 1e-9 && (ledger.steal - 0.05).abs() < 1e-9);
        assert_eq!(ledger.ms_per(Part::Sut, 0), None);
        assert!(CpuLedger::of(&Samples::default()).parts.is_empty());
    }
}
