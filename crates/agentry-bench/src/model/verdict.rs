//! The five things that can be said about a criterion.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// The bound of the interval is on the right side.
    Pass,
    /// The bound of the interval is on the wrong side.
    Fail,
    /// The interval straddles the target, or there are too few samples.
    Inconclusive,
    /// A validity gate was broken: the numbers are kept and prove nothing.
    Invalid,
    /// Not measured, or does not apply; the reason says which.
    NotRun,
}

impl Verdict {
    /// Every verdict.
    pub const ALL: [Self; 5] = [Self::Pass, Self::Fail, Self::Inconclusive, Self::Invalid, Self::NotRun];

    /// Its shape: a state is never told by colour alone.
    pub fn shape(self) -> &'static str {
        match self {
            Self::Pass => "✓",
            Self::Fail => "✗",
            Self::Inconclusive => "≈",
            Self::Invalid => "!",
            Self::NotRun => "–",
        }
    }
}

words!(Verdict {
    Pass => "pass",
    Fail => "fail",
    Inconclusive => "inconclusive",
    Invalid => "invalid",
    NotRun => "not-run",
});
