//! A run: its scenarios in a shuffled order, and the report of their results, also when it is interrupted.

mod error;
mod fingerprint;
mod floor;
pub mod gates;
mod lab;
mod progress;

pub use error::RunError;
pub use lab::{Lab, LoadResult, Purpose};

use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::Duration;

use agentry_core::money::NanoUsd;
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

use crate::catalogue::{Nemesis, Scenario};
use crate::estimate::LivePlan;
use crate::model::{CpuShare, Engine, Harness, Phase, Profile, Report, Run, SCHEMA, Test, Tiers, Verdict};
use crate::sample::{CpuLedger, Part};
use crate::stats;
use crate::sut::Api;
use crate::verdict::{self, Observation, judge_all};

/// Options of a run.
#[derive(Debug, Clone)]
pub struct Options {
    pub scenarios: Vec<&'static Scenario>,
    pub profile: Profile,
    pub engine: Engine,
    /// URL of a deployment that runs already.
    pub url: Option<String>,
    /// Faults of 3.2; those of the profile when empty.
    pub faults: Vec<Nemesis>,
    /// Real providers that 5.1 calls.
    pub live: Option<LivePlan>,
    /// Seed of arrivals, order and faults.
    pub seed: u64,
    pub out: PathBuf,
    pub argv: Vec<String>,
}

/// Results of a scenario.
#[derive(Debug)]
pub struct Findings {
    pub test: Test,
    pub seen: Vec<Observation>,
}

/// A scenario and its results, or the reason why it could not be run.
type ScenarioResult = (&'static Scenario, Result<Findings, RunError>);

/// Runs scenarios by `measure` until all are done or `interrupted` resolves; the results so far are reported in both cases.
pub async fn run(
    options: Options,
    measure: impl AsyncFn(&'static Scenario, &mut Lab) -> Result<Findings, RunError>,
    interrupted: impl Future<Output = ()>,
) -> Result<Report, RunError> {
    let url = options.url.as_deref().map(Api::new).transpose()?;
    if let Some(api) = &url {
        api.target()?;
        check_version(api).await?;
    }
    let mut lab = Lab::new(options.profile, options.engine, url, options.seed, &options.out)?;
    lab.only_faults.clone_from(&options.faults);
    lab.live.clone_from(&options.live);
    let start = jiff::Timestamp::now();
    lab.progress.say(&format!(
        "agentry bench · profile {} · {} engine · seed {}",
        options.profile, options.engine, options.seed
    ));
    if let Some(plan) = &options.live {
        lab.progress.say(&plan.to_string());
    }
    let mut order = options.scenarios.clone();
    order.shuffle(&mut StdRng::seed_from_u64(lab.seed_of("order")));
    let mut results: Vec<ScenarioResult> = Vec::new();
    let mut has_started = true;
    let cut_short = {
        let all = async {
            lab.floor_p99_ms = Some(floor::of_requests(calibration(options.profile), options.seed).await?);
            for scenario in order {
                lab.progress.begin(scenario.id);
                lab.phase = scenario.phases.first().copied().unwrap_or(Phase::Load);
                let found = Box::pin(measure(scenario, &mut lab)).await;
                has_started &= !matches!(found, Err(RunError::Sut(_)));
                lab.progress.end(&in_a_line(scenario, &found, &lab));
                results.push((scenario, found));
            }
            Ok::<(), RunError>(())
        };
        tokio::select! {
            ended = all => { ended?; false }
            () = interrupted => true,
        }
    };
    if cut_short {
        lab.progress.say("interrupted: what was measured so far is reported");
    }
    let mut report = report(&lab, &options, start, results, cut_short).await;
    verdict::finish(&mut report, has_started);
    Ok(report)
}

/// Returns the duration of the harness's calibration.
fn calibration(profile: Profile) -> Duration {
    match profile {
        Profile::Quick => Duration::from_secs(2),
        _ => Duration::from_secs(5),
    }
}

/// Checks that the deployment answers and is of our version.
async fn check_version(api: &Api) -> Result<(), RunError> {
    let live = api.get("/health/live").await?;
    let (theirs, ours) = (live["version"].as_str().unwrap_or("none"), env!("CARGO_PKG_VERSION"));
    if theirs != ours {
        return Err(RunError::Usage(format!(
            "{} runs version {theirs}, this is {ours}: measure it with the binary that it runs",
            api.base()
        )));
    }
    Ok(())
}

fn in_a_line(scenario: &Scenario, found: &Result<Findings, RunError>, lab: &Lab) -> String {
    let found = match found {
        Ok(found) => found,
        Err(error) => {
            return format!("could not be run: {}", error.to_string().lines().next().unwrap_or_default());
        }
    };
    let judged = judge_all(scenario, &found.seen, &lab.gates, (lab.engine, lab.profile));
    let count = |verdict: Verdict| judged.iter().filter(|criterion| criterion.verdict == verdict).count();
    let words: Vec<String> = Verdict::ALL
        .into_iter()
        .map(|verdict| (verdict, count(verdict)))
        .filter(|(_, count)| *count > 0)
        .map(|(verdict, count)| format!("{} {count} {verdict}", verdict.shape()))
        .collect();
    words.join("  ")
}

async fn report(
    lab: &Lab,
    options: &Options,
    start: jiff::Timestamp,
    results: Vec<ScenarioResult>,
    interrupted: bool,
) -> Report {
    let found = |scenario: &Scenario| results.iter().find(|(done, _)| done.id == scenario.id).map(|(_, found)| found);
    let tests = options.scenarios.iter().map(|scenario| test_of(lab, scenario, found(scenario))).collect();
    let end = jiff::Timestamp::now();
    Report {
        schema: SCHEMA.to_owned(),
        run: Run {
            id: format!("{}-{}-{}", start.strftime("%Y%m%dT%H%M%SZ"), options.profile, options.engine),
            profile: options.profile,
            engine: options.engine,
            url: options.url.clone(),
            seed: options.seed,
            argv: options.argv.clone(),
            git: option_env!("AGENTRY_GIT").unwrap_or_default().to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            start: format!("{start:.0}"),
            end: format!("{end:.0}"),
            seconds: lab.now(),
            interrupted,
            exit: 0,
        },
        fingerprint: fingerprint::take(lab).await,
        harness: harness(lab),
        tests,
        faults: lab.faults.clone(),
        safety: lab.safety.clone(),
        tiers: Tiers::default(),
        baseline: None,
        advice: Vec::new(),
        not_proven: Vec::new(),
    }
}

/// Builds the test of a scenario with its judged criteria; without figures when it was not run.
fn test_of(lab: &Lab, scenario: &Scenario, found: Option<&Result<Findings, RunError>>) -> Test {
    let judge = |seen: &[Observation]| judge_all(scenario, seen, &lab.gates, (lab.engine, lab.profile));
    let why = match found {
        Some(Ok(found)) => return Test { criteria: judge(&found.seen), ..found.test.clone() },
        Some(Err(error)) => format!("could not be run: {error}"),
        None => "the run was interrupted before it".to_owned(),
    };
    let seen: Vec<_> = scenario.criteria().map(|spec| Observation::not_run(why.clone()).of(spec.id)).collect();
    let test = lab.test(scenario.id, scenario.title, "none");
    let phase = scenario.phases.first().copied().unwrap_or(Phase::Load);
    Test { phase, criteria: judge(&seen), notes: vec![why], ..test }
}

fn harness(lab: &Lab) -> Harness {
    let samples = lab.sampler.samples();
    let ledger = CpuLedger::of(&samples);
    let group = |part: Part| match part {
        Part::Sut => "agentry",
        Part::Postgres => "postgresql",
        other => other.as_str(),
    };
    let cpu = ledger.parts.iter().map(|(part, share)| CpuShare {
        group: group(*part).to_owned(),
        seconds: share.nanos as f64 / 1e9,
        share: share.machine,
    });
    let mut notes = lab.notes.clone();
    notes.extend(samples.trouble.clone());
    if let Some(plan) = &lab.live {
        let spent = NanoUsd(lab.live_spent.load(Ordering::Relaxed));
        notes.push(format!("real providers: {spent} spent of a budget of {}", plan.budget));
    }
    Harness {
        lag_hdr_b64: stats::encode(&lab.lag).ok(),
        lag_p99_ms: (!lab.lag.is_empty()).then(|| lab.lag.value_at_quantile(0.99) as f64 / 1_000.0),
        cpu_share: Some(ledger.measuring()),
        steal: Some(ledger.steal),
        floor_p99_ms: lab.floor_p99_ms,
        gates: lab.gates.clone(),
        cpu: cpu.collect(),
        plots: Vec::new(),
        notes,
    }
}
