//! One agent with one tool, run to the end of one task on a store in memory.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use agentry_bus::{EmbeddedBus, EventBus};
use agentry_config::FleetHandle;
use agentry_core::agent::*;
use agentry_core::chat::{ChatReply, ChatRequest, Message, StopReason, ToolCall, ToolDefinition, Usage};
use agentry_core::fleet::{AgentEntry, Fleet};
use agentry_core::id::OutboxId;
use agentry_core::prices::PriceTable;
use agentry_core::retry::RetryPolicy;
use agentry_core::task::{Submission, TaskRecord, TaskSource};
use agentry_core::time::{Clock, Timestamp};
use agentry_intake::{Deployment, Intake, IntakeDeps, Order, OsEntropy, Submitted};
use agentry_llm::{Call, LlmError, LlmProvider, Providers, Timed, TokenSink};
use agentry_orchestrator::{CallbackError, CallbackSender, Metrics, Options, Orchestrator, OrchestratorDeps};
use agentry_store::StateStore;
use agentry_store::sqlite::{SqliteOptions, SqliteStore};
use agentry_testkit::SimClock;
use agentry_tools::{Invocation, ToolBox, ToolError, ToolOutput};
use async_trait::async_trait;
use serde_json::{Value, json};

type Answers = dyn Fn(&ChatRequest) -> ChatReply + Send + Sync;
type Outcomes = dyn Fn(&Invocation<'_>, usize) -> Result<ToolOutput, ToolError> + Send + Sync;

/// A plain answer.
pub fn answer(text: &str) -> ChatReply {
    let usage = Usage { input_tokens: 1, output_tokens: 1, ..Usage::default() };
    ChatReply { content: text.to_owned(), tool_calls: Vec::new(), stop: StopReason::End, usage, model: "m".to_owned() }
}

/// An answer that calls the tool, under these ids with these arguments.
pub fn calls(calls: &[(&str, &str)]) -> ChatReply {
    let call = |(id, arguments): &(&str, &str)| ToolCall {
        id: (*id).to_owned(),
        name: "pay".to_owned(),
        arguments: (*arguments).to_owned(),
    };
    ChatReply { tool_calls: calls.iter().map(call).collect(), stop: StopReason::ToolCalls, ..answer("") }
}

/// What the model was told of its calls.
pub fn tool_results(request: &ChatRequest) -> Vec<String> {
    let result = |message: &Message| match message {
        Message::Tool { content, .. } => Some(content.clone()),
        _ => None,
    };
    request.messages.iter().filter_map(result).collect()
}

pub struct Stage {
    on_unknown: OnUnknown,
    model: Arc<Script>,
    tools: Arc<Tools>,
}

struct Script {
    answers: Box<Answers>,
    asked: Mutex<usize>,
}

struct Tools {
    outcomes: Box<Outcomes>,
    made: Mutex<Vec<(String, String)>>,
}

impl Stage {
    pub fn new(
        on_unknown: OnUnknown,
        answers: impl Fn(&ChatRequest) -> ChatReply + Send + Sync + 'static,
        outcomes: impl Fn(&Invocation<'_>, usize) -> Result<ToolOutput, ToolError> + Send + Sync + 'static,
    ) -> Self {
        let model = Arc::new(Script { answers: Box::new(answers), asked: Mutex::default() });
        let tools = Arc::new(Tools { outcomes: Box::new(outcomes), made: Mutex::default() });
        Self { on_unknown, model, tools }
    }

    /// Idempotency key and arguments of every call of the tool that was made, in order.
    pub fn made(&self) -> Vec<(String, String)> {
        self.tools.made.lock().unwrap().clone()
    }

    /// How often the model was asked.
    pub fn asked(&self) -> usize {
        *self.model.asked.lock().unwrap()
    }

    /// Runs one task to its end.
    pub async fn run(&self) -> TaskRecord {
        let clock = SimClock::new(Timestamp(1_760_000_000_000_000));
        clock.enter();
        let store: Arc<dyn StateStore> = Arc::new(SqliteStore::in_memory(SqliteOptions::default()).unwrap());
        let bus: Arc<dyn EventBus> = Arc::new(EmbeddedBus::new());
        let spec = Arc::new(self.spec());
        let entry =
            AgentEntry { spec: Some(Arc::clone(&spec)), file: "test".into(), error: None, warnings: Vec::new() };
        let model: Arc<dyn LlmProvider> = Arc::clone(&self.model) as Arc<dyn LlmProvider>;
        let fleet = FleetHandle::new(Fleet::new(HashMap::from([(spec.name.clone(), entry)])));
        let intake = Intake::new(IntakeDeps {
            store: Arc::clone(&store),
            bus: Arc::clone(&bus),
            deployment: Arc::new(Deployment::fixed(fleet)),
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
            entropy: Arc::new(OsEntropy),
        });
        let deps = OrchestratorDeps {
            store: Arc::clone(&store),
            bus: Arc::clone(&bus),
            intake: intake.clone(),
            providers: Arc::new(Providers::with_providers(HashMap::from([(ProviderKind::Openai, model)]))),
            tools: Arc::clone(&self.tools) as Arc<dyn ToolBox>,
            callbacks: Arc::new(NoCallbacks),
            slack: None,
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
            entropy: Arc::new(OsEntropy),
            prices: PriceTable::builtin(),
            metrics: Metrics::default(),
            options: Options::default(),
        };
        let running = Orchestrator::start(deps).await.unwrap();
        let submission = Submission {
            timeout: Duration::from_secs(600),
            ..Submission::new(json!("go"), TaskSource::Api, intake.new_trace())
        };
        let order = Order { agent: spec.name.to_string(), submission };
        let Ok(Submitted::New(task)) = intake.submit(vec![order]).await.unwrap().remove(0) else { panic!("refused") };
        let id = task.id;
        let record = tokio::time::timeout(Duration::from_secs(3_600), async {
            loop {
                let record = store.task(id).await.unwrap().unwrap();
                if record.status.is_terminal() {
                    return record;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        });
        let record = record.await.expect("the task ends within an hour");
        assert!(running.drain(Duration::from_secs(30)).await.clean);
        record
    }

    fn spec(&self) -> AgentSpec {
        let llm = LlmConfig {
            target: LlmTarget { provider: ProviderKind::Openai, model: "m".into(), base_url: None, region: None },
            fallback: Vec::new(),
            params: SamplingParams::default(),
            timeout_ms: 20_000,
            response_format: None,
        };
        let tool = json!({
            "name": "pay", "description": "Pays.", "kind": {"http": {"url": "http://tool.test/"}}, "timeout_ms": 1_000,
            "on_unknown": self.on_unknown, "parameters": null, "auth": null,
        });
        AgentSpec {
            name: AgentName::new("worker").unwrap(),
            version: "v1".into(),
            mode: ExecutionMode::Autonomous,
            agent_type: None,
            description: None,
            enabled: true,
            tags: Vec::new(),
            metadata: None,
            system_prompt: "You are a test.".into(),
            instructions: None,
            subscriptions: Vec::new(),
            llm,
            tools: vec![serde_json::from_value(tool).unwrap()],
            retry: RetryPolicy { max_retries: 0, ..RetryPolicy::default() },
            continuous: None,
            collaborative: None,
            schedule: None,
            budget: BudgetConfig::default(),
            output_schema: None,
        }
    }
}

#[async_trait]
impl LlmProvider for Script {
    async fn call(&self, call: &Call, _: Option<Arc<dyn TokenSink>>) -> Result<Timed, LlmError> {
        *self.asked.lock().unwrap() += 1;
        let reply = (self.answers)(&call.request);
        Ok(Timed { reply, duration: Duration::from_millis(1), first_token: None, provider_call_id: None })
    }
}

#[async_trait]
impl ToolBox for Tools {
    async fn definitions(&self, _: &AgentSpec) -> Vec<ToolDefinition> {
        let parameters = json!({"type": "object"});
        vec![ToolDefinition { name: "pay".to_owned(), description: "Pays.".to_owned(), parameters }]
    }

    fn trouble(&self, _: &AgentSpec) -> Option<String> {
        None
    }

    async fn invoke(&self, invocation: Invocation<'_>) -> Result<ToolOutput, ToolError> {
        let number = {
            let mut made = self.made.lock().unwrap();
            made.push((invocation.idempotency_key.clone(), invocation.call.arguments.clone()));
            made.len() - 1
        };
        assert!(number < 10_000, "a loop without end");
        (self.outcomes)(&invocation, number)
    }
}

struct NoCallbacks;

#[async_trait]
impl CallbackSender for NoCallbacks {
    async fn post(&self, _: &str, _: OutboxId, _: Timestamp, _: Option<&str>, _: &Value) -> Result<(), CallbackError> {
        Ok(())
    }
}
