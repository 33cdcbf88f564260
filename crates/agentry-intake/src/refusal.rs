//! Reasons for refusing a submission.

use std::sync::Arc;

use agentry_core::agent::{AgentName, AgentSpec, ExecutionMode};
use agentry_core::fleet::Fleet;
use agentry_core::id::TaskId;
use agentry_store::{AcceptError, StoreError};

use crate::Deployment;

/// The reason why an agent accepts no tasks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnavailableAgent {
    /// No agent of the deployment has the name.
    #[error("no agent is called `{name}`")]
    Unknown {
        /// The requested name, cut to 80 characters.
        name: String,
    },
    /// The agent was removed from the deployment.
    #[error(
        "agent `{name}` was removed from the deployment; `agentry agents activate {name}` brings back version {version}"
    )]
    Removed {
        /// The agent.
        name: AgentName,
        /// The version that ran last.
        version: Box<str>,
    },
    /// The file says `enabled: false`.
    #[error("agent `{name}` is disabled; set `enabled: true` in {file}")]
    Disabled {
        /// The agent.
        name: AgentName,
        /// Its file.
        file: Arc<str>,
    },
    /// No good version was ever loaded.
    #[error("agent `{name}` is invalid: {reason}")]
    Invalid {
        /// The agent.
        name: AgentName,
        /// Reason why the file cannot be used.
        reason: Arc<str>,
    },
}

/// The reason why a submission was refused. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The agent accepts no tasks.
    #[error(transparent)]
    Agent(#[from] UnavailableAgent),
    /// The submission names a session, but its agent keeps none.
    #[error("agent `{agent}` is {mode} and keeps no sessions; leave it out")]
    NoSessions {
        /// The agent.
        agent: AgentName,
        /// Its mode.
        mode: ExecutionMode,
    },
    /// The idempotency key was used for another request.
    #[error("the idempotency key was used for another request (task {0})")]
    KeyReused(TaskId),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<AcceptError> for Refusal {
    fn from(error: AcceptError) -> Self {
        match error {
            AcceptError::KeyReused(task) => Self::KeyReused(task),
            AcceptError::Store(error) => Self::Store(error),
        }
    }
}

/// Maximum length of an unknown name in a message.
const SHOWN: usize = 80;

impl Deployment {
    /// Returns the live version of an agent that accepts tasks. `fleet` is a snapshot of this deployment's fleet.
    pub(crate) fn live<'f>(&self, fleet: &'f Fleet, name: &str) -> Result<&'f Arc<AgentSpec>, UnavailableAgent> {
        let entry = fleet.entry(name).ok_or_else(|| self.unknown(name))?;
        let agent = || AgentName::new(name).map_err(|_| self.unknown(name));
        match (&entry.spec, &entry.error) {
            (Some(spec), _) if spec.enabled => Ok(spec),
            (Some(_), _) => Err(UnavailableAgent::Disabled { name: agent()?, file: Arc::clone(&entry.file) }),
            (None, error) => {
                let reason = error.clone().unwrap_or_else(|| "its file has no good version".into());
                Err(UnavailableAgent::Invalid { name: agent()?, reason })
            }
        }
    }

    /// Returns why a name is not one of an agent in the fleet.
    #[must_use]
    pub fn unknown(&self, name: &str) -> UnavailableAgent {
        match AgentName::new(name).ok().and_then(|agent| self.removed(&agent)) {
            Some(spec) => UnavailableAgent::Removed { name: spec.name.clone(), version: spec.version.clone() },
            None => UnavailableAgent::Unknown { name: name.chars().take(SHOWN).collect() },
        }
    }
}
