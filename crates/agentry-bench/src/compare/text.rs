//! The comparison for a terminal.

use std::fmt::Write as _;

use crate::model::{Baseline, Change};
use crate::show::{figure, interval, percent, with_unit};

/// The comparison as text; metrics that stayed the same are only counted unless `all` is set.
pub fn text(baseline: &Baseline, all: bool) -> String {
    let mut text =
        format!("against {}: {} runs before, {} after\n", baseline.reference, baseline.runs[0], baseline.runs[1]);
    for note in &baseline.notes {
        let _ = writeln!(text, "note: {note}");
    }
    for row in baseline.rows.iter().filter(|row| all || row.verdict != Change::Same) {
        let (before, after) = (with_unit(row.before, &row.unit), with_unit(row.after, &row.unit));
        let bounds = row
            .ci95
            .map(|[low, high]| format!(" ({})", interval([low * 100.0, high * 100.0], "%")))
            .unwrap_or_default();
        let p = row.p_holm.map(|p| format!(", p {}", figure(p))).unwrap_or_default();
        let word = crate::report::change_word(row.verdict);
        let _ = writeln!(
            text,
            "{word:<16} {}\n{:16} {before} → {after}, {}{bounds}{p}, noise {}",
            row.metric,
            "",
            percent(row.delta),
            percent(row.noise)
        );
    }
    let count = |change: Change| baseline.rows.iter().filter(|row| row.verdict == change).count();
    let _ = writeln!(
        text,
        "{} metrics: {} regressed, {} improved, {} changed, {} the same, {} undecided",
        baseline.rows.len(),
        count(Change::Regression),
        count(Change::Improvement),
        count(Change::Changed),
        count(Change::Same),
        count(Change::Undecided)
    );
    text
}
