//! When the harness measured itself instead of the platform: what must hold before a number may prove anything.

use super::lab::Purpose;
use crate::load::Recording;
use crate::model::{Gate, GateState};
use crate::sample::{CpuLedger, Samples};

/// Sends may be so late (99th percentile), in milliseconds, or [`LAG_SHARE`] of the target where that is more.
const MAX_LAG_MS: f64 = 5.0;
const LAG_SHARE: f64 = 0.05;
/// Part of the sends that may start late.
const MAX_LATE: f64 = 0.001;
/// Part of the machine that measuring may use; from the first on it is flagged.
const FLAGGED_CPU: f64 = 0.25;
const MAX_CPU: f64 = 0.40;
/// Part of the time that the host may take away.
const MAX_STEAL: f64 = 0.02;
/// Part of the target that a request to nothing may take (99th percentile).
const MAX_FLOOR: f64 = 0.20;

/// Notes a gate; of the same gate of the same test the worse one stays.
pub fn note(gates: &mut Vec<Gate>, gate: Gate) {
    let rank = |state: GateState| match state {
        GateState::Ok => 0,
        GateState::Unknown => 1,
        GateState::Flagged => 2,
        GateState::Broken => 3,
    };
    match gates.iter_mut().find(|known| known.id == gate.id && known.test == gate.test) {
        Some(known) if rank(known.state) >= rank(gate.state) => {}
        Some(known) => *known = gate,
        None => gates.push(gate),
    }
}

/// A gate of a test.
fn gate(id: &str, test: &str, limit: String, observed: String, state: GateState) -> Gate {
    Gate { id: id.to_owned(), test: Some(test.to_owned()), limit, observed, state }
}

fn state(broken: bool) -> GateState {
    if broken { GateState::Broken } else { GateState::Ok }
}

/// The gates that a load itself decides.
pub fn of_load(gates: &mut Vec<Gate>, test: &str, seen: &Recording, purpose: Purpose, floor: Option<f64>) {
    let negative = seen.negative;
    note(gates, gate("negative-latency", test, "0".into(), negative.to_string(), state(negative > 0)));
    if !seen.lag.is_empty() {
        let lag = seen.lag.value_at_quantile(0.99) as f64 / 1_000.0;
        let limit = MAX_LAG_MS.max(purpose.target_ms.unwrap_or(0.0) * LAG_SHARE);
        let observed = format!("p99 {lag:.2} ms");
        note(gates, gate("schedule-lag", test, format!("p99 ≤ {limit:.0} ms"), observed, state(lag > limit)));
        let late = seen.late_share();
        let observed = format!("{:.2} % ({} late, {} not sent)", late * 100.0, seen.late, seen.capped);
        note(gates, gate("late-sends", test, "≤ 0.1 %".into(), observed, state(late > MAX_LATE)));
    }
    if let (Some(target), Some(floor)) = (purpose.target_ms, floor) {
        let limit = target * MAX_FLOOR;
        let observed = format!("p99 {floor:.2} ms to a server that does nothing");
        note(gates, gate("floor", test, format!("p99 ≤ {limit:.1} ms"), observed, state(floor > limit)));
    }
}

/// The gates that the machine decides.
pub fn of_machine(gates: &mut Vec<Gate>, test: &str, samples: &Samples, ledger: &CpuLedger, purpose: Purpose) {
    if let Some(trouble) = &samples.trouble {
        note(gates, gate("sampler-gap", test, "samples every 100 ms".into(), trouble.clone(), GateState::Unknown));
        return;
    }
    let gap = samples.longest_gap as f64 / 1e6;
    let observed = format!("{} gaps, the longest {gap:.0} ms", samples.gaps);
    note(gates, gate("sampler-gap", test, "none above 3 intervals (300 ms)".into(), observed, state(samples.gaps > 0)));
    let steal = format!("{:.2} %", ledger.steal * 100.0);
    note(gates, gate("steal", test, "≤ 2 %".into(), steal, state(ledger.steal > MAX_STEAL)));
    let share = ledger.measuring();
    let (limit, verdict) = match share {
        _ if purpose.capacity => ("told, not judged: the limit of the machine was looked for", GateState::Ok),
        share if share > MAX_CPU => ("≤ 40 % of the machine", GateState::Broken),
        share if share > FLAGGED_CPU => ("≤ 40 % of the machine, flagged from 25 %", GateState::Flagged),
        _ => ("≤ 40 % of the machine", GateState::Ok),
    };
    let observed = format!("{:.1} % for harness and simulators", share * 100.0);
    note(gates, gate("harness-cpu", test, limit.into(), observed, verdict));
}

/// A fault without proof.
pub fn of_fault(gates: &mut Vec<Gate>, test: &str, fault: &str, proof: &str, effective: bool) {
    let limit = "proof that it bit".to_owned();
    note(gates, gate("fault-proof", test, limit, format!("{fault}: {proof}"), state(!effective)));
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::load::{Fixed, Load, get, start};

    #[test]
    fn the_worse_of_two_stays() {
        let mut gates = Vec::new();
        for (observed, verdict) in [("a", GateState::Ok), ("b", GateState::Broken), ("c", GateState::Flagged)] {
            note(&mut gates, gate("steal", "t", String::new(), observed.to_owned(), verdict));
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
