//! Submissions of tasks.

use std::sync::Arc;

use agentry_core::agent::{AgentSpec, ExecutionMode};
use agentry_core::fleet::Fleet;
use agentry_core::task::{Submission, Task};
use agentry_store::{Accepted, StoreError};

use crate::refusal::live_agent;
use crate::{Intake, Refusal, UnavailableAgent};

/// A submission to an agent.
#[derive(Debug, Clone, PartialEq)]
pub struct Order {
    /// Name of the agent.
    pub agent: String,
    /// The work to do.
    pub submission: Submission,
}

/// The result of an accepted submission.
#[derive(Debug, Clone, PartialEq)]
pub enum SubmitResult {
    /// A new, durable task.
    New(Arc<Task>),
    /// The task of an earlier submission with the same idempotency key.
    Duplicate(agentry_core::id::TaskId),
}

/// A snapshot of the agents. Caches the last lookup: the tasks of a batch are often for one agent.
struct Agents<'f> {
    fleet: &'f Fleet,
    last: Option<&'f Arc<AgentSpec>>,
}

impl<'f> Agents<'f> {
    fn live(&mut self, name: &str) -> Result<&'f Arc<AgentSpec>, UnavailableAgent> {
        if let Some(spec) = self.last.filter(|spec| spec.name.as_str() == name) {
            return Ok(spec);
        }
        let spec = live_agent(self.fleet, name)?;
        self.last = Some(spec);
        Ok(spec)
    }
}

impl Intake {
    /// Accepts submissions independently of one another; the results are in the same order. Accepted tasks are durable,
    /// and workers were woken for them.
    ///
    /// # Errors
    /// Fails when the store is unavailable: then nothing was accepted.
    pub async fn submit(&self, orders: Vec<Order>) -> Result<Vec<Result<SubmitResult, Refusal>>, StoreError> {
        self.accept(self.prepare(orders)).await
    }

    /// Creates the tasks of submissions without accepting them, for a caller that needs their ids before.
    #[must_use]
    pub fn prepare(&self, orders: Vec<Order>) -> Vec<Result<Arc<Task>, Refusal>> {
        let (fleet, now) = (self.fleet(), self.now());
        let mut agents = Agents { fleet: &fleet, last: None };
        let prepare = |order: Order| {
            let spec = agents.live(&order.agent)?;
            if order.submission.session.is_some() && spec.mode != ExecutionMode::Continuous {
                return Err(Refusal::NoSessions { agent: spec.name.clone(), mode: spec.mode });
            }
            Ok(Arc::new(Task::new(spec, order.submission, self.new_task_id(), now)))
        };
        orders.into_iter().map(prepare).collect()
    }

    /// Accepts the tasks of [`Self::prepare`], and wakes workers for them.
    ///
    /// # Errors
    /// Fails when the store is unavailable: then nothing was accepted.
    pub async fn accept(
        &self,
        prepared: Vec<Result<Arc<Task>, Refusal>>,
    ) -> Result<Vec<Result<SubmitResult, Refusal>>, StoreError> {
        let mut places = Vec::with_capacity(prepared.len());
        let mut new = Vec::with_capacity(prepared.len());
        for one in prepared {
            places.push(one.inspect(|task| new.push(Arc::clone(task))));
        }
        let answers = if new.is_empty() { Vec::new() } else { self.store().accept(new).await? };
        let mut answers = answers.into_iter();
        let mut accepted = Vec::new();
        let submitted = places
            .into_iter()
            .map(|place| {
                let task = place?;
                match answers.next() {
                    Some(Ok(Accepted::New)) => {
                        accepted.push(Arc::clone(&task));
                        Ok(SubmitResult::New(task))
                    }
                    Some(Ok(Accepted::Duplicate(id))) => Ok(SubmitResult::Duplicate(id)),
                    Some(Err(refused)) => Err(refused.into()),
                    None => Err(StoreError::Broken("the store gave no answer for a task".to_owned()).into()),
                }
            })
            .collect();
        self.wake(accepted);
        Ok(submitted)
    }
}
