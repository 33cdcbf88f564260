//! Events: durable together with the tasks that they start and the message to external listeners.

use std::sync::Arc;

use agentry_bus::Signal;
use agentry_core::event::Event;
use agentry_core::fleet::Fleet;
use agentry_core::outbox::{OutboxBody, OutboxMessage};
use agentry_core::task::{MAX_HOPS, Submission, Task};
use agentry_store::{EventAcceptance, IncomingEvent, StoreError};

use crate::{Intake, Order, Prepared};

/// Maximum number of attempts to accept an event: each one after the first because the fleet changed meanwhile.
const MAX_LOOKS: u32 = 10;

/// The recipients of an event.
#[derive(Clone, Copy)]
pub enum Audience<'a> {
    /// The agents that subscribe to its topic.
    Subscribers,
    /// Agents that the caller selects, with the submission for each. Agents that accept no tasks are skipped. Called
    /// again if the fleet changes meanwhile.
    Picked(&'a (dyn Fn(&Fleet) -> Vec<Order> + Send + Sync)),
}

/// The result of publishing an event.
#[derive(Debug, Clone, PartialEq)]
pub struct Published {
    /// True if (source, id) was accepted before: then nothing was done.
    pub duplicate: bool,
    /// Tasks that the event started, sorted by agent.
    pub tasks: Vec<Arc<Task>>,
}

/// The reason why an event was not accepted. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// The event would extend a chain of agents that trigger one another.
    #[error("{MAX_HOPS} agents triggered one another in a row; the chain was cut at topic `{topic}`")]
    TooManyHops {
        /// The topic.
        topic: String,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The treatment of external listeners.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outside {
    /// Adds the event to the outbox if an external listener may exist.
    Publish,
    /// Adds nothing: the event came from the bus, or is in the outbox already.
    Known,
}

impl Intake {
    /// Accepts an event once per (source, id). The event, its tasks and its message to external listeners are durable
    /// when this returns.
    ///
    /// # Errors
    /// See [`PublishError`].
    pub async fn publish(&self, event: &Event, audience: Audience<'_>) -> Result<Published, PublishError> {
        self.accept_event(event, audience, Outside::Publish).await
    }

    /// As [`Self::publish`], for an event that external listeners receive anyway: it came from the bus, or is in the
    /// outbox.
    ///
    /// # Errors
    /// See [`PublishError`].
    pub async fn deliver(&self, event: &Event) -> Result<Published, PublishError> {
        self.accept_event(event, Audience::Subscribers, Outside::Known).await
    }

    /// Records an event by its source and id, so that it is a duplicate from now on.
    ///
    /// # Errors
    /// See [`PublishError`].
    pub async fn record_event(&self, event: &Event) -> Result<Published, PublishError> {
        self.accept_event(event, Audience::Picked(&|_| Vec::new()), Outside::Known).await
    }

    async fn accept_event(
        &self,
        event: &Event,
        audience: Audience<'_>,
        outside: Outside,
    ) -> Result<Published, PublishError> {
        let heard = outside == Outside::Publish && self.bus().is_heard_outside(&event.topic);
        let message = heard.then(|| OutboxMessage {
            id: self.new_outbox_id(),
            task: None,
            created_at: self.now(),
            trace: Some(event.trace()),
            body: OutboxBody::Event { event: event.clone(), is_accepted: true },
        });
        self.deployment().settle().await?;
        for _ in 0..MAX_LOOKS {
            let fleet = self.fleet();
            let tasks = self.tasks_of(event, audience)?;
            let incoming = IncomingEvent {
                event: event.clone(),
                tasks: tasks.clone(),
                outbox: message.clone(),
                fleet_revision: fleet.revision(),
            };
            match self.store().accept_event(incoming).await? {
                EventAcceptance::New => {
                    self.wake(tasks.iter().cloned());
                    if outside == Outside::Publish {
                        self.tell(event, heard).await;
                    }
                    return Ok(Published { duplicate: false, tasks });
                }
                EventAcceptance::Duplicate => return Ok(Published { duplicate: true, tasks: Vec::new() }),
                EventAcceptance::FleetChanged => self.deps.deployment.refresh().await?,
            }
        }
        Err(StoreError::Unavailable("the fleet changes too often to accept the event; try again".to_owned()).into())
    }

    /// Creates one task for each recipient.
    fn tasks_of(&self, event: &Event, audience: Audience<'_>) -> Result<Vec<Arc<Task>>, PublishError> {
        let (fleet, now) = (self.fleet(), self.now());
        if let Audience::Picked(pick) = audience {
            return Ok(self.prepare(pick(&fleet)).iter().filter_map(Prepared::task).cloned().collect());
        }
        let names = fleet.subscribers(&event.topic);
        if event.hops >= MAX_HOPS && !names.is_empty() {
            return Err(PublishError::TooManyHops { topic: event.topic.clone() });
        }
        let specs = names.iter().filter_map(|name| fleet.live(name));
        let task = |spec: &Arc<_>| Arc::new(Task::new(spec, Submission::of_event(event), self.new_task_id(), now));
        Ok(specs.map(task).collect())
    }

    /// Notifies current listeners. A delivery that must not be lost is in the outbox.
    async fn tell(&self, event: &Event, in_outbox: bool) {
        if in_outbox {
            self.bus().signal(Signal::Outbox);
        } else if let Err(error) = self.bus().publish(event).await {
            tracing::debug!(%error, topic = %event.topic, "publishing an event that no external listener waits for failed");
        }
    }
}
