//! `bench list`: the catalogue, for a reader.

use std::fmt::Write as _;

use clap::Args;

use super::{BenchError, Outcome};
use crate::catalogue::{self, CriterionSpec, SCENARIOS, Scenario, Tier};

/// `bench list`.
#[derive(Debug, Args)]
pub struct List {
    /// Only these, by id or number
    #[arg(value_name = "SCENARIO")]
    pub scenarios: Vec<String>,
    /// With what is measured and every criterion
    #[arg(short, long)]
    pub long: bool,
}

/// Lists scenarios; in full when some are named.
pub fn list(args: &List) -> Result<Outcome, BenchError> {
    let named = args.scenarios.iter().map(|asked| catalogue::scenario(asked)).collect::<Result<Vec<_>, _>>()?;
    let long = args.long || !named.is_empty();
    let all: Vec<&Scenario> = if named.is_empty() { SCENARIOS.iter().collect() } else { named };
    let mut text = String::new();
    if !long {
        let _ = writeln!(text, "{:<20} {:<32} {:<14}  criteria", "scenario", "title", "phases");
    }
    for scenario in all {
        if long { detail(&mut text, scenario) } else { line(&mut text, scenario) }
    }
    Ok(Outcome { text, exit: 0 })
}

fn line(text: &mut String, scenario: &Scenario) {
    let phases: Vec<_> = scenario.phases.iter().map(|phase| phase.word()).collect();
    let stretch = scenario.criteria().filter(|spec| spec.tier == Tier::Stretch).count();
    let own = scenario.criteria().count() - stretch;
    let _ = writeln!(
        text,
        "{:<20} {:<32} {:<14}  {own}{}",
        scenario.id,
        scenario.title,
        phases.join(","),
        if stretch > 0 { format!(" and {stretch} stretch") } else { String::new() }
    );
}

fn detail(text: &mut String, scenario: &Scenario) {
    let _ = writeln!(
        text,
        "{}  {}\n  target   {}\n  how      {}",
        scenario.id, scenario.title, scenario.target, scenario.how
    );
    let [quick, ci, standard, full] = scenario.seconds;
    let _ = writeln!(text, "  seconds  quick {quick}, ci {ci}, standard {standard}, full {full} (0 is not run)");
    for measured in scenario.measures {
        let _ = writeln!(text, "  measures {measured}");
    }
    for spec in scenario.criteria() {
        let _ = writeln!(text, "  {}", criterion(spec));
    }
    text.push('\n');
}

fn criterion(spec: &CriterionSpec) -> String {
    let tier = match spec.tier {
        Tier::Section => "section",
        Tier::MinViable => "minimum viable",
        Tier::ProductionReady => "production-ready",
        Tier::Stretch => "stretch",
        Tier::Added => "added",
    };
    let critical = if spec.critical { ", critical" } else { "" };
    let engine = spec.engine.map(|engine| format!(", {engine} only")).unwrap_or_default();
    format!(
        "{:<24} “{}”\n  {:<24} {} {} {}: {} ({tier}{critical}{engine}, from {})",
        spec.id, spec.seed_text, "", spec.op, spec.target, spec.unit, spec.meaning, spec.needs
    )
}
