//! The conversation with a model, in one form for every provider.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::agent::ProviderKind;
use crate::money::NanoUsd;
use crate::words::words;

/// One message.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "role")]
pub enum Message {
    /// Instructions for the model.
    System {
        /// The text.
        content: String,
    },
    /// A user's message.
    User {
        /// The text.
        content: String,
    },
    /// The model's answer.
    Assistant {
        /// The text; may be empty when it calls tools.
        content: String,
        /// The tool calls it requests.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        tool_calls: Vec<ToolCall>,
        /// What the provider attached to the answer and wants to be sent back.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        native: Option<Box<NativeReply>>,
    },
    /// The result of a tool call.
    Tool {
        /// Id of the call that this answers.
        call_id: String,
        /// The output, as text.
        content: String,
        /// True if the call failed.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        is_error: bool,
    },
}

impl Message {
    /// Returns the text of any message.
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

/// An answer in its provider's own form: reasoning with its signature, encrypted reasoning items, thought signatures.
/// Providers refuse or forget an answer that comes back without them, so the parts are kept in order and sent back to
/// the model that made them. Another model gets the plain answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NativeReply {
    /// Provider that made them.
    pub provider: ProviderKind,
    /// The model, as it was asked for.
    pub model: Box<str>,
    /// Digest of the beginning of the conversation, if the provider binds the parts to it; else 0.
    #[serde(default, skip_serializing_if = "is_nil")]
    pub prefix: u32,
    /// The parts, in the provider's order.
    pub parts: Vec<NativePart>,
}

/// A part of an answer in its provider's own form.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "part")]
pub enum NativePart {
    /// A piece of the text.
    Text {
        /// The piece.
        text: String,
        /// What the provider attached to it.
        #[serde(default, skip_serializing_if = "Map::is_empty")]
        extra: Map<String, Value>,
    },
    /// A tool call of the answer.
    Call {
        /// Position among the answer's tool calls, from 0.
        index: usize,
        /// What the provider attached to it.
        #[serde(default, skip_serializing_if = "Map::is_empty")]
        extra: Map<String, Value>,
    },
    /// A part that only its provider understands, unchanged.
    Opaque {
        /// The part.
        block: Value,
    },
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde wants a reference")]
fn is_nil(digest: &u32) -> bool {
    *digest == 0
}

/// A tool call requested by the model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ToolCall {
    /// Id of the call, chosen by the model.
    pub id: String,
    /// Name of the tool.
    pub name: String,
    /// The arguments as the model wrote them: usually a JSON object, not yet checked.
    pub arguments: String,
}

/// A tool as it is offered to a model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ToolDefinition {
    /// The name to call it by.
    pub name: String,
    /// Purpose of the tool.
    pub description: String,
    /// JSON Schema of its arguments.
    pub parameters: Value,
}

/// A request to a model, independent of its provider.
#[derive(Debug, Clone, PartialEq)]
pub struct ChatRequest {
    /// The conversation so far, oldest first.
    pub messages: Vec<Message>,
    /// Tools that the model may call.
    pub tools: Vec<ToolDefinition>,
    /// JSON Schema the answer must fit (structured output).
    pub output_schema: Option<Value>,
}

/// The model's answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChatReply {
    /// The text.
    pub content: String,
    /// The tool calls it requests, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<ToolCall>,
    /// Reason for stopping.
    pub stop: StopReason,
    /// Tokens as the provider counted them.
    pub usage: Usage,
    /// The model that answered, as the provider names it.
    pub model: String,
    /// What the provider attached to the answer and wants to be sent back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub native: Option<Box<NativeReply>>,
}

impl ChatReply {
    /// Returns the answer as a message of the conversation.
    #[must_use]
    pub fn to_message(&self) -> Message {
        Message::Assistant {
            content: self.content.clone(),
            tool_calls: self.tool_calls.clone(),
            native: self.native.clone(),
        }
    }
}

/// The reason why a model stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopReason {
    /// The answer is complete.
    End,
    /// Tool calls are requested.
    ToolCalls,
    /// The limit of the answer's length was reached.
    Length,
    /// The provider withheld the answer.
    ContentFilter,
    /// The model paused; the answer goes on when it is sent back.
    Paused,
    /// The conversation does not fit the model's context.
    ContextExceeded,
    /// Any other reason.
    Other,
}

/// Tokens of one call as the provider counted them. `cached_tokens` and the `cache_write` counts are part of
/// `input_tokens`, `reasoning_tokens` part of `output_tokens`, whichever way a provider reports them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Usage {
    /// Tokens sent.
    pub input_tokens: u64,
    /// Tokens received.
    pub output_tokens: u64,
    /// Tokens read from the provider's cache.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub cached_tokens: u64,
    /// Tokens received but not shown.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub reasoning_tokens: u64,
    /// Tokens written to the provider's cache for five minutes, or for its default time.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub cache_write_tokens: u64,
    /// Tokens written to the provider's cache for an hour.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub cache_write_1h_tokens: u64,
    /// Tokens written to the provider's cache for twelve hours.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub cache_write_12h_tokens: u64,
    /// Searches of the web that the provider made.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub web_searches: u64,
    /// The service tier that the call was served on, if not the standard one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tier: Option<ServiceTier>,
    /// What the provider says that it charged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub charged: Option<NanoUsd>,
}

words! {
    /// A service tier with a price of its own.
    #[derive(PartialOrd, Ord)]
    pub enum ServiceTier: "service tier" {
        /// Cheaper and later.
        Batch = "batch",
        /// Cheaper, when there is capacity.
        Flex = "flex",
        /// Dearer and sooner.
        Priority = "priority",
        /// Dearer and faster.
        Fast = "fast",
        /// The fastest.
        Ultrafast = "ultrafast",
    }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde wants a reference")]
fn is_zero(tokens: &u64) -> bool {
    *tokens == 0
}
