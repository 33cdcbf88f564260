//! The services that run our binary, as deploy/compose/compose.yml has them.

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serializer};

/// A service: any number of equal processes.
#[derive(Debug, PartialEq, Eq)]
pub struct Pool {
    /// Its word on this command line.
    pub word: &'static str,
    /// Its name in the Compose file.
    pub service: &'static str,
    /// `--role`.
    pub roles: &'static str,
    /// `--mode`, for those that execute tasks.
    pub modes: Option<&'static str>,
}

const API: Pool = Pool { word: "api", service: "api", roles: "api,slack", modes: None };
const SCHEDULER: Pool = Pool { word: "scheduler", service: "scheduler", roles: "scheduler", modes: None };
const COLLABORATIVE: Pool =
    Pool { word: "collaborative", service: "collaborative-agent-pool", roles: "worker", modes: Some("collaborative") };
/// A scheduled task runs as an autonomous one does, so this pool takes both.
const AUTONOMOUS: Pool =
    Pool { word: "autonomous", service: "autonomous-agent-pool", roles: "worker", modes: Some("autonomous,scheduled") };
const CONTINUOUS: Pool =
    Pool { word: "continuous", service: "continuous-agent-runner", roles: "worker", modes: Some("continuous") };

/// Every pool, in the order in which they are started.
pub const POOLS: [&Pool; 5] = [&API, &SCHEDULER, &COLLABORATIVE, &AUTONOMOUS, &CONTINUOUS];

/// By word, or by the name of the Compose service.
pub fn find(name: &str) -> Option<&'static Pool> {
    POOLS.into_iter().find(|pool| pool.word == name || pool.service == name)
}

/// A pool is written as the name of its service.
pub fn serialize<S: Serializer>(pool: &Pool, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(pool.service)
}

/// A pool is read by its name.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<&'static Pool, D::Error> {
    let name = String::deserialize(deserializer)?;
    find(&name).ok_or_else(|| Error::custom(format!("there is no pool `{name}`")))
}

/// Valid names before `=`.
pub fn words() -> String {
    POOLS.map(|pool| pool.word).join(", ")
}
