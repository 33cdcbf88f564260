//! Validity gates of loads and of the machine: a number beyond a limit measures the harness instead of the platform.

use super::lab::Purpose;
use crate::load::Recording;
use crate::model::{Gate, GateState};
use crate::sample::{CpuLedger, INTERVAL, Samples};
use crate::verdict::{self, LoadKind};

/// Adds a gate of a test; of the same gate of the same test the worse one stays.
pub fn note(gates: &mut Vec<Gate>, test: &str, gate: Gate) {
    let rank = |state: GateState| match state {
        GateState::Ok => 0,
        GateState::Unknown => 1,
        GateState::Flagged => 2,
        GateState::Broken => 3,
    };
    let gate = Gate { test: Some(test.to_owned()), ..gate };
    match gates.iter_mut().find(|known| known.id == gate.id && known.test == gate.test) {
        Some(known) if rank(known.state) >= rank(gate.state) => {}
        Some(known) => *known = gate,
        None => gates.push(gate),
    }
}

/// Adds the gates that a load itself decides.
pub fn of_load(gates: &mut Vec<Gate>, test: &str, seen: &Recording, purpose: Purpose, floor: Option<f64>) {
    note(gates, test, verdict::negative_latency(seen.negative));
    if !seen.lag.is_empty() {
        let lag = seen.lag.value_at_quantile(0.99) as f64 / 1_000.0;
        note(gates, test, verdict::schedule_lag(lag, purpose.target_ms.unwrap_or(0.0)));
        note(gates, test, verdict::late_sends(seen.late, seen.capped, seen.offered));
    }
    if let (Some(target), Some(floor)) = (purpose.target_ms, floor) {
        note(gates, test, verdict::floor(floor, target));
    }
}

/// Adds the gates that the machine decides.
pub fn of_machine(gates: &mut Vec<Gate>, test: &str, samples: &Samples, ledger: &CpuLedger, purpose: Purpose) {
    if let Some(trouble) = &samples.trouble {
        let gate = verdict::sampler_gap(0.0, INTERVAL.as_secs_f64() * 1e3);
        note(gates, test, Gate { observed: trouble.clone(), state: GateState::Unknown, ..gate });
        return;
    }
    // Of a long run every second, fourth, … sample is kept: the sampler itself knows which distances are gaps.
    let gap = if samples.gaps > 0 { samples.longest_gap as f64 / 1e6 } else { 0.0 };
    note(gates, test, verdict::sampler_gap(gap, INTERVAL.as_secs_f64() * 1e3));
    note(gates, test, verdict::steal(ledger.steal));
    let kind = if purpose.capacity { LoadKind::AtLimit } else { LoadKind::AtTarget };
    note(gates, test, verdict::harness_cpu(ledger.measuring(), kind));
}

/// Adds the gate of a fault and its evidence.
pub fn of_fault(gates: &mut Vec<Gate>, test: &str, fault: &str, proof: &str, effective: bool) {
    let gate = verdict::fault_proof(1, u64::from(effective));
    note(gates, test, Gate { observed: format!("{fault}: {proof}"), ..gate });
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::load::{Fixed, Load, get, start};

    #[test]
    fn the_worse_of_two_stays() {
        let mut gates = Vec::new();
        for (observed, state) in [("a", GateState::Ok), ("b", GateState::Broken), ("c", GateState::Flagged)] {
            note(&mut gates, "t", Gate { observed: observed.to_owned(), state, ..verdict::steal(0.0) });
        }
        assert_eq!((gates.len(), gates[0].observed.as_str()), (1, "b"));
    }

    #[tokio::test]
    async fn arrivals_that_were_not_sent_break_the_gate() {
        // Nobody accepts beyond the backlog and nobody answers: two in flight are the cap.
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mut load = Load::open(silent.local_addr().unwrap(), 200.0, Duration::from_millis(200), 1);
        (load.max_in_flight, load.patience, load.connections) = (2, Duration::from_millis(300), 2);
        let (seen, _) = start(load, Fixed(get("h", "/"))).unwrap().end().await.unwrap();
        let mut gates = Vec::new();
        of_load(&mut gates, "t", &seen, Purpose::target(100.0), Some(30.0));
        let state_of = |id: &str| gates.iter().find(|gate| gate.id == id).map(|gate| gate.state);
        assert_eq!(state_of("late-sends"), Some(GateState::Broken));
        assert_eq!(state_of("floor"), Some(GateState::Broken));
        assert_eq!(state_of("negative-latency"), Some(GateState::Ok));
    }
}
