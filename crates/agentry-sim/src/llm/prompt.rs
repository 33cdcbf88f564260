//! The request that all protocols have in common, borrowed from the body wherever possible.

use std::borrow::Cow;

use serde_json::Value;

use super::cache::CacheRules;
use super::prefix::Chain;
use super::wire::Refusal;

pub(super) const TOKEN_CHARS: usize = 4;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    System,
    User,
    Assistant,
    Tool,
}

impl Role {
    /// The role's name, the same for all protocols, so that equal conversations have equal answers.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
            Self::Tool => "tool",
        }
    }
}

/// One message. Text that a user adds to tool results is a message of its own.
#[derive(Debug)]
pub(super) struct Message<'a> {
    pub(super) role: Role,
    /// The text; empty when there is none.
    pub(super) text: Cow<'a, str>,
}

#[derive(Debug)]
pub(super) struct ToolOffer<'a> {
    pub(super) name: Cow<'a, str>,
    /// JSON Schema of the arguments, not yet parsed.
    pub(super) schema: Option<Cow<'a, str>>,
}

/// Demand that a request makes on tool calls.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) enum ToolDemand<'a> {
    #[default]
    Auto,
    Never,
    Any,
    Tool(Cow<'a, str>),
}

/// Demand that a request makes on the form of the answer.
#[derive(Debug, Default)]
pub(super) enum AnswerForm {
    #[default]
    Text,
    Object,
    Schema(Value),
}

#[derive(Debug, Default)]
pub(super) struct Prompt<'a> {
    pub(super) model: Cow<'a, str>,
    pub(super) messages: Vec<Message<'a>>,
    pub(super) tools: Vec<ToolOffer<'a>>,
    pub(super) choice: ToolDemand<'a>,
    pub(super) form: AnswerForm,
    /// The answer is sent as a stream.
    pub(super) stream: bool,
    /// A stream reports its usage, in protocols that leave this to the client.
    pub(super) include_usage: bool,
    pub(super) max_tokens: Option<u64>,
    pub(super) stop: Vec<Cow<'a, str>>,
    /// The model may reason before it answers.
    pub(super) thinks: bool,
    /// The model reasons before it answers, also when no directive asks for it.
    pub(super) reasons: bool,
    /// Reasoning is returned encrypted, in protocols that leave this to the client.
    pub(super) encrypts: bool,
    /// Summaries of reasoning are returned, in protocols that leave this to the client.
    pub(super) summarizes: bool,
    /// Reasoning that the request returned.
    pub(super) returned: Returned,
    /// Parts of the request, for caches and signatures.
    pub(super) chain: Chain,
    pub(super) caching: CacheRules,
    /// Key that the client gives its prefixes.
    pub(super) cache_key: Option<String>,
    /// Service tier that the request asks for, when it names one.
    pub(super) tier: Option<String>,
    /// Rule of the provider that the request breaks.
    pub(super) refusal: Option<Refusal>,
}

/// Pieces of reasoning in the turns of the assistant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Returned {
    /// Came back as they were made, after what they were made after.
    pub(super) equal: u64,
    /// Came back changed, or after something else.
    pub(super) altered: u64,
    /// Did not come back with the calls that they were made for.
    pub(super) missing: u64,
}

impl<'a> Prompt<'a> {
    /// Notes a broken rule; the first one is the one that is told.
    pub(super) fn refuse(&mut self, refusal: impl Into<Option<Refusal>>) {
        if self.refusal.is_none() {
            self.refusal = refusal.into();
        }
    }

    /// Returns the service tier that the answer is served at.
    pub(super) fn served_tier(&self) -> &str {
        self.tier.as_deref().filter(|tier| *tier != "auto").unwrap_or("default")
    }

    /// Returns true when the request lets the model call tools, and does not make it.
    pub(super) fn may_call(&self) -> bool {
        !self.tools.is_empty() && self.choice == ToolDemand::Auto
    }

    pub(super) fn offer(&self, name: &str) -> Option<&ToolOffer<'a>> {
        self.tools.iter().find(|tool| tool.name == name)
    }

    /// Counts the tokens of all messages: characters divided by four, rounded up.
    pub(super) fn tokens(&self) -> u64 {
        self.messages
            .iter()
            .map(|message| message.text.chars().count() as u64)
            .sum::<u64>()
            .div_ceil(TOKEN_CHARS as u64)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct TokenCounts {
    /// All input tokens.
    pub(super) input: u64,
    /// Input tokens read from the provider's cache.
    pub(super) cached: u64,
    /// Input tokens written to the provider's cache.
    pub(super) written: u64,
    /// The part of `written` that is kept for an hour.
    pub(super) written_1h: u64,
    /// Output tokens, including reasoning.
    pub(super) output: u64,
    /// Output tokens spent on reasoning.
    pub(super) reasoning: u64,
}

impl TokenCounts {
    pub(super) fn fresh(&self) -> u64 {
        self.input - self.cached - self.written
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_characters_by_four_rounded_up() {
        let message = |text: &'static str| Message { role: Role::User, text: text.into() };
        let prompt = Prompt { messages: vec![message("äöü"), message("ab")], ..Prompt::default() };
        assert_eq!(prompt.tokens(), 2);
    }
}
