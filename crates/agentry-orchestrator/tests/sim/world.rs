//! One history: lives of the orchestrator over one store.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use agentry_bus::{EmbeddedBus, EventBus, Signal, Wake};
use agentry_config::FleetHandle;
use agentry_core::agent::{ExecutionMode, ProviderKind};
use agentry_core::clarification::Resolution;
use agentry_core::id::{OutboxId, TaskId};
use agentry_core::outbox::messages_of_end;
use agentry_core::prices::PriceTable;
use agentry_core::session::SessionId;
use agentry_core::task::{ErrorCode, Outcome, Priority, Task, TaskError, TaskSource, TraceId};
use agentry_core::time::{Clock, Timestamp};
use agentry_llm::{LlmProvider, Providers};
use agentry_orchestrator::{CallbackError, CallbackSender, Entropy, Options, Orchestrator, OrchestratorDeps, Running};
use agentry_store::sqlite::{SqliteOptions, SqliteStore};
use agentry_store::{Accepted, Answered, Cancelled, NewTask, StateStore};
use agentry_testkit::{Dice, FaultyBus, FaultyStore, ModelFaults, ScriptedModel, SimClock, StoreFaults};
use agentry_tools::Tools;
use async_trait::async_trait;
use serde_json::{Value, json};

use crate::fleet::{fleet, name};

const START: Timestamp = Timestamp(1_760_000_000_000_000);
/// Lives that end by kill -9.
const LIVES: u64 = 6;
/// Tasks offered in each.
const TASKS_PER_LIFE: u64 = 8;
/// Time after the last fault by which everything must have ended: longer than any retry, timeout and lease together.
const PATIENCE: Duration = Duration::from_secs(1_800);

pub struct World {
    pub seed: u64,
    pub dice: Dice,
    pub clock: Arc<SimClock>,
    pub store: Arc<dyn StateStore>,
    pub model: Arc<ScriptedModel>,
    pub callbacks: Arc<Received>,
    pub accepted: Vec<Arc<Task>>,
    faulty: Arc<FaultyStore>,
    lost_hints: u64,
    kills: u64,
    answers: u64,
    cancels: u64,
}

/// How often each fault bit: a fault that never bites proves nothing.
#[derive(Debug, Default)]
pub struct Bites {
    pub store: u64,
    pub bus: u64,
    pub kills: u64,
    pub answers: u64,
    pub cancels: u64,
    pub recovered: u64,
}

impl Bites {
    pub fn add(&mut self, other: &Self) {
        self.store += other.store;
        self.bus += other.bus;
        self.kills += other.kills;
        self.answers += other.answers;
        self.cancels += other.cancels;
        self.recovered += other.recovered;
    }

    pub fn assert_all_bit(&self) {
        let all = [self.store, self.bus, self.kills, self.answers, self.cancels, self.recovered];
        assert!(all.iter().all(|count| *count > 0), "a fault never bit: {self:?}");
    }
}

impl World {
    pub fn new(seed: u64) -> Self {
        let dice = Dice::new(seed);
        let store: Arc<dyn StateStore> =
            Arc::new(SqliteStore::in_memory(SqliteOptions::default()).expect("a store in memory"));
        let faults = StoreFaults { refuse: 0.03, lose_answer: 0.03, delay: 0.2, max_delay: Duration::from_millis(200) };
        let faulty = FaultyStore::new(Arc::clone(&store), dice.clone(), faults);
        let model_faults = ModelFaults { unavailable: 0.1, max_latency: Duration::from_millis(1_500) };
        Self {
            seed,
            clock: SimClock::new(START),
            store,
            model: ScriptedModel::new(dice.clone(), model_faults),
            callbacks: Received::new(dice.clone()),
            accepted: Vec::new(),
            faulty,
            lost_hints: 0,
            kills: 0,
            answers: 0,
            cancels: 0,
            dice,
        }
    }

    /// Some lives, each ended by kill -9.
    pub fn live(&mut self) {
        for _ in 0..LIVES {
            let runtime = runtime();
            runtime.block_on(async {
                self.clock.enter();
                let bus = FaultyBus::new(Arc::new(EmbeddedBus::new()), self.dice.clone(), 0.1);
                let _running = self.start(Arc::clone(&self.faulty) as Arc<dyn StateStore>, bus.clone()).await;
                for _ in 0..TASKS_PER_LIFE {
                    self.offer(&*bus).await;
                    tokio::time::sleep(Duration::from_millis(self.dice.below(600))).await;
                    self.meddle(&*bus).await;
                }
                self.lost_hints += bus.lost();
                self.clock.leave();
            });
            drop(runtime);
            self.kills += 1;
            self.clock.step(i64::try_from(self.dice.below(20_000_000)).unwrap_or(0) - 1_000_000);
        }
    }

    /// A last life without faults, until everything has ended.
    pub fn heal(&mut self) {
        self.faulty.heal();
        self.callbacks.heal();
        let runtime = runtime();
        runtime.block_on(async {
            self.clock.enter();
            let bus: Arc<dyn EventBus> = Arc::new(EmbeddedBus::new());
            let running = self.start(Arc::clone(&self.store), Arc::clone(&bus)).await;
            let deadline = self.clock.now().after(PATIENCE);
            while !self.quiet().await {
                assert!(self.clock.now() < deadline, "not everything ended: {:?}", self.open().await);
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
            assert!(running.drain(Duration::from_secs(30)).await.clean, "an idle orchestrator drains cleanly");
            self.clock.leave();
        });
    }

    pub fn bites(&self) -> Bites {
        Bites {
            store: self.faulty.injected(),
            bus: self.lost_hints,
            kills: self.kills,
            answers: self.answers,
            cancels: self.cancels,
            recovered: crate::checks::recoveries(self),
        }
    }

    async fn start(&self, store: Arc<dyn StateStore>, bus: Arc<dyn EventBus>) -> Running {
        loop {
            let model: Arc<dyn LlmProvider> = Arc::clone(&self.model) as Arc<dyn LlmProvider>;
            let deps = OrchestratorDeps {
                store: Arc::clone(&store),
                bus: Arc::clone(&bus),
                fleet: FleetHandle::new(fleet()),
                providers: Arc::new(Providers::with_providers(HashMap::from([(ProviderKind::Openai, model)]))),
                tools: Arc::new(Tools::new()),
                callbacks: Arc::clone(&self.callbacks) as Arc<dyn CallbackSender>,
                slack: None,
                clock: Arc::clone(&self.clock) as Arc<dyn Clock>,
                entropy: Arc::new(Chance(self.dice.clone())),
                prices: PriceTable::builtin(),
                metrics: agentry_orchestrator::Metrics::default(),
                options: Options { slots: 8, ..Options::default() },
            };
            if let Ok(running) = Orchestrator::start(deps).await {
                return running;
            }
        }
    }

    /// A client that keeps asking, under one key, until the door says yes.
    async fn offer(&mut self, bus: &dyn EventBus) {
        let number = self.accepted.len();
        let (agent, mode) = [
            ("solo", ExecutionMode::Autonomous),
            ("chat", ExecutionMode::Continuous),
            ("team", ExecutionMode::Collaborative),
        ][usize::try_from(self.dice.below(3)).expect("small")];
        let session = (mode == ExecutionMode::Continuous)
            .then(|| SessionId::new(&name(agent), &format!("s{}", self.dice.below(2))));
        let asks = if self.dice.happens(0.3) { "ask " } else { "" };
        let task = Arc::new(Task {
            id: TaskId::from_parts(
                u64::try_from(self.clock.now().millis()).unwrap_or(0),
                u128::from(self.dice.bits()) << 64,
            ),
            agent: name(agent),
            mode,
            input: json!(format!("{asks}task {number}")),
            session,
            priority: Priority::Normal,
            source: TaskSource::Api,
            trace_id: TraceId(1),
            parent: None,
            created_at: self.clock.now(),
            timeout_ms: 60_000,
            callback_url: self.dice.happens(0.5).then(|| "http://callback.test/".to_owned()),
            reply_to: None,
            budget: None,
            stream: false,
            hops: 0,
        });
        let key = format!("key-{number}");
        loop {
            let new = NewTask { task: Arc::clone(&task), idempotency: Some((key.clone(), 1)), ready_at: None };
            if let Ok(answers) = self.faulty_accept(new).await {
                assert!(matches!(answers, Accepted::New | Accepted::Duplicate(_)));
                break;
            }
        }
        bus.wake(vec![Wake::of(Arc::clone(&task))]);
        self.accepted.push(task);
    }

    async fn faulty_accept(&self, new: NewTask) -> Result<Accepted, ()> {
        use agentry_store::TaskStore as _;
        match self.faulty.accept(vec![new]).await {
            Ok(mut answers) => answers.pop().expect("one answer for one task").map_err(drop),
            Err(_) => Err(()),
        }
    }

    /// People answer questions and change their minds.
    async fn meddle(&mut self, bus: &dyn EventBus) {
        if self.dice.happens(0.5) {
            let open = self.store.clarifications(true, None, 100).await.expect("questions");
            if let Some(question) = open.items.first() {
                let at = self.clock.now();
                let resolution = Resolution::Answered { answer: "US".to_owned(), by: "test".to_owned(), at };
                if let Answered::Accepted { wake: Some(task), .. } =
                    self.store.resolve(question.id, resolution).await.expect("an answer")
                {
                    bus.wake(vec![Wake {
                        task: task.task,
                        mode: task.mode,
                        session: task.session,
                        priority: Priority::Normal,
                        body: None,
                    }]);
                }
                self.answers += 1;
            }
        }
        if self.dice.happens(0.1) && !self.accepted.is_empty() {
            let which = usize::try_from(self.dice.below(self.accepted.len() as u64)).expect("small");
            let task = Arc::clone(&self.accepted[which]);
            let now = self.clock.now();
            let outcome = Outcome::from_error(TaskError::new(ErrorCode::Cancelled, "cancelled by the test"));
            let outbox = messages_of_end(&task, &outcome, now, task.agent == name("team"), || {
                OutboxId::from_parts(1, u128::from(self.dice.bits()) << 64)
            });
            match self.store.cancel(task.id, now, outbox).await.expect("a cancel") {
                Cancelled::Requested => bus.signal(Signal::Cancel(task.id)),
                Cancelled::Ended => {}
                Cancelled::AlreadyEnded(_) | Cancelled::Unknown => return,
            }
            self.cancels += 1;
        }
    }

    /// Whether nothing is queued, running, waiting or unsent. The ticking schedule always has something; its slots are
    /// looked at in the checks.
    async fn quiet(&self) -> bool {
        self.open().await.is_empty() && self.store.next_outbox().await.expect("the outbox").is_none()
    }

    async fn open(&self) -> Vec<(TaskId, String)> {
        let mut open = Vec::new();
        for task in crate::checks::all_tasks(self).await {
            if !task.status.is_terminal() && task.task.agent != name("tick") {
                open.push((task.task.id, format!("{} {} attempt {}", task.task.agent, task.status, task.attempt)));
            }
        }
        open
    }
}

pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().expect("a runtime")
}

struct Chance(Dice);

impl Entropy for Chance {
    fn next(&self) -> u64 {
        self.0.bits()
    }
}

/// A receiver of callbacks that fails now and then, also after it took one.
pub struct Received {
    dice: Dice,
    healed: std::sync::atomic::AtomicBool,
    bodies: Mutex<Vec<(OutboxId, Value)>>,
}

impl Received {
    fn new(dice: Dice) -> Arc<Self> {
        Arc::new(Self { dice, healed: false.into(), bodies: Mutex::default() })
    }

    fn heal(&self) {
        self.healed.store(true, std::sync::atomic::Ordering::SeqCst);
    }

    pub fn bodies(&self) -> Vec<(OutboxId, Value)> {
        self.bodies.lock().expect("callbacks").clone()
    }
}

#[async_trait]
impl CallbackSender for Received {
    async fn post(
        &self,
        _url: &str,
        id: OutboxId,
        _at: Timestamp,
        traceparent: Option<&str>,
        payload: &Value,
    ) -> Result<(), CallbackError> {
        assert!(traceparent.is_some(), "a task's callback belongs to the task's trace");
        let faulty = !self.healed.load(std::sync::atomic::Ordering::SeqCst);
        if faulty && self.dice.happens(0.1) {
            return Err(CallbackError("injected: refused".to_owned()));
        }
        self.bodies.lock().expect("callbacks").push((id, payload.clone()));
        if faulty && self.dice.happens(0.1) {
            return Err(CallbackError("injected: the answer was lost".to_owned()));
        }
        Ok(())
    }
}
