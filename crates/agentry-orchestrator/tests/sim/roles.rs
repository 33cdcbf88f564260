//! Several processes with roles of their own over one store and one bus, under paused time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use agentry_bus::{
    BusError, DeliveredEvent, DeliveryVerdict, EmbeddedBus, EventBus, Inbound, Signal, Signals, Wake, Wakes,
};
use agentry_core::agent::{AgentName, AgentSpec, ModeSet};
use agentry_core::event::Event;
use agentry_core::fleet::Fleet;
use agentry_core::id::TaskId;
use agentry_core::schedule::Timing;
use agentry_core::task::{Submission, Task, TaskSource, TaskStatus};
use agentry_core::time::{Clock, Timestamp};
use agentry_core::topic::TopicPattern;
use agentry_core::trace::{Trace, TraceId};
use agentry_core::worker::Role;
use agentry_intake::OsEntropy;
use agentry_llm::LlmProvider;
use agentry_orchestrator::{CallbackError, CallbackSender, Options, Orchestrator, OrchestratorDeps, Running};
use agentry_store::sqlite::{SqliteOptions, SqliteStore};
use agentry_store::{SlotState, StateStore, TaskFilter};
use agentry_testkit::{ModelFaults, ScriptedModel, SeededRng, SimClock};
use agentry_tools::Tools;
use async_trait::async_trait;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::fleet::{fleet, fleet_of, name, spec_of};
use crate::parts::{intake_deps, orchestrator_deps};
use crate::stage::runtime;

pub const START: Timestamp = Timestamp(1_760_000_000_000_000);

/// Refuses every callback: the tests request none.
pub struct NoCallbacks;

#[async_trait]
impl CallbackSender for NoCallbacks {
    async fn post(
        &self,
        url: &str,
        _: agentry_core::id::OutboxId,
        _: Timestamp,
        _: Option<&str>,
        _: &Value,
    ) -> Result<(), CallbackError> {
        Err(CallbackError(format!("nobody listens on {url}")))
    }
}

/// The state that the processes share.
pub struct Cluster {
    pub store: Arc<dyn StateStore>,
    bus: Arc<dyn EventBus>,
    pub clock: Arc<SimClock>,
}

impl Cluster {
    pub fn new(bus: Arc<dyn EventBus>) -> Self {
        let store = SqliteStore::in_memory(SqliteOptions::default()).expect("a store in memory");
        let clock = SimClock::new(START);
        clock.enter();
        Self { store: Arc::new(store), bus, clock }
    }

    /// Starts a process with these roles and files.
    pub async fn process(&self, roles: &[Role], fleet: Fleet) -> Running {
        let faults = ModelFaults { max_latency: Duration::from_millis(50), ..ModelFaults::default() };
        let model: Arc<dyn LlmProvider> = ScriptedModel::new(SeededRng::new(1), faults);
        let (store, bus, clock) = (Arc::clone(&self.store), Arc::clone(&self.bus), Arc::clone(&self.clock));
        let common = intake_deps(store, bus, clock, OsEntropy, fleet);
        let options = Options { roles: roles.to_vec(), ..Options::default() };
        let deps = orchestrator_deps(common, model, Arc::new(Tools::new()), Arc::new(NoCallbacks));
        let deps = OrchestratorDeps { options, ..deps };
        Orchestrator::start(deps).await.expect("a store that answers")
    }

    pub async fn tasks_of(&self, agent: &str) -> Vec<TaskStatus> {
        let filter = TaskFilter { agent: Some(name(agent)), ..TaskFilter::default() };
        let page = self.store.tasks(&filter, None, 1_000).await.expect("tasks");
        page.items.iter().map(|record| record.status).collect()
    }

    async fn slots_of(&self, schedule: &str) -> Vec<SlotState> {
        let slots = self.store.slots(schedule, 1_000).await.expect("slots");
        slots.into_iter().map(|slot| slot.state).collect()
    }
}

pub async fn seconds(count: u64) {
    tokio::time::sleep(Duration::from_secs(count)).await;
}

pub fn changed(change: impl FnOnce(&mut HashMap<AgentName, AgentSpec>)) -> Fleet {
    let whole = fleet();
    let mut specs: HashMap<AgentName, AgentSpec> =
        whole.iter().filter_map(|(name, entry)| Some((name.clone(), (**entry.spec.as_ref()?).clone()))).collect();
    change(&mut specs);
    fleet_of(specs.into_values())
}

#[test]
fn three_schedulers_fire_every_slot_once() {
    runtime().block_on(async {
        let cluster = Cluster::new(Arc::new(EmbeddedBus::new()));
        let mut running = vec![cluster.process(&[Role::Worker], fleet()).await];
        for _ in 0..3 {
            running.push(cluster.process(&[Role::Scheduler], fleet()).await);
        }
        seconds(62).await;
        let slots = cluster.slots_of("tick").await;
        assert_eq!(slots.len(), 12, "a slot every five seconds: {slots:?}");
        assert!(slots.iter().all(|state| *state == SlotState::Fired), "{slots:?}");
        let tasks = cluster.tasks_of("tick").await;
        assert_eq!(tasks, vec![TaskStatus::Completed; 12]);
        let record = &cluster.store.schedules_since(0).await.expect("schedules").changed[0];
        assert_eq!((record.missed, record.skipped), (0, 0));
    });
}

/// A replica with older files, which also reads the store again and again, neither restores its definition, nor removes
/// the new agent's schedule, nor decides its slots.
#[test]
fn a_scheduler_with_older_files_changes_nothing() {
    runtime().block_on(async {
        let cluster = Cluster::new(Arc::new(EmbeddedBus::new()));
        let _worker = cluster.process(&[Role::Worker], fleet()).await;
        let _older = cluster.process(&[Role::Scheduler], fleet()).await;
        seconds(1).await;
        let newer = changed(|specs| {
            let tick = specs.get_mut(&name("tick")).expect("tick");
            tick.schedule.as_mut().expect("a schedule").timing = Timing::Interval { every_ms: 20_000 };
            let mut tock = tick.clone();
            tock.name = name("tock");
            specs.insert(tock.name.clone(), tock);
        });
        let _newer = cluster.process(&[Role::Scheduler], newer).await;
        for _ in 0..6 {
            seconds(10).await;
            cluster.bus.signal(Signal::Schedules);
        }
        let records = cluster.store.schedules(None, 10).await.expect("schedules").items;
        let timings: Vec<_> = records.iter().map(|record| (record.name.as_str(), record.spec.timing.clone())).collect();
        let every = |every_ms| Timing::Interval { every_ms };
        assert_eq!(timings, [("tick", every(20_000)), ("tock", every(20_000))]);
        let slots = cluster.slots_of("tock").await;
        assert_eq!(slots, vec![SlotState::Fired; 3], "by the one that knows the agent");
    });
}

#[test]
fn only_a_worker_executes_and_only_who_claims_is_registered() {
    runtime().block_on(async {
        let cluster = Cluster::new(Arc::new(EmbeddedBus::new()));
        let _api = cluster.process(&[Role::Api, Role::Slack], fleet()).await;
        let _scheduler = cluster.process(&[Role::Scheduler], fleet()).await;
        for agent in ["solo", "chat"] {
            let accepted = cluster.store.accept(vec![task(agent, cluster.clock.now())]).await.expect("accepted");
            assert!(accepted[0].is_ok());
        }
        seconds(20).await;
        assert_eq!(cluster.tasks_of("solo").await, [TaskStatus::Queued]);
        assert_eq!(cluster.tasks_of("chat").await, [TaskStatus::Queued], "no session is worked on by a scheduler");
        let workers = cluster.store.workers(cluster.clock.now()).await.expect("workers");
        let seen: Vec<_> = workers.iter().map(|worker| (worker.roles.clone(), worker.modes, worker.slots)).collect();
        assert_eq!(seen, [(vec![Role::Scheduler], ModeSet::NONE, 0)]);
        assert!(
            cluster.store.agent_statuses().await.expect("statuses").is_empty(),
            "who executes nothing says nothing"
        );
        let _worker = cluster.process(&[Role::Worker], fleet()).await;
        seconds(5).await;
        assert_eq!(cluster.tasks_of("solo").await, [TaskStatus::Completed], "nobody was woken for it");
        assert_eq!(cluster.tasks_of("chat").await, [TaskStatus::Completed]);
        assert_eq!(cluster.store.workers(cluster.clock.now()).await.expect("workers").len(), 2);
    });
}

fn task(agent: &str, now: Timestamp) -> Arc<Task> {
    let submission = Submission::new(json!("x"), TaskSource::Api, Trace::begin(1));
    Arc::new(Task::new(&spec_of(agent), submission, TaskId::generate(), now))
}

/// A bus with a foreign publisher.
struct Foreign {
    inner: EmbeddedBus,
    events: Mutex<Option<mpsc::Receiver<DeliveredEvent>>>,
}

struct Arriving(mpsc::Receiver<DeliveredEvent>);

#[async_trait]
impl Inbound for Arriving {
    async fn next(&mut self) -> Vec<DeliveredEvent> {
        self.0.recv().await.into_iter().collect()
    }
}

#[async_trait]
impl EventBus for Foreign {
    fn wake(&self, wakes: Vec<Wake>) {
        self.inner.wake(wakes);
    }

    fn wakes(&self, modes: ModeSet) -> Box<dyn Wakes> {
        self.inner.wakes(modes)
    }

    fn signal(&self, signal: Signal) {
        self.inner.signal(signal);
    }

    fn signals(&self) -> Box<dyn Signals> {
        self.inner.signals()
    }

    fn is_watched(&self, task: TaskId) -> bool {
        self.inner.is_watched(task)
    }

    fn watch(&self, task: TaskId) -> Box<dyn Signals> {
        self.inner.watch(task)
    }

    async fn publish(&self, event: &Event) -> Result<(), BusError> {
        self.inner.publish(event).await
    }

    fn is_heard_outside(&self, _topic: &str) -> bool {
        true
    }

    fn inbound(&self) -> Option<Box<dyn Inbound>> {
        self.events.lock().expect("events").take().map(|events| Box::new(Arriving(events)) as Box<dyn Inbound>)
    }

    fn depth(&self) -> usize {
        self.inner.depth()
    }
}

/// A process with the role api alone accepts events, once each, and acknowledges them when they are durable.
#[test]
fn events_from_outside_start_tasks_once() {
    runtime().block_on(async {
        let (sender, receiver) = mpsc::channel(8);
        let bus = Foreign { inner: EmbeddedBus::new(), events: Mutex::new(Some(receiver)) };
        let cluster = Cluster::new(Arc::new(bus));
        let hearing = || {
            changed(|specs| {
                let solo = specs.get_mut(&name("solo")).expect("solo");
                solo.subscriptions = vec![TopicPattern::new("orders.*").expect("a good pattern")];
            })
        };
        let _api = cluster.process(&[Role::Api], hearing()).await;
        let (told, mut verdicts) = mpsc::channel(8);
        for (id, topic) in [("1", "orders.new"), ("1", "orders.new"), ("2", "nobody.hears"), ("3", "orders..bad")] {
            let event = Event {
                id: id.to_owned(),
                source: "shop".to_owned(),
                kind: "shop.order.v1".to_owned(),
                topic: topic.to_owned(),
                time: cluster.clock.now(),
                trace_id: TraceId(7),
                parent: None,
                hops: 0,
                data: json!({"order": id}),
            };
            let told = told.clone();
            let settle = move |verdict| drop(told.try_send((id, verdict)));
            assert!(sender.try_send(DeliveredEvent::new(event, settle)).is_ok());
        }
        let mut said = Vec::new();
        for _ in 0..4 {
            said.push(verdicts.recv().await.expect("a verdict for each"));
        }
        said.sort_by_key(|(id, _)| *id);
        assert_eq!(
            said[..3],
            [("1", DeliveryVerdict::Accepted), ("1", DeliveryVerdict::Accepted), ("2", DeliveryVerdict::Accepted)]
        );
        assert!(
            matches!(&said[3], ("3", DeliveryVerdict::Rejected(reason)) if reason.contains("orders..bad")),
            "{said:?}"
        );
        assert_eq!(cluster.tasks_of("solo").await, [TaskStatus::Queued], "one task, and nobody here executes it");
        let _worker = cluster.process(&[Role::Worker], hearing()).await;
        seconds(3).await;
        assert_eq!(cluster.tasks_of("solo").await, [TaskStatus::Completed]);
    });
}
