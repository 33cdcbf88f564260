//! What outlives the lives of a history: the store, the clock, the outside world, and what was accepted.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use agentry_bus::EventBus;
use agentry_config::FleetHandle;
use agentry_core::agent::ProviderKind;
use agentry_core::id::CallId;
use agentry_core::prices::PriceTable;
use agentry_core::task::Task;
use agentry_core::time::{Clock, Timestamp};
use agentry_intake::{Deployment, Entropy, Intake, IntakeDeps};
use agentry_llm::{LlmProvider, Providers};
use agentry_orchestrator::{CallbackSender, Options, Orchestrator, OrchestratorDeps, Running};
use agentry_store::StateStore;
use agentry_store::sqlite::{SqliteOptions, SqliteStore};
use agentry_testkit::{Dice, FaultCounts, FaultyBus, FaultyStore, ModelFaults, ScriptedModel, SimClock, StoreFaults};
use agentry_tools::ToolBox;

use crate::callbacks::CallbackReceiver;
use crate::fleet::fleet;
use crate::tools::ScriptedTools;

pub const START: Timestamp = Timestamp(1_760_000_000_000_000);

const STORE_FAULTS: StoreFaults = StoreFaults {
    refuse: 0.02,
    lose_answer: 0.02,
    delay: 0.2,
    max_delay: Duration::from_millis(200),
    hang: 0.01,
    max_hang: Duration::from_secs(10),
};
const MODEL_FAULTS: ModelFaults =
    ModelFaults { unavailable: 0.08, cut_off: 0.04, slow: 0.02, max_latency: Duration::from_millis(1_200) };
/// The share of hints that the bus loses.
const HINT_LOSS: f64 = 0.1;

pub struct Stage {
    pub dice: Dice,
    pub clock: Arc<SimClock>,
    /// The store without faults.
    pub store: Arc<dyn StateStore>,
    /// The store as the orchestrator and its clients see it.
    pub faulty: Arc<FaultyStore>,
    pub model: Arc<ScriptedModel>,
    pub tools: Arc<ScriptedTools>,
    pub callbacks: Arc<CallbackReceiver>,
    /// Faults that are counted here: how lives ended, what people did.
    pub counts: FaultCounts,
    accepted: Mutex<Vec<Arc<Task>>>,
    /// Calls that were in flight when their process was killed.
    killed_calls: Mutex<HashSet<CallId>>,
    /// Invariants that did not hold; the name of each stands first, in brackets.
    violations: Mutex<Vec<String>>,
}

impl Stage {
    pub fn new(seed: u64) -> Arc<Self> {
        let dice = Dice::new(seed);
        let store: Arc<dyn StateStore> =
            Arc::new(SqliteStore::in_memory(SqliteOptions::default()).expect("a store in memory"));
        Arc::new(Self {
            clock: SimClock::new(START),
            faulty: FaultyStore::new(Arc::clone(&store), dice.clone(), STORE_FAULTS),
            model: ScriptedModel::new(dice.clone(), MODEL_FAULTS),
            tools: ScriptedTools::new(dice.clone(), Arc::clone(&store)),
            callbacks: CallbackReceiver::new(dice.clone()),
            counts: FaultCounts::default(),
            accepted: Mutex::default(),
            killed_calls: Mutex::default(),
            violations: Mutex::default(),
            store,
            dice,
        })
    }

    pub fn bus(&self, inner: Arc<dyn EventBus>) -> Arc<FaultyBus> {
        FaultyBus::new(inner, self.dice.clone(), HINT_LOSS)
    }

    /// Switches the faults of everything but the bus on or off.
    pub fn set_faulty(&self, faulty: bool) {
        if faulty {
            self.faulty.break_again();
        } else {
            self.faulty.heal();
        }
        self.model.set_faulty(faulty);
        self.tools.set_faulty(faulty);
        self.callbacks.set_faulty(faulty);
    }

    /// Starts the orchestrator; one that cannot register is started again, as a supervisor of processes would.
    pub async fn start(&self, bus: Arc<dyn EventBus>) -> Running {
        loop {
            let model: Arc<dyn LlmProvider> = Arc::clone(&self.model) as Arc<dyn LlmProvider>;
            let deps = OrchestratorDeps {
                store: Arc::clone(&self.faulty) as Arc<dyn StateStore>,
                bus: Arc::clone(&bus),
                intake: self.intake(Arc::clone(&bus)),
                providers: Arc::new(Providers::with_providers(HashMap::from([(ProviderKind::Openai, model)]))),
                tools: Arc::clone(&self.tools) as Arc<dyn ToolBox>,
                callbacks: Arc::clone(&self.callbacks) as Arc<dyn CallbackSender>,
                slack: None,
                clock: Arc::clone(&self.clock) as Arc<dyn Clock>,
                entropy: Arc::new(DiceEntropy(self.dice.clone())),
                prices: PriceTable::builtin(),
                metrics: agentry_orchestrator::Metrics::default(),
                options: Options { slots: 8, ..Options::default() },
            };
            if let Ok(running) = Orchestrator::start(deps).await {
                return running;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// An intake over the faulty store: how work comes in.
    pub fn intake(&self, bus: Arc<dyn EventBus>) -> Intake {
        Intake::new(IntakeDeps {
            store: Arc::clone(&self.faulty) as Arc<dyn StateStore>,
            bus,
            deployment: Arc::new(Deployment::fixed(FleetHandle::new(fleet()))),
            clock: Arc::clone(&self.clock) as Arc<dyn Clock>,
            entropy: Arc::new(DiceEntropy(self.dice.clone())),
        })
    }

    pub fn accepted(&self) -> Vec<Arc<Task>> {
        self.accepted.lock().expect("accepted").clone()
    }

    pub fn accept(&self, task: Arc<Task>) {
        self.accepted.lock().expect("accepted").push(task);
    }

    pub fn killed_calls(&self) -> HashSet<CallId> {
        self.killed_calls.lock().expect("killed calls").clone()
    }

    pub fn kill_calls(&self, calls: impl IntoIterator<Item = CallId>) {
        self.killed_calls.lock().expect("killed calls").extend(calls);
    }

    /// Notes that an invariant does not hold. The history goes on: there may be more to learn from it.
    pub fn violation(&self, text: impl Into<String>) {
        self.violations.lock().expect("violations").push(text.into());
    }

    pub fn violations(&self) -> Vec<String> {
        self.violations.lock().expect("violations").clone()
    }

    /// Milliseconds below `bound`, by the dice.
    pub fn millis_below(&self, bound: u64) -> Duration {
        Duration::from_millis(self.dice.below(bound))
    }
}

pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().expect("a runtime")
}

struct DiceEntropy(Dice);

impl Entropy for DiceEntropy {
    fn next(&self) -> u64 {
        self.0.bits()
    }
}
