//! A request as the brain sees it: what all four protocols have in common, borrowed from the body wherever it can be.

use std::borrow::Cow;

use serde_json::Value;

/// Characters of one token.
pub(super) const TOKEN_CHARS: usize = 4;

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// The operator.
    System,
    /// The user.
    User,
    /// The model.
    Assistant,
    /// The result of a tool.
    Tool,
}

impl Role {
    /// Its word, the same for all protocols, so that equal conversations have equal answers.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
            Self::Tool => "tool",
        }
    }
}

/// One message. What a user says beside results of tools is a message of its own.
#[derive(Debug)]
pub(super) struct Message<'a> {
    /// Who speaks.
    pub(super) role: Role,
    /// The text; empty when there is none.
    pub(super) text: Cow<'a, str>,
}

/// A tool offered.
#[derive(Debug)]
pub(super) struct Offer<'a> {
    /// Its name.
    pub(super) name: Cow<'a, str>,
    /// The JSON Schema of its arguments, unread.
    pub(super) schema: Option<&'a str>,
}

/// Which tools must be called.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) enum Choice<'a> {
    /// As the model likes.
    #[default]
    Auto,
    /// None.
    Never,
    /// At least one.
    Any,
    /// This one.
    Tool(Cow<'a, str>),
}

/// What form an answer must have.
#[derive(Debug, Default)]
pub(super) enum Form {
    /// Free text.
    #[default]
    Text,
    /// Any JSON object.
    Object,
    /// What this schema says.
    Schema(Value),
}

/// A request.
#[derive(Debug, Default)]
pub(super) struct Ask<'a> {
    /// The model.
    pub(super) model: Cow<'a, str>,
    /// The conversation.
    pub(super) messages: Vec<Message<'a>>,
    /// The tools offered.
    pub(super) tools: Vec<Offer<'a>>,
    /// Which of them must be called.
    pub(super) choice: Choice<'a>,
    /// What form the answer must have.
    pub(super) form: Form,
    /// Whether to stream.
    pub(super) stream: bool,
    /// Whether a stream tells the usage where that is a matter of choice.
    pub(super) include_usage: bool,
    /// Tokens of the answer at most.
    pub(super) max_tokens: Option<u64>,
    /// Texts that end the answer.
    pub(super) stop: Vec<Cow<'a, str>>,
    /// Whether the model may reason before it answers.
    pub(super) thinks: bool,
}

impl<'a> Ask<'a> {
    /// The tool of this name, when it is offered.
    pub(super) fn offer(&self, name: &str) -> Option<&Offer<'a>> {
        self.tools.iter().find(|tool| tool.name == name)
    }

    /// Tokens of all messages: characters divided by four, rounded up.
    pub(super) fn tokens(&self) -> u64 {
        self.messages
            .iter()
            .map(|message| message.text.chars().count() as u64)
            .sum::<u64>()
            .div_ceil(TOKEN_CHARS as u64)
    }
}

/// Tokens of one request and its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Tally {
    /// Of the conversation, all of them.
    pub(super) input: u64,
    /// Of those, read from the provider's cache.
    pub(super) cached: u64,
    /// Of those, written to the provider's cache.
    pub(super) written: u64,
    /// Of the answer, reasoning included.
    pub(super) output: u64,
    /// Of those, reasoned.
    pub(super) reasoning: u64,
}

impl Tally {
    /// Input that neither came from the cache nor went into it.
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
        let ask = Ask { messages: vec![message("äöü"), message("ab")], ..Ask::default() };
        assert_eq!(ask.tokens(), 2);
    }
}
