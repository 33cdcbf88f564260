//! Requests of Ollama's chat and Ollama's validation of them.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::Value;

use super::super::ids::Thought;
use super::super::prompt::{AnswerForm, Message, Prompt, Returned, Role, ToolDemand};
use super::Refusal;
use super::functions::{StopSequences, WireTool};

/// `POST /api/chat`. Unknown fields are ignored, as Ollama does.
#[derive(Debug, Deserialize)]
struct Request<'a> {
    #[serde(borrow)]
    model: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    messages: Option<Vec<WireMessage<'a>>>,
    #[serde(borrow, default)]
    tools: Option<Vec<WireTool<'a>>>,
    format: Option<Value>,
    #[serde(borrow)]
    options: Option<Options<'a>>,
    stream: Option<bool>,
    think: Option<Value>,
}

#[derive(Debug, Deserialize)]
struct WireMessage<'a> {
    #[serde(borrow)]
    role: Cow<'a, str>,
    #[serde(borrow)]
    content: Option<Cow<'a, str>>,
    #[serde(borrow)]
    thinking: Option<Cow<'a, str>>,
    #[serde(borrow)]
    tool_calls: Option<Vec<WireToolCall<'a>>>,
}

#[derive(Debug, Deserialize)]
struct WireToolCall<'a> {
    #[serde(borrow)]
    id: Option<Cow<'a, str>>,
    function: CalledFunction,
}

#[derive(Debug, Deserialize)]
struct CalledFunction {
    arguments: Value,
}

#[derive(Debug, Deserialize)]
struct Options<'a> {
    num_predict: Option<i64>,
    #[serde(borrow)]
    stop: Option<StopSequences<'a>>,
}

pub(super) fn read(body: &[u8]) -> Result<Prompt<'_>, Refusal> {
    let request: Request<'_> = serde_json::from_slice(body).map_err(|problem| Refusal::bad(problem.to_string()))?;
    let model = request.model.filter(|model| !model.is_empty()).ok_or_else(|| Refusal::bad("model is required"))?;
    let wire = request.messages.unwrap_or_default();
    let returned = returned(&model, &wire);
    let messages = wire.into_iter().map(message).collect::<Result<Vec<_>, _>>()?;
    let (max_tokens, stop) = request.options.map_or((None, Vec::new()), |options| {
        let stop = options.stop.map(StopSequences::into_vec).unwrap_or_default();
        // A negative number means no limit.
        (options.num_predict.and_then(|most| u64::try_from(most).ok()), stop)
    });
    Ok(Prompt {
        model,
        messages,
        tools: request.tools.unwrap_or_default().into_iter().map(WireTool::offer).collect(),
        choice: ToolDemand::Auto,
        form: form(request.format)?,
        stream: request.stream != Some(false),
        include_usage: true,
        max_tokens,
        stop,
        thinks: request.think.is_some_and(|think| !matches!(think, Value::Null | Value::Bool(false))),
        returned,
        ..Prompt::default()
    })
}

fn message<'a>(wire: WireMessage<'a>) -> Result<Message<'a>, Refusal> {
    let role = match wire.role.as_ref() {
        "system" => Role::System,
        "user" => Role::User,
        "assistant" => Role::Assistant,
        "tool" => Role::Tool,
        other => return bad!("invalid role: {other}"),
    };
    // Arguments are objects in this protocol and not text, which clients of OpenAI's protocol often get wrong.
    let is_text = |call: &WireToolCall<'_>| !call.function.arguments.is_object();
    if wire.tool_calls.iter().flatten().any(is_text) {
        return bad!(
            "json: cannot unmarshal string into Go struct field ChatRequest.messages.tool_calls.function.arguments of \
             type api.ToolCallFunctionArguments"
        );
    }
    Ok(Message { role, text: wire.content.unwrap_or_default() })
}

/// Counts the reasoning that came back. Ollama takes any, so nothing of it is refused.
fn returned(model: &str, messages: &[WireMessage<'_>]) -> Returned {
    let mut returned = Returned::default();
    for turn in messages {
        let ids = turn.tool_calls.iter().flatten().filter_map(|call| call.id.as_deref());
        let Some(thought) = ids.filter_map(|id| Thought::before(id, model)).next() else { continue };
        match turn.thinking.as_deref().filter(|text| !text.is_empty()) {
            None => returned.missing += 1,
            Some(text) if thought.is(text) => returned.equal += 1,
            Some(_) => returned.altered += 1,
        }
    }
    returned
}

/// Reads `format`: absent, `"json"`, or a schema.
fn form(format: Option<Value>) -> Result<AnswerForm, Refusal> {
    match format {
        None | Some(Value::Null) => Ok(AnswerForm::Text),
        Some(Value::String(word)) if word.is_empty() => Ok(AnswerForm::Text),
        Some(Value::String(word)) if word == "json" => Ok(AnswerForm::Object),
        Some(schema @ Value::Object(_)) => Ok(AnswerForm::Schema(schema)),
        Some(other) => {
            bad!("invalid format: {other}; expected \"json\" or a valid JSON Schema object")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_unless_told_otherwise() {
        let streams = |more: &str| read(format!(r#"{{"model":"m"{more}}}"#).as_bytes()).unwrap().stream;
        assert!(streams("") && streams(r#","stream":true"#) && !streams(r#","stream":false"#));
    }

    #[test]
    fn what_ollama_refuses_is_refused() {
        for (body, expected) in [
            ("{", "EOF"),
            (r#"{"messages":[]}"#, "model is required"),
            (r#"{"model":"m","messages":[{"role":"robot"}]}"#, "invalid role: robot"),
            (r#"{"model":"m","format":"yaml"}"#, "invalid format"),
            (
                r#"{"model":"m","messages":[{"role":"assistant","tool_calls":[{"function":{"name":"f","arguments":"{}"}}]}]}"#,
                "cannot unmarshal string",
            ),
        ] {
            let message = read(body.as_bytes()).expect_err(body).message;
            assert!(message.contains(expected), "{body}: {message}");
        }
    }
}
