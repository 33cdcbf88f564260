//! What a report holds. `report.json` is [`Report`]; every other form is rendered from it and can be rendered again.
//!
//! All times are seconds since the run's start on the monotonic clock; all latencies are milliseconds unless the unit
//! says otherwise. Reading is strict: an unknown key is an error, so a newer report is refused and not half understood.

/// Gives an enumeration its words, and shows it by them.
macro_rules! words {
    ($name:ident { $($variant:ident => $word:literal),* $(,)? }) => {
        impl $name {
            /// Returns the word of a variant.
            pub fn word(self) -> &'static str {
                match self {
                    $(Self::$variant => $word),*
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.word())
            }
        }
    };
}

mod fault;
mod fingerprint;
mod harness;
mod plot;
mod run;
mod summary;
mod test;
mod verdict;

pub use fault::{Counts, Fault, Invariant};
pub use fingerprint::{Binary, Fingerprint, Machine, ServerFacts};
pub use harness::{CpuShare, Gate, GateState, Harness};
pub use plot::{Axis, Band, Plot, PlotKind, Point, Role, Series};
pub use run::{Engine, Phase, Profile, Run};
pub use summary::{Advice, Baseline, BaselineRow, Change, NotProven, TierOutcome, TierRow, Tiers};
pub use test::{Criterion, Metric, SlowOperation, Stage, Test, Window};
pub use verdict::Verdict;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The version of the report's form. The major number changes when a reader of the older form would be misled.
pub const SCHEMA: &str = "1.0.0";

/// One run of the suite, whole.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Report {
    /// Version of this form: [`SCHEMA`].
    pub schema: String,
    /// What was asked and when.
    pub run: Run,
    /// Where it ran: two reports are comparable when the hashes agree.
    pub fingerprint: Fingerprint,
    /// How well the harness itself did.
    pub harness: Harness,
    /// What was measured, by scenario or phase.
    pub tests: Vec<Test>,
    /// What was broken on purpose.
    #[serde(default)]
    pub faults: Vec<Fault>,
    /// The invariants that were checked after the faults.
    #[serde(default)]
    pub safety: Vec<Invariant>,
    /// The verdict tables.
    #[serde(default)]
    pub tiers: Tiers,
    /// The comparison with an earlier run, when one was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baseline: Option<Baseline>,
    /// What would help, and the number that says so.
    #[serde(default)]
    pub advice: Vec<Advice>,
    /// What this run could not prove, and why.
    #[serde(default)]
    pub not_proven: Vec<NotProven>,
}

impl Report {
    /// All judged criteria, in the order of the tests.
    pub fn criteria(&self) -> impl Iterator<Item = &Criterion> {
        self.tests.iter().flat_map(|test| &test.criteria)
    }
}
