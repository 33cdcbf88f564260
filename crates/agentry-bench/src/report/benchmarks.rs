//! `BENCHMARKS.md`, whole, from one or more results: where they were taken, each row with its median and spread, goal,
//! ratio and verdict.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::markdown::{cell, observed};
use crate::catalogue::SCENARIOS;
use crate::model::{Criterion, Engine, Report, Verdict};
use crate::show::{count, figure, with_unit};
use crate::stats::median;
use crate::verdict::badness;

/// Before the figures and behind them.
const HEAD: &str = include_str!("benchmarks/head.md");
const NOTES: &str = include_str!("benchmarks/notes.md");

/// The page, from results in any order.
pub fn benchmarks(reports: &[Report]) -> String {
    let mut text = HEAD.to_owned();
    for (engine, title) in [(Engine::Embedded, "The embedded engine"), (Engine::Cluster, "The cluster engine")] {
        let of_engine: Vec<&Report> = reports.iter().filter(|report| report.run.engine == engine).collect();
        if !of_engine.is_empty() {
            let _ = writeln!(text, "\n## {title}\n");
            circumstances(&mut text, &of_engine);
            for scenario in SCENARIOS {
                rows(&mut text, &of_engine, scenario.id, scenario.title);
            }
        }
    }
    text.push('\n');
    text.push_str(NOTES);
    text
}

/// Machine, servers, binary, and the command and date of each run; what is equal is told once.
fn circumstances(text: &mut String, reports: &[&Report]) {
    let mut machines: Vec<String> = Vec::new();
    for report in reports {
        let machine = machine(report);
        if !machines.contains(&machine) {
            machines.push(machine);
        }
    }
    for machine in machines {
        let _ = writeln!(text, "- {machine}");
    }
    let mut commands: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for report in reports {
        let date = report.run.start.split('T').next().unwrap_or_default();
        commands.entry(command(report)).or_default().push(date);
    }
    for (command, dates) in commands {
        let (first, last) = (dates.iter().min().unwrap_or(&""), dates.iter().max().unwrap_or(&""));
        let days = if first == last { (*first).to_owned() } else { format!("{first} to {last}") };
        let runs = if dates.len() == 1 { "one run".to_owned() } else { format!("{} runs", dates.len()) };
        let _ = writeln!(text, "- `{command}`, {runs}, {days}");
    }
}

fn machine(report: &Report) -> String {
    let (machine, binary) = (&report.fingerprint.machine, &report.fingerprint.agentry);
    let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "unknown".to_owned());
    let sync = |us: Option<f64>| us.map_or_else(|| "unknown".to_owned(), |us| with_unit(us, "µs"));
    let servers = report.fingerprint.servers.iter().map(|server| format!("{} {}", server.name, server.version));
    format!(
        "{} cores, {}, {} GiB, Linux {}, {}; `fdatasync` p50 {}, p99 {}; {}; agentry {} ({} build)",
        machine.cpus,
        text(&machine.cpu_model),
        machine.ram_bytes >> 30,
        text(&machine.kernel),
        text(&machine.filesystem),
        sync(machine.fdatasync_p50_us),
        sync(machine.fdatasync_p99_us),
        servers.collect::<Vec<_>>().join(", "),
        binary.version,
        binary.build,
    )
}

/// The command without the path of the program and without folders of the machine it ran on.
fn command(report: &Report) -> String {
    let mut words = vec!["agentry".to_owned()];
    let mut rest = report.run.argv.iter().skip(1);
    while let Some(word) = rest.next() {
        match word.as_str() {
            "--out" | "--baseline" => drop(rest.next()),
            word if word.starts_with("--out=") || word.starts_with("--baseline=") => {}
            word => words.push(word.to_owned()),
        }
    }
    words.join(" ")
}

/// The rows of a scenario that were measured in any run.
fn rows(text: &mut String, reports: &[&Report], scenario: &str, title: &str) {
    let mut measured: Vec<(&str, Vec<&Criterion>)> = Vec::new();
    let tests = reports.iter().flat_map(|report| &report.tests).filter(|test| test.id == scenario);
    for criterion in tests.flat_map(|test| &test.criteria).filter(|criterion| criterion.observed.is_some()) {
        match measured.iter_mut().find(|(id, _)| *id == criterion.id) {
            Some((_, runs)) => runs.push(criterion),
            None => measured.push((&criterion.id, vec![criterion])),
        }
    }
    if measured.is_empty() {
        return;
    }
    let _ =
        writeln!(text, "\n### {title}\n\n| row | measured | n | goal | ratio | verdict |\n|---|---|---|---|---|---|");
    for (_, runs) in measured {
        row(text, &runs);
    }
}

fn row(text: &mut String, runs: &[&Criterion]) {
    let Some(first) = runs.first() else { return };
    let values: Vec<f64> = runs.iter().filter_map(|criterion| criterion.observed).collect();
    let centre = median(&values);
    let measured = match runs {
        [single] => observed(single),
        _ => {
            let (least, most) =
                (values.iter().copied().fold(f64::INFINITY, f64::min), values.iter().copied().fold(0.0, f64::max));
            format!("{} [{}..{}]", with_unit(centre, &first.unit), figure(least), figure(most))
        }
    };
    let ratio = if first.target == 0.0 { "–".to_owned() } else { format!("{} ×", figure(centre / first.target)) };
    let verdict = runs.iter().map(|run| run.verdict).max_by_key(|verdict| badness(*verdict)).unwrap_or(Verdict::NotRun);
    let n: u64 = runs.iter().map(|run| run.n).sum();
    let _ = writeln!(
        text,
        "| {} (`{}`) | {measured} | {} | {} {} | {ratio} | {} {verdict} |",
        cell(&first.seed_text),
        first.id,
        count(n),
        first.op,
        with_unit(first.target, &first.unit),
        verdict.shape(),
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{assert_file, judged, report_with};
    use crate::report::read;

    /// A small run of our own; `UPDATE_REFERENCES=1` writes the page after an intended change.
    #[test]
    fn the_page_of_a_small_run_is_as_committed() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/report/benchmarks");
        let report = read(&folder.join("sample.json")).unwrap();
        assert_file("crates/agentry-bench/src/report/benchmarks/sample.md", &benchmarks(&[report]));
    }

    #[test]
    fn several_runs_are_a_median_with_its_spread_and_the_worst_verdict() {
        let run = |value: f64, verdict| {
            let mut criterion = judged("1.1/startup-20", verdict);
            (criterion.observed, criterion.target, criterion.unit) = (Some(value), 50.0, "ms".to_owned());
            let mut report = report_with(vec![criterion]);
            report.run.argv.extend(["--out", "/somewhere/else", "--profile", "ci"].map(str::to_owned));
            report
        };
        let page = benchmarks(&[run(30.0, Verdict::Pass), run(20.0, Verdict::Inconclusive), run(25.0, Verdict::Pass)]);
        let row = "| 25 ms [20..30] | 3 | < 50 ms | 0.5 × | ≈ inconclusive |";
        assert!(page.contains(row), "{page}");
        assert!(page.contains("- `agentry bench run --profile ci`, 3 runs, 2026-11-25"), "{page}");
        assert!(!page.contains("somewhere"), "{page}");
        assert!(page.starts_with("# Benchmarks") && page.contains("## What the figures mean"));
    }
}
