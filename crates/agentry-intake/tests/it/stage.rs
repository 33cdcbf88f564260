//! Processes of one deployment: one store, and files of their own.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use agentry_bus::{EmbeddedBus, EventBus};
use agentry_config::FleetHandle;
use agentry_core::agent::{AgentName, AgentSpec};
use agentry_core::fleet::{AgentEntry, Fleet};
use agentry_core::time::{Clock, Timestamp};
use agentry_intake::{Authority, Deployment, Entropy, Intake, IntakeDeps};
use agentry_store::StateStore;
use agentry_store::sqlite::{SqliteOptions, SqliteStore};
use serde_json::json;

pub const NOW: Timestamp = Timestamp(1_760_000_000_000_000);

pub struct Stage {
    pub store: Arc<dyn StateStore>,
    pub bus: Arc<dyn EventBus>,
}

pub struct Process {
    pub files: FleetHandle,
    pub deployment: Arc<Deployment>,
    pub intake: Intake,
}

pub struct Still;

impl Clock for Still {
    fn now(&self) -> Timestamp {
        NOW
    }
}

struct Counter(AtomicU64);

impl Entropy for Counter {
    fn next(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }
}

pub fn name(text: &str) -> AgentName {
    AgentName::new(text).unwrap()
}

pub fn spec(agent: &str, version: &str, topic: &str) -> AgentSpec {
    let json = json!({
        "name": agent, "version": version, "mode": "autonomous", "enabled": true, "tags": [], "system_prompt": "You test.",
        "subscriptions": [topic], "tools": [], "budget": {},
        "llm": {"target": {"provider": "openai", "model": "m"}, "fallback": [], "params": {"stop_sequences": []}, "timeout_ms": 1_000},
        "retry": agentry_core::retry::RetryPolicy::default(),
    });
    serde_json::from_value(json).unwrap()
}

pub fn files(good: &[AgentSpec], bad: &[&str]) -> Fleet {
    let entry = |spec: Option<AgentSpec>, error: Option<&str>| AgentEntry {
        spec: spec.map(Arc::new),
        file: "agents/x.yml".into(),
        error: error.map(Into::into),
        warnings: Vec::new(),
        has_unset_variables: false,
    };
    let mut agents: HashMap<AgentName, AgentEntry> =
        good.iter().map(|spec| (spec.name.clone(), entry(Some(spec.clone()), None))).collect();
    agents.extend(bad.iter().map(|agent| (name(agent), entry(None, Some("line 3: unknown key")))));
    Fleet::new(agents)
}

impl Stage {
    pub fn new() -> Self {
        let store = Arc::new(SqliteStore::in_memory(SqliteOptions::default()).unwrap());
        Self { store, bus: Arc::new(EmbeddedBus::new()) }
    }

    pub async fn process(&self, files: Fleet) -> Process {
        self.join(files, Authority::Store).await
    }

    /// Joins, and waits until everything is written.
    pub async fn join(&self, files: Fleet, authority: Authority) -> Process {
        let process = self.start(files, authority).await;
        process.deployment.refresh().await.unwrap();
        process
    }

    /// Joins without waiting for what is written in the background.
    pub async fn start(&self, files: Fleet, authority: Authority) -> Process {
        let files = FleetHandle::new(files);
        let (store, bus) = (Arc::clone(&self.store), Arc::clone(&self.bus));
        let known = self.store.fleet_since(0).await.unwrap();
        let joined = Deployment::join(store, bus, Arc::new(Still), files.clone(), authority, known).await;
        let deployment = Arc::new(joined.unwrap());
        let intake = Intake::new(IntakeDeps {
            store: Arc::clone(&self.store),
            bus: Arc::clone(&self.bus),
            deployment: Arc::clone(&deployment),
            clock: Arc::new(Still),
            entropy: Arc::new(Counter(AtomicU64::new(1))),
        });
        Process { files, deployment, intake }
    }
}

impl Process {
    /// Returns the version of an agent that this process works with.
    pub fn version(&self, agent: &str) -> Option<String> {
        self.deployment.fleet().current().live(&name(agent)).map(|spec| spec.version.to_string())
    }

    /// Changes the files of this process.
    pub async fn save(&self, files: Fleet) {
        self.files.replace(files);
        self.deployment.refresh().await.unwrap();
    }
}
