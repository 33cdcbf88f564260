//! Budgets: money is reserved before a call leaves, so that calls whose price is known never overspend.
//!
//! The reserved amount is the maximum cost of a call: every byte of the request a token, and `max_tokens` (or
//! [`ASSUMED_OUTPUT_TOKENS`]) of answer; on a retry also the cost of the failed calls before it. One reservation covers
//! a call and its retries, under the id of the first. A task's budget is reserved in its [`Run`], which all branches of
//! a plan share; an agent's daily budget in the store, which all processes share. Both end with the ledger rows of the
//! calls.

use std::sync::Arc;
use std::time::Duration;

use agentry_core::agent::AgentSpec;
use agentry_core::chat::Usage;
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
/// Answer tokens assumed for a model without `max_tokens`.
pub(crate) const ASSUMED_OUTPUT_TOKENS: u64 = 4_096;

/// Returns whether the agent may make another model call in this task.
///
/// # Errors
/// Fails with `budget_exhausted`.
pub(crate) fn allow_call(run: &Run, spec: &AgentSpec) -> Result<(), TaskError> {
    match spec.budget.max_llm_calls {
        Some(most) if run.spent().0 >= most => {
            Err(exhausted(format!("agent `{}` may make {most} model calls in one task", spec.name)))
        }
        _ => Ok(()),
    }
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
    let per_task = [spec.budget.per_task, run.task.budget].into_iter().flatten().min();
    if per_task.is_none() && spec.budget.per_day.is_none() {
        return Ok(());
    }
    let amount = lost.plus(max_cost(&run.ctx, call));
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

fn max_cost(ctx: &Context, call: &Call) -> NanoUsd {
    let bytes: usize = call.request.messages.iter().map(|message| message.content().len()).sum();
    let usage = Usage {
        input_tokens: u64::try_from(bytes).unwrap_or(u64::MAX),
        output_tokens: call.params.max_tokens.map_or(ASSUMED_OUTPUT_TOKENS, u64::from),
        ..Usage::default()
    };
    ctx.prices.cost(call.target.provider, &call.target.model, &usage, ctx.now()).unwrap_or_default()
}
