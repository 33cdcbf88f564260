//! Runs many seeds, a process for each: this makes a seed one history (see `steady`), and keeps a history that hangs or
//! dies from affecting the others.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, mpsc};
use std::time::Duration;

use crate::history::{self, Report};

/// Histories in one run of the tests.
const SEEDS: u64 = 200;
/// Minimum number of histories that must show every fault.
const ENOUGH: u64 = 100;
/// Real time of a history; one takes a fraction of a second.
const PATIENCE: Duration = Duration::from_secs(120);
/// Marks the report of a history in the output of its process.
const REPORT: &str = "AGENTRY_SIM_REPORT ";
/// Maximum number of lines kept of a failed history's output.
const KEPT_LINES: usize = 60;

/// Faults that a campaign must have injected: one that never happened proves nothing.
const REQUIRED: &[&str] = &[
    "store.refused",
    "store.outage",
    "store.answer_lost",
    "store.hung",
    "store.claim_hung_past_a_probe",
    "store.orphaned.advance",
    "store.carried_out_after_a_kill",
    "outage.store_refusing",
    "outage.store_frozen",
    "outage.bus_refusing",
    "outage.bus_frozen",
    "bus.wake_lost",
    "bus.wake_late",
    "bus.wake_in_outage",
    "bus.signal_lost",
    "bus.publish_lost",
    "bus.publish_late",
    "bus.publish_in_outage",
    "tool.refused",
    "tool.turned_away",
    "tool.answer_lost",
    "tool.lost_before",
    "tool.hung",
    "people.answered",
    "people.cancelled_running",
    "people.cancelled_idle",
    "life.kill",
    "life.drain",
    "life.draininfaults",
    "life.liveon",
    "calls.killed",
    "tasks.recovered",
    "end.completed",
    "end.timed_out",
    "end.cancelled",
    "end.tool_outcome_unknown",
    "end.step_failed",
];

/// Returns a variable of the environment that is a number.
fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

/// `cargo xtask sim` runs this with other seeds.
#[test]
fn accepted_work_survives_everything() {
    let seeds = match number("AGENTRY_SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => {
            let from = number("AGENTRY_SIM_FROM").unwrap_or(0);
            from..from + number("AGENTRY_SIM_SEEDS").unwrap_or(SEEDS)
        }
    };
    let (next, faults, failures) = (AtomicU64::new(seeds.start), Mutex::new(BTreeMap::new()), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..number("AGENTRY_SIM_JOBS").unwrap_or(1) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::SeqCst);
                    if seed >= seeds.end {
                        return;
                    }
                    match in_its_own_process(seed) {
                        Ok(report) => add(&mut faults.lock().expect("faults"), report.faults),
                        Err(why) => {
                            println!("seed {seed}: {why}\n");
                            failures.lock().expect("failures").push((seed, why));
                        }
                    }
                }
            });
        }
    });
    let (count, faults) = (seeds.end - seeds.start, faults.into_inner().expect("faults"));
    println!("{count} histories: {faults:#?}");
    let mut failures = failures.into_inner().expect("failures");
    failures.sort_unstable();
    assert!(failures.is_empty(), "{}", summary(&failures, count));
    let missing: Vec<&&str> = REQUIRED.iter().filter(|name| !faults.contains_key(**name)).collect();
    assert!(count < ENOUGH || missing.is_empty(), "faults that never happened: {missing:?}");
}

fn add(sums: &mut BTreeMap<String, u64>, faults: BTreeMap<String, u64>) {
    for (name, count) in faults.into_iter().filter(|(_, count)| *count > 0) {
        *sums.entry(name).or_default() += count;
    }
}

/// Returns the failed seeds, by the invariants that their histories broke.
fn summary(failures: &[(u64, String)], of: u64) -> String {
    let mut by_invariant: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    for (seed, why) in failures {
        // Violations come last, each in a line that begins with the name of its invariant.
        let told = why.rsplit_once(history::BROKEN).map_or("", |(_, told)| told);
        let names = told.lines().filter_map(|line| Some(line.strip_prefix('[')?.split_once(']')?.0));
        let mut names: Vec<&str> = names.collect();
        names.sort_unstable();
        names.dedup();
        if names.is_empty() {
            names.push("other");
        }
        names.into_iter().for_each(|name| by_invariant.entry(name).or_default().push(*seed));
    }
    let mut text = format!("{} of {of} histories failed:\n", failures.len());
    for (invariant, seeds) in by_invariant {
        text += &format!("  {invariant}: {} of them, seeds {seeds:?}\n", seeds.len());
    }
    text + "A seed repeats its history: cargo xtask sim --seed <seed>"
}

/// Runs a history in a process of its own. The error says which invariants did not hold.
fn in_its_own_process(seed: u64) -> Result<Report, String> {
    let program = std::env::current_exe().map_err(|error| format!("cannot find this program: {error}"))?;
    let mut child = Command::new(program)
        .args(["campaign::one_history", "--exact", "--ignored", "--nocapture"])
        .env("AGENTRY_SIM_SEED", seed.to_string())
        .env("RUST_BACKTRACE", "0")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("cannot start a process: {error}"))?;
    let Some(lines) = lines_of(&mut child) else {
        // The process may have ended in between.
        let _ = child.kill();
        let _ = child.wait();
        let limit = PATIENCE.as_secs();
        return Err(format!("{}\n[livelock] not ended within {limit} s of real time", history::BROKEN));
    };
    let status = child.wait().map_err(|error| format!("cannot wait for a process: {error}"))?;
    let report = lines.iter().find_map(|line| line.split_once(REPORT)).and_then(|(_, json)| {
        let value = serde_json::from_str(json).ok()?;
        Report::from_json(&value)
    });
    match report {
        Some(report) if status.success() => Ok(report),
        _ => Err(lines[lines.len().saturating_sub(KEPT_LINES)..].join("\n")),
    }
}

/// Returns the output of a process, errors first; `None` if it takes too long.
fn lines_of(child: &mut Child) -> Option<Vec<String>> {
    let (sender, ended) = mpsc::channel();
    let pipes: [Option<Box<dyn std::io::Read + Send>>; 2] =
        [child.stderr.take().map(|pipe| Box::new(pipe) as _), child.stdout.take().map(|pipe| Box::new(pipe) as _)];
    for (place, pipe) in pipes.into_iter().enumerate() {
        let (pipe, sender) = (pipe?, sender.clone());
        std::thread::spawn(move || {
            let lines: Vec<String> = BufReader::new(pipe).lines().map_while(Result::ok).collect();
            // The receiver has given up if it took too long.
            let _ = sender.send((place, lines));
        });
    }
    let mut found = [ended.recv_timeout(PATIENCE).ok()?, ended.recv_timeout(PATIENCE).ok()?];
    found.sort_unstable();
    Some(found.into_iter().flat_map(|(_, lines)| lines).collect())
}

/// Runs one history in this process; started by the other tests.
#[test]
#[ignore = "one seed; cargo xtask sim --seed <seed> runs it"]
fn one_history() {
    let seed = number("AGENTRY_SIM_SEED").expect("AGENTRY_SIM_SEED is a seed");
    let report = crate::log::failing_on_panics(|| history::run(seed));
    println!("\n{REPORT}{}", report.to_json());
}

#[test]
fn a_seed_is_one_history() {
    for seed in [1, 2] {
        let [first, again] = [(); 2].map(|()| in_its_own_process(seed));
        match (first, again) {
            (Ok(first), Ok(again)) => assert_eq!(first, again, "seed {seed}"),
            (first, again) => assert_eq!(
                first.map_err(|why| why.lines().last().map(str::to_owned)),
                again.map_err(|why| why.lines().last().map(str::to_owned)),
                "seed {seed}"
            ),
        }
    }
}
