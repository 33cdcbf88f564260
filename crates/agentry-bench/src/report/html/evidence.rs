//! One page for each test, and what was broken on purpose.

use maud::{Markup, html};

use super::{Shade, figure, state};
use crate::model::{Counts, Fault, Metric, Report, Stage, Test};
use crate::report::markdown::observed;
use crate::show::{figure as number, interval, span, with_unit};

/// Metrics shown without unfolding.
const FEW: usize = 8;

/// The fragment of a test.
pub fn anchor(key: &str) -> String {
    format!("t-{}", key.replace(|c: char| !c.is_ascii_alphanumeric(), "-"))
}

/// One test: criteria in their own words, plots, figures, slowest operations.
pub fn test(report: &Report, test: &Test, key: &str) -> Markup {
    let faults: Vec<Fault> = report.faults.iter().filter(|fault| fault.test == test.id).cloned().collect();
    let shade = Shade { windows: &test.windows, faults: &faults };
    let measured: f64 = test.windows.iter().filter(|w| w.stage == Stage::Measure).map(|w| w.t1 - w.t0).sum();
    html! {
        section id=(anchor(key)) {
            h2 { (test.id) " · " (test.title) }
            p.meta {
                (test.phase) " phase · " (test.mode) " · model profile " (test.llm_profile)
                @if measured > 0.0 { " · measured " (span(measured)) }
                @for (name, value) in &test.params { " · " (name) " " (value.as_str().map_or_else(|| value.to_string(), str::to_owned)) }
            }
            @for note in &test.notes { p { (note) } }
            @if !test.criteria.is_empty() { (criteria(test)) }
            @for plot in &test.plots { (figure(plot, key, shade)) }
            @if !test.metrics.is_empty() {
                details open[test.metrics.len() <= FEW] {
                    summary { (test.metrics.len()) " figures and how they were taken" }
                    (metrics(&test.metrics))
                }
            }
            @if !test.slowest.is_empty() { (slowest(test)) }
        }
    }
}

fn criteria(test: &Test) -> Markup {
    html! {
        table.stack {
            thead { tr { th { "criterion" } th { "verdict" } th { "target" } th { "observed (95 %)" } th { "n" } } }
            tbody {
                @for criterion in &test.criteria {
                    tr {
                        th scope="row" {
                            "“" (criterion.seed_text) "”"
                            @if criterion.critical { span.tag { "critical" } }
                            div.why { (criterion.reason) }
                            div.why { "Taken: " (criterion.source) }
                        }
                        td.verdict { (state(criterion.verdict)) }
                        td.num data-label="target" { (criterion.op) " " (with_unit(criterion.target, &criterion.unit)) }
                        td data-label="observed" { (observed(criterion)) }
                        td.num data-label="n" { (crate::show::count(criterion.n)) }
                    }
                }
            }
        }
    }
}

fn metrics(metrics: &[Metric]) -> Markup {
    html! {
        table.stack {
            thead { tr { th { "figure" } th { "value (95 %)" } th { "n" } th { "how" } } }
            tbody {
                @for metric in metrics {
                    tr {
                        th scope="row" { (metric.name) " " span.dim { (metric.stat) } }
                        td {
                            @match metric.value {
                                Some(value) => (with_unit(value, &metric.unit)),
                                None => "insufficient n",
                            }
                            @if let Some(bounds) = metric.ci95 { " (" (interval(bounds, &metric.unit)) ")" }
                        }
                        td.num data-label="n" { (crate::show::count(metric.n)) }
                        td.why { (metric.source) }
                    }
                }
            }
        }
    }
}

fn slowest(test: &Test) -> Markup {
    html! {
        details {
            summary { (test.slowest.len()) " slowest and failed operations" }
            table.stack {
                thead { tr { th { "operation" } th { "took" } th { "at" } th { "trace" } } }
                tbody {
                    @for slow in &test.slowest {
                        tr {
                            th scope="row" { (slow.what) @if let Some(error) = &slow.error { div.why { (error) } } }
                            td.num { (slow.ms.map_or_else(|| "never ended".to_owned(), |ms| with_unit(ms, "ms"))) }
                            td.num data-label="at" { (number(slow.t)) " s" }
                            td { code { (slow.trace_id) } }
                        }
                    }
                }
            }
        }
    }
}

/// Faults in time, each with its proof, and the invariants that were checked after them.
pub fn faults(report: &Report) -> Markup {
    html! {
        section #faults {
            h2 { "Faults and what held" }
            @if report.faults.is_empty() {
                p { "No faults were injected." }
            } @else {
                p.dim { "A fault that cannot show that it bit is not counted." }
                table.stack {
                    thead { tr { th { "fault" } th { "bit" } th { "at" } th { "seen after" } th { "healed after" } th { "recovered in" } th { "proof" } } }
                    tbody {
                        @for fault in &report.faults {
                            @let after = |at: Option<f64>| at.map_or_else(|| "–".to_owned(), |at| with_unit(at - fault.t_inject, "s"));
                            tr {
                                th scope="row" { (fault.id) " " (fault.kind) " → " (fault.target) }
                                td.verdict { @if fault.effective { span.state.pass { "✓ yes" } } @else { span.state.invalid { "! not proven" } } }
                                td.num data-label="at" { (number(fault.t_inject)) " s" }
                                td.num data-label="seen after" { (after(fault.t_effect)) }
                                td.num data-label="healed after" { (after(fault.t_heal)) }
                                td.num data-label="recovered in" { (fault.recovery_seconds().map_or_else(|| "–".to_owned(), |s| with_unit(s, "s"))) }
                                td.why { (fault.proof) }
                            }
                        }
                    }
                }
            }
            @if !report.safety.is_empty() {
                table.stack {
                    caption { "Invariants, checked after heal, wait and full drain" }
                    thead { tr { th { "invariant" } th { "holds" } th { "counted" } } }
                    tbody {
                        @for invariant in &report.safety {
                            tr {
                                th scope="row" { (invariant.invariant) " " (invariant.text) span.tag { (invariant.test) } }
                                td.verdict {
                                    @match invariant.valid {
                                        Some(true) => span.state.pass { "✓ holds" },
                                        Some(false) => span.state.fail { "✗ broken" },
                                        None => span.state.not-run { "– not checked" },
                                    }
                                }
                                td.why {
                                    (counted(&invariant.counts))
                                    @if !invariant.examples.is_empty() { details { summary { "examples" } code { (invariant.examples.join(", ")) } } }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// `acked 5,212 · lost 0`
fn counted(counts: &Counts) -> String {
    counts.iter().map(|(name, n)| format!("{name} {}", crate::show::count(*n))).collect::<Vec<_>>().join(" · ")
}
