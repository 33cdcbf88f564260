//! 5.1 against real providers (`--live`): one streamed task a second of each, one provider after another, within a budget.
//!
//! The budget holds three times: the estimate fits into it before anything is sent; each provider's agent may spend its share
//! of a day, which the platform sets aside before a call leaves; and the load ends when the platform's ledger says that a
//! share holds no further call. A call is made so that it cannot cost more than it was estimated at: its bytes are fewer than
//! the tokens of the estimate, and `max_tokens` ends the answer.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use agentry_core::agent::ProviderKind;
use agentry_core::models::{ModelTable, Thinking};
use agentry_core::money::NanoUsd;
use serde_json::{Value, json};

use super::experiment::Experiment;
use super::latency::{self, StreamedTaskCaller};
use crate::estimate::{LIVE_RATE, LivePlan, LiveTarget, SHORT, variables};
use crate::load::{Live, Load, LoadModel, Spacing};
use crate::run::{LoadResult, Purpose, RunError};
use crate::stats::{Hist, histogram, quantile_of};
use crate::sut::fleet::AgentFile;
use crate::sut::{Api, Deployment, Plan};
use crate::verdict::{Observation, live_gates};

/// System prompt of a usual short length.
const PROMPT: &str = "You answer questions of customers of a travel agency by chat. Answer at once and in plain text, without a \
                      greeting, without a question back and without anything that was not asked for. When a list is asked for, \
                      write its items in one line with commas between them. Do not explain the items and do not number them.";
/// Question, before the number of the task. The answer has some 30 tokens: one that is cut at `max_tokens` is a failure.
const ASK: &str = "Name ten large cities that one can travel to. This is question";
/// The most seconds of one call, its retries included.
const TIMEOUT: u32 = 30;
/// Time limit of a task, its time in the queue included.
const PATIENCE: Duration = Duration::from_secs(60);
/// So many failures without a single answer end the load: a key that is wrong stays wrong.
const GIVE_UP: u64 = 5;
/// The latency that the coarser of the two criteria asks for, in milliseconds.
const TARGET_MS: f64 = 1_000.0;
/// From this share of failed calls on the rest does not show a 95th percentile.
const MAX_FAILED: f64 = 0.05;

/// The criteria, and whose calls each is about: all of them must hold.
const CRITERIA: [(&str, &[ProviderKind]); 2] = [
    ("5.1/ttft-openai", &[ProviderKind::Openai, ProviderKind::Anthropic]),
    ("5.1/ttft-ollama", &[ProviderKind::Ollama]),
];

/// Result of the calls of one provider.
struct ProviderCalls {
    target: LiveTarget,
    /// Time to the first token in microseconds, as the platform journaled it.
    first: Hist,
    /// Tasks that were sent, and those that did not complete.
    sent: u64,
    failed: u64,
    spent: NanoUsd,
    /// Failed tasks by reason.
    errors: BTreeMap<String, u64>,
    /// Reason why the load was ended before its time.
    ended: Option<String>,
}

/// Calls real providers when the run is to. What goes wrong here is told in the criteria, and keeps nothing else from being
/// reported.
pub(super) async fn run(x: &mut Experiment<'_>) {
    let Some(plan) = x.lab.live.clone() else { return };
    let mut called = Vec::new();
    if let Err(error) = call_all(x, &plan, &mut called).await {
        x.note(format!("live: ended by an error of the suite: {error}"));
    }
    let spent = called.iter().fold(NanoUsd::ZERO, |sum, called: &ProviderCalls| sum.plus(called.spent));
    let all = NanoUsd(x.lab.live_spent.load(Ordering::Relaxed).max(spent.0));
    of_money(x, &plan, all, called.iter().map(|called| called.sent).sum());
    for (criterion, wanted) in CRITERIA {
        x.observe(criterion, observed(wanted, &called));
    }
}

/// One provider after another, in a deployment that has their credentials and no simulator.
async fn call_all(x: &mut Experiment<'_>, plan: &LivePlan, called: &mut Vec<ProviderCalls>) -> Result<(), RunError> {
    let agents = plan.targets.iter().map(agent).collect();
    let keeps = plan.targets.iter().flat_map(|target| variables(target.provider)).copied().collect();
    let deployment = x.deploy(Plan { agents, keeps, ..Plan::default() }).await?;
    for target in &plan.targets {
        called.push(call(x, &deployment, target, plan.calls).await?);
    }
    Ok(())
}

fn name(target: &LiveTarget) -> String {
    format!("live-{}", target.provider)
}

/// An agent whose call costs what was estimated at most, and whose day costs its share at most.
fn agent(target: &LiveTarget) -> AgentFile {
    let budget = target.share.map(|share| format!("budget: {{per_day_usd: {}}}\n", usd(share))).unwrap_or_default();
    let (name, provider, model) = (name(target), target.provider, json!(target.model));
    // Thoughts would use up the tokens of the answer.
    let thinks = ModelTable::shipped().of(provider, &target.model).thinking != Thinking::None;
    let reasoning = if thinks { ", reasoning: none" } else { "" };
    let text = format!(
        "name: {name}\nexecution_mode: autonomous\ndescription: Part of a measurement\nsystem_prompt: {}\n\
         llm_config: {{provider: {provider}, model: {model}, max_tokens: {}, timeout: {TIMEOUT}{reasoning}}}\n\
         retry_config: {{max_retries: 0}}\n{budget}",
        json!(PROMPT),
        SHORT.1
    );
    (name, text)
}

/// As agent files have it.
fn usd(amount: NanoUsd) -> String {
    amount.to_string().trim_start_matches('$').to_owned()
}

/// Calls one provider once a second.
async fn call(
    x: &mut Experiment<'_>,
    deployment: &Deployment,
    target: &LiveTarget,
    calls: u32,
) -> Result<ProviderCalls, RunError> {
    let (address, host) = x.lab.target(Some(deployment))?;
    // Half a gap more, so that the last arrival is within the window.
    let window = Duration::from_secs_f64((f64::from(calls) + 0.5) / LIVE_RATE);
    let model = LoadModel::Open { rate: LIVE_RATE, spacing: Spacing::Uniform, seed: x.lab.seed_of("live") };
    let load = Load { model, patience: PATIENCE, connections: 2, ..Load::open(address, LIVE_RATE, window, 0) };
    let mut caller = StreamedTaskCaller::of(&host, vec![name(target)], x.lab.seed);
    ASK.clone_into(&mut caller.tasks.ask);
    let api = deployment.api()?;
    let (before, all) = (x.lab.live_spent.load(Ordering::Relaxed), x.lab.live_spent.clone());
    let mut ended = None;
    let stop = async |live: &Live| {
        let spent = spent(api, target).await;
        if let Ok((spent, _)) = &spent {
            all.store(before.saturating_add(spent.0), Ordering::Relaxed);
        }
        ended = ended.take().or_else(|| why_to_stop(live, spent.map(|(spent, _)| spent).ok(), target));
        ended.is_some()
    };
    let gates = live_gates(&x.test.id);
    let purpose = (Purpose::target(TARGET_MS), gates.as_str());
    let driven = x.lab.drive_until(&mut x.test, load, caller, purpose, stop).await?;
    api.drained(PATIENCE).await?;
    let (spent, tokens) = spent(api, target).await?;
    x.lab.live_spent.store(before.saturating_add(spent.0), Ordering::Relaxed);
    let first = of_provider(x, target, &driven, api).await?;
    of_usage(x, target, spent, tokens, driven.seen.sent);
    let failed = driven.seen.failed() + driven.seen.refused;
    let (sent, errors) = (driven.seen.sent, driven.caller.errors);
    Ok(ProviderCalls { target: target.clone(), first, sent, failed, spent, errors, ended })
}

/// Reads a provider's cost, and its tokens sent and received, from the platform's ledger.
async fn spent(api: &Api, target: &LiveTarget) -> Result<(NanoUsd, [u64; 2]), RunError> {
    let usage = api.get("/v1/usage?by=agent").await?;
    Ok(of_agent(&usage, &name(target)))
}

fn of_agent(usage: &Value, agent: &str) -> (NanoUsd, [u64; 2]) {
    let rows = usage["rows"].as_array().into_iter().flatten();
    let row = rows.into_iter().find(|row| row["key"] == agent).cloned().unwrap_or_default();
    let tokens = ["input_tokens", "output_tokens"].map(|field| row[field].as_u64().unwrap_or(0));
    (NanoUsd(row["cost_nanos"].as_i64().unwrap_or(0)), tokens)
}

/// Returns why a load must end before its time. `spent`: what the ledger says; `None` when it could not be read, and then nothing
/// more may be sent.
fn why_to_stop(live: &Live, spent: Option<NanoUsd>, target: &LiveTarget) -> Option<String> {
    let Some(spent) = spent else { return Some("what was spent could not be read".to_owned()) };
    if let Some(share) = target.share.filter(|share| spent.plus(target.each) > *share) {
        return Some(format!("{spent} of its share {share} of the budget was spent, which holds no further call"));
    }
    let (ok, failed) = (live.ok.load(Ordering::Relaxed), live.not_ok.load(Ordering::Relaxed));
    (ok == 0 && failed >= GIVE_UP).then(|| format!("the first {failed} calls failed"))
}

/// Figures of a provider; the times to the first token, in microseconds.
async fn of_provider(
    x: &mut Experiment<'_>,
    target: &LiveTarget,
    driven: &LoadResult<StreamedTaskCaller>,
    api: &Api,
) -> Result<Hist, RunError> {
    let name = format!("llm.live.{}", target.provider);
    x.figures_of_load(&name, driven);
    let entries = latency::journaled(api, &driven.caller.ended).await?;
    let calls: Vec<latency::CallTimes> = entries.iter().map(|(body, _)| latency::timed(body)).collect();
    latency::figures_of_calls(x, &name, &calls);
    let mut first = histogram();
    calls.iter().for_each(|call| first.saturating_record(call.first.max(1)));
    Ok(first)
}

/// Adds a provider's use, to the token and the billionth of a dollar.
fn of_usage(x: &mut Experiment<'_>, target: &LiveTarget, spent: NanoUsd, [input, output]: [u64; 2], n: u64) {
    let of = |what: &str| format!("llm.live.{}.{what}", target.provider);
    let source = "GET /v1/usage";
    x.cost(&of("spent"), ("$", "sum"), dollars(spent), n, source);
    x.figure(&of("input_tokens"), ("count", "count"), input as f64, n, source);
    x.figure(&of("output_tokens"), ("count", "count"), output as f64, n, source);
}

fn dollars(amount: NanoUsd) -> f64 {
    amount.0 as f64 / 1e9
}

/// Adds the part of the budget that was spent.
fn of_money(x: &mut Experiment<'_>, plan: &LivePlan, spent: NanoUsd, n: u64) {
    let (estimate, budget) = (plan.estimate(), plan.budget);
    x.cost("llm.live.spent", ("$", "sum"), dollars(spent), n, "GET /v1/usage, in billionths");
    x.figure("llm.live.budget", ("$", "sum"), dollars(budget), n, "--budget");
    x.figure("llm.live.estimate", ("$", "sum"), dollars(estimate), n, "price table");
    let models: Vec<String> = plan.targets.iter().map(LiveTarget::name).collect();
    x.test.params.insert("live".to_owned(), json!(models));
    x.note(format!("live: {spent} spent of a budget of {budget}; estimated were {estimate} at most"));
}

/// Observes the worst p95 of a criterion's providers, with an interval that holds that of each.
fn observed(wanted: &[ProviderKind], called: &[ProviderCalls]) -> Observation {
    let of: Vec<&ProviderCalls> = called.iter().filter(|called| wanted.contains(&called.target.provider)).collect();
    if of.is_empty() {
        return Observation::not_run(format!("{}: not called live", words(wanted)));
    }
    let (value, ci) = worst(&of);
    let n = of.iter().map(|called| called.first.len()).sum();
    let shown: Vec<String> = of.iter().map(|called| format!("llm.live.{}.ttft", called.target.provider)).collect();
    let shown: Vec<&str> = shown.iter().map(String::as_str).collect();
    let all = of.iter().map(|called| told(called)).collect::<Vec<_>>().join("; ");
    let source =
        "first_token_us of the journal, from sending to the first content, real providers; the slowest of them";
    let seen = Observation::exact(value, n, source).ci(ci).shown_by(&shown).live().remark(all.clone());
    let is_called = |kind: &ProviderKind| of.iter().any(|called| called.target.provider == *kind);
    let missing: Vec<ProviderKind> = wanted.iter().copied().filter(|kind| !is_called(kind)).collect();
    if !missing.is_empty() {
        return seen.undecided(format!("{} was not called, and all must hold; {all}", words(&missing)));
    }
    match of.iter().any(|called| called.failed as f64 >= called.sent as f64 * MAX_FAILED) {
        true => seen.undecided(format!("too many calls failed for a 95th percentile of all; {all}")),
        false => seen,
    }
}

fn words(kinds: &[ProviderKind]) -> String {
    kinds.iter().map(|kind| kind.as_str()).collect::<Vec<_>>().join(" and ")
}

/// In milliseconds; NaN without an answer.
fn p95(called: &ProviderCalls) -> f64 {
    match called.first.len() {
        0 => f64::NAN,
        _ => called.first.value_at_quantile(0.95) as f64 / 1_000.0,
    }
}

/// The largest p95 and the largest bounds, in milliseconds; none when a provider has none.
fn worst(of: &[&ProviderCalls]) -> (f64, Option<[f64; 2]>) {
    let values: Vec<f64> = of.iter().map(|called| p95(called)).collect();
    let value = match values.iter().any(|value| value.is_nan()) {
        true => f64::NAN,
        false => values.into_iter().fold(f64::NEG_INFINITY, f64::max),
    };
    let bounds: Option<Vec<[f64; 2]>> = of.iter().map(|called| Some(quantile_of(&called.first, 0.95)?.ci95)).collect();
    let larger = |one: [f64; 2], other: [f64; 2]| [one[0].max(other[0]), one[1].max(other[1])];
    (value, bounds.and_then(|all| all.into_iter().reduce(larger)))
}

/// Describes the result of a provider's calls in a sentence.
fn told(called: &ProviderCalls) -> String {
    let ProviderCalls { target, sent, failed, spent, errors, ended, .. } = called;
    let mut text = target.name();
    let p95 = p95(called);
    if p95.is_finite() {
        text.push_str(&format!(" p95 {p95:.0} ms,"));
    }
    text.push_str(&format!(" {failed} of {sent} calls failed, {spent} spent"));
    if let Some((error, count)) = errors.iter().max_by_key(|(_, count)| **count) {
        text.push_str(&format!(", {count} × {error}"));
    }
    if let Some(ended) = ended {
        text.push_str(&format!(", ended early: {ended}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(provider: ProviderKind) -> LiveTarget {
        let (each, estimate) = (NanoUsd(276_000), NanoUsd(2_760_000));
        LiveTarget { provider, model: "m: \"odd\"".to_owned(), each, estimate, share: Some(NanoUsd(3_000_000)) }
    }

    fn called(provider: ProviderKind, answers: u64, failed: u64) -> ProviderCalls {
        let mut first = histogram();
        (0..answers).for_each(|n| first.record(300_000 + n).unwrap());
        let errors = (failed > 0).then(|| ("provider_authentication: 401".to_owned(), failed));
        let (sent, errors) = (answers + failed, errors.into_iter().collect());
        ProviderCalls { target: target(provider), first, sent, failed, spent: NanoUsd(1), errors, ended: None }
    }

    const BOTH: &[ProviderKind] = &[ProviderKind::Openai, ProviderKind::Anthropic];

    #[test]
    fn a_live_call_costs_no_more_than_its_estimate() {
        let bytes = PROMPT.len() + ASK.len() + " 1200".len();
        // The platform sets aside a token for each byte; what is left is for the frame that providers put around messages.
        assert!((SHORT.0 as usize - 80..SHORT.0 as usize - 20).contains(&bytes), "{bytes}");
    }

    #[test]
    fn a_live_agent_has_its_share_of_the_budget_and_no_retries() {
        // The only provider that has a price for any model: a limit in dollars needs one.
        let (name, text) = agent(&target(ProviderKind::Simulated));
        let fleet = tempfile::tempdir().unwrap();
        std::fs::write(fleet.path().join("a.yml"), &text).unwrap();
        let fleet = agentry_config::load_fleet(fleet.path()).fleet;
        let (_, entry) = fleet.iter().next().unwrap();
        let spec = entry.spec.as_ref().unwrap_or_else(|| panic!("{text}"));
        assert_eq!((spec.name.to_string(), &*spec.llm.target.model), (name, "m: \"odd\""));
        assert_eq!(spec.budget.per_day, Some(NanoUsd(3_000_000)));
        assert_eq!(spec.llm.params.max_tokens.map(u64::from), Some(SHORT.1));
        assert_eq!(spec.retry.max_retries, 0);
        let thinking = LiveTarget { model: "claude-haiku-5-5".to_owned(), ..target(ProviderKind::Anthropic) };
        assert!(agent(&thinking).1.contains("reasoning: none") && !text.contains("reasoning"), "{text}");
    }

    #[test]
    fn a_live_load_ends_when_its_share_holds_no_further_call() {
        let (live, target) = (Live::default(), target(ProviderKind::Openai));
        let stop = |spent| why_to_stop(&live, spent, &target);
        assert_eq!(stop(Some(NanoUsd(3_000_000 - 276_000))), None);
        assert!(stop(Some(NanoUsd(3_000_001 - 276_000))).unwrap().contains("share $0.003000"));
        assert!(stop(None).is_some());
        live.not_ok.store(GIVE_UP, Ordering::Relaxed);
        assert!(stop(Some(NanoUsd::ZERO)).unwrap().contains("first 5 calls failed"));
        live.ok.store(1, Ordering::Relaxed);
        assert_eq!(stop(Some(NanoUsd::ZERO)), None);
    }

    #[test]
    fn live_spend_is_that_of_the_agent() {
        let usage = json!({"rows": [
            {"key": "other", "cost_nanos": 9, "input_tokens": 9, "output_tokens": 9},
            {"key": "live-openai", "cost_nanos": 7, "input_tokens": 5, "output_tokens": 2},
        ]});
        assert_eq!(of_agent(&usage, "live-openai"), (NanoUsd(7), [5, 2]));
        assert_eq!(of_agent(&usage, "live-ollama"), (NanoUsd::ZERO, [0, 0]));
    }

    #[test]
    fn both_live_providers_must_hold() {
        let (openai, anthropic) = (ProviderKind::Openai, ProviderKind::Anthropic);
        let seen = observed(BOTH, &[called(openai, 90, 0), called(anthropic, 90, 1)]);
        assert!(seen.live && seen.undecided.is_none() && seen.ci95.is_some(), "{seen:?}");
        assert_eq!(seen.n, 180);
        let alone = observed(BOTH, &[called(openai, 90, 0)]);
        assert!(alone.undecided.is_some_and(|why| why.starts_with("anthropic was not called")));
        let failing = observed(BOTH, &[called(openai, 90, 0), called(anthropic, 90, 5)]);
        assert!(failing.undecided.is_some_and(|why| why.contains("5 of 95 calls failed")));
        let none = observed(BOTH, &[called(ProviderKind::Ollama, 90, 0)]);
        assert!(!none.live && none.not_run.is_some());
    }

    #[test]
    fn a_wrong_key_gives_no_live_figure_and_says_why() {
        let (openai, anthropic) = (ProviderKind::Openai, ProviderKind::Anthropic);
        let seen = observed(BOTH, &[called(openai, 90, 0), called(anthropic, 0, 5)]);
        assert!(seen.value.is_some_and(f64::is_nan) && seen.ci95.is_none(), "{seen:?}");
        assert!(seen.remark.is_some_and(|text| text.contains("5 × provider_authentication: 401")));
    }
}
