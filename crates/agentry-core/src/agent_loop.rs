//! The agent loop as a state machine without IO: apply events, then ask for the next action.
//!
//! The runner drives it; recovery replays the journal into it. Both use the same `apply_*` calls, so a resumed task
//! continues exactly where it was.

use std::collections::HashSet;

use serde_json::{Value, json};

use crate::agent::OnLength;
use crate::answer::{OutputForm, ended};
use crate::chat::{ChatReply, ChatRequest, Message, StopReason, ToolCall, ToolDefinition};
use crate::journal::JournalBody;
use crate::task::{ErrorCode, TaskError};

/// Maximum number of model calls in one loop, which stops an agent that never stops calling tools.
pub const MAX_TURNS: u32 = 50;
/// The name of the built-in tool by which a model asks a human.
pub const ASK_HUMAN: &str = "ask_human";
/// Maximum number of tool calls in one answer: more than a useful agent makes, and few enough to run at once.
pub const MAX_CALLS_PER_ANSWER: usize = 128;
/// Maximum number of tool calls in one loop.
pub const MAX_TOOL_CALLS: usize = 1_000;
/// Maximum length of a tool output, in bytes; longer ones are cut with a note.
pub const MAX_TOOL_OUTPUT_BYTES: usize = 256 * 1024;

/// The message after an answer that was cut (`on_length: continue`).
const GO_ON: &str = "Your answer was cut. Go on exactly where it stopped, without repeating anything.";

/// The next action of the loop.
#[derive(Debug, Clone, PartialEq)]
pub enum Next {
    /// Call the model.
    CallModel {
        /// Number of the turn, from 0.
        turn: u32,
    },
    /// Call these tools, in any order or concurrently.
    CallTools {
        /// The turn that asked for them.
        turn: u32,
        /// The calls without a result.
        calls: Vec<PendingCall>,
    },
    /// Only questions to humans are open.
    AwaitHuman,
    /// The loop is over.
    Done(Result<Value, TaskError>),
}

/// A tool call without a result.
#[derive(Debug, Clone, PartialEq)]
pub struct PendingCall {
    /// The call, under an id that no other call of the loop has.
    pub call: ToolCall,
    /// Position in the answer that asked for it, from 0.
    pub index: usize,
    /// True if an intent was journaled: after a crash the outcome is unknown.
    pub started: bool,
}

/// The agent's settings that the loop depends on.
#[derive(Debug, Clone)]
pub struct LoopConfig {
    /// Tools offered to the model; [`AgentLoop::offer`] adds more.
    pub tools: Vec<ToolDefinition>,
    /// Form that the answer must have.
    pub output: Option<OutputForm>,
    /// What becomes of an answer that is cut at the limit of its length.
    pub on_length: OnLength,
    /// True if the model may ask a human.
    pub may_ask: bool,
    /// Maximum number of model calls.
    pub max_turns: u32,
}

#[derive(Debug, Clone, PartialEq)]
enum CallState {
    Requested,
    Started,
    Asked(crate::id::ClarificationId),
    Returned { output: String, is_error: bool },
}

/// The loop of one agent on one input.
#[derive(Debug, Clone)]
pub struct AgentLoop {
    config: LoopConfig,
    messages: Vec<Message>,
    given: usize,
    turn: u32,
    calls: Vec<(ToolCall, CallState)>,
    /// Number of tool calls so far.
    called: usize,
    /// The text of the answer so far, when it was cut and goes on.
    begun: String,
    /// True once the model was asked to mend its answer.
    repaired: bool,
    done: Option<Result<Value, TaskError>>,
}

impl AgentLoop {
    /// Returns a loop that begins with these messages: system, history, and the user's input last.
    #[must_use]
    pub fn new(config: LoopConfig, messages: Vec<Message>) -> Self {
        let given = messages.len();
        Self {
            config,
            messages,
            given,
            turn: 0,
            calls: Vec::new(),
            called: 0,
            begun: String::new(),
            repaired: false,
            done: None,
        }
    }

    /// Returns the next action.
    #[must_use]
    pub fn next(&self) -> Next {
        if let Some(done) = &self.done {
            return Next::Done(done.clone());
        }
        if self.calls.is_empty() {
            if self.turn >= self.config.max_turns {
                return Next::Done(Err(TaskError::new(
                    ErrorCode::TooManySteps,
                    format!("the agent made {} model calls without coming to an end", self.turn),
                )));
            }
            return Next::CallModel { turn: self.turn };
        }
        let open: Vec<PendingCall> = self
            .calls
            .iter()
            .enumerate()
            .filter_map(|(index, (call, state))| match state {
                CallState::Requested => Some(PendingCall { call: call.clone(), index, started: false }),
                CallState::Started => Some(PendingCall { call: call.clone(), index, started: true }),
                CallState::Asked(_) | CallState::Returned { .. } => None,
            })
            .collect();
        // `apply_*` clears `calls` once all have returned, so an empty list here means that humans are awaited.
        if open.is_empty() { Next::AwaitHuman } else { Next::CallTools { turn: self.turn - 1, calls: open } }
    }

    /// Returns the request for the next model call.
    #[must_use]
    pub fn request(&self) -> ChatRequest {
        // The built-in tool stands first, so that tools which come later do not move it.
        let built_in = self.config.may_ask.then(ask_human_definition);
        let tools = built_in.into_iter().chain(self.config.tools.iter().cloned()).collect();
        let output_schema = self.config.output.as_ref().map(|form| form.schema.clone());
        ChatRequest { messages: self.messages.clone(), tools, output_schema }
    }

    /// Adds tools that are offered to the model: tool servers come, go and change theirs while a loop runs. The list only
    /// grows, and what stands in it stays as it is: providers refuse an answer's reasoning, and lose their cache, when
    /// the beginning of the conversation changes. A call of a tool that is gone is answered as such. Nothing that the
    /// journal replays depends on the tools.
    pub fn offer(&mut self, tools: Vec<ToolDefinition>) {
        for tool in tools {
            if !self.config.tools.iter().any(|known| known.name == tool.name) {
                self.config.tools.push(tool);
            }
        }
    }

    /// Returns the conversation so far.
    #[must_use]
    pub fn messages(&self) -> &[Message] {
        &self.messages
    }

    /// Returns the messages that this loop added.
    #[must_use]
    pub fn added(&self) -> &[Message] {
        &self.messages[self.given..]
    }

    /// Applies the model's answer. Only an answer that came to its natural end is used: the calls of one that was cut or
    /// withheld are not made.
    pub fn apply_reply(&mut self, reply: &ChatReply) {
        self.turn += 1;
        match (reply.stop, self.config.on_length) {
            (StopReason::Paused, _) => self.messages.push(reply.to_message()),
            (StopReason::Length, OnLength::Continue) if self.may_continue(reply) => self.go_on(reply),
            _ => match ended(reply) {
                Err(error) => {
                    self.messages.push(reply.to_message());
                    self.done = Some(Err(error));
                }
                Ok(()) if reply.tool_calls.is_empty() => self.conclude(reply),
                Ok(()) => self.request_calls(reply),
            },
        }
    }

    /// Returns whether a cut answer can go on: it has text that another answer can be joined to.
    fn may_continue(&self, reply: &ChatReply) -> bool {
        reply.tool_calls.is_empty() && self.config.output.is_none() && !reply.content.trim().is_empty()
    }

    fn go_on(&mut self, reply: &ChatReply) {
        self.begun.push_str(&reply.content);
        self.messages.push(reply.to_message());
        self.messages.push(Message::User { content: GO_ON.to_owned() });
    }

    fn request_calls(&mut self, reply: &ChatReply) {
        self.begun.clear();
        self.called += reply.tool_calls.len();
        if reply.tool_calls.len() > MAX_CALLS_PER_ANSWER || self.called > MAX_TOOL_CALLS {
            self.messages.push(reply.to_message());
            let message = format!(
                "the model asked for {} tool calls in one answer and {} in all; at most {MAX_CALLS_PER_ANSWER} and \
                 {MAX_TOOL_CALLS} are made",
                reply.tool_calls.len(),
                self.called
            );
            self.done = Some(Err(TaskError::new(ErrorCode::TooManySteps, message)));
            return;
        }
        let calls = self.with_unique_ids(&reply.tool_calls);
        self.messages.push(Message::Assistant {
            content: reply.content.clone(),
            tool_calls: calls.clone(),
            native: reply.native.clone(),
        });
        self.calls = calls.into_iter().map(|call| (call, CallState::Requested)).collect();
    }

    /// Gives the calls of an answer ids that are unique in the conversation. Servers number the calls of each answer
    /// from 0, send one id twice, or none; a result must belong to one call.
    ///
    /// The ids depend on the conversation alone, so a replay of the journal produces the same ones.
    fn with_unique_ids(&self, calls: &[ToolCall]) -> Vec<ToolCall> {
        let earlier = self.messages.iter().flat_map(|message| match message {
            Message::Assistant { tool_calls, .. } => tool_calls.as_slice(),
            _ => &[],
        });
        let mut taken: HashSet<String> = earlier.map(|call| call.id.clone()).collect();
        let unique = |call: &ToolCall| {
            let given = if call.id.is_empty() { "call" } else { &call.id };
            let numbered = (2_usize..).map(|number| format!("{given}_{number}"));
            let mut candidates = std::iter::once(given.to_owned()).chain(numbered);
            // The candidates are infinite, and only finitely many are taken.
            let id = candidates.find(|id| taken.insert(id.clone())).unwrap_or_default();
            ToolCall { id, ..call.clone() }
        };
        calls.iter().map(unique).collect()
    }

    /// Takes the last answer, or asks the model once to mend it.
    fn conclude(&mut self, reply: &ChatReply) {
        let begun = std::mem::take(&mut self.begun);
        let text = if begun.is_empty() { reply.content.clone() } else { begun + &reply.content };
        self.messages.push(reply.to_message());
        let problem = match &self.config.output {
            _ if text.trim().is_empty() => "it is empty".to_owned(),
            None => {
                self.done = Some(Ok(Value::String(text)));
                return;
            }
            Some(form) => match form.read(&text) {
                Ok(value) => {
                    self.done = Some(Ok(value));
                    return;
                }
                Err(problem) => problem,
            },
        };
        if self.repaired {
            let message = format!("the model's answer cannot be used, and asking once more did not help: {problem}");
            self.done = Some(Err(TaskError::new(ErrorCode::OutputInvalid, message)));
            return;
        }
        self.repaired = true;
        self.messages.push(Message::User { content: repair(&problem, self.config.output.is_some()) });
    }

    /// Marks a tool call as about to be made.
    pub fn apply_tool_started(&mut self, call_id: &str) {
        self.set(call_id, CallState::Started);
    }

    /// Applies the output of a tool call, successful or not: the model receives it either way.
    pub fn apply_tool_output(&mut self, call_id: &str, output: &str, is_error: bool) {
        self.set(call_id, CallState::Returned { output: bounded(output), is_error });
        self.close_turn();
    }

    /// Marks a call as a question to a human.
    pub fn apply_asked(&mut self, call_id: &str, clarification: crate::id::ClarificationId) {
        self.set(call_id, CallState::Asked(clarification));
    }

    /// Applies a human's answer.
    pub fn apply_answer(&mut self, clarification: crate::id::ClarificationId, answer: &str) {
        for (_, state) in &mut self.calls {
            if *state == CallState::Asked(clarification) {
                *state = CallState::Returned { output: bounded(answer), is_error: false };
            }
        }
        self.close_turn();
    }

    /// Returns the questions that are open.
    pub fn open_questions(&self) -> impl Iterator<Item = crate::id::ClarificationId> {
        self.calls.iter().filter_map(|(_, state)| match state {
            CallState::Asked(id) => Some(*id),
            _ => None,
        })
    }

    /// Ends the loop with this error.
    pub fn fail(&mut self, error: TaskError) {
        self.done = Some(Err(error));
    }

    /// Applies a journal entry of this loop's scope and attempt. An entry of another turn than the loop's was written
    /// twice, because its first write was not confirmed: it changes nothing.
    pub fn replay(&mut self, body: &JournalBody) {
        match body {
            JournalBody::ModelCompleted { reply, turn, .. } if *turn == self.turn => self.apply_reply(reply),
            JournalBody::ToolStarted { call, turn } if self.is_open(*turn, &call.id) => {
                self.apply_tool_started(&call.id);
            }
            JournalBody::ToolCompleted { call_id, output, is_error, turn, .. } if self.is_open(*turn, call_id) => {
                self.apply_tool_output(call_id, output, *is_error);
            }
            JournalBody::Asked { clarification, call_id: Some(call_id), .. } if self.may_still_ask(call_id) => {
                self.apply_asked(call_id, *clarification);
            }
            JournalBody::Answered { clarification, resolution } => match resolution.answer() {
                Some(answer) => self.apply_answer(*clarification, answer),
                None => self.fail(expired(*clarification)),
            },
            _ => {}
        }
    }

    fn is_open(&self, turn: u32, call_id: &str) -> bool {
        turn + 1 == self.turn
            && self.calls.iter().any(|(call, state)| call.id == call_id && !matches!(state, CallState::Returned { .. }))
    }

    /// Returns whether no question of this call is known. The second entry of a question that was written twice may
    /// follow its answer.
    fn may_still_ask(&self, call_id: &str) -> bool {
        let state = self.calls.iter().find(|(call, _)| call.id == call_id).map(|(_, state)| state);
        matches!(state, Some(CallState::Requested | CallState::Started))
    }

    fn set(&mut self, call_id: &str, state: CallState) {
        if let Some(slot) = self.calls.iter_mut().find(|(call, _)| call.id == call_id) {
            slot.1 = state;
        }
    }

    fn close_turn(&mut self) {
        if !self.calls.iter().all(|(_, state)| matches!(state, CallState::Returned { .. })) {
            return;
        }
        for (call, state) in self.calls.drain(..) {
            if let CallState::Returned { output, is_error } = state {
                self.messages.push(Message::Tool { call_id: call.id, content: output, is_error });
            }
        }
    }
}

/// Returns the message that asks a model to mend its answer.
fn repair(problem: &str, has_form: bool) -> String {
    if has_form {
        format!(
            "Your answer cannot be used: {problem}. Answer again with nothing but JSON that fits the schema you were given."
        )
    } else {
        format!("Your answer cannot be used: {problem}. Answer again.")
    }
}

fn expired(clarification: crate::id::ClarificationId) -> TaskError {
    TaskError::new(
        ErrorCode::ClarificationExpired,
        format!("nobody answered clarification {clarification} in time, and it has no default"),
    )
}

fn bounded(output: &str) -> String {
    if output.len() <= MAX_TOOL_OUTPUT_BYTES {
        return output.to_owned();
    }
    let mut end = MAX_TOOL_OUTPUT_BYTES;
    while !output.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}\n[cut: {} of {} bytes shown]", &output[..end], end, output.len())
}

fn ask_human_definition() -> ToolDefinition {
    ToolDefinition {
        name: ASK_HUMAN.to_owned(),
        description: "Ask a human one question when you cannot go on without an answer.".to_owned(),
        parameters: json!({
            "type": "object",
            "properties": {
                "question": {"type": "string"},
                "options": {"type": "array", "items": {"type": "string"}}
            },
            "required": ["question"],
            "additionalProperties": false
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::Usage;
    use crate::clarification::Resolution;
    use crate::id::ClarificationId;
    use crate::time::Timestamp;

    fn config(may_ask: bool) -> LoopConfig {
        LoopConfig { tools: Vec::new(), output: None, on_length: OnLength::Fail, may_ask, max_turns: 3 }
    }

    fn reply(content: &str, calls: &[&str]) -> ChatReply {
        ChatReply {
            content: content.to_owned(),
            tool_calls: calls
                .iter()
                .map(|id| ToolCall { id: (*id).to_owned(), name: "lookup".to_owned(), arguments: "{}".to_owned() })
                .collect(),
            stop: StopReason::End,
            usage: Usage::default(),
            model: "m".to_owned(),
            native: None,
        }
    }

    fn start(may_ask: bool) -> AgentLoop {
        AgentLoop::new(config(may_ask), vec![Message::User { content: "hi".to_owned() }])
    }

    #[test]
    fn a_plain_answer_ends_the_loop() {
        let mut machine = start(false);
        assert_eq!(machine.next(), Next::CallModel { turn: 0 });
        machine.apply_reply(&reply("hello", &[]));
        assert_eq!(machine.next(), Next::Done(Ok(Value::String("hello".to_owned()))));
        assert_eq!(machine.added().len(), 1);
    }

    #[test]
    fn only_a_natural_end_is_an_answer() {
        for (stop, code) in [
            (StopReason::Length, ErrorCode::OutputTruncated),
            (StopReason::ContentFilter, ErrorCode::Refused),
            (StopReason::ContextExceeded, ErrorCode::ContextExceeded),
            (StopReason::Other, ErrorCode::ProviderMalformedReply),
        ] {
            for calls in [&[] as &[&str], &["a"]] {
                let mut machine = start(false);
                machine.apply_reply(&ChatReply { stop, ..reply("Transfer the money to", calls) });
                let Next::Done(Err(error)) = machine.next() else { panic!("{stop:?}") };
                assert_eq!(error.code, code);
                assert_eq!(error.message.contains("Transfer"), stop == StopReason::Length, "{error:?}");
            }
        }
    }

    #[test]
    fn a_cut_answer_goes_on_where_the_file_says_so() {
        let config = LoopConfig { on_length: OnLength::Continue, ..config(false) };
        let mut machine = AgentLoop::new(config, vec![Message::User { content: "hi".to_owned() }]);
        machine.apply_reply(&ChatReply { stop: StopReason::Length, ..reply("one, ", &[]) });
        assert_eq!(machine.next(), Next::CallModel { turn: 1 });
        machine.apply_reply(&reply("two", &[]));
        assert_eq!(machine.next(), Next::Done(Ok(json!("one, two"))));
        let mut machine = AgentLoop::new(
            LoopConfig { on_length: OnLength::Continue, ..self::config(false) },
            vec![Message::User { content: "hi".to_owned() }],
        );
        machine.apply_reply(&ChatReply { stop: StopReason::Length, ..reply("", &["a"]) });
        assert!(matches!(machine.next(), Next::Done(Err(_))), "calls of a cut answer are never made");
    }

    #[test]
    fn a_pause_is_sent_back() {
        let mut machine = start(false);
        machine.apply_reply(&ChatReply { stop: StopReason::Paused, ..reply("searching", &[]) });
        assert_eq!(machine.next(), Next::CallModel { turn: 1 });
        assert_eq!(machine.added().len(), 1);
    }

    #[test]
    fn an_answer_that_does_not_fit_is_mended_once() {
        let form = OutputForm::new(json!({}), |value| (!value.is_u64()).then(|| "it is not a number".to_owned()));
        let machine = || {
            let config = LoopConfig { output: Some(form.clone()), ..config(false) };
            AgentLoop::new(config, vec![Message::User { content: "hi".to_owned() }])
        };
        let mut mended = machine();
        mended.apply_reply(&reply("{}", &[]));
        assert_eq!(mended.next(), Next::CallModel { turn: 1 });
        assert!(mended.messages().last().is_some_and(|message| message.content().contains("it is not a number")));
        mended.apply_reply(&reply("```json\n12\n```", &[]));
        assert_eq!(mended.next(), Next::Done(Ok(json!(12))));
        let mut broken = machine();
        broken.apply_reply(&reply("twelve", &[]));
        broken.apply_reply(&reply("\"twelve\"", &[]));
        let Next::Done(Err(error)) = broken.next() else { panic!() };
        assert_eq!(error.code, ErrorCode::OutputInvalid);
    }

    #[test]
    fn an_empty_answer_is_no_answer() {
        let mut machine = start(false);
        machine.apply_reply(&reply("\n\n", &[]));
        assert_eq!(machine.next(), Next::CallModel { turn: 1 });
        machine.apply_reply(&reply("", &[]));
        let Next::Done(Err(error)) = machine.next() else { panic!() };
        assert_eq!(error.code, ErrorCode::OutputInvalid);
    }

    #[test]
    fn a_question_that_was_written_twice_stays_answered() {
        let mut machine = start(true);
        machine.apply_reply(&reply("", &["a", "b"]));
        let clarification = ClarificationId::from_parts(1, 2);
        let asked = JournalBody::Asked { clarification, call_id: Some("a".to_owned()), question: "which?".to_owned() };
        machine.replay(&asked);
        let resolution = Resolution::Answered { answer: "that".to_owned(), by: "ann".to_owned(), at: Timestamp(1) };
        machine.replay(&JournalBody::Answered { clarification, resolution });
        machine.replay(&asked);
        assert_eq!(machine.open_questions().count(), 0);
        machine.replay(&JournalBody::ToolStarted { call: reply("", &["b"]).tool_calls.remove(0), turn: 0 });
        machine.apply_tool_output("b", "found", false);
        assert_eq!(machine.next(), Next::CallModel { turn: 1 });
    }

    #[test]
    fn tools_return_in_any_order_and_the_model_sees_them_in_its_own() {
        let mut machine = start(false);
        machine.apply_reply(&reply("", &["a", "b"]));
        machine.apply_tool_started("b");
        machine.apply_tool_output("b", "second", false);
        let Next::CallTools { calls, .. } = machine.next() else { panic!("a is open") };
        assert_eq!(calls.iter().map(|c| c.call.id.as_str()).collect::<Vec<_>>(), ["a"]);
        machine.apply_tool_output("a", "first", false);
        assert_eq!(machine.next(), Next::CallModel { turn: 1 });
        let contents: Vec<_> = machine.added()[1..].iter().map(Message::content).collect();
        assert_eq!(contents, ["first", "second"]);
    }

    #[test]
    fn a_started_tool_without_result_is_reported_as_such() {
        let mut machine = start(false);
        machine.apply_reply(&reply("", &["a"]));
        machine.apply_tool_started("a");
        let Next::CallTools { calls, .. } = machine.next() else { panic!() };
        assert!(calls[0].started);
    }

    #[test]
    fn an_entry_that_was_written_twice_is_replayed_once() {
        let completed = |turn, reply| JournalBody::ModelCompleted {
            call: crate::id::CallId::from_parts(1, 1),
            turn,
            provider: crate::agent::ProviderKind::Openai,
            reply,
            cost: None,
            duration_us: 1,
            first_token_us: None,
        };
        let mut machine = start(false);
        for _ in 0..2 {
            machine.replay(&completed(0, reply("", &["a"])));
        }
        for _ in 0..2 {
            machine.replay(&JournalBody::ToolCompleted {
                turn: 0,
                call_id: "a".to_owned(),
                output: "x".to_owned(),
                is_error: false,
                duration_us: 1,
            });
        }
        assert_eq!(machine.next(), Next::CallModel { turn: 1 });
        assert_eq!(machine.added().len(), 2);
    }

    #[test]
    fn calls_under_one_id_are_two_calls() {
        let mut machine = start(false);
        machine.apply_reply(&reply("", &["dup", "dup", "", ""]));
        let Next::CallTools { calls, .. } = machine.next() else { panic!() };
        let ids: Vec<&str> = calls.iter().map(|pending| pending.call.id.as_str()).collect();
        assert_eq!(ids, ["dup", "dup_2", "call", "call_2"]);
        assert_eq!(calls.iter().map(|pending| pending.index).collect::<Vec<_>>(), [0, 1, 2, 3]);
        for id in ids {
            machine.apply_tool_output(id, id, false);
        }
        assert_eq!(machine.next(), Next::CallModel { turn: 1 });
        let Message::Assistant { tool_calls, .. } = &machine.added()[0] else { panic!() };
        assert_eq!(tool_calls[1].id, "dup_2", "the model is sent the ids that the results have");
        machine.apply_reply(&reply("", &["dup", "dup_2"]));
        let Next::CallTools { calls, .. } = machine.next() else { panic!() };
        let ids: Vec<&str> = calls.iter().map(|pending| pending.call.id.as_str()).collect();
        assert_eq!(ids, ["dup_3", "dup_2_2"], "an earlier turn's ids are taken");
    }

    #[test]
    fn tool_calls_have_a_bound() {
        let ids: Vec<String> = (0..=MAX_CALLS_PER_ANSWER).map(|number| number.to_string()).collect();
        let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        let mut machine = start(false);
        machine.apply_reply(&reply("", &ids));
        let Next::Done(Err(error)) = machine.next() else { panic!() };
        assert_eq!(error.code, ErrorCode::TooManySteps);

        let config = LoopConfig { max_turns: 50, ..config(false) };
        let mut machine = AgentLoop::new(config, vec![Message::User { content: "hi".to_owned() }]);
        for answers in 1.. {
            machine.apply_reply(&reply("", &ids[..100]));
            match machine.next() {
                Next::CallTools { calls, .. } => {
                    calls.iter().for_each(|pending| machine.apply_tool_output(&pending.call.id, "x", false));
                }
                Next::Done(Err(error)) => {
                    assert_eq!((error.code, answers), (ErrorCode::TooManySteps, 1 + MAX_TOOL_CALLS / 100));
                    break;
                }
                next => panic!("{next:?}"),
            }
        }
    }

    #[test]
    fn a_question_pauses_until_it_is_answered() {
        let mut machine = start(true);
        machine.apply_reply(&reply("", &["q"]));
        let id = ClarificationId::from_parts(1, 2);
        machine.apply_asked("q", id);
        assert_eq!(machine.next(), Next::AwaitHuman);
        assert_eq!(machine.open_questions().collect::<Vec<_>>(), [id]);
        machine.apply_answer(id, "EU");
        assert_eq!(machine.next(), Next::CallModel { turn: 1 });
    }

    #[test]
    fn a_loop_that_never_ends_is_ended() {
        let mut machine = start(false);
        for id in ["a", "b", "c"] {
            machine.apply_reply(&reply("", &[id]));
            machine.apply_tool_output(id, "x", false);
        }
        let Next::Done(Err(error)) = machine.next() else { panic!() };
        assert_eq!(error.code, ErrorCode::TooManySteps);
    }

    #[test]
    fn long_outputs_are_cut_at_a_character() {
        let text = "ä".repeat(MAX_TOOL_OUTPUT_BYTES);
        let cut = bounded(&text);
        assert!(cut.len() < MAX_TOOL_OUTPUT_BYTES + 64 && cut.contains("[cut:"));
    }
}
