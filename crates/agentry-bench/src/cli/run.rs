//! `bench run`: scenarios against processes of its own, or against a deployment that runs.

use std::path::{Path, PathBuf};

use agentry_core::money::NanoUsd;
use agentry_core::prices::PriceTable;
use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use super::{BenchError, Outcome};
use crate::catalogue::{self, Nemesis, SCENARIOS, Scenario};
use crate::compare::compare;
use crate::estimate::{LIVE_SCENARIO, LivePlan, choose};
use crate::model::{Engine, Phase, Profile, Report, Verdict};
use crate::report::{HTML, read, write_all};
use crate::run::{self, Options, RunError};
use crate::scenarios;
use crate::show::with_unit;
use crate::verdict::{NOT_STARTED, banner, exit_code};

/// `bench run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Only these, by id or number; all of the profile when none is named
    #[arg(value_name = "SCENARIO")]
    pub scenarios: Vec<String>,
    /// Only the scenarios of this phase
    #[arg(long, value_enum, value_name = "PHASE")]
    pub phase: Option<Phase>,
    /// How long windows are, and with that what can be decided
    #[arg(long, value_enum, default_value = "quick", value_name = "PROFILE")]
    pub profile: Profile,
    /// What the platform runs on
    #[arg(long, value_enum, default_value = "embedded", value_name = "ENGINE")]
    pub engine: Engine,
    /// Measure a deployment that runs instead of processes of our own
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
    /// Inject only these faults in 3.2; repeat it for more
    #[arg(long = "fault", value_enum, value_name = "FAULT")]
    pub faults: Vec<Nemesis>,
    /// Let 5.1 call real providers too, which costs money; all other scenarios keep to the simulators. Without --model
    /// those whose credentials the environment has are called. Needs --budget
    #[arg(long)]
    pub live: bool,
    /// The most that --live may spend, in dollars; nothing is sent when the estimate is beyond it
    #[arg(long, value_name = "USD", value_parser = NanoUsd::parse_usd)]
    pub budget: Option<NanoUsd>,
    /// What --live calls, such as openai=gpt-6-luna; repeat it for more providers
    #[arg(long = "model", value_name = "PROVIDER=MODEL")]
    pub models: Vec<String>,
    /// Folder of the report [default: bench-report]
    #[arg(long, value_name = "DIR", default_value = "bench-report", hide_default_value = true)]
    pub out: PathBuf,
    /// Compare with this report; a regression is exit code 4
    #[arg(long, value_name = "FILE")]
    pub baseline: Option<PathBuf>,
    /// What arrivals, order and faults follow from
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub seed: u64,
}

/// Runs them and writes the report.
pub fn run(args: &RunArgs) -> Result<Outcome, BenchError> {
    let scenarios = chosen(args)?;
    check_faults(args, &scenarios)?;
    let live = live(args, &scenarios, |variable| std::env::var_os(variable).is_some_and(|value| !value.is_empty()))?;
    // Before anything is measured for nothing.
    let before = args.baseline.as_deref().map(read).transpose()?;
    std::fs::create_dir_all(&args.out).map_err(|error| {
        BenchError::new(format!("cannot make the folder {}: {error}", args.out.display()))
            .help("choose another with --out")
    })?;
    let options = Options {
        scenarios,
        profile: args.profile,
        engine: args.engine,
        url: args.url.clone(),
        faults: args.faults.clone(),
        live,
        seed: args.seed,
        out: args.out.clone(),
        argv: std::env::args().collect(),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.map_err(|error| BenchError::new(format!("cannot start the runtime: {error}")))?;
    let mut report = runtime.block_on(async {
        let interrupted =
            stop_signal().map_err(|error| BenchError::new(format!("cannot wait for signals: {error}")))?;
        run::run(options, scenarios::run, interrupted).await.map_err(|error| failed(&error))
    })?;
    // What still runs on blocking threads is of no use any more.
    runtime.shutdown_background();
    if let Some(before) = before {
        let name = args.baseline.as_deref().unwrap_or(Path::new("")).display().to_string();
        report.baseline = Some(compare(&name, &[before], std::slice::from_ref(&report), &[], args.seed));
        report.run.exit = exit_code(&report, report.run.exit != NOT_STARTED);
    }
    let files = write_all(&report, &args.out)?;
    let exit = report.run.exit;
    Ok(Outcome { text: summary(&report, &files, &args.out.join(HTML)), exit })
}

/// The scenarios that were asked for, else those of the phase, else all that the profile runs.
fn chosen(args: &RunArgs) -> Result<Vec<&'static Scenario>, BenchError> {
    let named = args.scenarios.iter().map(|asked| catalogue::scenario(asked)).collect::<Result<Vec<_>, _>>()?;
    let of_phase = |scenario: &&Scenario| args.phase.is_none_or(|phase| scenario.phases.contains(&phase));
    let mut all: Vec<&'static Scenario> = match named.is_empty() {
        false => named.into_iter().filter(of_phase).collect(),
        true => SCENARIOS.iter().filter(of_phase).filter(|scenario| scenario.seconds(args.profile) > 0).collect(),
    };
    all.dedup_by_key(|scenario| scenario.id);
    if all.is_empty() {
        let phase = args.phase.map_or("any phase", Phase::word);
        return Err(BenchError::usage(format!("no scenario of {phase} is run by the profile {}", args.profile))
            .help("choose a longer profile with --profile, or name a scenario of the phase (`agentry bench list`)"));
    }
    Ok(all)
}

/// The faults that were asked for can be met.
fn check_faults(args: &RunArgs, scenarios: &[&Scenario]) -> Result<(), BenchError> {
    if !args.faults.is_empty() && !scenarios.iter().any(|scenario| scenario.id == "3.2-delivery") {
        return Err(
            BenchError::usage("--fault is of 3.2-delivery, which is not run").help("name it, or leave out --fault")
        );
    }
    match args.faults.iter().find(|fault| !Nemesis::of(args.engine).contains(fault)) {
        Some(fault) => Err(BenchError::usage(format!("the fault {} needs several processes", fault.traits().id))
            .help("choose --engine cluster, or another fault")),
        None => Ok(()),
    }
}

/// Which real providers are called and for how much; `is_set` says which variables of the environment there are.
fn live(
    args: &RunArgs,
    scenarios: &[&Scenario],
    is_set: impl Fn(&str) -> bool,
) -> Result<Option<LivePlan>, BenchError> {
    if !args.live {
        let flag = [("--budget", args.budget.is_some()), ("--model", !args.models.is_empty())];
        return match flag.iter().find(|(_, given)| *given) {
            Some((flag, _)) => Err(BenchError::usage(format!("{flag} is of --live, which is not given"))
                .help(format!("add --live to call real providers, or leave out {flag}"))),
            None => Ok(None),
        };
    }
    if args.url.is_some() {
        return Err(BenchError::usage(
            "--live and --url do not go together: the budget is kept by a deployment of our own",
        )
        .help("leave out --url"));
    }
    if !scenarios.iter().any(|scenario| scenario.id == LIVE_SCENARIO) {
        return Err(BenchError::usage(format!("--live is of {LIVE_SCENARIO}, which is not run"))
            .help("name it (`agentry bench run 5.1 --live …`), or leave out --live"));
    }
    let Some(budget) = args.budget else {
        return Err(BenchError::usage("--live spends money and needs --budget USD: the most it may spend").help(format!(
            "`agentry bench estimate 5.1 --profile {} --provider NAME --model ID` says what it would cost before anything is \
             spent",
            args.profile
        )));
    };
    let plan = choose(&args.models, is_set)
        .and_then(|chosen| LivePlan::new(chosen, args.profile, budget, &PriceTable::builtin()));
    plan.map(Some).map_err(|refused| BenchError::usage(refused.to_string()).help(refused.help()))
}

fn failed(error: &RunError) -> BenchError {
    match error {
        RunError::Usage(text) => BenchError::usage(text.clone()),
        RunError::Sut(sut) => BenchError::new(sut.to_string()).exit(6).help(
            "check the address and that the server runs (`agentry doctor`); without --url the suite starts its own",
        ),
        other => BenchError::new(other.to_string()),
    }
}

/// Resolves at Ctrl-C or SIGTERM.
fn stop_signal() -> std::io::Result<impl Future<Output = ()>> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

/// For a terminal: each criterion that was decided or could not be, the verdict in a sentence, and where the report is.
fn summary(report: &Report, files: &[PathBuf], page: &Path) -> String {
    let mut text = String::new();
    for test in &report.tests {
        text.push_str(&format!("\n{}  {}\n", test.id, test.title));
        for criterion in test.criteria.iter().filter(|criterion| criterion.verdict != Verdict::NotRun) {
            let observed = criterion.observed.map_or("–".to_owned(), |value| with_unit(value, &criterion.unit));
            text.push_str(&format!(
                "  {} {:<13}{:<44} {:>16}   {}\n",
                criterion.verdict.shape(),
                criterion.verdict.word(),
                criterion.seed_text.chars().take(44).collect::<String>(),
                observed,
                criterion.reason
            ));
        }
    }
    let top = banner(report);
    let (shape, count) = (top.verdict.shape(), files.len());
    text.push_str(&format!("\n{shape} {}\n{}\n{count} files, begin with {}\n", top.headline, top.why, page.display()));
    text
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        run: RunArgs,
    }

    /// What a command line comes to where only a key of OpenAI is set.
    fn asked(line: &str) -> Result<Option<LivePlan>, BenchError> {
        let args = Cli::try_parse_from(std::iter::once("run").chain(line.split_whitespace())).unwrap().run;
        live(&args, &chosen(&args)?, |variable| variable == "OPENAI_API_KEY")
    }

    #[test]
    fn live_needs_a_budget_and_a_budget_needs_live() {
        assert_eq!(asked("5.1"), Ok(None));
        let plan = asked("5.1 --live --budget 0.50").unwrap().unwrap();
        assert_eq!((plan.targets.len(), plan.budget), (1, NanoUsd(500_000_000)));
        for (line, message, help) in [
            ("5.1 --live", "needs --budget", "agentry bench estimate 5.1 --profile quick"),
            ("5.1 --budget 1", "--budget is of --live", "add --live"),
            ("5.1 --model openai=gpt-6-luna", "--model is of --live", "add --live"),
            ("3.1 --live --budget 1", "5.1-llm-latency, which is not run", "name it"),
            ("--live --budget 1", "5.1-llm-latency, which is not run", "name it"),
            ("5.1 --live --budget 1 --url http://127.0.0.1:1", "do not go together", "leave out --url"),
            ("5.1 --live --budget 0.000001", "may cost $0.000750, and the budget is $0.000001", "raise --budget"),
            ("5.1 --live --budget 1 --model opnai=x", "unknown provider `opnai`", "did you mean `openai`?"),
            ("5.1 --live --budget 1 --model openai=x", "has no price", "priced are"),
        ] {
            let error = asked(line).unwrap_err();
            assert!(error.exit == 2 && error.message.contains(message), "{line}: {error}");
            assert!(error.help.as_deref().is_some_and(|text| text.contains(help)), "{line}: {:?}", error.help);
        }
    }

    #[test]
    fn a_live_budget_that_is_no_amount_is_refused() {
        for bad in ["-1", "much", "1e3", "0.0000000001"] {
            assert!(Cli::try_parse_from(["run", "--live", &format!("--budget={bad}")]).is_err(), "{bad}");
        }
    }
}
