//! Where a run took place: the machine, the servers with their durability settings, the binary.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Hex digits of the hash that are kept; 64 bits tell machines apart and still fit into a table.
const HASH_DIGITS: usize = 16;

/// Everything that makes two runs comparable or not.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Fingerprint {
    /// See [`Fingerprint::seal`].
    pub hash: String,
    /// The machine.
    pub machine: Machine,
    /// The servers below the platform: PostgreSQL, Redis, RabbitMQ, or SQLite.
    pub servers: Vec<ServerFacts>,
    /// The platform that was measured.
    pub agentry: Binary,
    /// The profile of the simulated provider.
    pub llm_profile: String,
}

/// The machine. What could not be read is `None`, never guessed.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Machine {
    /// Model of the processor.
    pub cpu_model: Option<String>,
    /// Logical processors.
    pub cpus: u32,
    /// Clock as the kernel states it.
    pub mhz: Option<f64>,
    /// What virtualises it.
    pub virt: Option<String>,
    /// Release of the kernel.
    pub kernel: Option<String>,
    /// Memory.
    pub ram_bytes: u64,
    /// Type of the file system below the data.
    pub filesystem: Option<String>,
    /// Device below the data.
    pub device: Option<String>,
    /// Median of an fdatasync on that file system, in microseconds; stands beside every durability number.
    pub fdatasync_p50_us: Option<f64>,
    /// 99th percentile of the same.
    pub fdatasync_p99_us: Option<f64>,
    /// How late a 1 ms timer fires, 99th percentile, in microseconds.
    pub timer_overshoot_p99_us: Option<f64>,
    /// Frequency governor.
    pub governor: Option<String>,
    /// Limit of the control group on processors.
    pub cgroup_cpus: Option<f64>,
    /// Limit of the control group on memory.
    pub cgroup_memory_bytes: Option<u64>,
}

/// One server and what it promises about durability.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ServerFacts {
    /// `postgresql`, `redis`, `rabbitmq`, `sqlite`.
    pub name: String,
    /// As the server states it.
    pub version: String,
    /// Settings that decide durability and speed, such as `fsync` or `appendfsync`.
    pub settings: BTreeMap<String, String>,
}

/// The platform's binary.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Binary {
    /// Version.
    pub version: String,
    /// Commit; empty when unknown.
    pub git: String,
    /// Build profile: `release`, `dist`, `debug`.
    pub build: String,
    /// Memory allocator.
    pub allocator: String,
}

impl Fingerprint {
    /// Sets the hash over what must agree before two runs may be compared: processor, memory, kernel, file system,
    /// limits, servers with their settings, build profile, allocator and LLM profile. Version and commit of the
    /// platform are left out because they are what a comparison is about; measured figures because they are noise.
    pub fn seal(&mut self) {
        self.hash = self.compute();
    }

    /// What the hash should be; a report whose own hash differs was edited.
    pub fn compute(&self) -> String {
        let m = &self.machine;
        let mut text = format!(
            "{:?}|{}|{:?}|{:?}|{}|{:?}|{:?}|{:?}|{:?}|{:?}|{}|{}|{}",
            m.cpu_model,
            m.cpus,
            m.virt,
            m.kernel,
            m.ram_bytes,
            m.filesystem,
            m.device,
            m.governor,
            m.cgroup_cpus,
            m.cgroup_memory_bytes,
            self.agentry.build,
            self.agentry.allocator,
            self.llm_profile
        );
        for server in &self.servers {
            text.push_str(&format!("|{}={}{:?}", server.name, server.version, server.settings));
        }
        let digest = Sha256::digest(text.as_bytes());
        digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>()[..HASH_DIGITS].to_owned()
    }
}
