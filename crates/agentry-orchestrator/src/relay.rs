//! The outbox relay: sends what ended tasks left to be sent. Each message is claimed before it is sent.

use std::sync::Arc;
use std::time::Duration;

use agentry_bus::Wake;
use agentry_core::event::Event;
use agentry_core::id::OutboxId;
use agentry_core::outbox::OutboxBody;
use agentry_core::retry::DELIVERY;
use agentry_core::task::{MAX_HOPS, Task};
use agentry_store::{Delivery, EventAccepted, NewTask, PendingMessage};
use futures_util::stream::{self, StreamExt};

use crate::context::Context;

/// Messages claimed at once at most.
const MAX_BATCH: usize = 100;
/// Messages sent side by side at most.
const MAX_SENDING: usize = 32;
/// How often the outbox is looked at when nothing rings: for messages of workers that died.
const IDLE: Duration = Duration::from_secs(2);

/// Runs until the process stops taking work; what is claimed then is still sent.
pub(crate) async fn relay(ctx: Arc<Context>) {
    loop {
        let sent = match ctx.store.claim_outbox(ctx.worker, ctx.now(), MAX_BATCH).await {
            Ok(batch) => deliver(&ctx, batch).await,
            Err(error) => {
                tracing::warn!(%error, "could not read the outbox; trying again");
                0
            }
        };
        if ctx.stop.is_cancelled() {
            return;
        }
        if sent == MAX_BATCH {
            continue;
        }
        let due = ctx.store.next_outbox().await.ok().flatten();
        let wait = due.map_or(IDLE, |due| due.since(ctx.now()).clamp(Duration::from_millis(1), IDLE));
        tokio::select! {
            () = ctx.outbox.notified() => {}
            () = tokio::time::sleep(wait) => {}
            () = ctx.stop.cancelled() => {}
        }
    }
}

async fn deliver(ctx: &Arc<Context>, batch: Vec<PendingMessage>) -> usize {
    let count = batch.len();
    if count == 0 {
        return 0;
    }
    let results: Vec<(OutboxId, Delivery)> = stream::iter(batch)
        .map(|pending| async move {
            let id = pending.message.id;
            (id, send(ctx, &pending).await)
        })
        .buffer_unordered(MAX_SENDING)
        .collect()
        .await;
    // A settle that is lost repeats deliveries; receivers deduplicate on the id, events on (source, id).
    if let Err(error) = ctx.store.settle_outbox(results, ctx.now()).await {
        tracing::warn!(%error, "could not note what was sent; it will be sent again");
    }
    count
}

async fn send(ctx: &Arc<Context>, pending: &PendingMessage) -> Delivery {
    let result = match &pending.message.body {
        OutboxBody::Event { event } => match publish(ctx, event).await {
            Err(Undeliverable::Never(reason)) => return Delivery::Dead(reason),
            Err(Undeliverable::Now(reason)) => Err(reason),
            Ok(()) => Ok(()),
        },
        OutboxBody::Callback { url, payload } => {
            ctx.callbacks.post(url, pending.message.id, ctx.now(), payload).await.map_err(|error| error.0)
        }
    };
    match result {
        Ok(()) => Delivery::Sent,
        Err(reason) => match DELIVERY.delay_before(pending.attempt) {
            Some(delay) => {
                tracing::debug!(task = %pending.message.task, reason, "a delivery failed; it is tried again");
                Delivery::RetryAt(ctx.now().after(delay))
            }
            None => Delivery::Dead(format!("{} deliveries failed; the last one: {reason}", pending.attempt)),
        },
    }
}

enum Undeliverable {
    Now(String),
    Never(String),
}

/// Makes an event durable together with the tasks it starts, wakes them, and hands it to consumers outside.
async fn publish(ctx: &Arc<Context>, event: &Event) -> Result<(), Undeliverable> {
    let names = ctx.fleet.current().subscribers(&event.topic);
    if event.hops >= MAX_HOPS && !names.is_empty() {
        return Err(Undeliverable::Never(format!(
            "{MAX_HOPS} agents triggered one another in a row; the chain was cut at topic `{}`",
            event.topic
        )));
    }
    let tasks: Vec<Arc<Task>> = {
        let fleet = ctx.fleet.current();
        let specs = names.iter().filter_map(|name| fleet.live(name));
        specs.map(|spec| Arc::new(Task::of_event(event, spec, ctx.new_task_id(), ctx.now()))).collect()
    };
    let new = tasks.iter().map(|task| NewTask { task: Arc::clone(task), idempotency: None, ready_at: None }).collect();
    match ctx.store.accept_event(event, new).await {
        Ok(EventAccepted::New) => ctx.bus.wake(tasks.into_iter().map(Wake::of).collect()),
        Ok(EventAccepted::Duplicate) => {}
        Err(error) => return Err(Undeliverable::Now(error.to_string())),
    }
    ctx.bus.publish(event).await.map_err(|error| Undeliverable::Now(error.to_string()))
}
