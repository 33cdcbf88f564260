//! The seeded simulator of the orchestrator, with as many seeds as one likes.
//!
//! The test program runs each history in a process of its own and says which seeds failed; this chooses the seeds.

use anyhow::{Context, Result, bail};

use crate::{cargo, run};

/// Histories when nobody says how many.
const SEEDS: u64 = 1_000;

/// `cargo xtask sim [--seeds N] [--from SEED] [--jobs N]`, or `cargo xtask sim --seed S [--log]`.
pub fn command(args: &[String]) -> Result<()> {
    let mut variables: Vec<(&str, String)> = Vec::new();
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let name = match arg.as_str() {
            "--seeds" => "AGENTRY_SIM_SEEDS",
            "--from" => "AGENTRY_SIM_FROM",
            "--seed" => "AGENTRY_SIM_SEED",
            "--jobs" => "AGENTRY_SIM_JOBS",
            "--log" => {
                variables.push(("AGENTRY_SIM_LOG", "1".to_owned()));
                continue;
            }
            other => bail!(
                "unknown argument `{other}`: expected --seeds N, --from SEED, --jobs N, or --seed SEED with or without --log"
            ),
        };
        let value = args.next().with_context(|| format!("`{arg}` needs a number behind it"))?;
        value.parse::<u64>().with_context(|| format!("`{arg} {value}`: expected a number"))?;
        variables.push((name, value.clone()));
    }
    let is_given = |name: &str| variables.iter().any(|(given, _)| *given == name);
    let one = is_given("AGENTRY_SIM_SEED");
    let (has_seeds, has_jobs) = (is_given("AGENTRY_SIM_SEEDS"), is_given("AGENTRY_SIM_JOBS"));
    if !one && !has_seeds {
        variables.push(("AGENTRY_SIM_SEEDS", SEEDS.to_string()));
    }
    if !one && !has_jobs {
        let jobs = std::thread::available_parallelism().map_or(1, usize::from);
        variables.push(("AGENTRY_SIM_JOBS", jobs.to_string()));
    }
    // One seed runs in the process that is seen, so that its log and its panic are.
    let test = if one { "campaign::one_history" } else { "campaign::accepted_work_survives_everything" };
    let mut tests = cargo();
    // As a part of the workspace, so that nothing is built again that `cargo xtask test` has built.
    tests
        .args(["test", "--workspace", "--test", "sim", "--", test, "--exact", "--nocapture"])
        .args(one.then_some("--ignored"))
        .envs(variables);
    run(&mut tests)
}
