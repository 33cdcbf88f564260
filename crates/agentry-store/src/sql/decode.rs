//! Decoding of rows of both SQL backends, which select the columns in the same order.

use agentry_core::access::{ApiKey, BrowserSession, KeyHash, Scope};
use agentry_core::agent::ProviderKind;
use agentry_core::chat::Usage;
use agentry_core::clarification::Clarification;
use agentry_core::id::{ClarificationId, TaskId};
use agentry_core::journal::{JournalEntry, Scope as JournalScope};
use agentry_core::money::{CallStatus, LedgerRow, NanoUsd};
use agentry_core::schedule::ScheduleRecord;
use agentry_core::session::{SessionMessage, SessionRecord};
use agentry_core::task::{TaskRecord, TaskStatus, TaskUsage};

use super::columns::{Columns, Unreadable};
use crate::{
    AgentStatus, DeadLetter, DeadLetterOrigin, DeadLetterState, FleetChanges, FleetRow, SlotRecord, SlotState, UsageRow,
};

type Decoded<T, R> = Result<T, <R as Columns>::Failure>;

fn hash<R: Columns>(row: &R, at: usize) -> Decoded<KeyHash, R> {
    KeyHash::from_hex(row.plain(at)?).ok_or_else(|| Unreadable("a hash is not 64 hex digits".to_owned()).into())
}

/// `id, hash, name, scope, created_at, expires_at, used_at, revoked_at`
pub(crate) fn api_key<R: Columns>(row: &R) -> Decoded<ApiKey, R> {
    Ok(ApiKey {
        id: row.id(0)?,
        hash: hash(row, 1)?,
        name: row.text(2)?,
        scope: row.numbered(3, "scope", Scope::from_number)?,
        created_at: row.time(4)?,
        expires_at: row.time_or_none(5)?,
        last_used_at: row.time_or_none(6)?,
        revoked_at: row.time_or_none(7)?,
    })
}

/// `hash, key, created_at, ends_at`
pub(crate) fn browser_session<R: Columns>(row: &R) -> Decoded<BrowserSession, R> {
    Ok(BrowserSession { hash: hash(row, 0)?, key: row.id(1)?, created_at: row.time(2)?, ends_at: row.time(3)? })
}

/// `agent, state, version, restarts, reason, since`
pub(crate) fn agent_status<R: Columns>(row: &R) -> Decoded<AgentStatus, R> {
    Ok(AgentStatus {
        agent: row.agent(0)?,
        state: serde_json::from_value(row.plain(1)?.into()).map_err(Unreadable::from)?,
        version: row.text_or_none(2)?,
        restarts: row.count(3)?,
        reason: row.text_or_none(4)?,
        since: row.time(5)?,
    })
}

/// `agent, version, removed, revision`
pub(crate) fn fleet_row<R: Columns>(row: &R) -> Decoded<(FleetRow, u64), R> {
    Ok((FleetRow { agent: row.agent(0)?, version: row.text(1)?, removed: row.flag(2)? }, row.count(3)?))
}

/// Builds the changes after a revision from the rows with a later one.
pub(crate) fn fleet_changes(after: u64, found: Vec<(FleetRow, u64)>) -> FleetChanges {
    let revision = found.iter().map(|(_, revision)| *revision).max().unwrap_or(after);
    FleetChanges { revision, rows: found.into_iter().map(|(row, _)| row).collect() }
}

/// `body, resolution`
pub(crate) fn clarification<R: Columns>(row: &R) -> Decoded<Clarification, R> {
    Ok(Clarification { resolution: row.json_or_none(1)?, ..row.json(0)? })
}

/// `id, origin, task, agent, reason, payload, created_at, state`
pub(crate) fn dead_letter<R: Columns>(row: &R) -> Decoded<DeadLetter, R> {
    use DeadLetterOrigin::{Outbox, Task};
    use DeadLetterState::{Dropped, Open, Replayed};
    let origin = |number| [Task, Outbox].get(usize::from(number)).copied();
    let state = |number| [Open, Replayed, Dropped].get(usize::from(number)).copied();
    Ok(DeadLetter {
        id: row.id(0)?,
        origin: row.numbered(1, "dead-letter origin", origin)?,
        task: row.id(2)?,
        agent: row.agent(3)?,
        reason: row.json(4)?,
        payload: row.json(5)?,
        created_at: row.time(6)?,
        state: row.numbered(7, "dead-letter state", state)?,
    })
}

/// `name, agent, from_file, spec, paused, last_slot, missed, skipped, created_at`
pub(crate) fn schedule<R: Columns>(row: &R) -> Decoded<ScheduleRecord, R> {
    Ok(ScheduleRecord {
        name: row.text(0)?,
        agent: row.agent(1)?,
        from_file: row.flag(2)?,
        spec: row.json(3)?,
        paused: row.flag(4)?,
        last_slot: row.time_or_none(5)?,
        missed: row.count(6)?,
        skipped: row.count(7)?,
        created_at: row.time(8)?,
    })
}

/// Decodes the state of a slot.
pub(crate) fn slot_state<R: Columns>(row: &R, at: usize) -> Decoded<SlotState, R> {
    use SlotState::{Fired, Missed, Skipped};
    row.numbered(at, "slot state", |number| [Fired, Skipped, Missed].get(usize::from(number)).copied())
}

/// `slot, state, task, decided_at`
pub(crate) fn slot<R: Columns>(row: &R) -> Decoded<SlotRecord, R> {
    Ok(SlotRecord {
        slot: row.time(0)?,
        state: slot_state(row, 1)?,
        task: row.id_or_none(2)?,
        decided_at: row.time(3)?,
    })
}

/// From column `at` on: `id, fence, messages, turns, summary, created_at, updated_at`
pub(crate) fn session<R: Columns>(row: &R, at: usize) -> Decoded<SessionRecord, R> {
    Ok(SessionRecord {
        id: row.session(at)?,
        fence: row.count(at + 1)?,
        messages: row.count(at + 2)?,
        turns: row.count(at + 3)?,
        summary: row.json_or_none(at + 4)?,
        created_at: row.time(at + 5)?,
        updated_at: row.time(at + 6)?,
    })
}

/// `number, task, at, body`
pub(crate) fn message<R: Columns>(row: &R) -> Decoded<SessionMessage, R> {
    Ok(SessionMessage { number: row.count(0)?, task: row.id(1)?, at: row.time(2)?, message: row.json(3)? })
}

/// `seq, attempt, scope, at, body`
pub(crate) fn journal_entry<R: Columns>(row: &R) -> Decoded<JournalEntry, R> {
    Ok(JournalEntry {
        seq: row.count(0)?,
        attempt: row.count(1)?,
        scope: JournalScope::from(row.text::<String>(2)?),
        at: row.time(3)?,
        body: row.json(4)?,
    })
}

/// `calls, input, output, cost, unpriced` from column `at` on.
pub(crate) fn spent<R: Columns>(row: &R, at: usize) -> Decoded<TaskUsage, R> {
    Ok(TaskUsage {
        llm_calls: row.count(at)?,
        input_tokens: row.count(at + 1)?,
        output_tokens: row.count(at + 2)?,
        cost_nanos: NanoUsd(row.number(at + 3)?),
        unpriced_calls: row.count(at + 4)?,
    })
}

/// `body, status, attempt, epoch, owner, version, ready_at, started_at, finished_at, cancel, outcome`
pub(crate) fn task_record<R: Columns>(
    row: &R,
    spent: TaskUsage,
    clarifications: Vec<ClarificationId>,
) -> Decoded<TaskRecord, R> {
    let (status, epoch) = (row.status(1)?, row.count(3)?);
    Ok(TaskRecord {
        task: row.json(0)?,
        status,
        attempt: row.count(2)?,
        epoch,
        owner: row.id_or_none(4)?.filter(|_| status == TaskStatus::Running),
        agent_version: row.text_or_none(5)?,
        ready_at: row.time(6)?,
        started_at: row.time_or_none(7)?.filter(|_| epoch > 0),
        finished_at: row.time_or_none(8)?.filter(|_| status.is_terminal()),
        cancel_requested: row.flag(9)?,
        outcome: row.json_or_none(10)?,
        spent,
        clarifications,
    })
}

/// From column 1 on: `calls, failed, unpriced, input, cached, output, cost`
pub(crate) fn usage_row<R: Columns>(row: &R, key: String) -> Decoded<UsageRow, R> {
    Ok(UsageRow {
        key,
        calls: row.count(1)?,
        failed_calls: row.count(2)?,
        unpriced_calls: row.count(3)?,
        input_tokens: row.count(4)?,
        cached_tokens: row.count(5)?,
        output_tokens: row.count(6)?,
        cost_nanos: NanoUsd(row.number(7)?),
    })
}

/// `call, agent, provider, model, status, input, cached, output, reasoning, cost, at, duration_us, cache_write,
/// cache_write_1h, provider_call`
pub(crate) fn ledger_row<R: Columns>(task: TaskId, row: &R) -> Decoded<LedgerRow, R> {
    let provider = row.plain(2)?;
    let known = ProviderKind::ALL.into_iter().find(|kind| kind.as_str() == provider);
    Ok(LedgerRow {
        call: row.id(0)?,
        task,
        agent: row.agent(1)?,
        provider: known.ok_or_else(|| Unreadable(format!("there is no provider `{provider}`")))?,
        model: row.text(3)?,
        status: match row.number(4)? {
            0 => CallStatus::Completed,
            2 => CallStatus::Estimated,
            _ => CallStatus::Failed,
        },
        usage: Usage {
            input_tokens: row.count(5)?,
            cached_tokens: row.count(6)?,
            output_tokens: row.count(7)?,
            reasoning_tokens: row.count(8)?,
            cache_write_tokens: row.count(12)?,
            cache_write_1h_tokens: row.count(13)?,
            ..Usage::default()
        },
        provider_call: row.text_or_none(14)?,
        cost: row.number_or_none(9)?.map(NanoUsd),
        at: row.time(10)?,
        duration_us: row.count(11)?,
    })
}
