//! An answer that is being assembled.

use agentry_core::chat::{ChatReply, StopReason, ToolCall, Usage};

use super::form::{Form, form, must_be_wrapped, unwrapped};
use crate::Call;

/// The tool whose arguments are the answer, in protocols that have no structured output.
pub(crate) const ANSWER_TOOL: &str = "agentry_answer";
const MAX_TOOL_CALLS: usize = 128;

/// An answer that is being assembled, from one piece or many.
#[derive(Debug, Default)]
pub(crate) struct Draft {
    pub content: String,
    pub refusal: String,
    pub stop: Option<StopReason>,
    /// Model name in the provider's words.
    pub model: Option<String>,
    pub id: Option<String>,
    pub usage: Usage,
    /// The arguments of [`ANSWER_TOOL`] are wrapped in an object.
    pub is_wrapped: bool,
    /// Any content has arrived: text, a tool call, or reasoning.
    pub has_begun: bool,
    calls: Vec<(Option<u64>, ToolCall)>,
    answer: Answer,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidAnswer {
    #[error("the answer has {0} tool calls; at most {MAX_TOOL_CALLS} are taken")]
    TooManyToolCalls(usize),
    #[error("the answer has a tool call without a name")]
    UnnamedToolCall,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Answer {
    #[default]
    Text,
    /// The arguments of the call with this index.
    Tool(u64),
}

impl Draft {
    pub fn of(call: &Call) -> Self {
        let is_wrapped = matches!(form(call), Form::Schema(schema) if must_be_wrapped(&schema));
        Self { is_wrapped, ..Self::default() }
    }

    pub fn text(&mut self, text: &str) {
        self.has_begun |= !text.is_empty();
        // Text around a structured answer is not part of it.
        if self.answer == Answer::Text {
            self.content.push_str(text);
        }
    }

    pub fn tool_begins(&mut self, index: u64, id: &str, name: &str) {
        self.has_begun = true;
        if name == ANSWER_TOOL {
            self.answer = Answer::Tool(index);
            self.content.clear();
            return;
        }
        let call = ToolCall { id: id.to_owned(), name: name.to_owned(), arguments: String::new() };
        self.calls.push((Some(index), call));
    }

    pub fn tool_arguments(&mut self, index: u64, piece: &str) {
        if self.answer == Answer::Tool(index) {
            self.content.push_str(piece);
        } else if let Some((_, call)) = self.calls.iter_mut().find(|(at, _)| *at == Some(index)) {
            call.arguments.push_str(piece);
        }
    }

    pub fn tool(&mut self, id: &str, name: &str, arguments: &str) {
        let index = self.calls.len() as u64 + u64::from(self.answer != Answer::Text);
        self.tool_begins(index, id, name);
        self.tool_arguments(index, arguments);
    }

    /// Adds a delta of a tool call in OpenAI's protocol. The index identifies the call; without one, a delta with an id
    /// starts a new call.
    pub fn tool_delta(&mut self, index: Option<u64>, id: Option<String>, name: Option<String>, arguments: &str) {
        self.has_begun = true;
        let known = match (index, &id) {
            (Some(index), _) => self.calls.iter().position(|(at, _)| *at == Some(index)),
            (None, None) => self.calls.len().checked_sub(1),
            (None, Some(_)) => None,
        };
        let position = known.unwrap_or_else(|| {
            let empty = ToolCall { id: String::new(), name: String::new(), arguments: String::new() };
            self.calls.push((index, empty));
            self.calls.len() - 1
        });
        let call = &mut self.calls[position].1;
        if let Some(id) = id.filter(|id| !id.is_empty()) {
            call.id = id;
        }
        call.name.push_str(name.as_deref().unwrap_or_default());
        call.arguments.push_str(arguments);
    }

    /// Returns true when pieces of the text may be shown before the end.
    pub fn may_be_streamed(&self) -> bool {
        self.answer == Answer::Text || !self.is_wrapped
    }

    /// Returns the complete answer and the provider's id of it.
    pub fn finish(self, call: &Call) -> Result<(ChatReply, Option<String>), InvalidAnswer> {
        if self.calls.len() > MAX_TOOL_CALLS {
            return Err(InvalidAnswer::TooManyToolCalls(self.calls.len()));
        }
        let mut tool_calls: Vec<ToolCall> = self.calls.into_iter().map(|(_, call)| call).collect();
        for (index, tool) in tool_calls.iter_mut().enumerate() {
            if tool.name.is_empty() {
                return Err(InvalidAnswer::UnnamedToolCall);
            }
            if tool.id.is_empty() {
                tool.id = format!("{}-{index}", call.id);
            }
            if tool.arguments.is_empty() {
                "{}".clone_into(&mut tool.arguments);
            }
        }
        let is_answered = self.answer != Answer::Text;
        let refused = self.content.is_empty() && !self.refusal.is_empty();
        let stop = match self.stop {
            _ if refused => StopReason::ContentFilter,
            _ if !tool_calls.is_empty() => StopReason::ToolCalls,
            Some(StopReason::ToolCalls) if is_answered => StopReason::End,
            stop => stop.unwrap_or(StopReason::End),
        };
        let content = match (refused, is_answered && self.is_wrapped) {
            (true, _) => self.refusal,
            (false, true) => unwrapped(&self.content).unwrap_or(self.content),
            (false, false) => self.content,
        };
        let model = self.model.unwrap_or_else(|| call.target.model.to_string());
        Ok((ChatReply { content, tool_calls, stop, usage: self.usage, model }, self.id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_call::call;

    #[test]
    fn the_answer_in_a_tool_is_the_text() {
        let mut draft = Draft { stop: Some(StopReason::ToolCalls), ..Draft::default() };
        draft.text("Here it is:");
        draft.tool_begins(1, "t1", ANSWER_TOOL);
        draft.tool_arguments(1, "{\"a\":");
        draft.tool_arguments(1, "1}");
        draft.text("Good?");
        let (reply, _) = draft.finish(&call("")).unwrap();
        assert_eq!((reply.content.as_str(), reply.stop, reply.tool_calls.len()), ("{\"a\":1}", StopReason::End, 0));
    }

    #[test]
    fn too_many_calls_and_calls_without_a_name_are_refused() {
        let mut draft = Draft::default();
        draft.tool("a", "", "{}");
        assert!(draft.finish(&call("")).unwrap_err().to_string().contains("without a name"));
        let mut draft = Draft::default();
        for _ in 0..=MAX_TOOL_CALLS {
            draft.tool("a", "f", "{}");
        }
        assert!(draft.finish(&call("")).unwrap_err().to_string().contains("129 tool calls"));
    }
}
