//! Every slot of a schedule fires exactly once and never early (the idea of Jepsen's Chronos test).

use std::collections::BTreeMap;

use crate::model::Invariant;

/// A firing of a slot.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Slot {
    /// Whose schedule.
    pub schedule: String,
    /// The moment that was meant, in microseconds since the Unix epoch.
    pub nominal: i64,
    /// The moment at which it began.
    pub started: i64,
}

/// Fate of the slots of a window.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SlotReport {
    /// Slots that the window has.
    pub expected: u64,
    /// Slots that fired.
    pub fired: u64,
    /// Slots that did not.
    pub missed: u64,
    /// Firings of a slot beyond its first.
    pub duplicated: u64,
    /// Firings before the moment that was meant.
    pub early: u64,
    /// Firings of moments that are no slots.
    pub strange: u64,
    /// (nominal moment, lateness in milliseconds) of each slot's first firing, by moment.
    pub lateness: Vec<(i64, f64)>,
    /// Some of the slots that were missed, duplicated, early or strange.
    pub examples: Vec<String>,
}

/// Compares firings with the slots that must have fired: (schedule, nominal moment) of a window that is over.
pub fn check_slots(expected: &[(String, i64)], fired: &[Slot]) -> SlotReport {
    let mut of: BTreeMap<(&str, i64), Vec<i64>> =
        expected.iter().map(|(schedule, nominal)| ((schedule.as_str(), *nominal), Vec::new())).collect();
    let mut report = SlotReport { expected: of.len() as u64, ..SlotReport::default() };
    let mut examples = Vec::new();
    for slot in fired {
        if slot.started < slot.nominal {
            report.early += 1;
            examples.push(format!("early: {slot:?}"));
        }
        match of.get_mut(&(slot.schedule.as_str(), slot.nominal)) {
            Some(times) => times.push(slot.started),
            None => {
                report.strange += 1;
                examples.push(format!("no slot: {slot:?}"));
            }
        }
    }
    for ((schedule, nominal), times) in &of {
        let Some(first) = times.iter().min() else {
            report.missed += 1;
            examples.push(format!("missed: {schedule} at {nominal}"));
            continue;
        };
        report.fired += 1;
        report.lateness.push((*nominal, (first - nominal) as f64 / 1_000.0));
        if times.len() > 1 {
            report.duplicated += times.len() as u64 - 1;
            examples.push(format!("fired {} times: {schedule} at {nominal}", times.len()));
        }
    }
    report.lateness.sort_by_key(|(nominal, _)| *nominal);
    examples.truncate(Invariant::MAX_EXAMPLES);
    SlotReport { examples, ..report }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missed_double_early_and_strange_slots_are_told_apart() {
        let expected: Vec<(String, i64)> = (1..=4).map(|n| ("s".to_owned(), n * 1_000)).collect();
        let fired = |nominal, started| Slot { schedule: "s".into(), nominal, started };
        let all =
            [fired(1_000, 1_500), fired(2_000, 2_000), fired(2_000, 2_100), fired(3_000, 2_900), fired(9_999, 10_000)];
        let report = check_slots(&expected, &all);
        assert_eq!((report.expected, report.fired, report.missed), (4, 3, 1));
        assert_eq!((report.duplicated, report.early, report.strange), (1, 1, 1));
        assert_eq!(report.lateness[0], (1_000, 0.5));
        assert_eq!(report.examples.len(), 4);
        let good = check_slots(&expected[..1], &all[..1]);
        assert_eq!((good.missed, good.duplicated, good.early, good.strange), (0, 0, 0, 0));
    }
}
