//! Outbox relay: claims messages and sends them.

use std::sync::Arc;
use std::time::Duration;

use agentry_core::event::Event;
use agentry_core::id::OutboxId;
use agentry_core::outbox::OutboxBody;
use agentry_core::retry::DELIVERY;
use agentry_core::trace::{SpanContext, SpanId};
use agentry_intake::PublishError;
use agentry_store::{Delivery, PendingMessage};
use futures_util::stream::{self, StreamExt};
use tracing::Instrument as _;

use crate::context::{Context, lock};
use crate::slack;
use crate::spans;

/// Maximum number of messages claimed at once: one write claims and one settles them all.
const MAX_BATCH: usize = 500;
/// Maximum number of concurrent callbacks: each is a request to a foreign server.
const MAX_CALLBACKS: usize = 32;
/// Maximum number of events published concurrently: store and broker take many at the cost of one.
const MAX_EVENTS: usize = 256;
/// Interval between polls of the outbox without a notification: finds messages of dead workers.
const IDLE: Duration = Duration::from_secs(2);

/// Maximum delay before an event is retried while the store or the bus is unavailable, so that it leaves soon after
/// they return.
const LONGEST_WAIT: Duration = Duration::from_secs(2);

/// Relays until the process stops taking work; claimed messages are still sent then.
pub(crate) async fn relay(ctx: Arc<Context>) {
    loop {
        let held: Vec<OutboxId> = lock(&ctx.held_messages).iter().copied().collect();
        let sent = match ctx.store.claim_outbox(ctx.worker, ctx.now(), MAX_BATCH, &held).await {
            Ok(batch) => {
                lock(&ctx.held_messages).extend(batch.iter().map(|pending| pending.message.id));
                deliver(&ctx, batch).await
            }
            Err(error) => {
                tracing::warn!(%error, "reading the outbox failed; retrying");
                0
            }
        };
        if ctx.stop.is_cancelled() {
            return drain(&ctx).await;
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

/// Waits for the Slack messages that are being sent; queued ones return to the store.
async fn drain(ctx: &Context) {
    if let Some(slack) = &ctx.slack {
        slack.running.close();
        slack.running.wait().await;
    }
}

async fn deliver(ctx: &Arc<Context>, batch: Vec<PendingMessage>) -> usize {
    let count = batch.len();
    if count == 0 {
        return 0;
    }
    let (for_slack, batch): (Vec<_>, Vec<_>) =
        batch.into_iter().partition(|pending| matches!(pending.message.body, OutboxBody::Slack { .. }));
    // Slack limits the rate of its channels; no other delivery waits for it.
    let refused = slack::enqueue(ctx, for_slack);
    let (events, callbacks): (Vec<_>, Vec<_>) =
        batch.into_iter().partition(|pending| matches!(pending.message.body, OutboxBody::Event { .. }));
    // A slow receiver of callbacks delays events by at most one batch.
    let (mut results, sent) = tokio::join!(send_all(ctx, events, MAX_EVENTS), send_all(ctx, callbacks, MAX_CALLBACKS));
    results.extend(sent);
    results.extend(refused);
    if results.is_empty() {
        return count;
    }
    let settled: Vec<OutboxId> = results.iter().map(|(id, _)| *id).collect();
    // A lost settlement repeats deliveries; receivers deduplicate by id, events by (source, id).
    if let Err(error) = ctx.store.settle_outbox(results, ctx.now()).await {
        tracing::warn!(%error, "settling outbox messages failed; they will be sent again");
    }
    lock(&ctx.held_messages).retain(|id| !settled.contains(id));
    count
}

async fn send_all(ctx: &Arc<Context>, batch: Vec<PendingMessage>, most: usize) -> Vec<(OutboxId, Delivery)> {
    let sending = batch.into_iter().map(|pending| async move {
        let context = delivery_span(ctx, &pending);
        let kind = pending.message.body.kind();
        let span = spans::deliver(context.as_ref(), kind, &pending);
        let delivery = send(ctx, &pending, context).instrument(span.clone()).await;
        spans::note_delivery(&span, &delivery);
        ctx.metrics.delivered(kind, &delivery);
        (pending.message.id, delivery)
    });
    stream::iter(sending).buffer_unordered(most).collect().await
}

async fn send(ctx: &Arc<Context>, pending: &PendingMessage, context: Option<SpanContext>) -> Delivery {
    let result = match &pending.message.body {
        OutboxBody::Event { event, is_accepted } => match publish(ctx, event, *is_accepted).await {
            Ok(()) => Ok(()),
            Err(DeliveryError::Permanent(reason)) => return Delivery::Dead(reason),
            Err(DeliveryError::Refused(reason)) => Err(reason),
            // A server's outage is not the event's fault: it waits as long as necessary.
            Err(DeliveryError::Transient(reason)) => {
                tracing::debug!(message = %pending.message.id, reason, "publishing an event failed; it stays in the outbox");
                let delay = DELIVERY.delay_before(pending.attempt).unwrap_or(LONGEST_WAIT);
                return Delivery::RetryAt(ctx.now().after(delay.min(LONGEST_WAIT)));
            }
        },
        OutboxBody::Callback { url, payload } => {
            let id = pending.message.id;
            let traceparent = context.map(|context| context.traceparent());
            ctx.callbacks.post(url, id, ctx.now(), traceparent.as_deref(), payload).await.map_err(|error| error.0)
        }
        OutboxBody::Slack { .. } => return Delivery::RetryAt(ctx.now()),
    };
    match result {
        Ok(()) => Delivery::Sent,
        Err(reason) => match DELIVERY.delay_before(pending.attempt) {
            Some(delay) => {
                tracing::debug!(message = %pending.message.id, reason, "a delivery failed; retrying");
                Delivery::RetryAt(ctx.now().after(delay))
            }
            None => Delivery::Dead(format!("{} deliveries failed; the last one: {reason}", pending.attempt)),
        },
    }
}

pub(crate) fn delivery_span(ctx: &Context, pending: &PendingMessage) -> Option<SpanContext> {
    let trace = pending.message.trace?;
    let span = SpanId::of_id(pending.message.id.as_bytes()).derive(u64::from(pending.attempt));
    Some(SpanContext::of(ctx.options.sampling, trace, span))
}

/// The reason why an event could not be delivered.
pub(crate) enum DeliveryError {
    /// Transient: a retry may help.
    Transient(String),
    /// Refused by the store, because of a defect, a full disk, or a value that it cannot hold.
    Refused(String),
    /// Permanently undeliverable.
    Permanent(String),
}

impl From<PublishError> for DeliveryError {
    fn from(error: PublishError) -> Self {
        match error {
            PublishError::TooManyHops { .. } => Self::Permanent(error.to_string()),
            PublishError::Store(error) if error.is_transient() => Self::Transient(error.to_string()),
            PublishError::Store(error) => Self::Refused(error.to_string()),
        }
    }
}

/// Makes an event durable together with the tasks it starts, wakes them, and publishes it to external consumers. An
/// event that starts nothing, or was accepted before, is already durable in the outbox until the bus has it, and is not
/// written again.
async fn publish(ctx: &Arc<Context>, event: &Event, is_accepted: bool) -> Result<(), DeliveryError> {
    if !is_accepted && ctx.fleet.current().has_subscribers(&event.topic) {
        ctx.intake.deliver(event).await?;
    }
    ctx.bus.publish(event).await.map_err(|error| DeliveryError::Transient(error.to_string()))
}
