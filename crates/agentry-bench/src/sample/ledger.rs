//! Who used the processors between two moments.

use std::collections::BTreeMap;

use super::machine::processors;
use super::sampler::{Part, Samples};

/// What a part used.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct CpuShare {
    /// Processor time in nanoseconds.
    pub nanos: u64,
    /// Part of one processor, from 0 to the number of processors.
    pub cores: f64,
    /// Part of the machine, from 0 to 1.
    pub machine: f64,
    /// Nanoseconds of waiting for a processor.
    pub waited: u64,
}

/// Who used the processors.
#[derive(Debug, Clone, Default)]
pub struct CpuLedger {
    /// The time between the samples that were compared, in nanoseconds.
    pub wall: u64,
    /// Each part.
    pub parts: BTreeMap<Part, CpuShare>,
    /// Part of the machine that was busy, other processes included, from 0 to 1.
    pub busy: f64,
    /// Part of the machine's time that the host took away, from 0 to 1.
    pub steal: f64,
    /// Bytes over loopback.
    pub loopback: u64,
}

impl CpuLedger {
    /// From the first to the last of these samples; empty when there are fewer than two.
    #[must_use]
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
            (*part, CpuShare { nanos, cores, machine: cores / processors() as f64, waited })
        };
        Self {
            wall,
            parts: last.parts.iter().map(share).collect(),
            busy: last.machine.busy_since(&first.machine),
            steal: last.machine.steal_since(&first.machine),
            loopback: last.machine.loopback.saturating_sub(first.machine.loopback),
        }
    }

    /// What a part used; nothing when it has no processes.
    #[must_use]
    pub fn part(&self, part: Part) -> CpuShare {
        self.parts.get(&part).copied().unwrap_or_default()
    }

    /// Part of the machine that measuring used: harness and simulators, from 0 to 1.
    #[must_use]
    pub fn measuring(&self) -> f64 {
        self.part(Part::Harness).machine + self.part(Part::Simulators).machine
    }

    /// Milliseconds of processor time of a part for each of so many things.
    #[must_use]
    pub fn ms_per(&self, part: Part, things: u64) -> Option<f64> {
        (things > 0).then(|| self.part(part).nanos as f64 / 1e6 / things as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Machine, PartSample, Sample};
    use super::*;

    #[test]
    fn a_ledger_is_the_difference_of_two_samples() {
        let sample = |at, cpu, busy| Sample {
            at,
            machine: Machine { all: at / 10, busy, steal: busy / 10, ..Machine::default() },
            parts: BTreeMap::from([(Part::Sut, PartSample { cpu, ..PartSample::default() })]),
        };
        let samples = Samples { all: vec![sample(1_000, 50, 10), sample(2_000, 550, 60)], ..Samples::default() };
        let ledger = CpuLedger::of(&samples);
        assert_eq!((ledger.wall, ledger.part(Part::Sut).nanos), (1_000, 500));
        assert!((ledger.part(Part::Sut).cores - 0.5).abs() < 1e-9);
        assert!((ledger.busy - 0.5).abs() < 1e-9 && (ledger.steal - 0.05).abs() < 1e-9);
        assert_eq!(ledger.ms_per(Part::Sut, 0), None);
        assert_eq!(CpuLedger::of(&Samples::default()).wall, 0);
    }
}
