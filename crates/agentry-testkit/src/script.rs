//! The script of a [`ScriptedModel`](crate::ScriptedModel): words in the user's message select the answer.
//!
//! | word | answer |
//! |---|---|
//! | `ask` | a question to a human, where the model may ask one |
//! | `tools` | two tool calls, then two more |
//! | `twins` | two tool calls with one id, in one answer |
//! | `again` | a tool call, then another one with the same id in the next answer |
//!
//! In all other cases, and when the tools have returned, the answer is `echo: ` and the last message. A plan is
//! answered where one is requested.

use agentry_core::agent_loop::ASK_HUMAN;
use agentry_core::chat::{ChatReply, Message, StopReason, ToolCall, Usage};
use agentry_llm::Call;
use serde_json::{Value, json};

pub(crate) fn reply(call: &Call, usage: Usage) -> ChatReply {
    let last = call.request.messages.last().map_or("", Message::content);
    let answered = matches!(call.request.messages.last(), Some(Message::Tool { .. }));
    let may_ask = call.request.tools.iter().any(|tool| tool.name == ASK_HUMAN);
    let mut tool_calls = Vec::new();
    let content = match &call.request.output_schema {
        Some(schema) if schema["title"] == "agentry_plan" => plan(schema, last),
        _ if may_ask && !answered && says(last, "ask") => {
            let arguments = json!({"question": "which region?", "options": ["EU", "US"]}).to_string();
            tool_calls.push(ToolCall { id: "ask-1".to_owned(), name: ASK_HUMAN.to_owned(), arguments });
            String::new()
        }
        _ => {
            tool_calls = tools(call);
            if tool_calls.is_empty() { format!("echo: {last}") } else { String::new() }
        }
    };
    let stop = if tool_calls.is_empty() { StopReason::End } else { StopReason::ToolCalls };
    ChatReply { content, tool_calls, stop, usage, model: call.target.model.to_string(), native: None }
}

fn says(text: &str, word: &str) -> bool {
    text.split_whitespace().any(|found| found == word)
}

/// Returns the tool calls of this turn of the conversation. Their arguments name turn and position, so that a receiver
/// can tell them apart whatever their ids are.
fn tools(call: &Call) -> Vec<ToolCall> {
    let names: Vec<&str> =
        call.request.tools.iter().map(|tool| tool.name.as_str()).filter(|name| *name != ASK_HUMAN).collect();
    let messages = &call.request.messages;
    let Some(user) = messages.iter().rposition(|message| matches!(message, Message::User { .. })) else {
        return Vec::new();
    };
    let said = messages[user].content();
    let turn = messages[user..].iter().filter(|message| matches!(message, Message::Assistant { .. })).count();
    let ids: &[&str] = match turn {
        0 if says(said, "tools") => &["a", "b"],
        1 if says(said, "tools") => &["c", "d"],
        0 if says(said, "twins") => &["a", "a"],
        0 | 1 if says(said, "again") => &["a"],
        _ => &[],
    };
    let tool_call = |(place, id): (usize, &&str)| {
        let name = *names.get((turn + place) % names.len().max(1))?;
        let arguments = json!({"turn": turn, "place": place}).to_string();
        Some(ToolCall { id: (*id).to_owned(), name: name.to_owned(), arguments })
    };
    ids.iter().enumerate().filter_map(tool_call).collect()
}

/// Returns a plan with one step per agent of the schema, and a last one that needs them all. The first step gets the
/// words of the request.
fn plan(schema: &Value, request: &str) -> String {
    let names = schema["properties"]["steps"]["items"]["properties"]["agent"]["enum"].as_array();
    let names: Vec<&Value> = names.into_iter().flatten().collect();
    let words: Vec<&str> = ["ask", "tools", "twins", "again"].into_iter().filter(|word| says(request, word)).collect();
    let mut steps: Vec<Value> = Vec::new();
    for (index, name) in names.iter().enumerate() {
        let words = if index == 0 { words.join(" ") } else { String::new() };
        steps.push(
            json!({"id": format!("s{index}"), "agent": name, "task": format!("{words} part {index}"), "depends_on": []}),
        );
    }
    let needs: Vec<String> = (0..names.len()).map(|index| format!("s{index}")).collect();
    steps.push(json!({"id": "last", "agent": names.first(), "task": "join", "depends_on": needs}));
    json!({"steps": steps}).to_string()
}
