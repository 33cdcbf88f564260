//! Validity gates: limits on the harness itself. A number beyond one is kept and proves nothing.

use crate::model::{Gate, GateState};
use crate::show::{percent, with_unit};

/// Schedule lag at the 99th percentile, at least.
const LAG_MS: f64 = 5.0;
/// And as a share of the target.
const LAG_SHARE: f64 = 0.05;
/// Share of sends that may start late.
const LATE: f64 = 0.001;
/// Share of the machine that harness and simulators may take at target rates.
const CPU_BROKEN: f64 = 0.40;
/// Above this it is worth a look.
const CPU_FLAGGED: f64 = 0.25;
/// Share of processor time the hypervisor may take away.
const STEAL: f64 = 0.02;
/// Intervals a sampler may miss in a row.
const GAP_INTERVALS: f64 = 3.0;
/// The floor of the harness as a share of the target.
const FLOOR_SHARE: f64 = 0.20;

fn gate(id: &str, limit: String, observed: String, state: GateState) -> Gate {
    Gate { id: id.to_owned(), test: None, limit, observed, state }
}

fn over(broken: bool) -> GateState {
    if broken { GateState::Broken } else { GateState::Ok }
}

/// Schedule lag p99 against max(5 ms, 5 % of the target).
pub fn schedule_lag(p99_ms: f64, target_ms: f64) -> Gate {
    let limit = LAG_MS.max(LAG_SHARE * target_ms);
    gate("schedule-lag", format!("p99 ≤ {}", with_unit(limit, "ms")), with_unit(p99_ms, "ms"), over(p99_ms > limit))
}

/// Sends that could not start on time, and arrivals that were not sent at all, of all that were offered.
pub fn late_sends(late: u64, not_sent: u64, offered: u64) -> Gate {
    let limit = format!("≤ {} of sends", percent(LATE));
    if offered == 0 {
        return gate("late-sends", limit, "nothing was sent".to_owned(), GateState::Broken);
    }
    let share = crate::stats::number(late + not_sent) / crate::stats::number(offered);
    let observed = format!("{} ({late} late and {not_sent} not sent of {offered})", percent(share));
    gate("late-sends", limit, observed, over(share > LATE))
}

/// Purpose of a load, which decides what the harness may take of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoadKind {
    /// A rate that a criterion names.
    AtTarget,
    /// The most that the machine gives: the harness's own share is told and forbids nothing.
    AtLimit,
}

/// Share of the machine taken by harness and simulators.
pub fn harness_cpu(share: f64, kind: LoadKind) -> Gate {
    let state = match share {
        share if share > CPU_BROKEN && kind == LoadKind::AtTarget => GateState::Broken,
        share if share > CPU_FLAGGED => GateState::Flagged,
        _ => GateState::Ok,
    };
    gate("harness-cpu", format!("≤ {} of the machine", percent(CPU_BROKEN)), percent(share), state)
}

/// Time the hypervisor took away.
pub fn steal(share: f64) -> Gate {
    gate("steal", format!("≤ {}", percent(STEAL)), percent(share), over(share > STEAL))
}

/// The longest time a sampler slept past its interval.
pub fn sampler_gap(gap_ms: f64, interval_ms: f64) -> Gate {
    let limit = GAP_INTERVALS * interval_ms;
    gate("sampler-gap", format!("≤ {}", with_unit(limit, "ms")), with_unit(gap_ms, "ms"), over(gap_ms > limit))
}

/// A request to a server that does nothing, against the target it is part of.
pub fn floor(p99_ms: f64, target_ms: f64) -> Gate {
    let limit = FLOOR_SHARE * target_ms;
    gate("floor", format!("p99 ≤ {}", with_unit(limit, "ms")), with_unit(p99_ms, "ms"), over(p99_ms > limit))
}

/// Faults that could not show that they bit.
pub fn fault_proof(injected: u64, effective: u64) -> Gate {
    let state = if injected == 0 { GateState::Unknown } else { over(effective < injected) };
    gate("fault-proof", "every fault proven".to_owned(), format!("{effective} of {injected}"), state)
}

/// Latencies below zero: clocks that cannot be compared.
pub fn negative_latency(count: u64) -> Gate {
    gate("negative-latency", "none".to_owned(), count.to_string(), over(count > 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_gate_breaks_just_beyond_its_limit() {
        use GateState::{Broken, Flagged, Ok, Unknown};
        let table = [
            (schedule_lag(5.0, 10.0), Ok),
            (schedule_lag(5.1, 100.0), Broken),
            (schedule_lag(100.0, 3_000.0), Ok),
            (late_sends(1, 0, 1_000), Ok),
            (late_sends(1, 1, 1_000), Broken),
            (late_sends(0, 0, 0), Broken),
            (harness_cpu(0.25, LoadKind::AtTarget), Ok),
            (harness_cpu(0.30, LoadKind::AtTarget), Flagged),
            (harness_cpu(0.41, LoadKind::AtTarget), Broken),
            (harness_cpu(0.41, LoadKind::AtLimit), Flagged),
            (steal(0.021), Broken),
            (sampler_gap(300.0, 100.0), Ok),
            (sampler_gap(301.0, 100.0), Broken),
            (floor(20.0, 100.0), Ok),
            (floor(21.0, 100.0), Broken),
            (fault_proof(3, 3), Ok),
            (fault_proof(3, 2), Broken),
            (fault_proof(0, 0), Unknown),
            (negative_latency(1), Broken),
        ];
        for (gate, expected) in table {
            assert_eq!(gate.state, expected, "{gate:?}");
        }
    }
}
