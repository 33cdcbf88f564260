//! `bench run`: scenarios against processes of its own, or against a deployment that runs.

use std::path::{Path, PathBuf};

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use super::{BenchError, Outcome};
use crate::catalogue::{self, SCENARIOS, Scenario};
use crate::compare::compare;
use crate::model::{Engine, Phase, Profile, Report, Verdict};
use crate::report::{HTML, read, write_all};
use crate::run::{self, Options, RunError};
use crate::scenarios::Nemesis;
use crate::show::with_unit;
use crate::verdict::{Policy, banner, exit_code};

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
///
/// # Errors
/// When something was asked for wrongly, or nothing could be measured at all.
pub fn run(args: &RunArgs) -> Result<Outcome, BenchError> {
    let scenarios = chosen(args)?;
    check_faults(args, &scenarios)?;
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
        seed: args.seed,
        out: args.out.clone(),
        argv: std::env::args().collect(),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.map_err(|error| BenchError::new(format!("cannot start the runtime: {error}")))?;
    let mut report = runtime.block_on(async {
        let interrupted =
            stop_signal().map_err(|error| BenchError::new(format!("cannot wait for signals: {error}")))?;
        run::run(options, interrupted).await.map_err(|error| failed(&error))
    })?;
    // What still runs on blocking threads is of no use any more.
    runtime.shutdown_background();
    if let Some(before) = before {
        let name = args.baseline.as_deref().unwrap_or(Path::new("")).display().to_string();
        report.baseline = Some(compare(&name, &[before], std::slice::from_ref(&report), &[], args.seed));
        report.run.exit = exit_code(&report, &Policy { not_started: report.run.exit == 6, ..Policy::default() }).code();
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
        Some(fault) => Err(BenchError::usage(format!("the fault {} needs several processes", fault.id()))
            .help("choose --engine cluster, or another fault")),
        None => Ok(()),
    }
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
