//! The outbox relay: sends what ended tasks left to be sent. Each message is claimed before it is sent.

use std::sync::Arc;
use std::time::Duration;

use agentry_core::event::Event;
use agentry_core::id::OutboxId;
use agentry_core::outbox::OutboxBody;
use agentry_core::retry::DELIVERY;
use agentry_core::trace::{Place, SpanId};
use agentry_intake::PublishError;
use agentry_store::{Delivery, PendingMessage};
use futures_util::stream::{self, StreamExt};
use tracing::Instrument as _;

use crate::context::{Context, lock};
use crate::slack;
use crate::spans;

/// Messages claimed at once at most: one write claims and one settles them all.
const MAX_BATCH: usize = 500;
/// Callbacks sent side by side at most: each is a request to somebody else's server.
const MAX_CALLBACKS: usize = 32;
/// Events published side by side at most: store and broker take many at the cost of one.
const MAX_EVENTS: usize = 256;
/// How often the outbox is looked at when nothing rings: for messages of workers that died.
const IDLE: Duration = Duration::from_secs(2);

/// The longest wait before an event is tried again while store or bus are away: it leaves soon after they are back.
const LONGEST_WAIT: Duration = Duration::from_secs(2);

/// Runs until the process stops taking work; what is claimed then is still sent.
pub(crate) async fn relay(ctx: Arc<Context>) {
    loop {
        let held: Vec<OutboxId> = lock(&ctx.held_messages).iter().copied().collect();
        let sent = match ctx.store.claim_outbox(ctx.worker, ctx.now(), MAX_BATCH, &held).await {
            Ok(batch) => {
                lock(&ctx.held_messages).extend(batch.iter().map(|pending| pending.message.id));
                deliver(&ctx, batch).await
            }
            Err(error) => {
                tracing::warn!(%error, "could not read the outbox; trying again");
                0
            }
        };
        if ctx.stop.is_cancelled() {
            return quiet(&ctx).await;
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

/// What is said in Slack just now is said; what waits there goes back to the store.
async fn quiet(ctx: &Context) {
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
    // Slack sets the pace of its channels; nothing else waits for it.
    let not_taken = slack::hand_over(ctx, for_slack);
    let (events, callbacks): (Vec<_>, Vec<_>) =
        batch.into_iter().partition(|pending| matches!(pending.message.body, OutboxBody::Event { .. }));
    // A slow receiver of callbacks holds up no events for longer than one batch.
    let (mut results, sent) = tokio::join!(send_all(ctx, events, MAX_EVENTS), send_all(ctx, callbacks, MAX_CALLBACKS));
    results.extend(sent);
    results.extend(not_taken);
    if results.is_empty() {
        return count;
    }
    let settled: Vec<OutboxId> = results.iter().map(|(id, _)| *id).collect();
    // A settle that is lost repeats deliveries; receivers deduplicate on the id, events on (source, id).
    if let Err(error) = ctx.store.settle_outbox(results, ctx.now()).await {
        tracing::warn!(%error, "could not note what was sent; it will be sent again");
    }
    lock(&ctx.held_messages).retain(|id| !settled.contains(id));
    count
}

async fn send_all(ctx: &Arc<Context>, batch: Vec<PendingMessage>, most: usize) -> Vec<(OutboxId, Delivery)> {
    let sending = batch.into_iter().map(|pending| async move {
        let place = delivery_place(ctx, &pending);
        let kind = pending.message.body.kind();
        let span = spans::deliver(place.as_ref(), kind, &pending);
        let delivery = send(ctx, &pending, place).instrument(span.clone()).await;
        spans::note_delivery(&span, &delivery);
        ctx.metrics.delivered(kind, &delivery);
        (pending.message.id, delivery)
    });
    stream::iter(sending).buffer_unordered(most).collect().await
}

async fn send(ctx: &Arc<Context>, pending: &PendingMessage, place: Option<Place>) -> Delivery {
    let result = match &pending.message.body {
        OutboxBody::Event { event, is_accepted } => match publish(ctx, event, *is_accepted).await {
            Ok(()) => Ok(()),
            Err(Undeliverable::Never(reason)) => return Delivery::Dead(reason),
            Err(Undeliverable::Refused(reason)) => Err(reason),
            // The outage of a server is no fault of the event: it waits for as long as that takes.
            Err(Undeliverable::Now(reason)) => {
                tracing::debug!(message = %pending.message.id, reason, "an event cannot leave yet");
                let delay = DELIVERY.delay_before(pending.attempt).unwrap_or(LONGEST_WAIT);
                return Delivery::RetryAt(ctx.now().after(delay.min(LONGEST_WAIT)));
            }
        },
        OutboxBody::Callback { url, payload } => {
            let id = pending.message.id;
            let traceparent = place.map(|place| place.traceparent());
            ctx.callbacks.post(url, id, ctx.now(), traceparent.as_deref(), payload).await.map_err(|error| error.0)
        }
        OutboxBody::Slack { .. } => return Delivery::RetryAt(ctx.now()),
    };
    match result {
        Ok(()) => Delivery::Sent,
        Err(reason) => match DELIVERY.delay_before(pending.attempt) {
            Some(delay) => {
                tracing::debug!(message = %pending.message.id, reason, "a delivery failed; it is tried again");
                Delivery::RetryAt(ctx.now().after(delay))
            }
            None => Delivery::Dead(format!("{} deliveries failed; the last one: {reason}", pending.attempt)),
        },
    }
}

/// A try of a delivery in its trace.
pub(crate) fn delivery_place(ctx: &Context, pending: &PendingMessage) -> Option<Place> {
    let trace = pending.message.trace?;
    let span = SpanId::of_id(pending.message.id.as_bytes()).derive(u64::from(pending.attempt));
    Some(Place::of(ctx.options.sampling, trace, span))
}

/// Why an event was not accepted.
pub(crate) enum Undeliverable {
    /// Not now: trying again may help.
    Now(String),
    /// The store refuses it: a fault of ours or of a disk, or a value that it cannot hold.
    Refused(String),
    /// It never can be.
    Never(String),
}

impl From<PublishError> for Undeliverable {
    fn from(error: PublishError) -> Self {
        match error {
            PublishError::TooManyHops { .. } => Self::Never(error.to_string()),
            PublishError::Store(error) if error.is_transient() => Self::Now(error.to_string()),
            PublishError::Store(error) => Self::Refused(error.to_string()),
        }
    }
}

/// Makes an event durable together with the tasks it starts, wakes them, and hands it to consumers outside. One that
/// starts nothing, or was accepted before, is durable in the outbox until the bus has it: writing it again would only
/// cost.
async fn publish(ctx: &Arc<Context>, event: &Event, is_accepted: bool) -> Result<(), Undeliverable> {
    if !is_accepted && ctx.fleet.current().has_subscribers(&event.topic) {
        ctx.intake.deliver(event).await?;
    }
    ctx.bus.publish(event).await.map_err(|error| Undeliverable::Now(error.to_string()))
}
