//! 5.2 Concurrent LLM requests: latency at growing concurrency through the platform, and the ledger of costs against the
//! simulator's own.

use std::collections::BTreeMap;

use serde_json::Value;

use super::Found;
use super::callers::Tasks;
use super::figures::{self, cost, metric};
use super::observe::Observation;
use crate::check::{BookedCall, CostReport, check_cost};
use crate::load::Load;
use crate::model::{Axis, Invariant, Plot, PlotKind, Series, Test};
use crate::run::{Lab, Purpose, RunError};
use crate::sut::{Deployment, Llm, Plan, fleet};

/// Concurrencies.
const LEVELS: [usize; 6] = [1, 5, 10, 20, 50, 100];
const AGENT: &str = "bench-caller";
/// The price list of the run's own, so that no table of the platform is a witness in its own cause: dollars a million
/// tokens, and the same in billionths of a dollar a token.
const PRICES: &str = "version = \"bench\"\n[[prices]]\nprovider = \"openai\"\nmodels = [\"gpt-4.1-mini\"]\nfrom = \"2025-01-01\"\n\
                      source = \"agentry bench\"\ninput = \"0.37\"\ncached = \"0.37\"\noutput = \"1.61\"\n";
const NANOS_IN: i64 = 370;
const NANOS_OUT: i64 = 1_610;

/// Runs the levels, then compares the ledgers.
///
/// # Errors
/// When the platform does not start or the harness does not work.
pub async fn run(lab: &mut Lab) -> Result<Found, RunError> {
    let mut test = lab.test("5.2-llm-concurrency", "Closed loops of 1 to 100 callers, one model call each", "fast");
    let mut seen = Vec::new();
    if lab.url.is_some() {
        let why = "needs a simulator of the run's own: leave out --url";
        seen.extend(["5.2/no-degradation", "5.2/rate-limits", "5.2/cost"].map(|id| Observation::not_run(id, why)));
        return Ok(Found { tests: vec![test], seen });
    }
    let agents = vec![fleet::agent(AGENT, "autonomous", "retry_config: {max_retries: 5, retry_delay_seconds: 1}\n")];
    let llm = Some(Llm { profile: "fast", ..Llm::default() });
    let (files, flags) = (vec![("prices.toml", PRICES)], vec!["--prices".to_owned(), "prices.toml".to_owned()]);
    let deployment = lab.deploy(Plan { agents: agents.clone(), llm, files, flags, ..Plan::default() }).await?;
    let (target, host) = lab.target(Some(&deployment))?;
    let mut latencies: BTreeMap<usize, Vec<f64>> = BTreeMap::new();
    for callers in LEVELS {
        let load = Load::closed(target, callers, lab.seconds(2.0, 2.5, 30.0, 150.0));
        let caller = Tasks::of(&host, AGENT, lab.seed);
        let driven = lab.drive(&mut test, load, caller, Purpose::capacity()).await?;
        figures::of_load(&mut test, lab, &format!("llm.c{callers}"), &driven);
        let values = driven.seen.latency.iter_recorded();
        let all = values.flat_map(|value| {
            let times = usize::try_from(value.count_at_value()).unwrap_or(0);
            std::iter::repeat_n(value.value_iterated_to() as f64 / 1_000.0, times)
        });
        latencies.insert(callers, all.collect());
    }
    degradation(lab, &mut test, &latencies, &mut seen);
    seen.push(ledger(lab, &mut test, &deployment).await?);
    drop(deployment);
    limited(lab, &mut test, agents, &mut seen).await?;
    Ok(Found { tests: vec![test], seen })
}

/// The median at ten callers over the median at one.
fn degradation(lab: &Lab, test: &mut Test, latencies: &BTreeMap<usize, Vec<f64>>, seen: &mut Vec<Observation>) {
    let median = |values: &[f64]| {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
    };
    let points = latencies.iter().map(|(callers, values)| [*callers as f64, median(values)]).collect();
    test.plots.push(Plot {
        id: "concurrency".to_owned(),
        title: "Latency over concurrency".to_owned(),
        kind: PlotKind::Scatter,
        x: Axis::new("callers", ""),
        y: Axis::new("median latency", "ms"),
        series: vec![Series::measured("median", points)],
        bands: Vec::new(),
        marks: Vec::new(),
        summary: "a flat line is no degradation".to_owned(),
    });
    let (Some(one), Some(ten)) = (latencies.get(&1), latencies.get(&10)) else { return };
    let ratio = median(ten) / median(one);
    let ci = crate::stats::ratio(ten, one, lab.seed, median);
    let n = (one.len() + ten.len()) as u64;
    let source = "median at 10 callers over the median at 1, bootstrap";
    test.metrics.push(cost("llm.degradation", "ratio", "mean", ratio, n, source));
    let observed = Observation::new("5.2/no-degradation", ratio, n, source).ci(ci);
    seen.push(observed.shown_by(&["llm.degradation", "concurrency"]));
}

/// The platform's ledger rows against the simulator's, call by call: tokens, and money at the run's own prices.
async fn ledger(lab: &mut Lab, test: &mut Test, deployment: &Deployment) -> Result<Observation, RunError> {
    deployment.api()?.drained(std::time::Duration::from_secs(30)).await?;
    let path = deployment.llm_ledger();
    let text = std::fs::read_to_string(&path).map_err(|error| RunError::File { path, error })?;
    let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let provider: Vec<BookedCall> = lines.filter(|line| line["end"] == "completed").map(|line| bought(&line)).collect();
    let rows = deployment.api()?.all("/v1/usage/calls").await?;
    let platform: Vec<BookedCall> = rows.iter().filter(|row| row["status"] == "completed").map(booked).collect();
    let report = check_cost(&provider, &platform);
    let n = report.provider_calls;
    let by_platform = report.platform_calls as f64;
    test.metrics.push(metric("llm.ledger.provider_calls", "count", "count", n as f64, n, "the simulator's own ledger"));
    test.metrics.push(metric("llm.ledger.platform_calls", "count", "count", by_platform, n, "GET /v1/usage/calls"));
    let dollars = report.platform_sums.2 as f64 / 1e9;
    test.metrics.push(cost("llm.ledger.cost", "$", "sum", dollars, n, "GET /v1/usage/calls, in billionths"));
    lab.safety.push(invariant(test, &report));
    let source = "calls, tokens and billionths of a dollar of /v1/usage/calls against the simulator's own ledger";
    let observed = Observation::new("5.2/cost", report.wrong() as f64, n, source);
    Ok(observed.shown_by(&["I6", "llm.ledger.cost"]))
}

/// What the simulator sold, at the run's prices.
fn bought(line: &Value) -> BookedCall {
    let of = |field: &str| line[field].as_u64().unwrap_or(0);
    let (input, output) = (of("input_tokens"), of("output_tokens"));
    let nanos = input.cast_signed() * NANOS_IN + output.cast_signed() * NANOS_OUT;
    BookedCall { id: line["request_id"].as_str().unwrap_or_default().to_owned(), input, output, nanos }
}

/// A row of the platform's ledger; one without a price differs from every other.
fn booked(row: &Value) -> BookedCall {
    let of = |field: &str| row["usage"][field].as_u64().unwrap_or(0);
    BookedCall {
        id: row["call"].as_str().unwrap_or_default().to_owned(),
        input: of("input_tokens"),
        output: of("output_tokens"),
        nanos: row["cost_nanos"].as_i64().unwrap_or(-1),
    }
}

fn invariant(test: &Test, report: &CostReport) -> Invariant {
    let counts = [
        ("provider", report.provider_calls),
        ("platform", report.platform_calls),
        ("missing", report.missing),
        ("unexpected", report.unexpected),
        ("different", report.different),
    ];
    Invariant {
        invariant: "I6".to_owned(),
        text: "the ledger of costs is the provider's, call by call, to the billionth of a dollar".to_owned(),
        test: test.id.clone(),
        valid: Some(report.is_exact()),
        counts: counts.map(|(key, count)| (key.to_owned(), count)).into(),
        examples: report.examples.iter().take(Invariant::MAX_EXAMPLES).cloned().collect(),
    }
}

/// A provider that refuses more than some calls a second: every task still ends, and no call comes too early.
async fn limited(
    lab: &mut Lab,
    test: &mut Test,
    agents: Vec<fleet::AgentFile>,
    seen: &mut Vec<Observation>,
) -> Result<(), RunError> {
    const LIMIT: u32 = 20;
    let llm = Some(Llm { profile: "instant", rate_limit: Some(LIMIT), ..Llm::default() });
    let deployment = lab.deploy(Plan { agents, llm, ..Plan::default() }).await?;
    let (target, host) = lab.target(Some(&deployment))?;
    let load = Load::open(target, 15.0, lab.seconds(2.0, 4.0, 30.0, 60.0), lab.seed_of("limited"));
    let driven = lab.drive(test, load, Tasks::of(&host, AGENT, lab.seed), Purpose::target(10_000.0)).await?;
    figures::of_load(test, lab, "llm.limited", &driven);
    let path = deployment.llm_ledger();
    let text = std::fs::read_to_string(&path).map_err(|error| RunError::File { path, error })?;
    let refused = text.lines().filter(|line| line.contains("\"status\":429")).count() as u64;
    let calls = text.lines().count() as u64;
    let source = "the simulator's own ledger";
    test.metrics.push(metric("llm.limited.refused", "count", "count", refused as f64, calls, source));
    let extra = refused as f64 / (calls - refused).max(1) as f64 * 100.0;
    test.metrics.push(cost("llm.limited.extra_calls", "%", "share", extra, calls, source));
    let bad = driven.seen.failed() + driven.seen.refused;
    let source = "tasks that did not complete while the provider refused more than 20 calls a second";
    let observed = Observation::new("5.2/rate-limits", bad as f64, driven.seen.sent, source);
    seen.push(observed.remark(format!("{refused} refusals were retried")));
    Ok(())
}
