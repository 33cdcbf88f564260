//! Cost of a profile against live providers, before anything is spent: calls, tokens and dollars for each scenario,
//! from the rates of the plan and agentry's own price table.

mod live;
mod text;

pub use live::{DEFAULT_MODELS, LIVE_RATE, LIVE_SCENARIO, LivePlan, LiveTarget, choose, live_calls, variables};
pub use text::text;

use agentry_core::agent::ProviderKind;
use agentry_core::chat::Usage;
use agentry_core::money::NanoUsd;
use agentry_core::prices::PriceTable;
use agentry_core::time::Timestamp;

use crate::catalogue::{SCENARIOS, Scenario};
use crate::model::Profile;

/// A moment after every price of the table: an estimate is for what comes.
const LATEST: Timestamp = Timestamp(i64::MAX);

/// One kind of model call within a scenario.
#[derive(Debug, Clone, Copy, PartialEq)]
struct ModelCalls {
    scenario: &'static str,
    /// Tasks per second while it runs.
    rate: f64,
    /// Share of the scenario's measured time.
    share: f64,
    /// Model calls of one task.
    calls: u64,
    /// Tokens sent and received by one call.
    tokens: (u64, u64),
    what: &'static str,
}

/// A question of a customer with a short history, and an answer of 60 tokens. What 5.1 asks of real providers is within
/// it, by byte and by `max_tokens`.
pub const SHORT: (u64, u64) = (450, 60);
/// A step of an analysis.
const STEP: (u64, u64) = (900, 220);
/// A synthesis over the results of colleagues.
const LONG: (u64, u64) = (2_400, 500);
/// The four modes of 1.2 run apart and then together: each mode has two of five parts of the time.
const TWO_OF_FIVE: f64 = 0.4;

/// So many tasks a second for a share of the scenario's time, each with so many calls of so many tokens.
const fn load(
    scenario: &'static str,
    what: &'static str,
    (rate, share): (f64, f64),
    calls: u64,
    tokens: (u64, u64),
) -> ModelCalls {
    ModelCalls { scenario, rate, share, calls, tokens, what }
}

/// Calls of models: how many, and of which size; the shapes are those that 1.2 declares.
const LOADS: &[ModelCalls] = &[
    load("1.2-modes", "collaborative: 3 sub-agents × 2 calls", (5.0, TWO_OF_FIVE), 6, STEP),
    load("1.2-modes", "collaborative: synthesis", (5.0, TWO_OF_FIVE), 1, LONG),
    load("1.2-modes", "autonomous: 3 serial calls", (20.0, TWO_OF_FIVE), 3, STEP),
    load("1.2-modes", "continuous: 1 call with history", (10.0, TWO_OF_FIVE), 1, SHORT),
    load("1.2-modes", "scheduled: 2 calls", (3.0, TWO_OF_FIVE), 2, STEP),
    load(LIVE_SCENARIO, "with --live", (LIVE_RATE, 1.0), 1, SHORT),
    load("5.2-llm-concurrency", "closed loops, 10 calls per second on average", (10.0, 0.5), 1, SHORT),
    load("6.1-slack", "simple queries", (3.0, 0.5), 1, SHORT),
    load("6.1-slack", "complex tasks: 3 calls and a tool", (3.0, 0.5), 3, STEP),
];

/// Cost of one row of the plan.
#[derive(Debug, Clone, PartialEq)]
pub struct CostItem {
    pub scenario: &'static str,
    pub what: &'static str,
    pub calls: u64,
    /// Tokens sent and received.
    pub usage: Usage,
    pub cost: NanoUsd,
}

/// Cost of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Estimate {
    pub profile: Profile,
    pub model: String,
    /// Version of the price table.
    pub prices: String,
    /// Rows, in the order of the scenarios.
    pub items: Vec<CostItem>,
}

impl Estimate {
    pub fn calls(&self) -> u64 {
        self.items.iter().map(|item| item.calls).sum()
    }

    pub fn cost(&self) -> NanoUsd {
        self.items.iter().fold(NanoUsd::ZERO, |sum, item| sum.plus(item.cost))
    }
}

/// Reason why there is no estimate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{model}` of {provider} has no price")]
pub struct UnpricedModel {
    pub provider: ProviderKind,
    pub model: String,
    /// Models that have one.
    pub priced: Vec<String>,
}

impl UnpricedModel {
    pub fn help(&self) -> String {
        format!("priced are: {}", self.priced.join(", "))
    }
}

/// Estimates a profile for one model; only the given scenarios, or all when none is given.
pub fn estimate(
    profile: Profile,
    provider: ProviderKind,
    model: &str,
    only: &[&Scenario],
    prices: &PriceTable,
) -> Result<Estimate, UnpricedModel> {
    let wanted = |id: &str| only.is_empty() || only.iter().any(|scenario| scenario.id == id);
    let mut items = Vec::new();
    for load in LOADS.iter().filter(|load| wanted(load.scenario)) {
        let calls = times(load.rate * load.share * f64::from(seconds(load.scenario, profile)), load.calls);
        let of = |calls| Usage {
            input_tokens: calls * load.tokens.0,
            output_tokens: calls * load.tokens.1,
            ..Usage::default()
        };
        // One call is priced, because the price of a token depends on the length of its prompt.
        let cost = match prices.cost(provider, model, &of(1), LATEST) {
            Some(cost) => NanoUsd(cost.0.saturating_mul(i64::try_from(calls).unwrap_or(i64::MAX))),
            // It runs on a machine of one's own.
            None if provider == ProviderKind::Ollama => NanoUsd::ZERO,
            None => return Err(unpriced(provider, model, prices)),
        };
        if calls > 0 {
            items.push(CostItem { scenario: load.scenario, what: load.what, calls, usage: of(calls), cost });
        }
    }
    Ok(Estimate { profile, model: format!("{provider}/{model}"), prices: prices.version.clone(), items })
}

/// Measured seconds of a scenario: of 5.1 those against a real provider.
fn seconds(scenario: &str, profile: Profile) -> u32 {
    match scenario {
        LIVE_SCENARIO => live_calls(profile),
        other => SCENARIOS.iter().find(|s| s.id == other).map_or(0, |s| s.seconds(profile)),
    }
}

/// Whole tasks, each with its calls.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "positive and far below 2^53")]
fn times(tasks: f64, calls: u64) -> u64 {
    tasks.ceil() as u64 * calls
}

fn unpriced(provider: ProviderKind, model: &str, prices: &PriceTable) -> UnpricedModel {
    let mut priced: Vec<String> = prices.models().map(str::to_owned).collect();
    priced.sort();
    UnpricedModel { provider, model: model.chars().take(80).collect(), priced }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::scenario;

    fn of(profile: Profile, only: &[&Scenario]) -> Estimate {
        estimate(profile, ProviderKind::Openai, "gpt-6-luna", only, &PriceTable::builtin()).unwrap()
    }

    #[test]
    fn calls_tokens_and_dollars_agree_with_the_price_table() {
        let slack = of(Profile::Ci, &[scenario("6.1").unwrap()]);
        // 120 s at 3/s, half of it simple: 180 events of one call, 180 of three.
        assert_eq!(slack.items.iter().map(|item| item.calls).collect::<Vec<_>>(), [180, 540]);
        let input = 180 * 450 + 540 * 900;
        let output = 180 * 60 + 540 * 220;
        assert_eq!(slack.cost(), NanoUsd(input * 100 + output * 500));
    }

    #[test]
    fn longer_profiles_cost_more_and_a_skipped_scenario_nothing() {
        let cost = |profile| of(profile, &[]).cost();
        assert!(cost(Profile::Quick) < cost(Profile::Ci) && cost(Profile::Ci) < cost(Profile::Standard));
        assert!(of(Profile::Quick, &[scenario("5.2").unwrap()]).items.is_empty());
    }

    #[test]
    fn what_5_1_costs_is_what_it_calls_with_live() {
        let live = of(Profile::Quick, &[scenario("5.1").unwrap()]);
        assert_eq!((live.calls(), live.cost()), (10, NanoUsd(10 * (450 * 100 + 60 * 500))));
    }

    #[test]
    fn ollama_costs_nothing() {
        let done = estimate(Profile::Ci, ProviderKind::Ollama, "llama3.2", &[], &PriceTable::builtin()).unwrap();
        assert!(done.calls() > 0 && done.cost() == NanoUsd::ZERO);
    }

    #[test]
    fn no_price_is_guessed() {
        let error =
            estimate(Profile::Ci, ProviderKind::Anthropic, "claude-unknown", &[], &PriceTable::builtin()).unwrap_err();
        assert!(error.help().contains("openai/gpt-6-luna"), "{error:?}");
    }

    #[test]
    fn every_load_belongs_to_a_scenario() {
        for load in LOADS {
            assert!(scenario(load.scenario).is_ok_and(|s| s.id == load.scenario), "{}", load.scenario);
        }
    }
}
