//! The tables a reader sees first and last: tiers, what is open, contents, comparison, advice.

use maud::{Markup, html};

use super::{change_word, state};
use crate::model::{Report, TierOutcome, Verdict};
use crate::report::keyed;
use crate::show::{figure, interval, percent, with_unit};

/// The three verdict tables.
pub fn tiers(report: &Report) -> Markup {
    let tiers = &report.tiers;
    html! {
        (tier("Minimum viable", &tiers.min_viable))
        (tier("Production-ready", &tiers.production_ready))
        p.dim { "† from a section's acceptance list, not from the two tables themselves." }
        details {
            summary { "Stretch: " (proven(&tiers.stretch)) }
            (tier("Stretch", &tiers.stretch))
        }
    }
}

fn proven(outcome: &TierOutcome) -> String {
    let passed = outcome.rows.iter().filter(|row| row.verdict == Verdict::Pass).count();
    format!("{passed} of {} proven", outcome.rows.len())
}

fn tier(name: &str, outcome: &TierOutcome) -> Markup {
    html! {
        table.stack {
            caption { (name) ": " (if outcome.reached { "reached".to_owned() } else { proven(outcome) }) }
            thead { tr { th { "metric" } th { "verdict" } th { "target" } th { "observed" } th { "why" } } }
            tbody {
                @for row in &outcome.rows {
                    tr {
                        th scope="row" { (row.label) @if row.dagger { " †" } }
                        td.verdict { (state(row.verdict)) }
                        td data-label="target" { (row.target) }
                        td data-label="observed" { (row.observed) }
                        td.why { (row.reason) }
                    }
                }
            }
        }
    }
}

/// Writes the claims that could not be proven, with the reason.
pub fn not_proven(report: &Report) -> Markup {
    html! {
        section #not-proven {
            h2 { "What this run could not prove" }
            @if report.not_proven.is_empty() {
                p { "Nothing is open." }
            } @else {
                table.stack {
                    thead { tr { th { "what" } th { "why" } th { "what would prove it" } } }
                    tbody {
                        @for open in &report.not_proven {
                            tr {
                                th scope="row" { (open.what) }
                                td.why { (open.why) }
                                td.why data-label="would prove it:" { (open.way) }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Links to the tests, with their worst verdict.
pub fn contents(report: &Report) -> Markup {
    html! {
        nav #contents aria-label="Contents" {
            h2 { "Measured" }
            ul.plain {
                @for (test, key) in keyed(report) {
                    li {
                        a href={ "#" (super::evidence::anchor(&key)) } { (test.id) }
                        " " (test.title) " "
                        @for verdict in Verdict::ALL {
                            @let count = test.criteria.iter().filter(|c| c.verdict == verdict).count();
                            @if count > 0 { span class={ "state " (verdict.word()) } title=(verdict.word()) { (verdict.shape()) (count) " " } }
                        }
                    }
                }
            }
        }
    }
}

/// The comparison with earlier runs.
pub fn baseline(report: &Report) -> Markup {
    let Some(baseline) = &report.baseline else { return html! {} };
    html! {
        section #baseline {
            h2 { "Against " (baseline.reference) }
            p.dim { (baseline.runs[0]) " runs before, " (baseline.runs[1]) " after; medians, bootstrap interval, Mann–Whitney with Holm." }
            @for note in &baseline.notes { p { (note) } }
            table.stack {
                thead { tr { th { "metric" } th { "verdict" } th { "before" } th { "after" } th { "change" } th { "p (Holm)" } th { "noise" } } }
                tbody {
                    @for row in &baseline.rows {
                        tr {
                            th scope="row" { (row.metric) }
                            td.verdict { (change_word(row.verdict)) }
                            td.num data-label="before" { (with_unit(row.before, &row.unit)) }
                            td.num data-label="after" { (with_unit(row.after, &row.unit)) }
                            td.num data-label="change" {
                                (percent(row.delta))
                                @if let Some([low, high]) = row.ci95 { " (" (interval([low * 100.0, high * 100.0], "%")) ")" }
                            }
                            td.num data-label="p" { (row.p_holm.map_or_else(|| "–".to_owned(), figure)) }
                            td.num data-label="noise" { (percent(row.noise)) }
                        }
                    }
                }
            }
        }
    }
}

/// Writes the advice.
pub fn advice(report: &Report) -> Markup {
    html! {
        section #advice {
            h2 { "Advice" }
            @if report.advice.is_empty() {
                p { "None: no missed criterion has a metric that shows its cause." }
            }
            @for advice in &report.advice {
                h3 { (advice.seed_hint) span.tag { (advice.criterion) } }
                p { (advice.action) }
                p.dim { "Because: " (advice.evidence) }
            }
        }
    }
}
