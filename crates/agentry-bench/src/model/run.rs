//! What was asked of the suite, and when.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How long the windows are, and with that what can be decided.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema, clap::ValueEnum,
)]
#[serde(rename_all = "kebab-case")]
pub enum Profile {
    /// A first look: the whole run under two minutes.
    Quick,
    /// About a quarter of an hour.
    Ci,
    /// About four hours.
    Standard,
    /// About 41 hours, with a soak of 24.
    Full,
}

words!(Profile { Quick => "quick", Ci => "ci", Standard => "standard", Full => "full" });

/// What the platform under test runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Engine {
    /// One process with SQLite.
    Embedded,
    /// Any number of processes over PostgreSQL, RabbitMQ and Redis.
    Cluster,
}

words!(Engine { Embedded => "embedded", Cluster => "cluster" });

/// The six phases of the test plan.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema, clap::ValueEnum,
)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// One agent, the idle footprint, the noise of the machine.
    Baseline,
    /// Start-up and throughput over the number of agents and workers.
    Scale,
    /// Every scenario at its target rate.
    Load,
    /// Beyond the limit and back.
    Stress,
    /// 80 % of capacity for long.
    Soak,
    /// Faults.
    Failure,
}

words!(Phase { Baseline => "baseline", Scale => "scale", Load => "load", Stress => "stress", Soak => "soak", Failure => "failure" });

/// The run itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Run {
    /// A name for it, unique.
    pub id: String,
    /// How long the windows were.
    pub profile: Profile,
    /// What the platform ran on.
    pub engine: Engine,
    /// The address, when a running deployment was measured instead of processes of the run's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The seed of arrivals, order and faults. It repeats the schedule, not the interleaving.
    pub seed: u64,
    /// The command line.
    pub argv: Vec<String>,
    /// The commit of the harness; empty when it was built outside a repository.
    pub git: String,
    /// The version of the harness.
    pub version: String,
    /// When it began, RFC 3339 in UTC.
    pub start: String,
    /// When it ended, RFC 3339 in UTC.
    pub end: String,
    /// How long it took, in seconds on the monotonic clock.
    pub seconds: f64,
    /// Where the run was cut short by the user, so that what is missing is missing for that reason.
    #[serde(default)]
    pub interrupted: bool,
    /// The exit code of `bench run`.
    pub exit: u8,
}
