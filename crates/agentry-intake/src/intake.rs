//! The state that every part of the intake shares.

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

use crate::{Deployment, Entropy, UnavailableAgent};

/// The dependencies of an intake.
#[derive(Clone)]
pub struct IntakeDeps {
    /// State store.
    pub store: Arc<dyn StateStore>,
    /// Event bus.
    pub bus: Arc<dyn EventBus>,
    /// Deployment.
    pub deployment: Arc<Deployment>,
    /// Clock.
    pub clock: Arc<dyn Clock>,
    /// Randomness source of ids and traces.
    pub entropy: Arc<dyn Entropy>,
}

/// Creates and changes work. Cheap to clone.
#[derive(Clone)]
pub struct Intake {
    pub(crate) deps: IntakeDeps,
}

impl Intake {
    /// Returns an intake with these dependencies.
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

    /// Returns the agents of the deployment, as known to this process.
    #[must_use]
    pub fn fleet(&self) -> Arc<Fleet> {
        self.deps.deployment.fleet().current()
    }

    /// Returns the deployment.
    #[must_use]
    pub fn deployment(&self) -> &Arc<Deployment> {
        &self.deps.deployment
    }

    /// Returns the live version of an agent that accepts tasks.
    ///
    /// # Errors
    /// Returns the reason why it accepts none.
    pub fn live(&self, name: &str) -> Result<Arc<AgentSpec>, UnavailableAgent> {
        self.deployment().live(&self.fleet(), name).cloned()
    }

    /// Returns a new task id.
    #[must_use]
    pub fn new_task_id(&self) -> TaskId {
        TaskId::from_parts(self.millis(), self.wide())
    }

    /// Returns a new outbox message id.
    #[must_use]
    pub fn new_outbox_id(&self) -> OutboxId {
        OutboxId::from_parts(self.millis(), self.wide())
    }

    /// Returns a new clarification id.
    #[must_use]
    pub fn new_clarification_id(&self) -> ClarificationId {
        ClarificationId::from_parts(self.millis(), self.wide())
    }

    /// Starts a trace.
    #[must_use]
    pub fn new_trace(&self) -> Trace {
        Trace::begin(self.wide())
    }

    /// Wakes workers for tasks that are durable and due. A wake is a hint: workers also poll the store for due tasks.
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
