//! The state that survives the lives of a history: the store, the clock, the outside world, and the accepted tasks.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use agentry_bus::EventBus;
use agentry_core::id::CallId;
use agentry_core::task::Task;
use agentry_core::time::Timestamp;
use agentry_intake::Entropy;
use agentry_llm::LlmProvider;
use agentry_orchestrator::{CallbackSender, Options, Orchestrator, OrchestratorDeps, Running};
use agentry_store::StateStore;
use agentry_store::sqlite::{SqliteOptions, SqliteStore};
use agentry_testkit::{
    FaultCounts, FaultyBus, FaultyStore, ModelFaults, ScriptedModel, SeededRng, SimClock, StoreFaults,
};
use agentry_tools::ToolBox;

use crate::callbacks::CallbackReceiver;
use crate::fleet::fleet;
use crate::parts::{intake_deps, orchestrator_deps};
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
/// Probability that the bus loses a hint.
const HINT_LOSS: f64 = 0.1;

pub struct Stage {
    pub dice: SeededRng,
    pub clock: Arc<SimClock>,
    /// The store without faults.
    pub store: Arc<dyn StateStore>,
    /// The store as the orchestrator and its clients see it.
    pub faulty: Arc<FaultyStore>,
    pub model: Arc<ScriptedModel>,
    pub tools: Arc<ScriptedTools>,
    pub callbacks: Arc<CallbackReceiver>,
    /// Counts of the ends of lives, and of people's actions.
    pub counts: FaultCounts,
    accepted: Mutex<Vec<Arc<Task>>>,
    /// Calls that were in flight when their process was killed.
    killed_calls: Mutex<HashSet<CallId>>,
    /// Violated invariants; the name of each comes first, in brackets.
    violations: Mutex<Vec<String>>,
}

impl Stage {
    pub fn new(seed: u64) -> Arc<Self> {
        let dice = SeededRng::new(seed);
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

    /// Starts the orchestrator; restarts it if it cannot register, as a process supervisor would.
    pub async fn start(&self, bus: Arc<dyn EventBus>) -> Running {
        loop {
            let model = Arc::clone(&self.model) as Arc<dyn LlmProvider>;
            let tools = Arc::clone(&self.tools) as Arc<dyn ToolBox>;
            let callbacks = Arc::clone(&self.callbacks) as Arc<dyn CallbackSender>;
            let store = Arc::clone(&self.faulty) as Arc<dyn StateStore>;
            let entropy = DiceEntropy(self.dice.clone());
            let common = intake_deps(store, Arc::clone(&bus), Arc::clone(&self.clock), entropy, fleet());
            let options = Options { slots: 8, ..Options::default() };
            let deps = OrchestratorDeps { options, ..orchestrator_deps(common, model, tools, callbacks) };
            if let Ok(running) = Orchestrator::start(deps).await {
                return running;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
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

    /// Records a violated invariant. The history continues, because it may reveal more.
    pub fn violation(&self, text: impl Into<String>) {
        self.violations.lock().expect("violations").push(text.into());
    }

    pub fn violations(&self) -> Vec<String> {
        self.violations.lock().expect("violations").clone()
    }

    /// Returns a random number of milliseconds below `bound`.
    pub fn millis_below(&self, bound: u64) -> Duration {
        Duration::from_millis(self.dice.below(bound))
    }
}

pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().expect("a runtime")
}

struct DiceEntropy(SeededRng);

impl Entropy for DiceEntropy {
    fn next(&self) -> u64 {
        self.0.bits()
    }
}
