//! An answer being put together, from one piece or many.

use agentry_core::chat::{ChatReply, StopReason, ToolCall, Usage};

use super::form::{Form, form, must_be_wrapped, unwrapped};
use crate::Call;

/// The tool whose arguments are the answer, where a protocol has no other way to ask for JSON of a certain form.
pub(crate) const ANSWER_TOOL: &str = "agentry_answer";
/// Tool calls of one answer at most; a model that asks for more is not in its right mind.
const MAX_TOOL_CALLS: usize = 128;

/// An answer being put together.
#[derive(Debug, Default)]
pub(crate) struct Draft {
    /// The text so far.
    pub content: String,
    /// The text of a refusal so far.
    pub refusal: String,
    /// Why the model stopped, once it said so.
    pub stop: Option<StopReason>,
    /// The model that answers, as the provider names it.
    pub model: Option<String>,
    /// What the provider calls the answer.
    pub id: Option<String>,
    /// What the provider counted so far.
    pub usage: Usage,
    /// Whether the arguments of [`ANSWER_TOOL`] are inside an object.
    pub is_wrapped: bool,
    /// Whether there was any content: text, a tool call, or thoughts that are not shown.
    pub has_begun: bool,
    calls: Vec<(Option<u64>, ToolCall)>,
    answer: Answer,
}

/// Whether the answer comes as the arguments of a tool.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Answer {
    #[default]
    Text,
    /// In the call with this index.
    Tool(u64),
}

impl Draft {
    /// The beginning of an answer to a call.
    pub fn of(call: &Call) -> Self {
        let is_wrapped = matches!(form(call), Form::Schema(schema) if must_be_wrapped(&schema));
        Self { is_wrapped, ..Self::default() }
    }

    /// More text.
    pub fn text(&mut self, text: &str) {
        self.has_begun |= !text.is_empty();
        // What a model says around an answer in its form is not part of it.
        if self.answer == Answer::Text {
            self.content.push_str(text);
        }
    }

    /// A call begins, whose pieces have this index.
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

    /// More of the arguments of a call.
    pub fn tool_arguments(&mut self, index: u64, piece: &str) {
        if self.answer == Answer::Tool(index) {
            self.content.push_str(piece);
        } else if let Some((_, call)) = self.calls.iter_mut().find(|(at, _)| *at == Some(index)) {
            call.arguments.push_str(piece);
        }
    }

    /// A whole call.
    pub fn tool(&mut self, id: &str, name: &str, arguments: &str) {
        let index = self.calls.len() as u64 + u64::from(self.answer != Answer::Text);
        self.tool_begins(index, id, name);
        self.tool_arguments(index, arguments);
    }

    /// A piece of a call in OpenAI's manner: pieces belong together by index; without one, a piece with an id begins
    /// a call.
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

    /// Whether pieces of the text may be shown as they come.
    pub fn is_shown(&self) -> bool {
        self.answer == Answer::Text || !self.is_wrapped
    }

    /// The answer to a call, and what the provider calls it.
    pub fn finish(self, call: &Call) -> Result<(ChatReply, Option<String>), String> {
        if self.calls.len() > MAX_TOOL_CALLS {
            return Err(format!("the answer has {} tool calls; at most {MAX_TOOL_CALLS} are taken", self.calls.len()));
        }
        let mut tool_calls: Vec<ToolCall> = self.calls.into_iter().map(|(_, call)| call).collect();
        for (index, tool) in tool_calls.iter_mut().enumerate() {
            if tool.name.is_empty() {
                return Err("the answer has a tool call without a name".to_owned());
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
        assert!(draft.finish(&call("")).unwrap_err().contains("without a name"));
        let mut draft = Draft::default();
        for _ in 0..=MAX_TOOL_CALLS {
            draft.tool("a", "f", "{}");
        }
        assert!(draft.finish(&call("")).unwrap_err().contains("129 tool calls"));
    }
}
