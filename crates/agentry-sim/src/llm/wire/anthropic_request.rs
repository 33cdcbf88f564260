//! Requests of Anthropic's Messages API and Anthropic's validation of them.

use std::borrow::Cow;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;
use serde_json::value::RawValue;

use super::super::prompt::{AnswerForm, Message, Prompt, Role, ToolDemand, ToolOffer};
use super::Refusal;
use super::blocks::{Block, PairingError, Repeated, Turn, find_unpaired, first_repeated, is_plain_id};

/// `POST /v1/messages`. Unknown fields are refused, as Anthropic does.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Request<'a> {
    #[serde(borrow)]
    model: Option<Cow<'a, str>>,
    max_tokens: Option<u64>,
    #[serde(borrow)]
    messages: Option<Vec<WireTurn<'a>>>,
    #[serde(borrow)]
    system: Option<Content<'a>>,
    #[serde(default, borrow)]
    tools: Vec<WireTool<'a>>,
    #[serde(borrow)]
    tool_choice: Option<WireChoice<'a>>,
    #[serde(default, borrow)]
    stop_sequences: Vec<Cow<'a, str>>,
    temperature: Option<f64>,
    top_p: Option<f64>,
    #[serde(rename = "top_k")]
    _top_k: Option<u64>,
    stream: Option<bool>,
    #[serde(borrow)]
    thinking: Option<Thinking<'a>>,
    output_config: Option<OutputConfig>,
    /// Former name of `output_config.format`.
    output_format: Option<OutputFormat>,
    #[serde(rename = "metadata")]
    _metadata: Option<IgnoredAny>,
    #[serde(rename = "service_tier")]
    _service_tier: Option<IgnoredAny>,
    #[serde(rename = "cache_control")]
    _cache_control: Option<IgnoredAny>,
    #[serde(rename = "container")]
    _container: Option<IgnoredAny>,
    #[serde(rename = "inference_geo")]
    _inference_geo: Option<IgnoredAny>,
    #[serde(rename = "speed")]
    _speed: Option<IgnoredAny>,
    #[serde(rename = "diagnostics")]
    _diagnostics: Option<IgnoredAny>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireTurn<'a> {
    #[serde(borrow)]
    role: Cow<'a, str>,
    #[serde(borrow)]
    content: Content<'a>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Content<'a> {
    Text(#[serde(borrow)] Cow<'a, str>),
    Blocks(#[serde(borrow)] Vec<WireBlock<'a>>),
}

#[derive(Debug, Deserialize)]
struct WireBlock<'a> {
    #[serde(borrow)]
    r#type: Cow<'a, str>,
    #[serde(borrow)]
    text: Option<Cow<'a, str>>,
    #[serde(borrow)]
    id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    name: Option<Cow<'a, str>>,
    input: Option<Value>,
    #[serde(borrow)]
    thinking: Option<Cow<'a, str>>,
    #[serde(borrow)]
    signature: Option<Cow<'a, str>>,
    #[serde(borrow)]
    tool_use_id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    content: Option<Box<Content<'a>>>,
}

#[derive(Debug, Deserialize)]
struct WireTool<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(borrow)]
    r#type: Option<Cow<'a, str>>,
    #[serde(borrow)]
    input_schema: Option<&'a RawValue>,
}

#[derive(Debug, Deserialize)]
struct WireChoice<'a> {
    #[serde(borrow)]
    r#type: Cow<'a, str>,
    #[serde(borrow)]
    name: Option<Cow<'a, str>>,
}

#[derive(Debug, Deserialize)]
struct Thinking<'a> {
    #[serde(borrow)]
    r#type: Cow<'a, str>,
    budget_tokens: Option<u64>,
}

#[derive(Debug, Deserialize)]
struct OutputConfig {
    format: Option<OutputFormat>,
}

#[derive(Debug, Deserialize)]
struct OutputFormat {
    r#type: String,
    schema: Option<Value>,
}

const MIN_THINKING_TOKENS: u64 = 1_024;

pub(super) fn read(body: &[u8]) -> Result<Prompt<'_>, Refusal> {
    let request: Request<'_> = serde_json::from_slice(body).map_err(|problem| Refusal::bad(unreadable(&problem)))?;
    let missing = |field: &str| Refusal::bad(format!("{field}: Field required"));
    let model = request.model.ok_or_else(|| missing("model"))?;
    let max_tokens = request.max_tokens.ok_or_else(|| missing("max_tokens"))?;
    if max_tokens == 0 {
        return bad!("max_tokens: Input should be greater than or equal to 1");
    }
    for (name, value) in [("temperature", request.temperature), ("top_p", request.top_p)] {
        if value.is_some_and(|value| !(0.0..=1.0).contains(&value)) {
            return bad!("{name}: range: 0..1");
        }
    }
    let thinks = thinks(request.thinking.as_ref(), max_tokens)?;
    let wire = request.messages.ok_or_else(|| missing("messages"))?;
    let tools: Vec<ToolOffer<'_>> = request.tools.into_iter().enumerate().map(offer).collect::<Result<_, _>>()?;
    let format = request.output_config.and_then(|config| config.format).or(request.output_format);
    let mut messages = Vec::with_capacity(wire.len() + 1);
    if let Some(Content::Blocks(blocks)) = &request.system
        && blocks.iter().any(|block| block.text.as_deref() == Some(""))
    {
        return bad!("system: text content blocks must be non-empty");
    }
    messages.extend(request.system.map(|system| Message { role: Role::System, text: text(system) }));
    conversation(wire, &mut messages)?;
    Ok(Prompt {
        model,
        messages,
        choice: request.tool_choice.map_or(Ok(ToolDemand::Auto), |choice| self::choice(choice, &tools))?,
        tools,
        form: form(format)?,
        stream: request.stream == Some(true),
        include_usage: true,
        max_tokens: Some(max_tokens),
        stop: request.stop_sequences,
        thinks,
        ..Prompt::default()
    })
}

/// Rewrites a message of serde in Anthropic's form.
fn unreadable(problem: &serde_json::Error) -> String {
    let text = problem.to_string();
    match text.strip_prefix("unknown field `").and_then(|rest| rest.split('`').next()) {
        Some(field) => format!("{field}: Extra inputs are not permitted"),
        None => format!("The request body is not valid JSON for this endpoint: {text}"),
    }
}

fn thinks(thinking: Option<&Thinking<'_>>, max_tokens: u64) -> Result<bool, Refusal> {
    let Some(thinking) = thinking else { return Ok(false) };
    match (thinking.r#type.as_ref(), thinking.budget_tokens) {
        ("disabled", _) => Ok(false),
        ("adaptive" | "between_tools", _) => Ok(true),
        ("enabled", None) => bad!("thinking.enabled.budget_tokens: Field required"),
        ("enabled", Some(budget)) if budget < MIN_THINKING_TOKENS => {
            bad!("thinking.enabled.budget_tokens: Input should be greater than or equal to {MIN_THINKING_TOKENS}")
        }
        ("enabled", Some(budget)) if budget >= max_tokens => {
            bad!("`max_tokens` must be greater than `thinking.budget_tokens`.")
        }
        ("enabled", _) => Ok(true),
        (other, _) => {
            bad!("thinking: Input tag '{other}' is none of 'enabled', 'disabled', 'adaptive'")
        }
    }
}

fn offer<'a>((index, tool): (usize, WireTool<'a>)) -> Result<ToolOffer<'a>, Refusal> {
    let own = tool.r#type.as_deref().is_none_or(|kind| kind == "custom");
    if own && tool.input_schema.is_none() {
        return bad!("tools.{index}.custom.input_schema: Field required");
    }
    Ok(ToolOffer { name: tool.name, schema: tool.input_schema.map(|raw| raw.get().into()) })
}

fn choice<'a>(choice: WireChoice<'a>, tools: &[ToolOffer<'a>]) -> Result<ToolDemand<'a>, Refusal> {
    if tools.is_empty() {
        return bad!("tool_choice may only be specified while providing tools");
    }
    match (choice.r#type.as_ref(), choice.name) {
        ("auto", _) => Ok(ToolDemand::Auto),
        ("none", _) => Ok(ToolDemand::Never),
        ("any", _) => Ok(ToolDemand::Any),
        ("tool", Some(name)) if tools.iter().any(|tool| tool.name == name) => Ok(ToolDemand::Tool(name)),
        ("tool", Some(name)) => bad!("Tool '{name}' not found in provided tools"),
        ("tool", None) => bad!("tool_choice.tool.name: Field required"),
        (other, _) => {
            bad!("tool_choice: Input tag '{other}' is none of 'auto', 'any', 'tool', 'none'")
        }
    }
}

fn form(format: Option<OutputFormat>) -> Result<AnswerForm, Refusal> {
    match format {
        None => Ok(AnswerForm::Text),
        Some(OutputFormat { r#type, schema: Some(schema) }) if r#type == "json_schema" => {
            Ok(AnswerForm::Schema(schema))
        }
        Some(OutputFormat { r#type, .. }) if r#type == "json_schema" => {
            bad!("output_config.format.schema: Field required")
        }
        Some(OutputFormat { r#type, .. }) => {
            bad!("output_config.format.type: Input should be 'json_schema', not '{type}'")
        }
    }
}

fn conversation<'a>(wire: Vec<WireTurn<'a>>, messages: &mut Vec<Message<'a>>) -> Result<(), Refusal> {
    if wire.is_empty() {
        return bad!("messages: at least one message is required");
    }
    let turns: Vec<Turn<'_>> = wire.into_iter().enumerate().map(turn).collect::<Result<_, _>>()?;
    if turns[0].role != Role::User {
        return bad!("messages: first message must use the \"user\" role");
    }
    if let Some(id) = first_repeated(&turns) {
        return Err(match id {
            Repeated::Use(_) => Refusal::bad("messages: `tool_use` ids must be unique"),
            Repeated::Result(at, id) => Refusal::bad(format!(
                "messages.{at}.content: each tool_use must have a single result. Found multiple `tool_result` blocks with id: {id}"
            )),
        });
    }
    match find_unpaired(&turns) {
        Some(PairingError::MissingResult(at, ids)) => {
            return bad!(
                "messages.{at}: `tool_use` ids were found without `tool_result` blocks immediately after: {}. Each \
                 `tool_use` block must have a corresponding `tool_result` block in the next message.",
                ids.join(", ")
            );
        }
        Some(PairingError::MissingCall(at, ids)) => {
            return bad!(
                "messages.{at}.content.0: unexpected `tool_use_id` found in `tool_result` blocks: {}. Each \
                 `tool_result` block must have a corresponding `tool_use` block in the previous message.",
                ids.join(", ")
            );
        }
        None => {}
    }
    for turn in turns {
        turn.messages(messages);
    }
    Ok(())
}

fn turn<'a>((index, wire): (usize, WireTurn<'a>)) -> Result<Turn<'a>, Refusal> {
    let role = match wire.role.as_ref() {
        "user" => Role::User,
        "assistant" => Role::Assistant,
        "system" => {
            return bad!(
                "messages: Unexpected role \"system\". The Messages API accepts a top-level `system` parameter, not \
                 \"system\" as an input message role."
            );
        }
        other => {
            return bad!("messages.{index}.role: Input should be 'user' or 'assistant', not '{other}'");
        }
    };
    let blocks = match wire.content {
        Content::Text(text) => vec![text_block(text)?],
        Content::Blocks(blocks) => {
            let read = |(at, wire)| block(wire, index, at);
            blocks.into_iter().enumerate().map(read).collect::<Result<_, _>>()?
        }
    };
    let mut texts =
        blocks.iter().filter_map(|block| if let Block::Text(text) = block { Some(text) } else { None }).peekable();
    if texts.peek().is_some() && texts.all(|text| text.trim().is_empty()) {
        return bad!("messages: text content blocks must contain non-whitespace text");
    }
    if blocks.is_empty() && role == Role::User {
        return bad!("messages.{index}: user messages must have non-empty content");
    }
    Ok(Turn { role, blocks })
}

fn text_block(text: Cow<'_, str>) -> Result<Block<'_>, Refusal> {
    if text.is_empty() {
        return bad!("messages: text content blocks must be non-empty");
    }
    Ok(Block::Text(text))
}

/// Checks the id of a call, at this place of the request.
fn plain_id<'a>(id: Cow<'a, str>, place: &str) -> Result<Cow<'a, str>, Refusal> {
    if is_plain_id(&id) { Ok(id) } else { bad!("{place}: String should match pattern '^[a-zA-Z0-9_-]+$'") }
}

fn block<'a>(wire: WireBlock<'a>, index: usize, at: usize) -> Result<Block<'a>, Refusal> {
    let missing =
        |field: &str| Refusal::bad(format!("messages.{index}.content.{at}.{}.{field}: Field required", wire.r#type));
    match wire.r#type.as_ref() {
        "text" => text_block(wire.text.ok_or_else(|| missing("text"))?),
        "tool_use" => {
            let id =
                plain_id(wire.id.ok_or_else(|| missing("id"))?, &format!("messages.{index}.content.{at}.tool_use.id"))?;
            wire.name.ok_or_else(|| missing("name"))?;
            match wire.input {
                Some(Value::Object(_)) => Ok(Block::Use(id)),
                Some(_) => bad!("messages.{index}.content.{at}.tool_use.input: Input should be a valid dictionary"),
                None => Err(missing("input")),
            }
        }
        "tool_result" => {
            let id = plain_id(
                wire.tool_use_id.ok_or_else(|| missing("tool_use_id"))?,
                &format!("messages.{index}.content.{at}.tool_result.tool_use_id"),
            )?;
            if let Some(Content::Blocks(blocks)) = wire.content.as_deref()
                && blocks.iter().any(|block| block.text.as_deref() == Some(""))
            {
                return bad!("messages: text content blocks must be non-empty");
            }
            Ok(Block::Result(id, wire.content.map(|content| text(*content)).unwrap_or_default()))
        }
        "thinking" if wire.thinking.is_none() => Err(missing("thinking")),
        "thinking" if wire.signature.is_none() => Err(missing("signature")),
        "image" | "document" | "thinking" | "redacted_thinking" | "search_result" | "server_tool_use" => {
            Ok(Block::Other)
        }
        of_server if of_server.ends_with("_tool_result") => Ok(Block::Other),
        other => {
            bad!("messages.{index}.content.{at}: Input tag '{other}' is no known type of block")
        }
    }
}

fn text(content: Content<'_>) -> Cow<'_, str> {
    match content {
        Content::Text(text) => text,
        Content::Blocks(blocks) => Cow::Owned(blocks.into_iter().filter_map(|block| block.text).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(body: &str) -> String {
        read(body.as_bytes()).expect_err(body).message
    }

    #[test]
    fn what_anthropic_refuses_is_refused() {
        let of =
            |messages: &str, more: &str| format!(r#"{{"model":"m","max_tokens":9,"messages":[{messages}]{more}}}"#);
        let user = r#"{"role":"user","content":"x"}"#;
        let called = r#"{"role":"assistant","content":[{"type":"tool_use","id":"t1","name":"f","input":{}}]}"#;
        let plain = r#"{"type":"tool_result","tool_use_id":"t1","content":"r"}"#;
        let result = format!(r#"{{"role":"user","content":[{plain}]}}"#);
        for (body, expected) in [
            ("{".to_owned(), "not valid JSON"),
            (r#"{"model":"m","messages":[]}"#.to_owned(), "max_tokens: Field required"),
            (r#"{"max_tokens":1,"messages":[]}"#.to_owned(), "model: Field required"),
            (of("", ""), "at least one message"),
            (of(user, r#","seed":1"#), "seed: Extra inputs are not permitted"),
            (of(user, r#","temperature":1.5"#), "temperature: range: 0..1"),
            (of(user, r#","tool_choice":{"type":"any"}"#), "while providing tools"),
            (of(user, r#","tools":[{"name":"f"}]"#), "input_schema: Field required"),
            (of(user, r#","thinking":{"type":"enabled","budget_tokens":5}"#), "greater than or equal to 1024"),
            (of(r#"{"role":"system","content":"x"}"#, ""), "top-level `system`"),
            (of(r#"{"role":"assistant","content":"x"}"#, ""), "first message"),
            (of(r#"{"role":"user","content":""}"#, ""), "non-empty"),
            (of(&format!("{user},{called}"), ""), "t1. Each"),
            (of(&format!("{user},{called},{user}"), ""), "without `tool_result`"),
            (of(r#"{"role":"user","content":[{"type":"tool_result","tool_use_id":"t9"}]}"#, ""), "t9. Each"),
            (of(r#"{"role":"user","content":" \n"}"#, ""), "non-whitespace"),
            (of(user, r#","system":[{"type":"text","text":""}]"#), "system: text content blocks must be non-empty"),
            (of(&format!("{user},{}", called.replace("t1", "t.1")), ""), "match pattern"),
            (of(&format!("{user},{called},{result},{called},{result}"), ""), "must be unique"),
            (
                of(&format!("{user},{called},{}", result.replace("}]", "},RESULT]").replace("RESULT", plain)), ""),
                "single result",
            ),
            (
                of(&format!("{user},{called},{}", result.replace("\"r\"", r#"[{"type":"text","text":""}]"#)), ""),
                "non-empty",
            ),
        ] {
            let message = refused(&body);
            assert!(message.contains(expected), "{body}: {message}");
        }
    }

    #[test]
    fn system_results_and_text_become_messages() {
        let body = r#"{"model":"m","max_tokens":9,"system":[{"type":"text","text":"S"}],"messages":[
            {"role":"user","content":"q"},
            {"role":"assistant","content":[{"type":"text","text":"a"},{"type":"tool_use","id":"t1","name":"f","input":{}}]},
            {"role":"user","content":[{"type":"tool_result","tool_use_id":"t1","content":[{"type":"text","text":"r"}]},
                {"type":"text","text":"and?"}]}]}"#;
        let prompt = read(body.as_bytes()).unwrap();
        let seen: Vec<_> = prompt.messages.iter().map(|message| (message.role.word(), message.text.as_ref())).collect();
        assert_eq!(seen, [("system", "S"), ("user", "q"), ("assistant", "a"), ("tool", "r"), ("user", "and?")]);
    }
}
