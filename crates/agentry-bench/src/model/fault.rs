//! What was broken on purpose, the proof that it bit, and what held.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One injected fault. A fault without proof is not counted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// Unique within the run.
    pub id: String,
    /// The nemesis: `N1-kill`, `N7-partition`.
    pub kind: String,
    /// The test it belongs to.
    pub test: String,
    /// What it hit: a process, an edge, a server.
    pub target: String,
    /// When it was injected, in seconds since the run's start.
    pub t_inject: f64,
    /// When its effect was first seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub t_effect: Option<f64>,
    /// When it was taken back; `None` when the victim never came back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub t_heal: Option<f64>,
    /// When throughput was back at 90 % of the baseline and the backlog was drained.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub t_recovered: Option<f64>,
    /// Whether it provably bit.
    pub effective: bool,
    /// The proof: connections cut, bytes held, errors seen.
    pub proof: String,
}

impl Fault {
    /// Seconds from the heal (or the onset, when the victim never came back) to recovery.
    pub fn recovery_seconds(&self) -> Option<f64> {
        Some(self.t_recovered? - self.t_heal.unwrap_or(self.t_inject))
    }
}

/// What an invariant's checker counted.
pub type Counts = BTreeMap<String, u64>;

/// One invariant, checked after heal, wait and full drain.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Invariant {
    /// `I1`…`I12`.
    pub invariant: String,
    /// What it says.
    pub text: String,
    /// The test it was checked in.
    pub test: String,
    /// Whether it held; `None` when it could not be checked, and `examples` say why.
    pub valid: Option<bool>,
    /// What was counted: attempts, acked, delivered, lost, unexpected, duplicated, recovered.
    pub counts: Counts,
    /// At most [`Invariant::MAX_EXAMPLES`] ids that break it.
    #[serde(default)]
    pub examples: Vec<String>,
}

impl Invariant {
    /// Examples kept at most.
    pub const MAX_EXAMPLES: usize = 50;
}
