//! The platform's ledger is the provider's: the same calls, the same tokens, to the last one.

use std::collections::BTreeMap;

/// A call as the provider counted it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProviderCall {
    /// The call's id.
    pub id: String,
    /// Tokens sent.
    pub input: u64,
    /// Tokens received.
    pub output: u64,
}

/// How far two ledgers agree.
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
    /// Calls that both have with other tokens.
    pub different: u64,
    /// (input, output) tokens by the provider.
    pub provider_tokens: (u64, u64),
    /// (input, output) tokens by the platform.
    pub platform_tokens: (u64, u64),
}

impl CostReport {
    /// Whether they agree exactly.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        self.missing + self.unexpected + self.different == 0 && self.provider_tokens == self.platform_tokens
    }
}

/// Compares the provider's calls with the platform's.
#[must_use]
pub fn check_cost(provider: &[ProviderCall], platform: &[ProviderCall]) -> CostReport {
    let by_id = |calls: &[ProviderCall]| {
        calls.iter().map(|call| (call.id.clone(), (call.input, call.output))).collect::<BTreeMap<_, _>>()
    };
    let sums = |calls: &[ProviderCall]| {
        calls.iter().fold((0, 0), |(input, output), call| (input + call.input, output + call.output))
    };
    let (bought, booked) = (by_id(provider), by_id(platform));
    let different = bought.iter().filter(|(id, tokens)| booked.get(*id).is_some_and(|other| other != *tokens)).count();
    CostReport {
        provider_calls: provider.len() as u64,
        platform_calls: platform.len() as u64,
        missing: bought.keys().filter(|id| !booked.contains_key(*id)).count() as u64,
        unexpected: booked.keys().filter(|id| !bought.contains_key(*id)).count() as u64,
        different: different as u64,
        provider_tokens: sums(provider),
        platform_tokens: sums(platform),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_token_is_a_difference() {
        let call = |id: &str, input, output| ProviderCall { id: id.to_owned(), input, output };
        let bought = [call("a", 10, 5), call("b", 1, 1)];
        assert!(check_cost(&bought, &bought).is_exact());
        let report = check_cost(&bought, &[call("a", 10, 6), call("c", 1, 1)]);
        assert_eq!((report.missing, report.unexpected, report.different), (1, 1, 1));
        assert_eq!((report.provider_tokens, report.platform_tokens), ((11, 6), (11, 7)));
        assert!(!report.is_exact());
    }
}
