//! Writes of a task's owner, retried until the store accepts them.

use std::sync::Arc;
use std::time::Duration;

use agentry_store::{Advance, AdvanceResult, StoreError};
use tokio::time::Instant;

use crate::context::Context;
use crate::run::Stop;

/// Delay before a failed write is retried.
const MIN_DELAY: Duration = Duration::from_millis(10);
/// Maximum delay between retries.
const MAX_DELAY: Duration = Duration::from_secs(1);

/// Writes until the store accepts or permanently refuses it. An owner retries for as long as the process lives: its
/// results must not be lost, and no other worker may continue while it lives.
///
/// # Errors
/// Fails with [`Stop::Fenced`] if the task has another owner, with [`Stop::Broken`] if retries cannot help.
pub(crate) async fn persist(ctx: &Context, advance: Arc<Advance>) -> Result<AdvanceResult, Stop> {
    let (mut delay, began) = (MIN_DELAY, Instant::now());
    loop {
        match ctx.store.advance(Arc::clone(&advance)).await {
            Ok(advanced) => {
                ctx.metrics.wrote("advance", began.elapsed());
                return Ok(advanced);
            }
            Err(StoreError::Fenced) => return Err(Stop::Fenced),
            Err(StoreError::Broken(reason)) => return Err(Stop::Broken(reason)),
            Err(error) => {
                tracing::warn!(task = %advance.lease.task, %error, "writing to the store failed; retrying");
                tokio::time::sleep(delay).await;
                delay = (delay * 2).min(MAX_DELAY);
            }
        }
    }
}
