//! A provider inside the process: instantaneous, deterministic, free. For examples without keys and for benchmarks of
//! everything but the model.

use std::sync::Arc;
use std::time::Duration;

use agentry_core::chat::{ChatReply, ChatRequest, Message, StopReason, Usage};
use agentry_core::sample::sample;
use async_trait::async_trait;
use serde_json::{Value, json};

use crate::{Call, LlmError, LlmProvider, TimedReply, TokenSink};

/// Bytes of the last user message that an answer repeats.
const MAX_ECHO_BYTES: usize = 200;
const MAX_PLAN_STEPS: usize = 3;
const BYTES_PER_TOKEN: usize = 4;

/// The simulated provider.
#[derive(Debug, Clone, Copy, Default)]
pub struct Simulated;

#[async_trait]
impl LlmProvider for Simulated {
    async fn call(&self, call: &Call, sink: Option<Arc<dyn TokenSink>>) -> Result<TimedReply, LlmError> {
        let content = answer(&call.request);
        if let Some(sink) = sink {
            sink.piece(&content);
        }
        let sent: usize = call.request.messages.iter().map(|message| message.content().len()).sum();
        let usage = Usage { input_tokens: tokens(sent), output_tokens: tokens(content.len()), ..Usage::default() };
        let model = call.target.model.to_string();
        let reply = ChatReply { content, tool_calls: Vec::new(), stop: StopReason::End, usage, model, native: None };
        // No clock is read, because this provider answers in no time.
        Ok(TimedReply {
            reply,
            duration: Duration::ZERO,
            first_token: None,
            provider_call_id: None,
            is_uncounted: false,
        })
    }
}

fn tokens(bytes: usize) -> u64 {
    bytes.div_ceil(BYTES_PER_TOKEN) as u64
}

fn answer(request: &ChatRequest) -> String {
    let question = request.messages.iter().rev().find_map(|message| match message {
        Message::User { content } => Some(content.as_str()),
        _ => None,
    });
    let question = cut(question.unwrap_or_default());
    match &request.output_schema {
        None => format!("Simulated answer to: {question}"),
        Some(schema) if schema.get("title").and_then(Value::as_str) == Some("agentry_plan") => {
            plan(schema, question).to_string()
        }
        Some(schema) => sample(schema, question).to_string(),
    }
}

/// Returns a plan with one step for each of the first allowed agents; the last one depends on all others.
fn plan(schema: &Value, question: &str) -> Value {
    let agents = schema.pointer("/properties/steps/items/properties/agent/enum").and_then(Value::as_array);
    let most = schema.pointer("/properties/steps/maxItems").and_then(Value::as_u64).unwrap_or(1);
    let count = usize::try_from(most).unwrap_or(MAX_PLAN_STEPS).min(MAX_PLAN_STEPS);
    let agents: Vec<&Value> = agents.into_iter().flatten().take(count).collect();
    let last = agents.len().saturating_sub(1);
    let ids: Vec<String> = (1..=agents.len()).map(|number| format!("step-{number}")).collect();
    let steps: Vec<Value> = agents
        .iter()
        .enumerate()
        .map(|(index, agent)| {
            let needs = if index == last { &ids[..last] } else { &[] };
            json!({"id": ids[index], "agent": agent, "task": question, "depends_on": needs})
        })
        .collect();
    json!({"steps": steps})
}

fn cut(text: &str) -> &str {
    let mut end = text.len().min(MAX_ECHO_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use agentry_core::agent::{AgentName, CollaborativeConfig};
    use agentry_core::plan::Plan;

    use super::*;

    fn request(output_schema: Option<Value>) -> ChatRequest {
        let messages = vec![
            Message::System { content: "You help.".into() },
            Message::User { content: "Where is order A-1042?".into() },
        ];
        ChatRequest { messages, tools: Vec::new(), output_schema }
    }

    #[test]
    fn it_answers_from_the_last_user_message() {
        assert_eq!(answer(&request(None)), "Simulated answer to: Where is order A-1042?");
    }

    #[test]
    fn answers_fit_the_schema() {
        let schema = json!({"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]});
        assert_eq!(answer(&request(Some(schema))), r#"{"ok":true}"#);
    }

    #[test]
    fn plans_are_valid_for_any_number_of_agents_and_steps() {
        for agents in 1..6 {
            for max_plan_steps in 1..5 {
                let allowed: Vec<_> = (0..agents).map(|n| AgentName::new(&format!("agent-{n}")).unwrap()).collect();
                let config = CollaborativeConfig { max_plan_steps, ..CollaborativeConfig::default() };
                let text = answer(&request(Some(Plan::schema(&config, &allowed))));
                Plan::parse(&text, &config, &allowed).unwrap();
            }
        }
    }
}
