//! Writing to the store as the owner of a task, until the store has taken it.

use std::sync::Arc;
use std::time::Duration;

use agentry_store::{Advance, Advanced, StoreError};
use tokio::time::Instant;

use crate::context::Context;
use crate::run::Stop;

/// Wait between tries of a write that the store could not take, in milliseconds; doubles up to [`MAX_WAIT_MS`].
const FIRST_WAIT_MS: u64 = 10;
/// The longest wait between tries of a write, in milliseconds.
const MAX_WAIT_MS: u64 = 1_000;

/// Writes until the store has taken it, or refuses it for good. An owner that cannot write keeps trying for as long as
/// the process lives: what it knows must not be lost, and nobody else may go on while it lives.
///
/// # Errors
/// [`Stop::Fenced`] when another owner has the task, [`Stop::Broken`] when trying again does not help.
pub(crate) async fn persist(ctx: &Context, advance: Arc<Advance>) -> Result<Advanced, Stop> {
    let (mut wait, began) = (Duration::from_millis(FIRST_WAIT_MS), Instant::now());
    loop {
        match ctx.store.advance(Arc::clone(&advance)).await {
            Ok(advanced) => {
                ctx.metrics.wrote("advance", began.elapsed());
                return Ok(advanced);
            }
            Err(StoreError::Fenced) => return Err(Stop::Fenced),
            Err(StoreError::Broken(reason)) => return Err(Stop::Broken(reason)),
            Err(error) => {
                tracing::warn!(task = %advance.lease.task, %error, "the store did not take a write; trying again");
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(Duration::from_millis(MAX_WAIT_MS));
            }
        }
    }
}
