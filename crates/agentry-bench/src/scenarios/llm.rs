//! 5.2 Concurrent LLM requests: latency at growing concurrency through the platform, and the ledger of costs against the
//! simulator's own.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::callers::TaskCaller;
use super::experiment::Experiment;
use super::loads::{LoadRow, Rate};
use super::tasks::{id_of, is_whole, simulated_calls};
use crate::check::{BookedCall, check_cost};
use crate::model::{Axis, Plot, PlotKind, Series};
use crate::run::RunError;
use crate::stats::{Hist, median, ratio};
use crate::sut::{Deployment, Llm, Plan, fleet};
use crate::verdict::Observation;

/// A closed loop of so many callers.
const fn level(name: &'static str, callers: usize) -> LoadRow {
    LoadRow::new(name, Rate::Callers(callers), [2.0, 2.5, 30.0, 150.0])
}

/// Concurrencies.
const LEVELS: [(usize, LoadRow); 6] = [
    (1, level("llm.c1", 1)),
    (5, level("llm.c5", 5)),
    (10, level("llm.c10", 10)),
    (20, level("llm.c20", 20)),
    (50, level("llm.c50", 50)),
    (100, level("llm.c100", 100)),
];
/// Below what the provider of [`limited`] allows.
const LIMITED: LoadRow = LoadRow::new("llm.limited", Rate::Random(15.0), [2.0, 4.0, 30.0, 60.0]).target(10_000.0);
const AGENT: &str = "bench-caller";
/// The price list of the run's own, so that no table of the platform is a witness in its own cause: dollars a million
/// tokens, and the same in billionths of a dollar a token.
const PRICES: &str = "version = \"bench\"\n[[prices]]\nprovider = \"openai\"\nmodels = [\"gpt-4.1-mini\"]\nfrom = \"2025-01-01\"\n\
                      source = \"agentry bench\"\ninput = \"0.37\"\ncached = \"0.37\"\noutput = \"1.61\"\n";
const NANOS_IN: i64 = 370;
const NANOS_OUT: i64 = 1_610;

/// Runs the levels, then compares the ledgers; then a provider that refuses, and a thousand streams.
pub(super) async fn run(x: &mut Experiment<'_>) -> Result<(), RunError> {
    let agents = vec![fleet::agent(AGENT, "autonomous", "retry_config: {max_retries: 5, retry_delay_seconds: 1}\n")];
    let llm = Some(Llm { profile: "fast", ..Llm::default() });
    let (files, flags) = (vec![("prices.toml", PRICES)], vec!["--prices".to_owned(), "prices.toml".to_owned()]);
    let plan = Plan { agents, llm, files, flags, ..Plan::default() };
    let deployment = x.deploy(plan.clone()).await?;
    let mut latencies: BTreeMap<usize, Vec<f64>> = BTreeMap::new();
    for (callers, row) in LEVELS {
        let driven = x.drive(&row, &deployment, |host, seed| TaskCaller::of(host, AGENT, seed)).await?;
        latencies.insert(callers, values(&driven.seen.latency));
    }
    degradation(x, &latencies);
    ledger(x, &deployment).await?;
    drop(deployment);
    limited(x, plan.clone()).await?;
    if x.by([false, true, true, true]) {
        streams(x, plan).await?;
    }
    Ok(())
}

/// Every value of a histogram of microseconds, in milliseconds.
fn values(of: &Hist) -> Vec<f64> {
    let recorded = of.iter_recorded();
    let all = recorded.flat_map(|value| {
        let times = usize::try_from(value.count_at_value()).unwrap_or(0);
        std::iter::repeat_n(value.value_iterated_to() as f64 / 1_000.0, times)
    });
    all.collect()
}

/// The median at ten callers over the median at one.
fn degradation(x: &mut Experiment<'_>, latencies: &BTreeMap<usize, Vec<f64>>) {
    let points = latencies.iter().map(|(callers, values)| [*callers as f64, median(values)]).collect();
    x.plot(Plot::new(
        "concurrency",
        "Latency over concurrency",
        PlotKind::Scatter,
        (Axis::new("callers", ""), Axis::new("median latency", "ms")),
        vec![Series::measured("median", points)],
        "a flat line is no degradation",
    ));
    let (Some(one), Some(ten)) = (latencies.get(&1), latencies.get(&10)) else { return };
    let value = if one.is_empty() || ten.is_empty() { f64::NAN } else { median(ten) / median(one) };
    let n = (one.len() + ten.len()) as u64;
    let source = "median at 10 callers over the median at 1, bootstrap";
    x.cost("llm.degradation", ("ratio", "mean"), value, n, source);
    let seen = Observation::exact(value, n, source).ci(ratio(ten, one, x.lab.seed, median));
    x.observe("5.2/no-degradation", seen.shown_by(&["llm.degradation", "concurrency"]));
}

/// The platform's ledger rows against the simulator's, call by call: tokens, and money at the run's own prices.
async fn ledger(x: &mut Experiment<'_>, deployment: &Deployment) -> Result<(), RunError> {
    deployment.api()?.drained(Duration::from_secs(30)).await?;
    let calls = simulated_calls(deployment)?;
    let provider: Vec<BookedCall> = calls.iter().filter(|call| is_whole(call)).map(bought).collect();
    let rows = deployment.api()?.all("/v1/usage/calls").await?;
    let platform: Vec<BookedCall> = rows.iter().filter(|row| row["status"] == "completed").map(booked).collect();
    let report = check_cost(&provider, &platform);
    let n = report.provider_calls;
    let (theirs, ours) = (n as f64, report.platform_calls as f64);
    x.figure("llm.ledger.provider_calls", ("count", "count"), theirs, n, "the simulator's own ledger");
    x.figure("llm.ledger.platform_calls", ("count", "count"), ours, n, "GET /v1/usage/calls");
    let dollars = report.platform_sums.2 as f64 / 1e9;
    x.cost("llm.ledger.cost", ("$", "sum"), dollars, n, "GET /v1/usage/calls, in billionths");
    let counts = [
        ("provider", n),
        ("platform", report.platform_calls),
        ("missing", report.missing),
        ("unexpected", report.unexpected),
        ("different", report.different),
    ];
    let text = "the ledger of costs is the provider's, call by call, to the billionth of a dollar";
    x.invariant("I6", text, u64::from(!report.is_exact()), &counts, report.examples.clone());
    let source = "calls, tokens and billionths of a dollar of /v1/usage/calls against the simulator's own ledger";
    let seen = Observation::exact(report.wrong() as f64, n, source);
    x.observe("5.2/cost", seen.shown_by(&["I6", "llm.ledger.cost"]));
    Ok(())
}

/// Books what the simulator sold, at the run's prices.
fn bought(call: &Value) -> BookedCall {
    let of = |field: &str| call[field].as_u64().unwrap_or(0);
    let (input, output) = (of("input_tokens"), of("output_tokens"));
    let nanos = input.cast_signed() * NANOS_IN + output.cast_signed() * NANOS_OUT;
    BookedCall { id: id_of(call).to_owned(), input, output, nanos }
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

/// A provider that refuses more than some calls a second: every task still ends, and no call comes too early.
async fn limited(x: &mut Experiment<'_>, plan: Plan) -> Result<(), RunError> {
    let llm = Some(Llm { profile: "instant", rate_limit: Some(20), ..Llm::default() });
    let deployment = x.deploy(Plan { llm, ..plan }).await?;
    let driven = x.drive(&LIMITED, &deployment, |host, seed| TaskCaller::of(host, AGENT, seed)).await?;
    let calls = simulated_calls(&deployment)?;
    let refused = calls.iter().filter(|call| call["status"] == 429).count();
    let (n, source) = (calls.len() as u64, "the simulator's own ledger");
    x.figure("llm.limited.refused", ("count", "count"), refused as f64, n, source);
    let extra = refused as f64 / (calls.len() - refused).max(1) as f64 * 100.0;
    x.cost("llm.limited.extra_calls", ("%", "share"), extra, n, source);
    let bad = driven.seen.failed() + driven.seen.refused;
    let source = "tasks that did not complete while the provider refused more than 20 calls a second";
    let seen = Observation::exact(bad as f64, driven.seen.sent, source);
    x.observe("5.2/rate-limits", seen.remark(format!("{refused} refusals were retried")));
    Ok(())
}

/// A thousand streams at once, while a model writes 60 tokens a second to each.
async fn streams(x: &mut Experiment<'_>, plan: Plan) -> Result<(), RunError> {
    const STREAMS: usize = 1_000;
    /// Tokens of each: the streams last longer than they are looked at.
    const TOKENS: u32 = 2_400;
    let ids = ["stretch/streams-memory", "stretch/streams-cpu"];
    let llm = Some(Llm { profile: "realistic", ..Llm::default() });
    let deployment = x.deploy(Plan { llm, ..plan }).await?;
    let api = deployment.api()?;
    let ask = format!("[[long:{TOKENS}]] tell me");
    let tasks = vec![json!({"agent": AGENT, "input": ask, "stream": true}); STREAMS];
    api.post("/v1/tasks/batch", &json!({"tasks": tasks})).await?;
    let in_flight = async || {
        let mut sum = 0.0;
        for name in deployment.names() {
            let metrics = deployment.api_of(&name)?.metrics().await?;
            sum += metrics.sum("agentry_llm_calls_in_flight").unwrap_or(0.0);
        }
        Ok::<f64, RunError>(sum)
    };
    let began = Instant::now();
    while in_flight().await? < STREAMS as f64 {
        if began.elapsed() > Duration::from_secs(30) {
            x.not_run(&ids, "not all streams were open at once after 30 s");
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let (cpu, began) = (deployment.cpu(), Instant::now());
    x.window(x.seconds([0.0, 10.0, 15.0, 15.0])).await;
    let cores = (deployment.cpu() - cpu) as f64 / began.elapsed().as_nanos() as f64;
    let (pss, n) = (deployment.pss() as f64 / 1e6, STREAMS as u64);
    // Still as many: nothing ended or failed while it was looked at.
    let held = in_flight().await? >= STREAMS as f64;
    let source = "1,000 streams of 60 tokens a second, all processes of the platform";
    x.cost("llm.streams.pss", ("MB", "max"), pss, n, source);
    x.cost("llm.streams.cores", ("cores", "mean"), cores, n, source);
    for (id, value) in ids.into_iter().zip([pss, cores]) {
        let seen = Observation::exact(value, n, source);
        x.observe(id, if held { seen } else { seen.undecided("some streams ended while they were looked at") });
    }
    Ok(())
}
