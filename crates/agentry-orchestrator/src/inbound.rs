//! Takes in events that others than Agentry publish on the bus: made durable with the tasks they start, then
//! acknowledged. What is not acknowledged comes again, here or in another process.

use std::sync::Arc;
use std::time::Duration;

use agentry_bus::{Delivered, Inbound};
use agentry_core::topic::check_topic;
use futures_util::stream::{self, StreamExt};

use crate::context::Context;
use crate::relay::Undeliverable;

/// Events of a batch that are written side by side at most: the store commits them together.
const MAX_TAKING: usize = 256;
/// The longest id, source or type, in bytes; as over HTTP.
const MAX_NAME_BYTES: usize = 255;
/// Wait before an event that the store could not take is tried again; doubles up to [`MAX_WAIT`].
const FIRST_WAIT: Duration = Duration::from_millis(50);
/// The longest wait between two tries. The bus holds further events back meanwhile.
const MAX_WAIT: Duration = Duration::from_secs(2);

/// Runs until the process stops taking work.
pub(crate) async fn take_in(ctx: Arc<Context>, mut events: Box<dyn Inbound>) {
    loop {
        let batch = tokio::select! {
            () = ctx.stop.cancelled() => return,
            batch = events.next() => batch,
        };
        if batch.is_empty() {
            return;
        }
        stream::iter(batch).for_each_concurrent(MAX_TAKING, |delivered| take(&ctx, delivered)).await;
    }
}

async fn take(ctx: &Arc<Context>, delivered: Delivered) {
    if let Err(reason) = check(&delivered) {
        tracing::warn!(source = %delivered.event.source, reason, "an event from outside was rejected");
        return delivered.reject(reason);
    }
    let mut wait = FIRST_WAIT;
    loop {
        match ctx.intake.deliver(&delivered.event).await.map_err(Undeliverable::from) {
            Ok(_) => return delivered.ack(),
            Err(Undeliverable::Never(reason) | Undeliverable::Refused(reason)) => {
                tracing::warn!(source = %delivered.event.source, reason, "an event from outside was rejected");
                return delivered.reject(reason);
            }
            Err(Undeliverable::Now(reason)) => {
                tracing::warn!(reason, "could not take an event from outside; trying again");
            }
        }
        tokio::select! {
            () = tokio::time::sleep(wait) => wait = (wait * 2).min(MAX_WAIT),
            // Dropped, it goes back to the bus.
            () = ctx.stop.cancelled() => return,
        }
    }
}

/// What the HTTP door checks of an event's names.
fn check(delivered: &Delivered) -> Result<(), String> {
    let event = &delivered.event;
    check_topic(&event.topic).map_err(|error| error.to_string())?;
    for (what, text) in [("id", &event.id), ("source", &event.source), ("type", &event.kind)] {
        if text.is_empty() || text.len() > MAX_NAME_BYTES || text.chars().any(char::is_control) {
            return Err(format!("`{what}` has 1 to {MAX_NAME_BYTES} bytes and no control characters"));
        }
    }
    Ok(())
}
