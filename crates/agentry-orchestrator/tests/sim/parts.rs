//! The parts of an orchestrator, put together the same way for every test.

use std::collections::HashMap;
use std::sync::Arc;

use agentry_bus::EventBus;
use agentry_config::FleetHandle;
use agentry_core::agent::ProviderKind;
use agentry_core::fleet::Fleet;
use agentry_core::prices::PriceTable;
use agentry_intake::{Deployment, Entropy, Intake, IntakeDeps};
use agentry_llm::{LlmProvider, Providers};
use agentry_orchestrator::{CallbackSender, Metrics, Options, OrchestratorDeps};
use agentry_store::StateStore;
use agentry_testkit::SimClock;
use agentry_tools::ToolBox;

/// Returns the dependencies of an intake for a deployment that is this fleet.
pub fn intake_deps(
    store: Arc<dyn StateStore>,
    bus: Arc<dyn EventBus>,
    clock: Arc<SimClock>,
    entropy: impl Entropy,
    fleet: Fleet,
) -> IntakeDeps {
    let deployment = Arc::new(Deployment::fixed(FleetHandle::new(fleet)));
    IntakeDeps { store, bus, deployment, clock, entropy: Arc::new(entropy) }
}

/// Returns the dependencies of an orchestrator that answers every agent by this model.
pub fn orchestrator_deps(
    common: IntakeDeps,
    model: Arc<dyn LlmProvider>,
    tools: Arc<dyn ToolBox>,
    callbacks: Arc<dyn CallbackSender>,
) -> OrchestratorDeps {
    let intake = Intake::new(common.clone());
    let IntakeDeps { store, bus, clock, entropy, .. } = common;
    OrchestratorDeps {
        store,
        bus,
        intake,
        providers: Arc::new(Providers::with_providers(HashMap::from([(ProviderKind::Openai, model)]))),
        tools,
        callbacks,
        slack: None,
        clock,
        entropy,
        prices: PriceTable::builtin(),
        metrics: Metrics::default(),
        options: Options::default(),
    }
}
