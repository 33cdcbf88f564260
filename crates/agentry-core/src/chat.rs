//! The conversation with a model, in one form for every provider.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One message.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "role")]
pub enum Message {
    /// What the model is and should do.
    System {
        /// The text.
        content: String,
    },
    /// What a user said.
    User {
        /// The text.
        content: String,
    },
    /// What the model said.
    Assistant {
        /// The text; may be empty when it calls tools.
        content: String,
        /// The tools it wants called.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        tool_calls: Vec<ToolCall>,
    },
    /// What a tool returned.
    Tool {
        /// Which call it answers.
        call_id: String,
        /// The output, as text.
        content: String,
    },
}

impl Message {
    /// The text of any message.
    #[must_use]
    pub fn content(&self) -> &str {
        match self {
            Self::System { content }
            | Self::User { content }
            | Self::Assistant { content, .. }
            | Self::Tool { content, .. } => content,
        }
    }
}

/// A call that the model asks for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ToolCall {
    /// The model's name for the call.
    pub id: String,
    /// Which tool.
    pub name: String,
    /// The arguments as the model wrote them: usually a JSON object, not yet checked.
    pub arguments: String,
}

/// A tool as a model is told of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ToolDefinition {
    /// The name to call it by.
    pub name: String,
    /// What it does.
    pub description: String,
    /// JSON Schema of its arguments.
    pub parameters: Value,
}

/// One question to a model, before it is known which provider answers it.
#[derive(Debug, Clone, PartialEq)]
pub struct ChatRequest {
    /// The conversation so far, oldest first.
    pub messages: Vec<Message>,
    /// What the model may call.
    pub tools: Vec<ToolDefinition>,
    /// JSON Schema the answer must fit (structured output).
    pub output_schema: Option<Value>,
}

/// The model's answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChatReply {
    /// The text.
    pub content: String,
    /// The tools it wants called, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<ToolCall>,
    /// Why it stopped.
    pub stop: StopReason,
    /// What the provider counted.
    pub usage: Usage,
    /// The model that answered, as the provider names it.
    pub model: String,
}

impl ChatReply {
    /// The answer as a message of the conversation.
    #[must_use]
    pub fn to_message(&self) -> Message {
        Message::Assistant { content: self.content.clone(), tool_calls: self.tool_calls.clone() }
    }
}

/// Why a model stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopReason {
    /// It was done.
    End,
    /// It wants tools called.
    ToolCalls,
    /// It ran into `max_tokens`.
    Length,
    /// The provider withheld the answer.
    ContentFilter,
    /// Anything else.
    Other,
}

/// Tokens of one call as the provider counted them. `cached_tokens` and both `cache_write` counts are part of
/// `input_tokens`, `reasoning_tokens` part of `output_tokens`, whichever way a provider tells them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Usage {
    /// Sent.
    pub input_tokens: u64,
    /// Received.
    pub output_tokens: u64,
    /// Sent and found in the provider's cache.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub cached_tokens: u64,
    /// Received but not shown.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub reasoning_tokens: u64,
    /// Sent and written to the provider's cache for five minutes, or for as long as it keeps without being asked.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub cache_write_tokens: u64,
    /// Sent and written to the provider's cache for an hour.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub cache_write_1h_tokens: u64,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde wants a reference")]
fn is_zero(tokens: &u64) -> bool {
    *tokens == 0
}
