//! Requests of Slack by door and by what became of them.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::metrics::head;

/// Which route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Door {
    Event,
    Command,
    Interaction,
}

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It is durable.
    Accepted,
    /// It was durable before.
    Duplicate,
    /// It is of no interest: our own post, an edit, another bot.
    Ignored,
    /// No agent listens.
    Unheard,
    /// Slack did not sign it.
    Unverified,
    /// It cannot be read.
    Malformed,
    /// The store could not take it; Slack sends it again.
    Refused,
}

const DOORS: [&str; 3] = ["event", "command", "interaction"];
const OUTCOMES: [&str; 7] = ["accepted", "duplicate", "ignored", "unheard", "unverified", "malformed", "refused"];

/// The counters.
#[derive(Debug, Default)]
pub(crate) struct SlackCounts([[AtomicU64; OUTCOMES.len()]; DOORS.len()]);

impl SlackCounts {
    /// Counts one request.
    pub(crate) fn note(&self, door: Door, outcome: Outcome) {
        self.0[door as usize][outcome as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// The counters in Prometheus' text format; nothing while Slack has not been heard of.
    pub(crate) fn render(&self, out: &mut String) {
        let mut lines = String::new();
        for (door, outcomes) in DOORS.iter().zip(&self.0) {
            for (outcome, count) in OUTCOMES.iter().zip(outcomes) {
                let count = count.load(Ordering::Relaxed);
                if count > 0 {
                    let labels = format!("kind=\"{door}\",outcome=\"{outcome}\"");
                    let _ = writeln!(lines, "agentry_slack_requests_total{{{labels}}} {count}");
                }
            }
        }
        if !lines.is_empty() {
            let help = "Requests of Slack, by kind and by what became of them.";
            head(out, "agentry_slack_requests_total", "counter", help);
            out.push_str(&lines);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_stand_at_the_places_of_their_variants() {
        let counts = SlackCounts::default();
        let mut out = String::new();
        counts.render(&mut out);
        assert_eq!(out, "");
        counts.note(Door::Interaction, Outcome::Refused);
        counts.note(Door::Event, Outcome::Accepted);
        counts.render(&mut out);
        assert!(out.contains("{kind=\"event\",outcome=\"accepted\"} 1"), "{out}");
        assert!(out.contains("{kind=\"interaction\",outcome=\"refused\"} 1"), "{out}");
    }
}
