//! Events: made durable with the tasks that they start, and with what must reach listeners outside.

use std::sync::Arc;

use agentry_bus::Signal;
use agentry_core::event::Event;
use agentry_core::fleet::Fleet;
use agentry_core::outbox::{OutboxBody, OutboxMessage};
use agentry_core::task::{MAX_HOPS, Submission, Task};
use agentry_store::{EventAccepted, IncomingEvent, StoreError};

use crate::{Intake, Order};

/// Looks at the fleet for one event at most: each one after the first because the fleet changed meanwhile.
const MAX_LOOKS: u32 = 10;

/// Who gets an event.
#[derive(Clone, Copy)]
pub enum Audience<'a> {
    /// The agents that subscribe to its topic.
    Subscribers,
    /// Those that the caller picks of the fleet, with what each is asked. Agents that take no tasks are left out. Asked
    /// again when the fleet changes meanwhile.
    Picked(&'a (dyn Fn(&Fleet) -> Vec<Order> + Send + Sync)),
}

/// What became of an event.
#[derive(Debug, Clone, PartialEq)]
pub struct Published {
    /// Whether (source, id) was known: then nothing was done.
    pub duplicate: bool,
    /// The tasks that it started, by the names of their agents.
    pub tasks: Vec<Arc<Task>>,
}

/// Why an event was not accepted. Nothing of it was done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// It ends a chain of agents that trigger one another.
    #[error("{MAX_HOPS} agents triggered one another in a row; the chain was cut at topic `{topic}`")]
    TooManyHops {
        /// The topic.
        topic: String,
    },
    /// The store's answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Whether an event must be put into the outbox for listeners outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outside {
    /// When somebody may listen.
    Publish,
    /// It comes from there, or is in the outbox already.
    Known,
}

impl Intake {
    /// Accepts an event once per (source, id). The event, the tasks that it starts and its way to listeners outside are
    /// durable when this returns.
    ///
    /// # Errors
    /// See [`PublishError`].
    pub async fn publish(&self, event: &Event, audience: Audience<'_>) -> Result<Published, PublishError> {
        self.accept_event(event, audience, Outside::Publish).await
    }

    /// As [`Self::publish`] for the subscribers of an event that listeners outside get anyway: it came from the bus, or
    /// stands in the outbox.
    ///
    /// # Errors
    /// See [`PublishError`].
    pub async fn deliver(&self, event: &Event) -> Result<Published, PublishError> {
        self.accept_event(event, Audience::Subscribers, Outside::Known).await
    }

    /// Remembers an event by its source and id, and does nothing else because of it.
    ///
    /// # Errors
    /// See [`PublishError`].
    pub async fn note(&self, event: &Event) -> Result<Published, PublishError> {
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
                EventAccepted::New => {
                    self.wake(tasks.iter().cloned());
                    if outside == Outside::Publish {
                        self.tell(event, heard).await;
                    }
                    return Ok(Published { duplicate: false, tasks });
                }
                EventAccepted::Duplicate => return Ok(Published { duplicate: true, tasks: Vec::new() }),
                EventAccepted::FleetChanged => self.deps.deployment.refresh().await?,
            }
        }
        Err(StoreError::Unavailable("the fleet changes faster than an event can be accepted".to_owned()).into())
    }

    /// One task for each agent that gets the event.
    fn tasks_of(&self, event: &Event, audience: Audience<'_>) -> Result<Vec<Arc<Task>>, PublishError> {
        let (fleet, now) = (self.fleet(), self.now());
        if let Audience::Picked(pick) = audience {
            return Ok(self.prepare(pick(&fleet)).into_iter().flatten().collect());
        }
        let names = fleet.subscribers(&event.topic);
        if event.hops >= MAX_HOPS && !names.is_empty() {
            return Err(PublishError::TooManyHops { topic: event.topic.clone() });
        }
        let specs = names.iter().filter_map(|name| fleet.live(name));
        let task = |spec: &Arc<_>| Arc::new(Task::new(spec, Submission::of_event(event), self.new_task_id(), now));
        Ok(specs.map(task).collect())
    }

    /// Tells those who follow events now. What must not be lost is in the outbox.
    async fn tell(&self, event: &Event, in_outbox: bool) {
        if in_outbox {
            self.bus().signal(Signal::Outbox);
        } else if let Err(error) = self.bus().publish(event).await {
            tracing::debug!(%error, topic = %event.topic, "nobody outside listens to the event, and it was not told");
        }
    }
}
