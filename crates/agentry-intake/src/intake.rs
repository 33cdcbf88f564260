//! What every part of the intake shares.

use std::sync::Arc;

use agentry_bus::EventBus;
use agentry_core::agent::AgentSpec;
use agentry_core::fleet::Fleet;
use agentry_core::id::{ClarificationId, OutboxId, TaskId};
use agentry_core::task::Task;
use agentry_core::time::{Clock, Timestamp};
use agentry_core::trace::Trace;
use agentry_core::wake::Wake;
use agentry_store::StateStore;

use crate::refusal::live_agent;
use crate::{Deployment, Entropy, NotLive};

/// What the intake is made of.
#[derive(Clone)]
pub struct IntakeDeps {
    /// The state store.
    pub store: Arc<dyn StateStore>,
    /// The event bus.
    pub bus: Arc<dyn EventBus>,
    /// The agents.
    pub deployment: Arc<Deployment>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// The randomness of ids and traces.
    pub entropy: Arc<dyn Entropy>,
}

/// Creates and changes work. Cheap to clone.
#[derive(Clone)]
pub struct Intake {
    pub(crate) deps: IntakeDeps,
}

impl Intake {
    /// An intake over these parts.
    #[must_use]
    pub fn new(deps: IntakeDeps) -> Self {
        Self { deps }
    }

    pub(crate) fn store(&self) -> &dyn StateStore {
        &*self.deps.store
    }

    pub(crate) fn bus(&self) -> &dyn EventBus {
        &*self.deps.bus
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.deps.clock.now()
    }

    /// Returns the agents of the deployment, as this process knows them now.
    #[must_use]
    pub fn fleet(&self) -> Arc<Fleet> {
        self.deps.deployment.fleet().current()
    }

    /// Returns the deployment.
    #[must_use]
    pub fn deployment(&self) -> &Arc<Deployment> {
        &self.deps.deployment
    }

    /// Returns the live version of an agent that takes tasks.
    ///
    /// # Errors
    /// Why it takes none.
    pub fn live(&self, name: &str) -> Result<Arc<AgentSpec>, NotLive> {
        live_agent(&self.fleet(), name).cloned()
    }

    /// Returns a new id of a task.
    #[must_use]
    pub fn new_task_id(&self) -> TaskId {
        TaskId::from_parts(self.millis(), self.wide())
    }

    /// Returns a new id of a message in the outbox.
    #[must_use]
    pub fn new_outbox_id(&self) -> OutboxId {
        OutboxId::from_parts(self.millis(), self.wide())
    }

    /// Returns a new id of a question.
    #[must_use]
    pub fn new_clarification_id(&self) -> ClarificationId {
        ClarificationId::from_parts(self.millis(), self.wide())
    }

    /// Returns a trace that begins here.
    #[must_use]
    pub fn new_trace(&self) -> Trace {
        Trace::begin(self.wide())
    }

    /// Wakes workers for tasks that are durable and due. A wake is a hint: the sweep of the workers finds what was not
    /// woken.
    pub fn wake(&self, tasks: impl IntoIterator<Item = Arc<Task>>) {
        let wakes: Vec<Wake> = tasks.into_iter().map(Wake::of).collect();
        if !wakes.is_empty() {
            self.bus().wake(wakes);
        }
    }

    fn millis(&self) -> u64 {
        u64::try_from(self.now().millis()).unwrap_or(0)
    }

    fn wide(&self) -> u128 {
        (u128::from(self.deps.entropy.next()) << 64) | u128::from(self.deps.entropy.next())
    }
}
