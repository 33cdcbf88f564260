//! Recording and replay of tool calls.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use agentry_core::agent::{AgentName, AgentSpec};
use agentry_core::chat::{ToolCall, ToolDefinition};
use agentry_core::tape::{Kind, Player, Recorder};
use async_trait::async_trait;
use serde_json::{Value, json};

use crate::registry::definition;
use crate::{Invocation, ToolBox, ToolError, ToolOutput};

/// Records every call of other tools.
pub struct RecordingTools {
    inner: Arc<dyn ToolBox>,
    tape: Arc<Recorder>,
    offers: Mutex<HashMap<AgentName, (u64, Vec<ToolDefinition>)>>,
}

/// Returns recorded results; nothing is called and no server is started.
pub struct ReplayTools {
    tape: Arc<Player>,
    asked: Mutex<HashMap<AgentName, u64>>,
}

impl RecordingTools {
    /// Records the results of `inner`.
    #[must_use]
    pub fn new(inner: Arc<dyn ToolBox>, tape: Arc<Recorder>) -> Self {
        Self { inner, tape, offers: Mutex::default() }
    }
}

impl ReplayTools {
    /// Replays this recording.
    #[must_use]
    pub fn new(tape: Arc<Player>) -> Self {
        Self { tape, asked: Mutex::default() }
    }
}

/// Returns true when servers define the tools of an agent; otherwise its file does, and nothing needs to be recorded.
fn has_servers(spec: &AgentSpec) -> bool {
    spec.tools.iter().any(|tool| tool.kind.is_server())
}

/// Returns the recorded form of a call, without the model's call id; arguments are compared as JSON.
fn request(call: &ToolCall) -> Value {
    let arguments = serde_json::from_str(&call.arguments).unwrap_or_else(|_| Value::from(call.arguments.clone()));
    json!({"tool": call.name, "arguments": arguments})
}

#[async_trait]
impl ToolBox for RecordingTools {
    async fn definitions(&self, spec: &AgentSpec) -> Vec<ToolDefinition> {
        let definitions = self.inner.definitions(spec).await;
        if has_servers(spec) {
            let mut offers = self.offers.lock().unwrap_or_else(PoisonError::into_inner);
            let (nth, last) = offers.entry(spec.name.clone()).or_default();
            if *nth == 0 || *last != definitions {
                let request = json!({"agent": spec.name, "nth": *nth});
                self.tape.keep(Kind::Offer, &request, &json!(definitions), 0);
                last.clone_from(&definitions);
            }
            *nth += 1;
        }
        definitions
    }

    fn trouble(&self, spec: &AgentSpec) -> Option<String> {
        self.inner.trouble(spec)
    }

    async fn invoke(&self, invocation: Invocation<'_>) -> Result<ToolOutput, ToolError> {
        let request = request(invocation.call);
        let began = tokio::time::Instant::now();
        let result = self.inner.invoke(invocation).await;
        let outcome = match &result {
            Ok(output) => {
                json!({"ok": {"text": output.text, "is_error": output.is_error, "is_refusal": output.is_refusal}})
            }
            Err(ToolError::Arguments { problem, .. }) => json!({"error": {"arguments": problem}}),
            Err(ToolError::Unavailable { reason, .. }) => json!({"error": {"unavailable": reason}}),
            Err(ToolError::Unknown { reason, .. }) => json!({"error": {"unknown": reason}}),
        };
        self.tape.keep(Kind::Tool, &request, &outcome, u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX));
        result
    }
}

#[async_trait]
impl ToolBox for ReplayTools {
    async fn definitions(&self, spec: &AgentSpec) -> Vec<ToolDefinition> {
        if !has_servers(spec) {
            return spec.tools.iter().map(definition).collect();
        }
        let nth = {
            let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
            let count = asked.entry(spec.name.clone()).or_default();
            *count += 1;
            *count - 1
        };
        let offer = self.tape.offer(spec.name.as_str(), nth).unwrap_or_default();
        serde_json::from_value(offer).unwrap_or_default()
    }

    fn trouble(&self, _: &AgentSpec) -> Option<String> {
        None
    }

    async fn invoke(&self, invocation: Invocation<'_>) -> Result<ToolOutput, ToolError> {
        let tool = invocation.call.name.clone();
        let outcome = match self.tape.answer(Kind::Tool, &request(invocation.call)) {
            Ok(outcome) => outcome,
            Err(mismatch) => return Err(ToolError::Unavailable { tool, reason: mismatch.0 }),
        };
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let (ok, error) = (&outcome["ok"], &outcome["error"]);
        if ok.is_object() {
            let (is_error, is_refusal) = (ok["is_error"] == true, ok["is_refusal"] == true);
            return Ok(ToolOutput { text: text(&ok["text"]), is_error, is_refusal });
        }
        Err(if error.get("arguments").is_some() {
            ToolError::Arguments { tool, problem: text(&error["arguments"]) }
        } else if error.get("unknown").is_some() {
            ToolError::Unknown { tool, reason: text(&error["unknown"]) }
        } else {
            ToolError::Unavailable { tool, reason: text(&error["unavailable"]) }
        })
    }
}
