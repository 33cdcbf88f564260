//! Events during a change of the fleet, and submissions.

use std::sync::Arc;

use agentry_bus::{BusError, EmbeddedBus, EventBus, Signal, Signals, Wake, Wakes};
use agentry_core::agent::ModeSet;
use agentry_core::event::Event;
use agentry_core::id::{TaskId, WorkerId};
use agentry_core::task::{IdempotencyKey, Submission, TaskSource, TraceId};
use agentry_intake::{Audience, Order, Refusal, SubmitResult, UnavailableAgent};
use async_trait::async_trait;
use serde_json::json;

use crate::stage::{NOW, Stage, files, name, spec};

fn event(id: &str) -> Event {
    Event {
        id: id.to_owned(),
        source: "crm".to_owned(),
        kind: "ticket".to_owned(),
        topic: "ticket.created".to_owned(),
        time: NOW,
        trace_id: TraceId(1),
        parent: None,
        hops: 0,
        data: json!("hello"),
    }
}

#[tokio::test]
async fn an_event_reaches_a_subscriber_that_this_process_has_not_heard_of() {
    let stage = Stage::new();
    let one = stage.process(files(&[spec("support", "v1", "ticket.created")], &[])).await;
    // A process with newer files joins; the first one has not been notified.
    let two = stage.process(files(&[spec("auditor", "a1", "ticket.#")], &[])).await;
    assert_eq!(one.version("auditor"), None);
    let published = one.intake.publish(&event("1"), Audience::Subscribers).await.unwrap();
    let mut agents: Vec<&str> = published.tasks.iter().map(|task| task.agent.as_str()).collect();
    agents.sort_unstable();
    assert_eq!(agents, ["auditor", "support"]);
    let again = two.intake.publish(&event("1"), Audience::Subscribers).await.unwrap();
    assert!(again.duplicate && again.tasks.is_empty());
    assert_eq!(stage.store.counts().await.unwrap().queued, 2, "each subscriber once");
}

#[tokio::test]
async fn submissions_are_accepted_or_refused_by_themselves() {
    let stage = Stage::new();
    let process = stage.process(files(&[spec("support", "v1", "x")], &["broken"])).await;
    let order = |agent: &str, session: Option<&str>, key: Option<(&str, u64)>| Order {
        agent: agent.to_owned(),
        submission: Submission {
            session: session.map(str::to_owned),
            idempotency: key.map(|(key, fingerprint)| IdempotencyKey { key: key.to_owned(), fingerprint }),
            ..Submission::new(json!("hi"), TaskSource::Api, process.intake.new_trace())
        },
    };
    let orders = vec![
        order("support", None, Some(("k", 1))),
        order("suport", None, None),
        order("broken", None, None),
        order("support", Some("s"), None),
        order("support", None, Some(("k", 1))),
        order("support", None, Some(("k", 2))),
    ];
    let submitted = process.intake.submit(orders).await.unwrap();
    let Ok(SubmitResult::New(task)) = &submitted[0] else { panic!("{submitted:?}") };
    assert!(matches!(&submitted[1], Err(Refusal::Agent(UnavailableAgent::Unknown { name })) if name == "suport"));
    assert!(matches!(&submitted[2], Err(Refusal::Agent(UnavailableAgent::Invalid { .. }))));
    assert!(matches!(&submitted[3], Err(Refusal::NoSessions { .. })));
    assert_eq!(submitted[4], Ok(SubmitResult::Duplicate(task.id)));
    assert_eq!(submitted[5], Err(Refusal::KeyReused(task.id)));
    assert_eq!(stage.store.counts().await.unwrap().queued, 1);
    process.deployment.remove(vec![name("support")]).await.unwrap();
    let orders = vec![
        order("support", None, Some(("k", 1))),
        order("support", None, Some(("k", 2))),
        order("support", None, Some(("l", 1))),
    ];
    let repeated = process.intake.submit(orders).await.unwrap();
    assert_eq!(repeated[0], Ok(SubmitResult::Duplicate(task.id)), "its agent was removed since");
    assert_eq!(repeated[1], Err(Refusal::KeyReused(task.id)));
    assert!(matches!(&repeated[2], Err(Refusal::Agent(UnavailableAgent::Removed { .. }))));
}

/// A bus with external listeners that are unreachable.
struct BrokerAway(EmbeddedBus);

#[async_trait]
impl EventBus for BrokerAway {
    fn wake(&self, wakes: Vec<Wake>) {
        self.0.wake(wakes);
    }

    fn wakes(&self, modes: ModeSet) -> Box<dyn Wakes> {
        self.0.wakes(modes)
    }

    fn signal(&self, signal: Signal) {
        self.0.signal(signal);
    }

    fn signals(&self) -> Box<dyn Signals> {
        self.0.signals()
    }

    fn is_watched(&self, task: TaskId) -> bool {
        self.0.is_watched(task)
    }

    fn watch(&self, task: TaskId) -> Box<dyn Signals> {
        self.0.watch(task)
    }

    async fn publish(&self, _: &Event) -> Result<(), BusError> {
        Err(BusError::Unavailable("the broker is away".to_owned()))
    }

    fn is_heard_outside(&self, _: &str) -> bool {
        true
    }

    fn depth(&self) -> usize {
        self.0.depth()
    }
}

#[tokio::test]
async fn an_accepted_event_waits_in_the_outbox_for_listeners_outside() {
    let stage = Stage { bus: Arc::new(BrokerAway(EmbeddedBus::new())), ..Stage::new() };
    let process = stage.process(files(&[], &[])).await;
    let published = process.intake.publish(&event("1"), Audience::Subscribers).await.unwrap();
    assert!(!published.duplicate);
    assert_eq!(stage.store.next_outbox().await.unwrap(), Some(NOW), "durable before the caller hears yes");
    let again = process.intake.publish(&event("1"), Audience::Subscribers).await.unwrap();
    assert!(again.duplicate);
    let worker = WorkerId::from_parts(1, 1 << 64);
    assert_eq!(stage.store.claim_outbox(worker, NOW, 10, &[]).await.unwrap().len(), 1, "once");
    process.intake.deliver(&event("2")).await.unwrap();
    assert_eq!(stage.store.next_outbox().await.unwrap(), None, "what came from outside does not go back there");
}
