//! Clients that submit tasks, people who answer questions and change their minds, and outages.

use std::sync::Arc;
use std::time::Duration;

use agentry_bus::{EventBus, Signal, Wake};
use agentry_core::clarification::Resolution;
use agentry_core::id::{OutboxId, TaskId};
use agentry_core::outbox::{EndEvent, messages_of_end};
use agentry_core::task::{ErrorCode, IdempotencyKey, Outcome, Submission, Task, TaskError, TaskSource};
use agentry_core::time::Clock;
use agentry_core::trace::Trace;
use agentry_store::{Acceptance, CancelResult, ResolveResult, TaskStore};
use agentry_testkit::{FaultyBus, Outage};
use serde_json::json;

use crate::fleet::{name, spec_of};
use crate::stage::Stage;

/// Agents that tasks are submitted to.
const AGENTS: [&str; 6] = ["solo", "helper", "clerk", "chat", "team", "hasty"];
/// Words that trigger actions of the scripted model; see `agentry_testkit::script`.
const WORDS: [&str; 8] = ["", "ask", "tools", "tools", "tools", "twins", "again", "ask tools"];
/// Delay before a client or a person tries again.
const RETRY: Duration = Duration::from_millis(200);

/// Submits one task, under one key, until it is accepted.
pub async fn submit(stage: &Stage, bus: &dyn EventBus) {
    let number = stage.accepted().len();
    let task = Arc::new(new_task(stage, number));
    loop {
        match stage.faulty.accept(vec![Arc::clone(&task)]).await {
            Ok(answers) => {
                assert!(matches!(answers[..], [Ok(Acceptance::New | Acceptance::Duplicate(_))]), "{answers:?}");
                break;
            }
            Err(_) => tokio::time::sleep(RETRY).await,
        }
    }
    bus.wake(vec![Wake::of(Arc::clone(&task))]);
    stage.accept(task);
}

fn new_task(stage: &Stage, number: usize) -> Task {
    let dice = &stage.dice;
    let pick = |count: usize| usize::try_from(dice.below(count as u64)).expect("small");
    let agent = AGENTS[pick(AGENTS.len())];
    let words = WORDS[pick(WORDS.len())];
    let session = (agent == "chat").then(|| format!("s{}", pick(2)));
    let timeout_ms = match dice.below(10) {
        0..3 => 100 + dice.below(2_900),
        3..5 => 3_000 + dice.below(9_000),
        _ => 60_000,
    };
    let now = stage.clock.now();
    let id = TaskId::from_parts(u64::try_from(now.millis()).unwrap_or(0), u128::from(dice.bits()) << 64);
    let input = json!(format!("{words} task {number}").trim_start());
    let submission = Submission {
        session,
        timeout: Duration::from_millis(timeout_ms),
        callback_url: dice.happens(0.5).then(|| "http://callback.test/".to_owned()),
        idempotency: Some(IdempotencyKey { key: format!("key-{number}"), fingerprint: 1 }),
        ..Submission::new(input, TaskSource::Api, Trace::begin(1 + number as u128))
    };
    Task::new(&spec_of(agent), submission, id, now)
}

/// Answers questions and cancels tasks at random moments, until it is aborted.
pub async fn meddle(stage: Arc<Stage>, bus: Arc<FaultyBus>) {
    loop {
        tokio::time::sleep(stage.millis_below(900)).await;
        if stage.dice.happens(0.4) {
            answer_questions(&stage, &*bus, 1).await;
        }
        if stage.dice.happens(0.25) {
            cancel_one(&stage, &*bus).await;
        }
    }
}

/// Answers open questions, the oldest first.
pub async fn answer_questions(stage: &Stage, bus: &dyn EventBus, most: usize) {
    let open = stage.store.clarifications(true, None, most).await.expect("questions");
    for question in open.items {
        let resolution = Resolution::Answered { answer: "US".to_owned(), by: "test".to_owned(), at: stage.clock.now() };
        let answered = stage.store.resolve(question.id, resolution).await.expect("an answer");
        stage.counts.add("people.answered");
        if let ResolveResult::Accepted { wake: Some(task), .. } = answered {
            bus.wake(vec![task]);
        }
    }
}

/// Cancels a task as the server does: in the store, then by a signal to its owner. Mostly a recent one.
async fn cancel_one(stage: &Stage, bus: &dyn EventBus) {
    let accepted = stage.accepted();
    let Some(last) = accepted.len().checked_sub(1) else { return };
    let back = usize::try_from(stage.dice.below(4)).expect("small");
    let task = &accepted[last.saturating_sub(back)];
    let outcome = Outcome::from_error(TaskError::new(ErrorCode::Cancelled, "cancelled by the test"));
    loop {
        let now = stage.clock.now();
        let event = if task.agent == name("team") { EndEvent::Published } else { EndEvent::Omitted };
        let outbox = messages_of_end(task, &outcome, now, event, || {
            OutboxId::from_parts(u64::try_from(now.millis()).unwrap_or(0), u128::from(stage.dice.bits()) << 64)
        });
        match stage.faulty.cancel(task.id, now, outbox).await {
            Ok(CancelResult::Requested) => {
                stage.counts.add("people.cancelled_running");
                return bus.signal(Signal::Cancel(task.id));
            }
            Ok(CancelResult::Ended) => return stage.counts.add("people.cancelled_idle"),
            Ok(CancelResult::AlreadyEnded(_) | CancelResult::Unknown) => return,
            Err(_) => tokio::time::sleep(RETRY).await,
        }
    }
}

/// Makes the store or the bus unavailable for seconds, again and again, until it is aborted.
pub async fn outages(stage: Arc<Stage>, bus: Arc<FaultyBus>) {
    loop {
        tokio::time::sleep(stage.millis_below(6_000)).await;
        let outage = if stage.dice.happens(0.5) { Outage::Refusing } else { Outage::Frozen };
        let length = stage.millis_below(7_000);
        if stage.dice.happens(0.65) {
            stage.counts.add(format!("outage.store_{outage:?}").to_lowercase());
            stage.faulty.begin_outage(outage, length);
        } else {
            stage.counts.add(format!("outage.bus_{outage:?}").to_lowercase());
            bus.begin_outage(outage, length);
        }
        tokio::time::sleep(length).await;
    }
}
