//! The platform's ledger is the provider's: the same calls, the same tokens and the same money, to the last billionth.

use std::collections::BTreeMap;

use crate::model::Invariant;

/// A call as one side has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BookedCall {
    pub id: String,
    pub input: u64,
    pub output: u64,
    /// Cost in billionths of a dollar.
    pub nanos: i64,
}

/// Agreement of two ledgers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CostReport {
    /// Calls that the provider answered whole.
    pub provider_calls: u64,
    /// Calls that the platform has.
    pub platform_calls: u64,
    /// Calls of the provider that the platform does not have.
    pub missing: u64,
    /// Calls of the platform that the provider does not know.
    pub unexpected: u64,
    /// Calls that both have with other tokens or another cost.
    pub different: u64,
    /// (input, output) tokens and billionths of a dollar by the provider.
    pub provider_sums: (u64, u64, i64),
    /// (input, output) tokens and billionths of a dollar by the platform.
    pub platform_sums: (u64, u64, i64),
    /// Some of the calls that are missing, unexpected or different.
    pub examples: Vec<String>,
}

impl CostReport {
    /// Calls in which they differ.
    pub fn wrong(&self) -> u64 {
        self.missing + self.unexpected + self.different
    }

    pub fn is_exact(&self) -> bool {
        self.wrong() == 0 && self.provider_sums == self.platform_sums
    }
}

/// Compares the provider's calls with the platform's.
pub fn check_cost(provider: &[BookedCall], platform: &[BookedCall]) -> CostReport {
    let by_id =
        |calls: &[BookedCall]| calls.iter().map(|call| (call.id.clone(), call.clone())).collect::<BTreeMap<_, _>>();
    let sums = |calls: &[BookedCall]| {
        calls.iter().fold((0, 0, 0), |(input, output, nanos), call| {
            (input + call.input, output + call.output, nanos + call.nanos)
        })
    };
    let (bought, booked) = (by_id(provider), by_id(platform));
    let missing: Vec<_> = bought.values().filter(|call| !booked.contains_key(&call.id)).collect();
    let unexpected: Vec<_> = booked.values().filter(|call| !bought.contains_key(&call.id)).collect();
    let different: Vec<_> = bought
        .values()
        .filter_map(|call| booked.get(&call.id).filter(|other| *other != call).map(|other| (call, other)))
        .collect();
    let missing_words = missing.iter().map(|call| format!("missing: {call:?}"));
    let unexpected_words = unexpected.iter().map(|call| format!("unexpected: {call:?}"));
    let different_words = different.iter().map(|(call, other)| format!("bought {call:?}, booked {other:?}"));
    CostReport {
        provider_calls: provider.len() as u64,
        platform_calls: platform.len() as u64,
        missing: missing.len() as u64,
        unexpected: unexpected.len() as u64,
        different: different.len() as u64,
        provider_sums: sums(provider),
        platform_sums: sums(platform),
        examples: missing_words.chain(unexpected_words).chain(different_words).take(Invariant::MAX_EXAMPLES).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_token_and_one_billionth_are_differences() {
        let call = |id: &str, input, output, nanos| BookedCall { id: id.to_owned(), input, output, nanos };
        let bought = [call("a", 10, 5, 12), call("b", 1, 1, 2), call("d", 1, 1, 2)];
        assert!(check_cost(&bought, &bought).is_exact());
        let report = check_cost(&bought, &[call("a", 10, 6, 12), call("c", 1, 1, 2), call("d", 1, 1, 1)]);
        assert_eq!((report.missing, report.unexpected, report.different), (1, 1, 2));
        assert_eq!((report.provider_sums, report.platform_sums), ((12, 7, 16), (12, 8, 15)));
        assert!(!report.is_exact() && report.wrong() == 4 && report.examples.len() == 4);
    }
}
