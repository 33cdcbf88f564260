//! Validation of tools: transport, and distinguishable names.

use agentry_core::agent::{ToolAuth, ToolKind, ToolSpec};

use super::check::Checker;
use super::raw::{self, ToolType};
use super::read::At;

/// Default timeout of a tool call, in milliseconds.
const DEFAULT_TOOL_TIMEOUT_MS: u64 = 30_000;
/// The longest name of a tool (OpenAI's and Anthropic's limit for function names).
const MAX_TOOL_NAME: usize = 64;

/// Returns the checked tools, in the order of the file.
pub(crate) fn tools(raw: Vec<raw::Tool>, cx: &mut Checker<'_, '_, '_>) -> Vec<ToolSpec> {
    let mut tools: Vec<ToolSpec> = Vec::with_capacity(raw.len());
    for tool in raw {
        name(&tool.name, &tools, cx);
        if let Some(url) = &tool.url {
            cx.web_address("url", url);
        }
        let Some(kind) = kind(&tool, cx) else { continue };
        belongs(&tool, &kind, cx);
        tools.push(ToolSpec {
            kind,
            name: tool.name.value,
            description: tool.description,
            parameters: cx.json_schema("parameters", tool.parameters),
            allowed_tools: tool.allowed_tools.map(|allowed| allowed.value).unwrap_or_default(),
            auth: tool.auth.map(|auth| ToolAuth { kind: auth.r#type.0, token: auth.token }),
            timeout_ms: cx.some_time("timeout_seconds", tool.timeout_seconds).unwrap_or(DEFAULT_TOOL_TIMEOUT_MS),
            on_unknown: tool.on_unknown.map_or_else(Default::default, |choice| choice.0),
        });
    }
    tools
}

fn name(name: &At<Box<str>>, before: &[ToolSpec], cx: &mut Checker<'_, '_, '_>) {
    let text = &name.value;
    let ok = !text.is_empty()
        && text.len() <= MAX_TOOL_NAME
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
    if !ok && !name.is_unknown() {
        let shown: String = name.quoted().chars().take(80).collect();
        let label = "use up to 64 letters, digits, `-` and `_`, as model providers do";
        cx.wrong(name.span, format!("`{shown}` cannot be a tool's name"), label);
    } else if before.iter().any(|tool| tool.name == *text) {
        let label = "expected a name of its own for each tool";
        cx.wrong(name.span, format!("two tools are called `{}`", name.quoted()), label);
    }
}

/// Reports keys that have no meaning for this kind of tool.
fn belongs(tool: &raw::Tool, kind: &ToolKind, cx: &mut Checker<'_, '_, '_>) {
    if tool.r#type.is_unknown() {
        return;
    }
    if let (Some(env), false) = (&tool.env, matches!(kind, ToolKind::McpStdio { .. })) {
        let message = format!("tool `{}` has `env` but starts no program", tool.name.quoted());
        cx.wrong_with_help(env.span, message, "only an MCP server with `command` gets variables", "remove `env`");
    }
    if let (Some(allowed), false) = (&tool.allowed_tools, kind.is_server()) {
        let message = format!("tool `{}` has `allowed_tools` but is one tool", tool.name.quoted());
        cx.wrong_with_help(allowed.span, message, "only an MCP server has tools", "remove `allowed_tools`");
    }
    if let (Some(parameters), true) = (&tool.parameters, kind.is_server()) {
        let message = format!("the `parameters` of `{}` are not used", tool.name.quoted());
        cx.warn(parameters.span, message, "an MCP server tells the arguments of its tools itself");
    }
}

fn kind(tool: &raw::Tool, cx: &mut Checker<'_, '_, '_>) -> Option<ToolKind> {
    if tool.r#type.is_unknown() {
        return None;
    }
    let url = tool.url.as_ref().map(|url| url.value.clone());
    let command = tool.command.as_ref().map(|command| command.value.0.clone());
    match (tool.r#type.value.0, url, command) {
        (ToolType::Http, Some(url), None) => return Some(ToolKind::Http { url }),
        (ToolType::Mcp, Some(url), None) => return Some(ToolKind::McpHttp { url }),
        (ToolType::Mcp, None, Some(command)) => {
            let env = tool.env.as_ref().map(|env| env.value.0.clone()).unwrap_or_default();
            return Some(ToolKind::McpStdio { command, env });
        }
        (ToolType::Mcp, Some(_), Some(_)) => {
            let span = tool.command.as_ref().map_or(tool.name.span, |command| command.span);
            let message = format!("tool `{}` has both `url` and `command`", tool.name.quoted());
            cx.wrong(span, message, "expected one way to reach it");
        }
        (ToolType::Http, _, Some(_)) => {
            let span = tool.command.as_ref().map_or(tool.name.span, |command| command.span);
            let message = format!("tool `{}` cannot be reached by `command`", tool.name.quoted());
            cx.wrong_with_help(
                span,
                message,
                "only `type: mcp` starts a program",
                "give a `url`, or write `type: mcp`",
            );
        }
        _ if !cx.clean => {}
        (ToolType::Http, None, None) => {
            let message = format!("tool `{}` has no `url`", tool.name.quoted());
            cx.wrong(tool.name.span, message, "an HTTP tool needs the `url` its arguments are posted to");
        }
        (ToolType::Mcp, None, None) => {
            let message = format!("tool `{}` has neither `url` nor `command`", tool.name.quoted());
            cx.wrong(
                tool.name.span,
                message,
                "an MCP tool needs the `url` of its server or the `command` that starts it",
            );
        }
    }
    None
}
