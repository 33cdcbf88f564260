//! Fleets: all agents of a deployment at one moment.

use std::collections::HashMap;
use std::sync::Arc;

use crate::agent::{AgentName, AgentSpec};
use crate::event::Subscription;
use crate::words::words;

/// All agents of a deployment at one moment. Immutable; a reload makes a new one. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Fleet {
    index: Arc<Index>,
    revision: u64,
}

/// Agents by name, and their subscriptions by topic.
#[derive(Debug, Default)]
struct Index {
    agents: HashMap<AgentName, AgentEntry>,
    literal: HashMap<Box<str>, Vec<AgentName>>,
    wildcard: Vec<Subscription>,
}

/// One agent of a fleet.
#[derive(Debug, Clone)]
pub struct AgentEntry {
    /// Live version; `None` if no good version was ever loaded.
    pub spec: Option<Arc<AgentSpec>>,
    /// Origin file, as shown to people.
    pub file: Arc<str>,
    /// Reason why the newest version of the file is not live.
    pub error: Option<Arc<str>>,
    /// Findings that could not be checked from the file alone.
    pub warnings: Vec<Arc<str>>,
    /// A variable of the file is not set in this process and has no default.
    pub has_unset_variables: bool,
}

impl AgentEntry {
    /// Returns whether another entry is equal.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        let specs = match (&self.spec, &other.spec) {
            (Some(a), Some(b)) => Arc::ptr_eq(a, b) || a == b,
            (None, None) => true,
            _ => false,
        };
        specs && self.file == other.file && self.error == other.error && self.warnings == other.warnings
    }
}

impl Fleet {
    /// Returns a fleet of these agents, with an index of their subscriptions.
    #[must_use]
    pub fn new(agents: HashMap<AgentName, AgentEntry>) -> Self {
        let mut literal: HashMap<Box<str>, Vec<AgentName>> = HashMap::new();
        let mut wildcard = Vec::new();
        for (name, entry) in &agents {
            let Some(spec) = entry.spec.as_ref().filter(|spec| spec.enabled) else { continue };
            for pattern in &spec.subscriptions {
                if pattern.is_literal() {
                    literal.entry(pattern.as_str().into()).or_default().push(name.clone());
                } else {
                    wildcard.push(Subscription { pattern: pattern.clone(), agent: name.clone() });
                }
            }
        }
        Self { index: Arc::new(Index { agents, literal, wildcard }), revision: 0 }
    }

    /// Returns the same fleet with this revision, its position in the order of the deployment's changes.
    #[must_use]
    pub fn with_revision(self, revision: u64) -> Self {
        Self { revision, ..self }
    }

    /// Returns the revision; 0 for a fleet that belongs to no deployment.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Returns whether another fleet has the same agents in the same versions, with the same files, errors and
    /// warnings.
    #[must_use]
    pub fn same_entries(&self, other: &Self) -> bool {
        if Arc::ptr_eq(&self.index, &other.index) {
            return true;
        }
        self.len() == other.len()
            && self.iter().all(|(name, entry)| other.entry(name.as_str()).is_some_and(|other| entry.is_same(other)))
    }

    /// Returns the entry of an agent.
    #[must_use]
    pub fn entry(&self, name: &str) -> Option<&AgentEntry> {
        self.index.agents.get(name)
    }

    /// Returns the live version of an agent that accepts tasks.
    #[must_use]
    pub fn live(&self, name: &AgentName) -> Option<&Arc<AgentSpec>> {
        self.index.agents.get(name).and_then(|entry| entry.spec.as_ref()).filter(|spec| spec.enabled)
    }

    /// Returns every agent, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = (&AgentName, &AgentEntry)> {
        self.index.agents.iter()
    }

    /// Returns the number of agents, invalid ones included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.index.agents.len()
    }

    /// Returns whether there are no agents.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.index.agents.is_empty()
    }

    /// Returns the agents that receive an event on `topic`, each once, sorted by name.
    #[must_use]
    pub fn subscribers(&self, topic: &str) -> Vec<AgentName> {
        let mut names: Vec<AgentName> = self.index.literal.get(topic).cloned().unwrap_or_default();
        names.extend(self.index.wildcard.iter().filter(|s| s.pattern.matches(topic)).map(|s| s.agent.clone()));
        names.sort();
        names.dedup();
        names
    }

    /// Returns whether any agent receives events on `topic`.
    #[must_use]
    pub fn has_subscribers(&self, topic: &str) -> bool {
        self.index.literal.contains_key(topic) || self.index.wildcard.iter().any(|s| s.pattern.matches(topic))
    }
}

words! {
    /// The health of an agent.
    pub enum AgentState: "agent state" {
        /// Loaded; its consumer is not attached yet.
        Starting = "starting",
        /// Consumer attached, and its probe answered.
        Healthy = "healthy",
        /// Probe not answered; the consumer is being restarted.
        Restarting = "restarting",
        /// Restarted as often as allowed.
        Failed = "failed",
        /// The file has no good version.
        Invalid = "invalid",
        /// The file says `enabled: false`.
        Disabled = "disabled",
    }
}
