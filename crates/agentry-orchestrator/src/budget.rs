//! Budgets: reserved before a call, settled after it, never overspent by calls whose price is known.
//!
//! A reservation assumes the most a call can cost: every byte of the request a token, and `max_tokens` (or
//! [`ASSUMED_OUTPUT_TOKENS`]) of answer. A task's own spending comes from its journal.
//!
//! With one process a day's cap is exact. With several it is approximate: reservations live in the process that made
//! them, and what others spent is read from the store at most once a [`REREAD`]. So a cap can be overspent by what the
//! other processes have under way, and no further.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use agentry_core::agent::{AgentName, AgentSpec};
use agentry_core::chat::Usage;
use agentry_core::id::CallId;
use agentry_core::money::NanoUsd;
use agentry_core::task::{ErrorCode, TaskError};
use agentry_core::time::Timestamp;
use agentry_llm::Call;

use crate::context::{Context, lock};
use crate::run::Run;

/// Answer tokens assumed for a model without `max_tokens`.
pub(crate) const ASSUMED_OUTPUT_TOKENS: u64 = 4_096;

/// How old the sum of the ledger may be when a call of an agent with a cap for the day is reserved.
const REREAD: Duration = Duration::from_secs(1);

/// What is reserved and spent, by agent and by task.
#[derive(Default)]
pub(crate) struct Budgets {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    days: HashMap<AgentName, Day>,
    reserved: HashMap<CallId, Reservation>,
}

struct Day {
    date: String,
    /// When the ledger was last asked.
    read_at: Timestamp,
    spent: NanoUsd,
    reserved: NanoUsd,
}

struct Reservation {
    agent: AgentName,
    amount: NanoUsd,
}

impl Budgets {
    /// Reserves what a call may cost.
    ///
    /// # Errors
    /// `budget_exhausted`, when a cap of the task or the agent would be overspent.
    pub async fn reserve(&self, ctx: &Context, run: &Run, spec: &AgentSpec, call: &Call) -> Result<(), TaskError> {
        let (calls, cost) = run.spent();
        if let Some(most) = spec.budget.max_llm_calls
            && calls >= most
        {
            return Err(exhausted(format!("agent `{}` may make {most} model calls in one task", spec.name)));
        }
        let per_task = [spec.budget.per_task, run.task.budget].into_iter().flatten().min();
        if per_task.is_none() && spec.budget.per_day.is_none() {
            return Ok(());
        }
        let amount = most_it_can_cost(ctx, call);
        if let Some(cap) = per_task
            && cost.plus(amount) > cap
        {
            return Err(exhausted(format!("the task has spent {cost} of {cap}, and the next call may cost {amount}")));
        }
        if let Some(cap) = spec.budget.per_day {
            self.load_day(ctx, &spec.name).await?;
            let mut inner = lock(&self.inner);
            if let Some(day) = inner.days.get_mut(&spec.name) {
                if day.spent.plus(day.reserved).plus(amount) > cap {
                    return Err(exhausted(format!(
                        "agent `{}` has spent {} of {cap} today ({} more is reserved), and the next call may cost {amount}",
                        spec.name, day.spent, day.reserved
                    )));
                }
                day.reserved = day.reserved.plus(amount);
            }
            inner.reserved.insert(call.id, Reservation { agent: spec.name.clone(), amount });
        }
        Ok(())
    }

    /// A call ended: its reservation becomes what it cost.
    pub fn settle(&self, call: CallId, cost: NanoUsd) {
        let mut inner = lock(&self.inner);
        if let Some(reservation) = inner.reserved.remove(&call)
            && let Some(day) = inner.days.get_mut(&reservation.agent)
        {
            day.reserved = NanoUsd(day.reserved.0 - reservation.amount.0);
            day.spent = day.spent.plus(cost);
        }
    }

    /// Takes over what was spent today by others, and by this process before it looked.
    async fn load_day(&self, ctx: &Context, agent: &AgentName) -> Result<(), TaskError> {
        let now = ctx.now();
        let date = now.utc_day();
        let known = match lock(&self.inner).days.get_mut(agent).filter(|day| day.date == date) {
            Some(day) if now.since(day.read_at) < REREAD => return Ok(()),
            Some(day) => {
                // Calls that come while the ledger is read go by the sum before.
                day.read_at = now;
                true
            }
            None => false,
        };
        let midnight = Timestamp(now.0 - now.0.rem_euclid(86_400_000_000));
        let spent = match ctx.store.spent(agent, midnight, now).await {
            Ok(spent) => spent,
            Err(error) if known => {
                tracing::warn!(%agent, %error, "could not read today's spending again; going by what is known here");
                return Ok(());
            }
            Err(error) => {
                let message = format!("cannot read today's spending: {error}");
                return Err(TaskError::new(ErrorCode::Internal, message));
            }
        };
        let mut inner = lock(&self.inner);
        let day = inner.days.entry(agent.clone()).or_insert_with(|| Day {
            date: date.clone(),
            read_at: now,
            spent,
            reserved: NanoUsd::ZERO,
        });
        if day.date == date {
            // The ledger may lack calls that were settled here and are not written yet: the larger sum knows more.
            day.spent = day.spent.max(spent);
        } else {
            // Reservations of running calls carry over: they will be paid today.
            (day.date, day.read_at, day.spent) = (date, now, spent);
        }
        Ok(())
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
    ctx.prices.cost(call.target.provider, &call.target.model, &usage).unwrap_or_default()
}
