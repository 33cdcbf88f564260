//! What must leave when a task ends without a worker: the same messages a worker would write.

use agentry_bus::EventBus;
use agentry_core::event::{Event, outcome_data, outcome_kind, output_topic};
use agentry_core::fleet::Fleet;
use agentry_core::id::OutboxId;
use agentry_core::outbox::{OutboxBody, OutboxMessage};
use agentry_core::task::{Outcome, Task};
use agentry_core::time::Timestamp;

/// The source of events about a task's end; their id is the task's.
const SOURCE: &str = "agentry";

/// The callback and the event of a task that ends with this outcome. The event is written only where somebody may
/// hear it: an agent that subscribes, or a consumer outside.
pub(crate) fn outbox_of_end(
    task: &Task,
    outcome: &Outcome,
    fleet: &Fleet,
    bus: &dyn EventBus,
    now: Timestamp,
) -> Vec<OutboxMessage> {
    let mut messages = Vec::new();
    let message = |body| OutboxMessage { id: OutboxId::generate(), task: task.id, created_at: now, body };
    let topic = output_topic(&task.agent);
    if fleet.has_subscribers(&topic) || bus.has_foreign_consumers() {
        let event = Event {
            id: task.id.to_string(),
            source: SOURCE.to_owned(),
            kind: outcome_kind(outcome.status),
            topic,
            time: now,
            trace_id: task.trace_id,
            hops: task.hops.saturating_add(1),
            data: outcome_data(task.id, &task.agent, outcome),
        };
        messages.push(message(OutboxBody::Event { event }));
    }
    if let Some(url) = &task.callback_url {
        let payload = outcome_data(task.id, &task.agent, outcome);
        messages.push(message(OutboxBody::Callback { url: url.clone(), payload }));
    }
    messages
}
