//! A scripted model and tool: one agent, run to the end of one task on a store in memory.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use agentry_bus::EmbeddedBus;
use agentry_core::agent::{AgentSpec, ExecutionMode, OnUnknown};
use agentry_core::chat::{ChatReply, ChatRequest, Message, StopReason, ToolCall, ToolDefinition, Usage};
use agentry_core::retry::RetryPolicy;
use agentry_core::task::{Submission, TaskRecord, TaskSource};
use agentry_core::time::Timestamp;
use agentry_intake::{Order, OsEntropy, SubmitResult};
use agentry_llm::{Call, LlmError, LlmProvider, TimedReply, TokenSink};
use agentry_orchestrator::Orchestrator;
use agentry_store::StateStore;
use agentry_store::sqlite::{SqliteOptions, SqliteStore};
use agentry_testkit::SimClock;
use agentry_tools::{Invocation, ToolBox, ToolError, ToolOutput};
use async_trait::async_trait;
use serde_json::json;

use crate::fleet::{fleet_of, spec, tool};
use crate::parts::{intake_deps, orchestrator_deps};
use crate::roles::NoCallbacks;

type Answers = dyn Fn(&ChatRequest) -> ChatReply + Send + Sync;
type Outcomes = dyn Fn(&Invocation<'_>, usize) -> Result<ToolOutput, ToolError> + Send + Sync;

pub fn answer(text: &str) -> ChatReply {
    let usage = Usage { input_tokens: 1, output_tokens: 1, ..Usage::default() };
    ChatReply {
        content: text.to_owned(),
        tool_calls: Vec::new(),
        stop: StopReason::End,
        usage,
        model: "m".to_owned(),
        native: None,
    }
}

/// Returns an answer that calls the tool, under these ids with these arguments.
pub fn calls(calls: &[(&str, &str)]) -> ChatReply {
    let call = |(id, arguments): &(&str, &str)| ToolCall {
        id: (*id).to_owned(),
        name: "pay".to_owned(),
        arguments: (*arguments).to_owned(),
    };
    ChatReply { tool_calls: calls.iter().map(call).collect(), stop: StopReason::ToolCalls, ..answer("") }
}

pub fn tool_results(request: &ChatRequest) -> Vec<String> {
    let result = |message: &Message| match message {
        Message::Tool { content, .. } => Some(content.clone()),
        _ => None,
    };
    request.messages.iter().filter_map(result).collect()
}

pub struct ScriptedRun {
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

impl ScriptedRun {
    pub fn new(
        on_unknown: OnUnknown,
        answers: impl Fn(&ChatRequest) -> ChatReply + Send + Sync + 'static,
        outcomes: impl Fn(&Invocation<'_>, usize) -> Result<ToolOutput, ToolError> + Send + Sync + 'static,
    ) -> Self {
        let model = Arc::new(Script { answers: Box::new(answers), asked: Mutex::default() });
        let tools = Arc::new(Tools { outcomes: Box::new(outcomes), made: Mutex::default() });
        Self { on_unknown, model, tools }
    }

    /// Returns the idempotency key and arguments of every call of the tool, in order.
    pub fn made(&self) -> Vec<(String, String)> {
        self.tools.made.lock().unwrap().clone()
    }

    /// Returns the number of model calls.
    pub fn asked(&self) -> usize {
        *self.model.asked.lock().unwrap()
    }

    pub async fn run(&self) -> TaskRecord {
        let clock = SimClock::new(Timestamp(1_760_000_000_000_000));
        clock.enter();
        let store: Arc<dyn StateStore> = Arc::new(SqliteStore::in_memory(SqliteOptions::default()).unwrap());
        let bus = Arc::new(EmbeddedBus::new());
        let agent = AgentSpec {
            tools: vec![tool("pay", self.on_unknown)],
            retry: RetryPolicy { max_retries: 0, ..RetryPolicy::default() },
            ..spec("worker", ExecutionMode::Autonomous)
        };
        let common = intake_deps(Arc::clone(&store), bus, clock, OsEntropy, fleet_of([agent]));
        let (model, tools) = (Arc::clone(&self.model) as Arc<dyn LlmProvider>, Arc::clone(&self.tools));
        let deps = orchestrator_deps(common, model, tools, Arc::new(NoCallbacks));
        let intake = deps.intake.clone();
        let running = Orchestrator::start(deps).await.unwrap();
        let submission = Submission {
            timeout: Duration::from_secs(600),
            ..Submission::new(json!("go"), TaskSource::Api, intake.new_trace())
        };
        let order = Order { agent: "worker".to_owned(), submission };
        let Ok(SubmitResult::New(task)) = intake.submit(vec![order]).await.unwrap().remove(0) else {
            panic!("refused")
        };
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
}

#[async_trait]
impl LlmProvider for Script {
    async fn call(&self, call: &Call, _: Option<Arc<dyn TokenSink>>) -> Result<TimedReply, LlmError> {
        *self.asked.lock().unwrap() += 1;
        let reply = (self.answers)(&call.request);
        Ok(TimedReply {
            reply,
            duration: Duration::from_millis(1),
            first_token: None,
            provider_call_id: None,
            is_uncounted: false,
        })
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
