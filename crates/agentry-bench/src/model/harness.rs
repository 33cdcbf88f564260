//! How well the harness itself did: a slow generator measures itself.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Plot;

/// The harness, judged.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Harness {
    /// Actual minus intended send time, as HdrHistogram V2 in base64, microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lag_hdr_b64: Option<String>,
    /// 99th percentile of the same, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lag_p99_ms: Option<f64>,
    /// Share of the machine's processor time that harness and simulators took, 0..1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_share: Option<f64>,
    /// Share of processor time the hypervisor took away, 0..1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steal: Option<f64>,
    /// 99th percentile of a request to a server on loopback that does nothing, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub floor_p99_ms: Option<f64>,
    /// The validity gates.
    #[serde(default)]
    pub gates: Vec<Gate>,
    /// Processor time by process group.
    #[serde(default)]
    pub cpu: Vec<CpuShare>,
    /// Plots about the harness: schedule lag, processor time.
    #[serde(default)]
    pub plots: Vec<Plot>,
    /// Why a figure is missing: a sampler without permission, a counter the kernel does not have.
    #[serde(default)]
    pub notes: Vec<String>,
}

/// One validity gate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Gate {
    /// Which: `schedule-lag`, `late-sends`, `harness-cpu`, `steal`, `sampler-gap`, `floor`, `fault-proof`, `negative-latency`.
    pub id: String,
    /// The test it belongs to; `None` for the whole run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test: Option<String>,
    /// What was allowed, with its unit.
    pub limit: String,
    /// What was seen, with its unit.
    pub observed: String,
    /// What follows.
    pub state: GateState,
}

/// What follows from a gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum GateState {
    /// Within the limit.
    Ok,
    /// Worth a look; nothing is invalid.
    Flagged,
    /// The criteria of its test are invalid.
    Broken,
    /// Could not be checked; `observed` says why.
    Unknown,
}

/// Processor time of one group of processes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CpuShare {
    /// `agentry`, `postgresql`, `redis`, `rabbitmq`, `harness`, `simulators`.
    pub group: String,
    /// Processor seconds.
    pub seconds: f64,
    /// Share of all processors over the run, 0..1.
    pub share: f64,
}
