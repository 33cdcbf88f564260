//! A fleet: all agents of a deployment, at one moment.

use std::collections::HashMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::agent::{AgentName, AgentSpec};
use crate::event::Subscription;

/// All agents of a deployment at one moment. Immutable; a reload makes a new one.
#[derive(Debug, Clone, Default)]
pub struct Fleet {
    agents: HashMap<AgentName, AgentEntry>,
    literal: HashMap<Box<str>, Vec<AgentName>>,
    wildcard: Vec<Subscription>,
    revision: u64,
}

/// One agent of a fleet.
#[derive(Debug, Clone)]
pub struct AgentEntry {
    /// The version that takes tasks; `None` when no good version was ever loaded.
    pub spec: Option<Arc<AgentSpec>>,
    /// The file it comes from, as shown to people.
    pub file: Arc<str>,
    /// Why the newest version of the file is not live, if it is not.
    pub error: Option<Arc<str>>,
    /// What could not be checked from the file alone.
    pub warnings: Vec<Arc<str>>,
}

impl AgentEntry {
    /// Whether another entry says the same.
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
    /// A fleet of these agents, with the index of who subscribes to what.
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
        Self { agents, literal, wildcard, revision: 0 }
    }

    /// The same fleet at this place in the order of the deployment's changes.
    #[must_use]
    pub fn with_revision(self, revision: u64) -> Self {
        Self { revision, ..self }
    }

    /// Returns its place in the order of the deployment's changes; 0 for a fleet that is not a deployment's.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Whether another fleet has the same agents in the same versions, with the same files, errors and warnings.
    #[must_use]
    pub fn same_entries(&self, other: &Self) -> bool {
        self.len() == other.len()
            && self.iter().all(|(name, entry)| other.entry(name.as_str()).is_some_and(|other| entry.is_same(other)))
    }

    /// The entry of an agent.
    #[must_use]
    pub fn entry(&self, name: &str) -> Option<&AgentEntry> {
        // AgentName is a transparent Arc<str>; a lookup by a checked copy keeps the map's key type plain.
        AgentName::new(name).ok().and_then(|name| self.agents.get(&name))
    }

    /// The live version of an agent that takes tasks.
    #[must_use]
    pub fn live(&self, name: &AgentName) -> Option<&Arc<AgentSpec>> {
        self.agents.get(name).and_then(|entry| entry.spec.as_ref()).filter(|spec| spec.enabled)
    }

    /// Every agent, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&AgentName, &AgentEntry)> {
        self.agents.iter()
    }

    /// How many there are, invalid ones included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.agents.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.agents.is_empty()
    }

    /// The agents that an event on `topic` goes to, each once, in order of their names.
    #[must_use]
    pub fn subscribers(&self, topic: &str) -> Vec<AgentName> {
        let mut names: Vec<AgentName> = self.literal.get(topic).cloned().unwrap_or_default();
        names.extend(self.wildcard.iter().filter(|s| s.pattern.matches(topic)).map(|s| s.agent.clone()));
        names.sort();
        names.dedup();
        names
    }

    /// Whether any agent would get an event on `topic`.
    #[must_use]
    pub fn has_subscribers(&self, topic: &str) -> bool {
        self.literal.contains_key(topic) || self.wildcard.iter().any(|s| s.pattern.matches(topic))
    }
}

/// How an agent is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AgentState {
    /// Loaded; its consumer is not attached yet.
    Starting,
    /// Its consumer is attached and its probe answers.
    Healthy,
    /// Its probe does not answer; it is being restarted.
    Restarting,
    /// It was restarted as often as is allowed.
    Failed,
    /// Its file has no good version.
    Invalid,
    /// Its file says `enabled: false`.
    Disabled,
}

impl AgentState {
    /// Its word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Healthy => "healthy",
            Self::Restarting => "restarting",
            Self::Failed => "failed",
            Self::Invalid => "invalid",
            Self::Disabled => "disabled",
        }
    }
}
