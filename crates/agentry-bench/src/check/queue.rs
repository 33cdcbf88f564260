//! Everything that was accepted comes out, and nothing else does (Jepsen's `total-queue`).

use std::collections::{BTreeMap, BTreeSet};

use crate::model::Invariant;

/// Fate of sent messages, by id. Counts are of ids, except for `duplicated` (deliveries beyond the first).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct QueueReport {
    /// Ids that were sent.
    pub attempts: u64,
    /// Ids that were acknowledged.
    pub acknowledged: u64,
    /// Ids that came out.
    pub delivered: u64,
    /// Acknowledged and never came out: must be none.
    pub lost: u64,
    /// Came out and were never sent: must be none.
    pub unexpected: u64,
    /// Deliveries of an id beyond its first.
    pub duplicated: u64,
    /// Came out though nobody had heard the acknowledgement.
    pub recovered: u64,
    /// Some of the ids that were lost.
    pub lost_examples: Vec<String>,
    /// Some of the ids that were unexpected.
    pub unexpected_examples: Vec<String>,
    /// Some of the ids that came out more than once.
    pub duplicated_examples: Vec<String>,
}

impl QueueReport {
    /// Nothing lost and nothing out of nowhere.
    pub fn is_valid(&self) -> bool {
        self.lost == 0 && self.unexpected == 0
    }
}

/// Compares what was sent and acknowledged with what came out, after everything had time to come out.
pub fn check_queue<'a>(
    attempts: &BTreeSet<String>,
    acknowledged: &BTreeSet<String>,
    delivered: impl IntoIterator<Item = &'a str>,
) -> QueueReport {
    let mut times: BTreeMap<&str, u64> = BTreeMap::new();
    for id in delivered {
        *times.entry(id).or_default() += 1;
    }
    let some =
        |ids: &mut dyn Iterator<Item = &str>| ids.take(Invariant::MAX_EXAMPLES).map(str::to_owned).collect::<Vec<_>>();
    let lost = || acknowledged.iter().map(String::as_str).filter(|id| !times.contains_key(id));
    let unexpected = || times.keys().copied().filter(|id| !attempts.contains(*id));
    let again = || times.iter().filter(|(id, count)| **count > 1 && attempts.contains(**id));
    let recovered = times.keys().filter(|id| attempts.contains(**id) && !acknowledged.contains(**id)).count();
    QueueReport {
        attempts: attempts.len() as u64,
        acknowledged: acknowledged.len() as u64,
        delivered: times.len() as u64,
        lost: lost().count() as u64,
        unexpected: unexpected().count() as u64,
        duplicated: again().map(|(_, count)| count - 1).sum(),
        recovered: recovered as u64,
        lost_examples: some(&mut lost()),
        unexpected_examples: some(&mut unexpected()),
        duplicated_examples: some(&mut again().map(|(id, _)| *id)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(ids: &[&str]) -> BTreeSet<String> {
        ids.iter().map(|id| (*id).to_owned()).collect()
    }

    #[test]
    fn each_fate_is_told_apart() {
        let report = check_queue(&set(&["a", "b", "c", "d"]), &set(&["a", "b"]), ["a", "a", "c", "x"]);
        assert_eq!((report.attempts, report.acknowledged, report.delivered), (4, 2, 3));
        assert_eq!((report.lost, report.unexpected, report.duplicated, report.recovered), (1, 1, 1, 1));
        assert_eq!(report.lost_examples, ["b"]);
        assert_eq!(report.unexpected_examples, ["x"]);
        assert_eq!(report.duplicated_examples, ["a"]);
        assert!(!report.is_valid());
        assert!(check_queue(&set(&["a", "b"]), &set(&["a"]), ["a", "b"]).is_valid());
    }
}
