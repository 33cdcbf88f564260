//! Submissions of tasks.

use std::sync::Arc;

use agentry_core::agent::{AgentSpec, ExecutionMode};
use agentry_core::fleet::Fleet;
use agentry_core::task::{IdempotencyKey, Submission, Task};
use agentry_store::{Acceptance, StoreError};

use crate::{Deployment, Intake, Refusal, UnavailableAgent};

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

/// A submission on its way: its task, or the reason why it has none.
#[derive(Debug, Clone, PartialEq)]
pub struct Prepared(Result<Arc<Task>, (Refusal, Option<IdempotencyKey>)>);

impl Prepared {
    /// Returns the task.
    #[must_use]
    pub fn task(&self) -> Option<&Arc<Task>> {
        self.0.as_ref().ok()
    }
}

/// A snapshot of the agents. Caches the last lookup: the tasks of a batch are often for one agent.
struct Agents<'f> {
    deployment: &'f Deployment,
    fleet: &'f Fleet,
    last: Option<&'f Arc<AgentSpec>>,
}

impl<'f> Agents<'f> {
    fn live(&mut self, name: &str) -> Result<&'f Arc<AgentSpec>, UnavailableAgent> {
        if let Some(spec) = self.last.filter(|spec| spec.name.as_str() == name) {
            return Ok(spec);
        }
        let spec = self.deployment.live(self.fleet, name)?;
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
    pub fn prepare(&self, orders: Vec<Order>) -> Vec<Prepared> {
        let (fleet, now) = (self.fleet(), self.now());
        let mut agents = Agents { deployment: self.deployment(), fleet: &fleet, last: None };
        let mut check = |order: &Order| {
            let spec = agents.live(&order.agent)?;
            if order.submission.session.is_some() && spec.mode != ExecutionMode::Continuous {
                return Err(Refusal::NoSessions { agent: spec.name.clone(), mode: spec.mode });
            }
            Ok(spec)
        };
        let prepare = |order: Order| match check(&order) {
            Ok(spec) => Prepared(Ok(Arc::new(Task::new(spec, order.submission, self.new_task_id(), now)))),
            Err(refusal) => Prepared(Err((refusal, order.submission.idempotency))),
        };
        orders.into_iter().map(prepare).collect()
    }

    /// Accepts the tasks of [`Self::prepare`], and wakes workers for them. A request whose idempotency key created a task
    /// before has that task, even if its agent takes no more tasks.
    ///
    /// # Errors
    /// Fails when the store is unavailable: then nothing was accepted.
    pub async fn accept(&self, prepared: Vec<Prepared>) -> Result<Vec<Result<SubmitResult, Refusal>>, StoreError> {
        let mut places = Vec::with_capacity(prepared.len());
        let mut new = Vec::with_capacity(prepared.len());
        for Prepared(one) in prepared {
            places.push(match one {
                Ok(task) => {
                    new.push(Arc::clone(&task));
                    Ok(task)
                }
                Err((refusal, key)) => Err(self.submitted_before(refusal, key).await?),
            });
        }
        self.deployment().settle().await?;
        let answers = if new.is_empty() { Vec::new() } else { self.store().accept(new).await? };
        let mut answers = answers.into_iter();
        let mut accepted = Vec::new();
        let submitted = places
            .into_iter()
            .map(|place| {
                let task = match place {
                    Ok(task) => task,
                    Err(settled) => return settled,
                };
                match answers.next() {
                    Some(Ok(Acceptance::New)) => {
                        accepted.push(Arc::clone(&task));
                        Ok(SubmitResult::New(task))
                    }
                    Some(Ok(Acceptance::Duplicate(id))) => Ok(SubmitResult::Duplicate(id)),
                    Some(Err(refused)) => Err(refused.into()),
                    None => Err(StoreError::Broken("the store gave no answer for a task".to_owned()).into()),
                }
            })
            .collect();
        self.wake(accepted);
        Ok(submitted)
    }

    /// Returns what a refused request gets: the task that its key created, or the refusal.
    async fn submitted_before(
        &self,
        refusal: Refusal,
        key: Option<IdempotencyKey>,
    ) -> Result<Result<SubmitResult, Refusal>, StoreError> {
        let Some(IdempotencyKey { key, fingerprint }) = key else { return Ok(Err(refusal)) };
        Ok(match self.store().task_of_key(&key, self.now()).await? {
            None => Err(refusal),
            Some((task, before)) if before == fingerprint => Ok(SubmitResult::Duplicate(task)),
            Some((task, _)) => Err(Refusal::KeyReused(task)),
        })
    }
}
