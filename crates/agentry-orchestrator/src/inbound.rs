//! Ingress for events that foreign publishers put on the bus: each is made durable with the tasks it starts, then
//! acknowledged. An event that is not acknowledged is redelivered, here or to another process.

use std::sync::Arc;
use std::time::Duration;

use agentry_bus::{DeliveredEvent, Inbound};
use agentry_core::topic::check_topic;
use futures_util::stream::{self, StreamExt};

use crate::context::Context;
use crate::relay::DeliveryError;

/// Maximum number of events of a batch that are written concurrently: the store commits them together.
const MAX_CONCURRENT: usize = 256;
/// Maximum length of an id, source or type, in bytes; the same as over HTTP.
const MAX_NAME_BYTES: usize = 255;
/// Delay before a failed write is retried; doubles up to [`MAX_DELAY`].
const MIN_DELAY: Duration = Duration::from_millis(50);
/// Maximum delay between two retries. The bus holds back further events meanwhile.
const MAX_DELAY: Duration = Duration::from_secs(2);

/// Consumes events until the process stops taking work.
pub(crate) async fn consume(ctx: Arc<Context>, mut events: Box<dyn Inbound>) {
    loop {
        let batch = tokio::select! {
            () = ctx.stop.cancelled() => return,
            batch = events.next() => batch,
        };
        if batch.is_empty() {
            return;
        }
        stream::iter(batch).for_each_concurrent(MAX_CONCURRENT, |delivered| consume_one(&ctx, delivered)).await;
    }
}

async fn consume_one(ctx: &Arc<Context>, delivered: DeliveredEvent) {
    if let Err(InvalidEvent(reason)) = check(&delivered) {
        tracing::warn!(source = %delivered.event.source, reason, "rejected an event of a foreign publisher");
        return delivered.reject(reason);
    }
    let mut delay = MIN_DELAY;
    loop {
        match ctx.intake.deliver(&delivered.event).await.map_err(DeliveryError::from) {
            Ok(_) => return delivered.ack(),
            Err(DeliveryError::Permanent(reason) | DeliveryError::Refused(reason)) => {
                tracing::warn!(source = %delivered.event.source, reason, "rejected an event of a foreign publisher");
                return delivered.reject(reason);
            }
            Err(DeliveryError::Transient(reason)) => {
                tracing::warn!(reason, "accepting an event of a foreign publisher failed; retrying");
            }
        }
        tokio::select! {
            () = tokio::time::sleep(delay) => delay = (delay * 2).min(MAX_DELAY),
            // A dropped event returns to the bus.
            () = ctx.stop.cancelled() => return,
        }
    }
}

/// The rule that an event violates.
struct InvalidEvent(String);

/// Validates the names of an event, as the HTTP ingress does.
fn check(delivered: &DeliveredEvent) -> Result<(), InvalidEvent> {
    let event = &delivered.event;
    check_topic(&event.topic).map_err(|error| InvalidEvent(error.to_string()))?;
    for (what, text) in [("id", &event.id), ("source", &event.source), ("type", &event.kind)] {
        if text.is_empty() || text.len() > MAX_NAME_BYTES || text.chars().any(char::is_control) {
            let rule = format!("`{what}` must have 1 to {MAX_NAME_BYTES} bytes and no control characters");
            return Err(InvalidEvent(rule));
        }
    }
    Ok(())
}
