//! A model that answers by script, takes its time, fails by the dice, and remembers every call it answered.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use agentry_core::agent_loop::ASK_HUMAN;
use agentry_core::chat::{ChatReply, Message, StopReason, ToolCall, Usage};
use agentry_core::id::CallId;
use agentry_llm::{Call, LlmError, LlmErrorKind, LlmProvider, Timed, TokenSink};
use async_trait::async_trait;
use serde_json::{Value, json};

use crate::Dice;

/// How often what goes wrong.
#[derive(Debug, Clone, Copy)]
pub struct ModelFaults {
    /// The provider is unavailable.
    pub unavailable: f64,
    /// The provider answers after this long at most.
    pub max_latency: Duration,
}

/// See the module. Answers `echo: <input>`; a plan when a plan is asked for; a question to a human when the input has
/// `ask` in it and the tool is offered.
pub struct ScriptedModel {
    dice: Dice,
    faults: ModelFaults,
    answered: Mutex<Vec<CallId>>,
}

impl ScriptedModel {
    /// A model under these dice.
    #[must_use]
    pub fn new(dice: Dice, faults: ModelFaults) -> Arc<Self> {
        Arc::new(Self { dice, faults, answered: Mutex::default() })
    }

    /// Every call it answered.
    #[must_use]
    pub fn answered(&self) -> Vec<CallId> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<CallId>> {
        self.answered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl LlmProvider for ScriptedModel {
    async fn call(&self, call: &Call, _sink: Option<Arc<dyn TokenSink>>) -> Result<Timed, LlmError> {
        let most = u64::try_from(self.faults.max_latency.as_micros()).unwrap_or(u64::MAX);
        let duration = Duration::from_micros(self.dice.below(most));
        tokio::time::sleep(duration).await;
        if self.dice.happens(self.faults.unavailable) {
            return Err(LlmError {
                kind: LlmErrorKind::Unavailable,
                provider: "scripted",
                model: call.target.model.to_string(),
                message: "injected".to_owned(),
                usage: Usage::default(),
            });
        }
        self.lock().push(call.id);
        Ok(Timed { reply: reply(call), duration, first_token: None, provider_call_id: None })
    }
}

fn reply(call: &Call) -> ChatReply {
    let last = call.request.messages.last().map_or("", Message::content);
    let answered = matches!(call.request.messages.last(), Some(Message::Tool { .. }));
    let may_ask = call.request.tools.iter().any(|tool| tool.name == ASK_HUMAN);
    let mut tool_calls = Vec::new();
    let content = match &call.request.output_schema {
        Some(schema) if schema["title"] == "agentry_plan" => plan(schema, last),
        _ if may_ask && !answered && last.contains("ask") => {
            let arguments = json!({"question": "which region?", "options": ["EU", "US"]}).to_string();
            tool_calls.push(ToolCall { id: "ask-1".to_owned(), name: ASK_HUMAN.to_owned(), arguments });
            String::new()
        }
        _ => format!("echo: {last}"),
    };
    let stop = if tool_calls.is_empty() { StopReason::End } else { StopReason::ToolCalls };
    let usage = Usage { input_tokens: 10, output_tokens: 5, ..Usage::default() };
    ChatReply { content, tool_calls, stop, usage, model: call.target.model.to_string() }
}

/// One step for each agent of the schema, and a last one that needs them all.
fn plan(schema: &Value, request: &str) -> String {
    let names = schema["properties"]["steps"]["items"]["properties"]["agent"]["enum"].as_array();
    let names: Vec<&Value> = names.into_iter().flatten().collect();
    let mut steps: Vec<Value> = Vec::new();
    for (index, name) in names.iter().enumerate() {
        let asks = if index == 0 && request.contains("ask") { "ask " } else { "" };
        steps.push(
            json!({"id": format!("s{index}"), "agent": name, "task": format!("{asks}part {index}"), "depends_on": []}),
        );
    }
    let needs: Vec<String> = (0..names.len()).map(|index| format!("s{index}")).collect();
    steps.push(json!({"id": "last", "agent": names.first(), "task": "join", "depends_on": needs}));
    json!({"steps": steps}).to_string()
}
