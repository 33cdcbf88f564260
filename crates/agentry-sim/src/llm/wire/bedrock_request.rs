//! Requests of Bedrock's Converse and Bedrock's validation of them.

use std::borrow::Cow;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;
use serde_json::value::RawValue;

use super::super::prompt::{AnswerForm, Message, Prompt, Role, ToolDemand, ToolOffer};
use super::Refusal;
use super::blocks::{Block, PairingError, Repeated, Turn, find_unpaired, first_repeated};

/// Longest id of a call.
const MAX_ID_CHARS: usize = 64;

/// Body of `POST /model/{id}/converse`. Unknown fields are ignored, as AWS services do.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Request<'a> {
    #[serde(borrow)]
    messages: Option<Vec<WireTurn<'a>>>,
    #[serde(default, borrow)]
    system: Vec<SystemBlock<'a>>,
    #[serde(borrow)]
    inference_config: Option<InferenceConfig<'a>>,
    #[serde(borrow)]
    tool_config: Option<ToolConfig<'a>>,
    additional_model_request_fields: Option<Value>,
    output_config: Option<Value>,
}

#[derive(Debug, Deserialize)]
struct SystemBlock<'a> {
    #[serde(borrow)]
    text: Option<Cow<'a, str>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct InferenceConfig<'a> {
    max_tokens: Option<u64>,
    temperature: Option<f64>,
    top_p: Option<f64>,
    #[serde(default, borrow)]
    stop_sequences: Vec<Cow<'a, str>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ToolConfig<'a> {
    #[serde(default, borrow)]
    tools: Vec<WireTool<'a>>,
    #[serde(borrow)]
    tool_choice: Option<WireChoice<'a>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireTool<'a> {
    #[serde(borrow)]
    tool_spec: Option<ToolSpec<'a>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ToolSpec<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(borrow)]
    input_schema: Option<InputSchema<'a>>,
}

#[derive(Debug, Deserialize)]
struct InputSchema<'a> {
    #[serde(borrow)]
    json: Option<&'a RawValue>,
}

#[derive(Debug, Deserialize)]
struct WireChoice<'a> {
    any: Option<IgnoredAny>,
    #[serde(borrow)]
    tool: Option<NamedTool<'a>>,
}

#[derive(Debug, Deserialize)]
struct NamedTool<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
}

#[derive(Debug, Deserialize)]
struct WireTurn<'a> {
    #[serde(borrow)]
    role: Cow<'a, str>,
    #[serde(default, borrow)]
    content: Vec<WireBlock<'a>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireBlock<'a> {
    #[serde(borrow)]
    text: Option<Cow<'a, str>>,
    #[serde(borrow)]
    tool_use: Option<ToolUse<'a>>,
    #[serde(borrow)]
    tool_result: Option<ToolResult<'a>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ToolUse<'a> {
    #[serde(borrow)]
    tool_use_id: Cow<'a, str>,
    #[serde(rename = "name")]
    _name: IgnoredAny,
    #[serde(rename = "input")]
    _input: IgnoredAny,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ToolResult<'a> {
    #[serde(borrow)]
    tool_use_id: Cow<'a, str>,
    #[serde(borrow)]
    content: Vec<ResultBlock<'a>>,
}

#[derive(Debug, Deserialize)]
struct ResultBlock<'a> {
    #[serde(borrow)]
    text: Option<Cow<'a, str>>,
    json: Option<Value>,
}

pub(super) fn read<'a>(body: &'a [u8], model: &str, stream: bool) -> Result<Prompt<'a>, Refusal> {
    let request: Request<'_> =
        serde_json::from_slice(body).map_err(|problem| Refusal::bad(format!("The request is malformed: {problem}")))?;
    let (max_tokens, stop) = inference(request.inference_config)?;
    let wire = request.messages.unwrap_or_default();
    let has_config = request.tool_config.is_some();
    let (tools, choice) = tools(request.tool_config)?;
    let turns: Vec<Turn<'_>> = wire.into_iter().enumerate().map(turn).collect::<Result<_, _>>()?;
    check(&turns, has_config)?;
    if let Some(at) = request.system.iter().position(|block| block.text.as_deref().is_some_and(is_blank)) {
        return bad!(
            "The text field in the SystemContentBlock object at system.{at} is blank. Add text to the text field, and try again."
        );
    }
    let system = request.system.into_iter().filter_map(|block| block.text);
    let mut messages: Vec<Message<'_>> = system.map(|text| Message { role: Role::System, text }).collect();
    for turn in turns {
        turn.messages(&mut messages);
    }
    let thinking = request.additional_model_request_fields.as_ref().and_then(|fields| fields.pointer("/thinking/type"));
    Ok(Prompt {
        model: Cow::Owned(model.to_owned()),
        messages,
        tools,
        choice,
        form: form(request.output_config.as_ref())?,
        stream,
        include_usage: true,
        max_tokens,
        stop,
        thinks: thinking.and_then(Value::as_str).is_some_and(|kind| kind != "disabled"),
        ..Prompt::default()
    })
}

fn inference<'a>(config: Option<InferenceConfig<'a>>) -> Result<(Option<u64>, Vec<Cow<'a, str>>), Refusal> {
    let Some(config) = config else { return Ok((None, Vec::new())) };
    for (name, value) in [("temperature", config.temperature), ("topP", config.top_p)] {
        if let Some(value) = value.filter(|value| !(0.0..=1.0).contains(value)) {
            return bad!(
                "1 validation error detected: Value '{value}' at 'inferenceConfig.{name}' failed to satisfy constraint: \
                 Member must have value less than or equal to 1"
            );
        }
    }
    if config.max_tokens == Some(0) {
        return bad!(
            "1 validation error detected: Value '0' at 'inferenceConfig.maxTokens' failed to satisfy constraint: Member \
             must have value greater than or equal to 1"
        );
    }
    Ok((config.max_tokens, config.stop_sequences))
}

fn tools<'a>(config: Option<ToolConfig<'a>>) -> Result<(Vec<ToolOffer<'a>>, ToolDemand<'a>), Refusal> {
    let Some(config) = config else { return Ok((Vec::new(), ToolDemand::Auto)) };
    if config.tools.is_empty() {
        return bad!(
            "1 validation error detected: Value '[]' at 'toolConfig.tools' failed to satisfy constraint: Member must \
             have length greater than or equal to 1"
        );
    }
    let mut tools = Vec::with_capacity(config.tools.len());
    for (index, spec) in config.tools.into_iter().enumerate().filter_map(|(index, tool)| Some((index, tool.tool_spec?)))
    {
        let schema = spec.input_schema.and_then(|schema| schema.json).ok_or_else(|| {
            Refusal::bad(format!("The value at toolConfig.tools.{index}.toolSpec.inputSchema is required."))
        })?;
        tools.push(ToolOffer { name: spec.name, schema: Some(schema.get().into()) });
    }
    let choice = match config.tool_choice {
        Some(WireChoice { tool: Some(tool), .. }) => {
            if !tools.iter().any(|offer| offer.name == tool.name) {
                return bad!("The tool {} in toolChoice is not in toolConfig.tools.", tool.name);
            }
            ToolDemand::Tool(tool.name)
        }
        Some(WireChoice { any: Some(_), .. }) => ToolDemand::Any,
        _ => ToolDemand::Auto,
    };
    Ok((tools, choice))
}

fn turn<'a>((index, wire): (usize, WireTurn<'a>)) -> Result<Turn<'a>, Refusal> {
    let role = match wire.role.as_ref() {
        "user" => Role::User,
        "assistant" => Role::Assistant,
        other => {
            return bad!(
                "1 validation error detected: Value '{other}' at 'messages.{}.member.role' failed to satisfy \
                 constraint: Member must satisfy enum value set: [user, assistant]",
                index + 1
            );
        }
    };
    if wire.content.is_empty() {
        return bad!(
            "The content field in the Message object at messages.{index} is empty. Add a ContentBlock object to the \
             content field and try again."
        );
    }
    let read = |(at, block)| self::block(block, index, at);
    Ok(Turn { role, blocks: wire.content.into_iter().enumerate().map(read).collect::<Result<_, _>>()? })
}

fn block<'a>(wire: WireBlock<'a>, index: usize, at: usize) -> Result<Block<'a>, Refusal> {
    if let Some(text) = wire.text {
        if is_blank(&text) {
            return bad!(
                "The text field in the ContentBlock object at messages.{index}.content.{at} is blank. Add text to the \
                 text field, and try again."
            );
        }
        return Ok(Block::Text(text));
    }
    if let Some(tool) = wire.tool_use {
        check_id(&tool.tool_use_id, index, at, "toolUse")?;
        return Ok(Block::Use(tool.tool_use_id));
    }
    if let Some(result) = wire.tool_result {
        check_id(&result.tool_use_id, index, at, "toolResult")?;
        if let Some(inner) = result.content.iter().position(|block| block.text.as_deref().is_some_and(is_blank)) {
            return bad!(
                "The text field in the ContentBlock object at messages.{index}.content.{at}.toolResult.content.{inner} is \
                 blank. Add text to the text field, and try again."
            );
        }
        let text = result.content.into_iter().map(|block| match (block.text, block.json) {
            (Some(text), _) => text,
            (None, Some(json)) => Cow::Owned(json.to_string()),
            (None, None) => Cow::Borrowed(""),
        });
        return Ok(Block::Result(result.tool_use_id, text.reduce(|all, more| all + more).unwrap_or_default()));
    }
    Ok(Block::Other)
}

fn is_blank(text: &str) -> bool {
    text.trim().is_empty()
}

/// Checks the id of a call or a result: 1 to 64 letters, digits and some signs.
fn check_id(id: &str, index: usize, at: usize, kind: &str) -> Result<(), Refusal> {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_.:-".contains(&byte);
    let place = format!("messages.{}.member.content.{}.member.{kind}.toolUseId", index + 1, at + 1);
    if id.is_empty() || id.len() > MAX_ID_CHARS {
        return bad!(
            "1 validation error detected: Value '{id}' at '{place}' failed to satisfy constraint: Member must have length less \
             than or equal to {MAX_ID_CHARS} and greater than or equal to 1"
        );
    }
    if id.bytes().all(is_allowed) {
        return Ok(());
    }
    bad!(
        "1 validation error detected: Value '{id}' at '{place}' failed to satisfy constraint: Member must satisfy regular \
         expression pattern: [a-zA-Z0-9_.:-]+"
    )
}

fn check(turns: &[Turn<'_>], has_config: bool) -> Result<(), Refusal> {
    if turns.first().is_none_or(|turn| turn.role != Role::User) {
        return bad!(
            "A conversation must start with a user message. Try again with a conversation that starts with a user message."
        );
    }
    if turns.windows(2).any(|pair| pair[0].role == pair[1].role) {
        return bad!(
            "A conversation must alternate between user and assistant roles. Make sure the conversation alternates \
             between user and assistant roles and try again."
        );
    }
    let has_tools =
        |turn: &Turn<'_>| turn.blocks.iter().any(|block| matches!(block, Block::Use(_) | Block::Result(..)));
    if !has_config && turns.iter().any(has_tools) {
        return bad!("The toolConfig field must be defined when using toolUse and toolResult content blocks.");
    }
    match first_repeated(turns) {
        Some(Repeated::Use(id)) => {
            let at = turns.iter().rposition(|turn| turn.uses().contains(&id.as_str())).unwrap_or(0);
            return bad!("The toolUse blocks at messages.{at}.content contain duplicate Ids: {id}");
        }
        Some(Repeated::Result(at, id)) => {
            return bad!("The toolResult blocks at messages.{at}.content contain duplicate Ids: {id}");
        }
        None => {}
    }
    match find_unpaired(turns) {
        Some(PairingError::MissingResult(at, ids)) => {
            bad!("Expected toolResult blocks at messages.{}.content for the following Ids: {}", at + 1, ids.join(", "))
        }
        Some(PairingError::MissingCall(at, _)) => bad!(
            "The number of toolResult blocks at messages.{at}.content exceeds the number of toolUse blocks of previous turn."
        ),
        None => Ok(()),
    }
}

/// Reads `outputConfig.textFormat`, whose schema is JSON within a string.
fn form(config: Option<&Value>) -> Result<AnswerForm, Refusal> {
    let Some(format) = config.and_then(|config| config.get("textFormat")) else { return Ok(AnswerForm::Text) };
    let schema = format.pointer("/structure/jsonSchema/schema").and_then(Value::as_str);
    let schema = schema.and_then(|text| serde_json::from_str(text).ok());
    match (format.get("type").and_then(Value::as_str), schema) {
        (Some("json_schema"), Some(schema)) => Ok(AnswerForm::Schema(schema)),
        _ => bad!(
            "outputConfig.textFormat must have type json_schema and a JSON Schema, as a string, at structure.jsonSchema.schema."
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_bedrock_refuses_is_refused() {
        let of = |messages: &str, more: &str| format!(r#"{{"messages":[{messages}]{more}}}"#);
        let user = r#"{"role":"user","content":[{"text":"x"}]}"#;
        let called = r#"{"role":"assistant","content":[{"toolUse":{"toolUseId":"t1","name":"f","input":{}}}]}"#;
        let result = r#"{"role":"user","content":[{"toolResult":{"toolUseId":"t1","content":[{"text":"r"}]}}]}"#;
        let tools = r#","toolConfig":{"tools":[{"toolSpec":{"name":"f","inputSchema":{"json":{}}}}]}"#;
        for (body, expected) in [
            ("{".to_owned(), "malformed"),
            (of("", ""), "start with a user message"),
            (of(r#"{"role":"tool","content":[{"text":"x"}]}"#, ""), "enum value set"),
            (of(r#"{"role":"user","content":[]}"#, ""), "is empty"),
            (of(r#"{"role":"user","content":[{"text":" "}]}"#, ""), "is blank"),
            (of(&format!("{user},{user}"), ""), "must alternate"),
            (of(&format!("{user},{called},{user}"), ""), "toolConfig field"),
            (of(&format!("{user},{called},{user}"), tools), "following Ids: t1"),
            (of(user, r#","system":[{"text":" "}]"#), "system.0 is blank"),
            (of(&format!("{user},{},{user}", called.replace("t1", "t/1")), tools), "regular expression"),
            (
                of(&format!("{user},{called},{}", result.replace("\"r\"", "\" \"")), tools),
                "toolResult.content.0 is blank",
            ),
            (of(&format!("{user},{called},{result},{called},{result}"), tools), "duplicate Ids: t1"),
            (
                of(r#"{"role":"user","content":[{"toolResult":{"toolUseId":"t9","content":[]}}]}"#, tools),
                "exceeds the number",
            ),
            (of(user, r#","toolConfig":{"tools":[]}"#), "toolConfig.tools"),
            (of(user, r#","inferenceConfig":{"temperature":2.0}"#), "temperature"),
            (of(user, r#","outputConfig":{"textFormat":{"type":"json_schema"}}"#), "outputConfig"),
        ] {
            let message = read(body.as_bytes(), "m", false).expect_err(&body).message;
            assert!(message.contains(expected), "{body}: {message}");
        }
    }

    #[test]
    fn results_of_both_kinds_are_text() {
        let body = r#"{"messages":[{"role":"user","content":[{"text":"q"}]},
            {"role":"assistant","content":[{"toolUse":{"toolUseId":"t1","name":"f","input":{}}}]},
            {"role":"user","content":[{"toolResult":{"toolUseId":"t1","content":[{"text":"a"},{"json":{"b":1}}]}}]}],
            "toolConfig":{"tools":[{"toolSpec":{"name":"f","inputSchema":{"json":{}}}}]}}"#;
        let prompt = read(body.as_bytes(), "m", true).unwrap();
        assert_eq!(prompt.messages[2].text, r#"a{"b":1}"#);
        assert_eq!((prompt.messages[2].role, prompt.stream), (Role::Tool, true));
    }
}
