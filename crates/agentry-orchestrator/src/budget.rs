//! Budgets: money is reserved before a call leaves, so that calls whose price is known never overspend.
//!
//! The reserved amount is the maximum cost of a call: every byte of the request a token (messages, tools, schemas), at
//! the dearest price of the input, and the whole of the answer's limit, which is always sent when money is counted; on a
//! retry also the cost of the failed calls before it. One reservation covers
//! a call and its retries, under the id of the first. A task's budget is reserved in its [`Run`], which all branches of
//! a plan share; an agent's daily budget in the store, which all processes share. Both end with the ledger rows of the
//! calls.

use std::sync::Arc;
use std::time::Duration;

use agentry_core::agent::{AgentSpec, Unpriced};
use agentry_core::chat::{ChatRequest, Usage};
use agentry_core::id::CallId;
use agentry_core::money::NanoUsd;
use agentry_core::task::{ErrorCode, TaskError};
use agentry_llm::Call;
use agentry_store::{Reservation, ReserveResult, StoreError};
use tokio::sync::oneshot;

use crate::context::Context;
use crate::run::Run;

/// Delay before a failed release is retried.
const RELEASE_BACKOFF: Duration = Duration::from_millis(200);

/// Returns whether the agent may make another model call in this task, after `tries` of the current one. A retry is a
/// call: it may be paid.
///
/// # Errors
/// Fails with `budget_exhausted`.
pub(crate) fn allow_call(run: &Run, spec: &AgentSpec, tries: u32) -> Result<(), TaskError> {
    match spec.budget.max_llm_calls {
        Some(most) if run.spent().0.saturating_add(tries) >= most => {
            Err(exhausted(format!("agent `{}` may make {most} model calls in one task", spec.name)))
        }
        _ => Ok(()),
    }
}

/// Returns whether the task or the agent has a limit in dollars.
pub(crate) fn is_in_dollars(run: &Run, spec: &AgentSpec) -> bool {
    spec.budget.per_task.is_some() || spec.budget.per_day.is_some() || run.task.budget.is_some()
}

/// Reserves the maximum cost of a call, plus the cost `lost` of earlier failed calls in the same reservation (`first`).
///
/// # Errors
/// Fails with `budget_exhausted` if a limit of the task or the agent would be exceeded.
pub(crate) async fn reserve(
    run: &Run,
    spec: &AgentSpec,
    first: CallId,
    call: &Call,
    lost: NanoUsd,
) -> Result<(), TaskError> {
    if !is_in_dollars(run, spec) {
        return Ok(());
    }
    let per_task = [spec.budget.per_task, run.task.budget].into_iter().flatten().min();
    let amount = match (max_cost(&run.ctx, call), spec.budget.unpriced) {
        (Some(cost), _) => lost.plus(cost),
        (None, Unpriced::Allow) => lost,
        (None, Unpriced::Refuse) => {
            return Err(exhausted(format!(
                "model `{}` of {} has no price, so that a limit in dollars cannot hold: add it to the price file, or set \
                 `unpriced: allow` in the agent's budget",
                call.target.model, call.target.provider
            )));
        }
    };
    if let Some(cap) = per_task {
        run.reserve(first, amount, cap).map_err(|(spent, reserved)| {
            exhausted(format!(
                "the task has spent {spent} of {cap} ({reserved} more is reserved), and the next call may cost {amount}"
            ))
        })?;
    }
    let Some(cap) = spec.budget.per_day else { return Ok(()) };
    let reservation = Reservation {
        call: first,
        task: run.task.id,
        agent: spec.name.clone(),
        worker: run.lease.worker,
        amount,
        cap,
        now: run.ctx.now(),
    };
    match reserve_day(run, reservation).await {
        Ok(ReserveResult::Reserved) => Ok(()),
        Ok(ReserveResult::OverCap { spent, reserved }) => {
            run.release(first);
            Err(exhausted(format!(
                "agent `{}` has spent {spent} of {cap} today ({reserved} more is reserved), and the next call may cost \
                 {amount}",
                spec.name
            )))
        }
        Err(error) => {
            run.release(first);
            Err(TaskError::new(ErrorCode::Internal, format!("reserving budget for the next call failed: {error}")))
        }
    }
}

/// Reserves money of a daily budget in the store. The run's future may be dropped meanwhile, and the store may execute
/// the reservation although its answer is lost: then the background task releases it.
async fn reserve_day(run: &Run, reservation: Reservation) -> Result<ReserveResult, StoreError> {
    let call = reservation.call;
    run.day_reservation_opens(call);
    let (answer, answered) = oneshot::channel();
    let ctx = Arc::clone(&run.ctx);
    run.ctx.runs.spawn(async move {
        let reserved = ctx.store.reserve(reservation).await;
        let is_lost = reserved.is_err();
        // A refused reservation may have replaced an earlier one of the same chat, which the run releases.
        if answer.send(reserved).is_err() || is_lost {
            release_reservation(&ctx, call).await;
        }
    });
    let reserved = answered.await.unwrap_or_else(|_| Err(StoreError::Unavailable("the reservation was lost".into())));
    if reserved.is_err() {
        run.day_reservation_ended(call);
    }
    reserved
}

/// Releases the reservation of a call that did not leave.
pub(crate) async fn release(run: &Run, spec: &AgentSpec, first: CallId) {
    run.release(first);
    if spec.budget.per_day.is_some() {
        release_reservation(&run.ctx, first).await;
        run.day_reservation_ended(first);
    }
}

/// Releases all reservations of a run that ends, in the background.
pub(crate) fn release_all(run: &Run) {
    for call in run.take_day_reservations() {
        let ctx = Arc::clone(&run.ctx);
        run.ctx.runs.spawn(async move { release_reservation(&ctx, call).await });
    }
}

/// Retries a release until the store has taken it, or the process ends: reservations of a dead worker do not count.
async fn release_reservation(ctx: &Context, call: CallId) {
    while let Err(error) = ctx.store.release(call).await {
        tracing::warn!(%call, %error, "releasing a budget reservation failed; retrying");
        tokio::select! {
            () = tokio::time::sleep(RELEASE_BACKOFF) => {}
            () = ctx.interrupt.cancelled() => return,
        }
    }
}

fn exhausted(message: String) -> TaskError {
    TaskError::new(ErrorCode::BudgetExhausted, message)
}

fn max_cost(ctx: &Context, call: &Call) -> Option<NanoUsd> {
    let usage = most_usage(call);
    let tokens = (usage.input_tokens, usage.output_tokens);
    let tier = call.params.service_tier.as_deref().and_then(|tier| tier.parse().ok());
    ctx.prices.most(call.target.provider, &call.target.model, tokens, tier, ctx.now())
}

/// Returns the most tokens that a call can use: no token is shorter than a byte.
pub(crate) fn most_usage(call: &Call) -> Usage {
    let ChatRequest { messages, tools, output_schema } = &call.request;
    let mut bytes = ByteCount(0);
    // Counting never fails.
    let _ = serde_json::to_writer(&mut bytes, &(messages, tools, output_schema, &call.response_format));
    Usage { input_tokens: bytes.0, output_tokens: u64::from(call.output_limit()), ..Usage::default() }
}

/// Counts what is written.
struct ByteCount(u64);

impl std::io::Write for ByteCount {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
