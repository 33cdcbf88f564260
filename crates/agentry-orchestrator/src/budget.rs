//! Budgets: money is set aside before a call leaves, and never overspent by calls whose price is known.
//!
//! What is set aside assumes the most a call can cost: every byte of the request a token, and `max_tokens` (or
//! [`ASSUMED_OUTPUT_TOKENS`]) of answer; on a retry also what the failed calls before it cost. One reservation stands for
//! a call and its retries, under the id of the first. A task's own money is set aside in its [`Run`], which all branches
//! of a plan share; an agent's day in the store, which all processes share. Both end with the ledger rows of the calls.

use agentry_core::agent::AgentSpec;
use agentry_core::chat::Usage;
use agentry_core::id::CallId;
use agentry_core::money::NanoUsd;
use agentry_core::task::{ErrorCode, TaskError};
use agentry_llm::Call;
use agentry_store::{Reservation, Reserved};

use crate::context::Context;
use crate::run::Run;

/// Answer tokens assumed for a model without `max_tokens`.
pub(crate) const ASSUMED_OUTPUT_TOKENS: u64 = 4_096;

/// Whether the agent may make another model call in this task.
///
/// # Errors
/// `budget_exhausted`.
pub(crate) fn allow_call(run: &Run, spec: &AgentSpec) -> Result<(), TaskError> {
    match spec.budget.max_llm_calls {
        Some(most) if run.spent().0 >= most => {
            Err(exhausted(format!("agent `{}` may make {most} model calls in one task", spec.name)))
        }
        _ => Ok(()),
    }
}

/// Sets aside what a call may cost, after calls before it in the same reservation (`first`) that failed and cost `lost`.
///
/// # Errors
/// `budget_exhausted`, when a cap of the task or the agent would be overspent.
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
    let amount = lost.plus(most_it_can_cost(&run.ctx, call));
    if let Some(cap) = per_task {
        run.set_aside(first, amount, cap).map_err(|(spent, reserved)| {
            exhausted(format!(
                "the task has spent {spent} of {cap} ({reserved} more is set aside), and the next call may cost {amount}"
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
    match run.ctx.store.reserve(reservation).await {
        Ok(Reserved::Yes) => Ok(()),
        Ok(Reserved::No { spent, reserved }) => {
            run.put_back(first);
            Err(exhausted(format!(
                "agent `{}` has spent {spent} of {cap} today ({reserved} more is set aside), and the next call may cost \
                 {amount}",
                spec.name
            )))
        }
        Err(error) => {
            run.put_back(first);
            Err(TaskError::new(ErrorCode::Internal, format!("cannot set money aside for the next call: {error}")))
        }
    }
}

/// Gives back what was set aside for a call that did not leave.
pub(crate) async fn release(run: &Run, spec: &AgentSpec, first: CallId) {
    run.put_back(first);
    if spec.budget.per_day.is_some()
        && let Err(error) = run.ctx.store.release(first).await
    {
        tracing::warn!(task = %run.task.id, %error, "money stays set aside until this process ends");
    }
}

fn exhausted(message: String) -> TaskError {
    TaskError::new(ErrorCode::BudgetExhausted, message)
}

fn most_it_can_cost(ctx: &Context, call: &Call) -> NanoUsd {
    let bytes: usize = call.request.messages.iter().map(|message| message.content().len()).sum();
    let usage = Usage {
        input_tokens: u64::try_from(bytes).unwrap_or(u64::MAX),
        output_tokens: call.params.max_tokens.map_or(ASSUMED_OUTPUT_TOKENS, u64::from),
        ..Usage::default()
    };
    ctx.prices.cost(call.target.provider, &call.target.model, &usage, ctx.now()).unwrap_or_default()
}
