//! One HTML page that needs nothing else: no script, no font, no address. The order is the order of the questions: what is
//! the verdict, by which rows, what is not proven, what was measured, what was broken, what helps, where it ran.

mod evidence;
mod machine;
mod style;
mod summary;

use maud::{DOCTYPE, Markup, PreEscaped, html as markup};

use super::{csv_path, keyed, svg};
use crate::model::{Change, Plot, Report, Verdict};
use crate::show::span;
use crate::verdict::banner;
use svg::Shade;

/// The report as one page.
pub fn html(report: &Report) -> String {
    page(report).into_string()
}

fn page(report: &Report) -> Markup {
    let top = banner(report);
    let run = &report.run;
    markup! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { "Agentry bench: " (run.profile) ", " (run.engine) ", " (run.start) }
                style { (PreEscaped(style::CSS)) }
            }
            body {
                a.skip href="#verdict" { "Skip to the verdict" }
                header {
                    p.kicker { "Agentry " (report.fingerprint.agentry.version) " · validation suite" }
                    h1 { "Validation report" }
                    p.run {
                        "profile " strong { (run.profile) } " · " (run.engine) " engine"
                        @if let Some(url) = &run.url { " · " (url) }
                        " · " (span(run.seconds)) " · seed " (run.seed) " · " time { (run.start) }
                    }
                }
                main {
                    section #verdict {
                        div class={ "banner " (top.verdict.word()) } {
                            p.headline { (mark(top.verdict)) (top.headline) }
                            p { (top.why) }
                        }
                        (summary::tiers(report))
                    }
                    (summary::not_proven(report))
                    (summary::contents(report))
                    @for (test, key) in keyed(report) {
                        (evidence::test(report, test, &key))
                    }
                    (evidence::faults(report))
                    (summary::baseline(report))
                    (summary::advice(report))
                    (machine::harness(report))
                    (machine::fingerprint(report))
                    (machine::raw(report))
                }
                footer {
                    p {
                        "Schema " (report.schema) ". Every figure is in " a href=(super::JSON) { "report.json" }
                        "; " code { "agentry bench report DIR" } " renders this page again."
                    }
                }
            }
        }
    }
}

/// A verdict: shape and word, never colour alone.
fn state(verdict: Verdict) -> Markup {
    markup! { span class={ "state " (verdict.word()) } { span aria-hidden="true" { (verdict.shape()) } " " (verdict.word()) } }
}

fn mark(verdict: Verdict) -> Markup {
    markup! { span.shape role="img" aria-label=(verdict.word()) { (verdict.shape()) } " " }
}

/// The word for a change.
pub fn change_word(change: Change) -> &'static str {
    match change {
        Change::Regression => "▼ regression",
        Change::Improvement => "▲ improvement",
        Change::Changed => "◆ changed",
        Change::Same => "= same",
        Change::Undecided => "? too few runs",
    }
}

/// A plot with its sentence, its data as CSV, and its text alternative unfolded on demand.
fn figure(plot: &Plot, key: &str, shade: Shade<'_>) -> Markup {
    let id = format!("{key}-{}", plot.id).replace(|c: char| !c.is_ascii_alphanumeric(), "-");
    markup! {
        figure id={ "p-" (id) } {
            figcaption { strong { (plot.title) } " " (plot.summary) }
            div.scroll tabindex="0" role="group" aria-label={ "Plot: " (plot.title) } { (PreEscaped(svg::svg(plot, &id, shade))) }
            div.links {
                a href=(csv_path(key, &plot.id)) { "CSV" }
                " · " details { summary { "as text" } p { (svg::describe(plot)) } }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{judged, realistic, report_with};

    #[test]
    fn the_page_needs_nothing_else() {
        let page = html(&realistic());
        for foreign in ["<script", "http://", "https://", "@import", "url(", "<link", "<img", "<iframe"] {
            assert!(!page.contains(foreign), "{foreign}");
        }
        assert!(page.len() < 3 << 20, "{} bytes", page.len());
    }

    #[test]
    fn the_order_is_the_order_of_the_questions() {
        let page = html(&realistic());
        let at = |id: &str| page.find(&format!("id=\"{id}\"")).unwrap_or_else(|| panic!("no {id}"));
        let order = [
            "verdict",
            "not-proven",
            "contents",
            "t-3-1-throughput",
            "faults",
            "advice",
            "harness",
            "fingerprint",
            "raw",
        ];
        assert!(order.windows(2).all(|pair| at(pair[0]) < at(pair[1])));
    }

    #[test]
    fn ids_are_unique_and_links_within_the_page_lead_somewhere() {
        let page = html(&realistic());
        let quoted = |key: &str| -> Vec<String> {
            page.split(key).skip(1).filter_map(|rest| rest.split('"').next()).map(str::to_owned).collect()
        };
        let ids = quoted(" id=\"");
        let unique: std::collections::BTreeSet<_> = ids.iter().collect();
        assert_eq!(unique.len(), ids.len());
        for link in quoted("href=\"#") {
            assert!(unique.contains(&link), "#{link} leads nowhere");
        }
    }

    #[test]
    fn what_a_server_said_is_text() {
        let mut bad = judged("1.1/startup-20", Verdict::Fail);
        bad.reason = "<script>alert(1)</script>".to_owned();
        assert!(!html(&report_with(vec![bad])).contains("<script>"));
    }

    #[test]
    fn an_empty_report_is_still_a_page() {
        assert!(html(&report_with(vec![])).contains("Validation report"));
    }
}
