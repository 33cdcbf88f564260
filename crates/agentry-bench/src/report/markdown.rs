//! The report as a comment in a pull request: sentence, tables, what stays open, advice. Long lists are folded.

use std::fmt::Write as _;

use crate::model::{Change, Criterion, Report, TierOutcome, Verdict};
use crate::show::{figure, interval, percent, span, with_unit};
use crate::verdict::banner;

/// Rows of the comparison at most: a comment has a limit of 65,536 characters.
const MAX_CHANGES: usize = 40;

/// The report as Markdown.
pub fn markdown(report: &Report) -> String {
    let top = banner(report);
    let mut text = format!("## {} {}\n\n{}\n\n", top.verdict.shape(), line(&top.headline), line(&top.why));
    let run = &report.run;
    let _ = writeln!(
        text,
        "`{}` on the {} engine, {}, seed {}; {} cores, {}; fdatasync p50 {}; build {}.\n",
        run.profile,
        run.engine,
        span(run.seconds),
        run.seed,
        report.fingerprint.machine.cpus,
        report.fingerprint.machine.cpu_model.as_deref().unwrap_or("unknown processor"),
        report.fingerprint.machine.fdatasync_p50_us.map_or_else(|| "unknown".to_owned(), |us| with_unit(us, "µs")),
        report.fingerprint.agentry.build
    );
    table(&mut text, "Minimum viable", &report.tiers.min_viable);
    table(&mut text, "Production-ready", &report.tiers.production_ready);
    text.push_str("† from a section's acceptance list.\n\n");
    folded(&mut text, "Stretch", |text| table(text, "Stretch", &report.tiers.stretch));
    folded(&mut text, "All criteria", |text| criteria(text, report));
    baseline(&mut text, report);
    if !report.not_proven.is_empty() {
        folded(&mut text, &format!("Not proven: {}", report.not_proven.len()), |text| {
            for open in &report.not_proven {
                let _ = writeln!(text, "- **{}**: {}. {}.", line(&open.what), line(&open.why), line(&open.way));
            }
        });
    }
    if !report.advice.is_empty() {
        text.push_str("### Advice\n\n");
        for advice in &report.advice {
            let _ = writeln!(
                text,
                "- *{}* ({}): {} {}.",
                line(&advice.seed_hint),
                advice.criterion,
                line(&advice.action),
                line(&advice.evidence)
            );
        }
    }
    text
}

fn table(text: &mut String, name: &str, outcome: &TierOutcome) {
    if outcome.rows.is_empty() {
        return;
    }
    let _ = writeln!(text, "| {name} | target | observed | verdict | |\n|---|---|---|---|---|");
    for row in &outcome.rows {
        let dagger = if row.dagger { "†" } else { "" };
        let _ = writeln!(
            text,
            "| {}{dagger} | {} | {} | {} {} | {} |",
            cell(&row.label),
            cell(&row.target),
            cell(&row.observed),
            row.verdict.shape(),
            row.verdict,
            cell(&row.reason)
        );
    }
    text.push('\n');
}

fn criteria(text: &mut String, report: &Report) {
    for test in &report.tests {
        let _ = writeln!(text, "**{}** {} ({}, {})\n", test.id, line(&test.title), test.mode, test.llm_profile);
        if test.criteria.is_empty() {
            continue;
        }
        text.push_str("| criterion | target | observed | n | verdict |\n|---|---|---|---|---|\n");
        for criterion in &test.criteria {
            let _ = writeln!(
                text,
                "| {} | {} {} | {} | {} | {} {} |",
                cell(&criterion.seed_text),
                criterion.op,
                with_unit(criterion.target, &criterion.unit),
                cell(&observed(criterion)),
                criterion.n,
                criterion.verdict.shape(),
                criterion.verdict
            );
        }
        text.push('\n');
    }
}

/// `86 ms (82–93 ms)`
pub(super) fn observed(criterion: &Criterion) -> String {
    match (criterion.observed, criterion.ci95) {
        (Some(value), Some(bounds)) => {
            format!("{} ({})", with_unit(value, &criterion.unit), interval(bounds, &criterion.unit))
        }
        (Some(value), None) => with_unit(value, &criterion.unit),
        (None, _) if criterion.verdict == Verdict::NotRun => "–".to_owned(),
        (None, _) => "insufficient n".to_owned(),
    }
}

fn baseline(text: &mut String, report: &Report) {
    let Some(baseline) = &report.baseline else { return };
    let _ = writeln!(text, "### Against {}\n", line(&baseline.reference));
    let changed: Vec<_> =
        baseline.rows.iter().filter(|row| !matches!(row.verdict, Change::Same | Change::Undecided)).collect();
    if changed.is_empty() {
        let _ = writeln!(text, "No metric of {} changed beyond chance and noise.\n", baseline.rows.len());
        return;
    }
    text.push_str("| metric | before | after | Δ | p (Holm) | |\n|---|---|---|---|---|---|\n");
    for row in changed.into_iter().take(MAX_CHANGES) {
        let p = row.p_holm.map_or_else(|| "–".to_owned(), figure);
        let (before, after) = (with_unit(row.before, &row.unit), with_unit(row.after, &row.unit));
        let _ = writeln!(
            text,
            "| {} | {before} | {after} | {} | {p} | {} |",
            cell(&row.metric),
            percent(row.delta),
            super::html::change_word(row.verdict)
        );
    }
    text.push('\n');
}

fn folded(text: &mut String, title: &str, inner: impl FnOnce(&mut String)) {
    let _ = writeln!(text, "<details><summary>{title}</summary>\n");
    inner(text);
    text.push_str("\n</details>\n\n");
}

/// One line, harmless in Markdown: a report may quote what a server said.
fn line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('<', "&lt;").replace('`', "'")
}

pub(super) fn cell(text: &str) -> String {
    line(text).replace('|', "\\|")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{judged, realistic, report_with};

    #[test]
    fn it_begins_with_the_sentence_and_fits_a_comment() {
        let text = markdown(&realistic());
        assert!(text.starts_with("## "), "{text}");
        assert!(text.len() < 65_536, "{} characters", text.len());
        for part in ["| Minimum viable |", "| Production-ready |", "Not proven", "### Advice"] {
            assert!(text.contains(part), "{part}");
        }
    }

    #[test]
    fn what_a_server_said_cannot_break_the_table() {
        let mut bad = judged("1.1/startup-20", Verdict::Fail);
        bad.reason = "a | b\n<script>".to_owned();
        let mut report = report_with(vec![bad]);
        report.tiers = crate::verdict::tiers(&report);
        let text = markdown(&report);
        assert!(text.contains("a \\| b &lt;script>"), "{text}");
    }
}
