//! JUnit XML: one suite for each test, one case for each criterion. Inconclusive and invalid are errors, because a build
//! server that shows them as passed would lie; not-run is skipped.

use std::fmt::Write as _;

use super::svg::escape;
use crate::model::{Criterion, Report, Verdict};

/// The report as JUnit XML.
pub fn junit(report: &Report) -> String {
    let count = |verdicts: &[Verdict], of: &[Criterion]| of.iter().filter(|c| verdicts.contains(&c.verdict)).count();
    let open = [Verdict::Inconclusive, Verdict::Invalid];
    let all: Vec<Criterion> = report.criteria().cloned().collect();
    let mut text = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites name=\"agentry bench\" tests=\"{}\" failures=\"{}\" errors=\"{}\" time=\"{:.3}\">\n",
        all.len(),
        count(&[Verdict::Fail], &all),
        count(&open, &all),
        report.run.seconds
    );
    for test in &report.tests {
        let of = &test.criteria;
        let _ = writeln!(
            text,
            "  <testsuite name=\"{}\" tests=\"{}\" failures=\"{}\" errors=\"{}\" skipped=\"{}\">",
            clean(&test.id),
            of.len(),
            count(&[Verdict::Fail], of),
            count(&open, of),
            count(&[Verdict::NotRun], of)
        );
        for criterion in of {
            case(&mut text, &test.id, criterion);
        }
        text.push_str("  </testsuite>\n");
    }
    text.push_str("</testsuites>\n");
    text
}

fn case(text: &mut String, test: &str, criterion: &Criterion) {
    let name = clean(&format!("{} {}", criterion.id, criterion.seed_text));
    let reason = clean(&criterion.reason);
    let _ = write!(text, "    <testcase classname=\"{}\" name=\"{name}\">", clean(test));
    let _ = match criterion.verdict {
        Verdict::Pass => write!(text, "<system-out>{reason}</system-out>"),
        Verdict::Fail if criterion.critical => write!(text, "<failure type=\"critical\" message=\"{reason}\"/>"),
        Verdict::Fail => write!(text, "<failure type=\"not critical\" message=\"{reason}\"/>"),
        Verdict::Inconclusive | Verdict::Invalid => {
            write!(text, "<error type=\"{}\" message=\"{reason}\"/>", criterion.verdict)
        }
        Verdict::NotRun => write!(text, "<skipped message=\"{reason}\"/>"),
    };
    text.push_str("</testcase>\n");
}

/// XML 1.0 has no place for control characters, not even escaped.
fn clean(text: &str) -> String {
    escape(&text.chars().filter(|c| !c.is_control()).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{judged, report_with};

    #[test]
    fn nothing_open_looks_passed() {
        let verdicts = [
            ("1.1/startup-20", Verdict::Pass),
            ("1.1/startup-30", Verdict::Fail),
            ("1.1/pool", Verdict::Inconclusive),
            ("1.1/memory-linear", Verdict::Invalid),
            ("1.1/startup-50", Verdict::NotRun),
        ];
        let text = junit(&report_with(verdicts.iter().map(|(id, verdict)| judged(id, *verdict)).collect()));
        assert!(text.contains("tests=\"5\" failures=\"1\" errors=\"2\" skipped=\"1\""), "{text}");
        assert_eq!(text.matches("<error ").count(), 2);
        assert!(text.contains("20 agents: &lt;5 seconds"));
    }
}
